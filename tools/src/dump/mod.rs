//! `nbd dump` prints the content of an export in hexadecimal, as `nbddump` of libnbd does. What the
//! server says to be zero is not read.
//!
//! ```text
//! nbd dump nbd://localhost
//! nbd dump --offset 1M --length 512 [ qemu-nbd -r -f qcow2 disk.qcow2 ]
//! ```

mod lines;

use std::error::Error;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use futures::TryStreamExt as _;
use nbd_client::{Chunk, context};
use tokio::task::spawn_blocking;

use crate::colours::Colours;
use crate::place::Place;
use crate::program;
use crate::server::Server;
use crate::size::size;
use crate::stall::StallArgs;
use lines::Lines;

/// Prints the content of an export in hexadecimal, as nbddump does
#[derive(clap::Args, Debug)]
#[command(infer_long_args = true)]
pub(crate) struct Args {
    /// Begin at this byte
    #[arg(long, value_name = "SIZE", value_parser = size::<u64>, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// Print so many bytes at most [default: to the end of the export]
    #[arg(short = 'n', long, alias = "limit", value_name = "SIZE", value_parser = size::<u64>)]
    length: Option<u64>,
    #[command(flatten)]
    colours: Colours,
    #[command(flatten)]
    stall: StallArgs,
    /// Where the server is
    #[arg(value_name = "URI | [ COMMAND ARG... ]", value_parser = OsStringValueParser::new().try_map(Place::parse))]
    server: Place,
}

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

pub(crate) fn main(args: &Args) -> ExitCode {
    program::run("nbd dump", async {
        match run(args).await {
            Err(error) if !is_closed_pipe(&*error) => Err(error),
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Whether the reader of the output has gone: he has seen enough.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

async fn run(args: &Args) -> Result<()> {
    let server = Server::new(args.server.clone(), args.stall)?;
    let builder = |builder: nbd_client::Builder| {
        let builder = builder.meta_context(context::BASE_ALLOCATION);
        builder.read_only(true)
    };
    let conn = server.connect(builder).await?;
    let size = conn.size()?;
    if args.offset > size {
        return Err(format!("the export has {size} bytes: it ends before --offset").into());
    }
    let end = args
        .length
        .map_or(size, |length| args.offset.saturating_add(length).min(size));
    let mut lines = Lines::new(args.offset..end, args.colours.are_wanted());
    let mut pieces = conn.pieces(args.offset..end);
    while let Some(piece) = pieces.try_next().await? {
        match piece {
            Chunk::Data { data, .. } => lines.data(&data),
            Chunk::Hole { length, .. } => lines.zeroes(length),
            _ => {}
        }
        write(lines.take()).await?;
    }
    drop(pieces);
    write(lines.finish()).await?;
    conn.disconnect().await?;
    Ok(())
}

/// Writes to the standard output, whose reader may let it wait for long.
async fn write(text: String) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let written = spawn_blocking(move || {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    });
    written.await?.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => error.into(),
        _ => format!("cannot write the output: {error}").into(),
    })
}
