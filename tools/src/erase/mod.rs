//! `nbd zero` and `nbd discard` erase an export or a part of it, as `nbdzero` and `nbddiscard` of
//! libnbd do.
//!
//! ```text
//! nbd zero --offset 1G --length 64M nbd://localhost
//! nbd discard --yes nbd://localhost
//! nbd zero --check nbd://localhost
//! ```

use std::error::Error;
use std::io::{self, BufRead as _};
use std::ops::Range;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use futures::TryStreamExt as _;
use nbd_client::{Chunk, Connection, context};
use tokio::task::spawn_blocking;

use crate::out::{complain, print_error};
use crate::place::Place;
use crate::program;
use crate::server::Server;
use crate::size::size;
use crate::stall::StallArgs;

const AFTER_HELP: &str = "\
Success means that the change is durable, if the server can flush.

Exit codes: 0 success, 1 failure, which is also no for an answer to the question
whether to erase. With --check: 0 yes, 2 no, 1 failure.";

/// The exit code of a check that was answered with no.
const NO: u8 = 2;

/// How many bytes one request is about: a slow server is not asked for all at once.
const STEP: u64 = 64 << 20;

/// Fills an export with zeroes, as nbdzero does
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP, infer_long_args = true)]
pub(crate) struct ZeroArgs {
    /// Fail rather than write zeroes slowly
    #[arg(long)]
    fast_zero: bool,
    #[command(flatten)]
    what: What,
}

/// Gives the room of an export back, as nbddiscard does; what it then contains is not defined
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP, infer_long_args = true)]
pub(crate) struct DiscardArgs {
    /// Fill it with zeroes instead, which may give room back
    #[arg(short = 'z', long)]
    zero: bool,
    /// Fail rather than write zeroes slowly; implies --zero
    #[arg(long)]
    fast_zero: bool,
    #[command(flatten)]
    what: What,
}

/// What is erased, and how.
#[derive(clap::Args, Debug)]
struct What {
    /// Change nothing, and say by the exit code whether it is so already
    #[arg(short = 'c', long)]
    check: bool,
    /// Do not ask whether to erase
    #[arg(short = 'y', long)]
    yes: bool,
    /// Do not say what is done [this is the default]
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Say what is done
    #[arg(short = 'v', long, overrides_with = "quiet")]
    verbose: bool,
    /// Begin at this byte
    #[arg(short = 'o', long, value_name = "SIZE", value_parser = size::<u64>, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// Erase so many bytes [default: to the end of the export]
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = size::<u64>)]
    length: Option<u64>,
    #[command(flatten)]
    stall: StallArgs,
    /// Where the server is
    #[arg(value_name = "URI | [ COMMAND ARG... ]", value_parser = OsStringValueParser::new().try_map(Place::parse))]
    server: Place,
}

/// How it is erased.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Discard,
    /// With zeroes, for which there may be room or not.
    Zero {
        keeps_room: bool,
        fast: bool,
    },
}

pub(crate) fn zero(args: &ZeroArgs) -> ExitCode {
    let how = How::Zero {
        keeps_room: true,
        fast: args.fast_zero,
    };
    main("nbd zero", how, &args.what)
}

pub(crate) fn discard(args: &DiscardArgs) -> ExitCode {
    let how = match args.zero || args.fast_zero {
        true => How::Zero {
            keeps_room: false,
            fast: args.fast_zero,
        },
        false => How::Discard,
    };
    main("nbd discard", how, &args.what)
}

fn main(tool: &str, how: How, what: &What) -> ExitCode {
    program::run(tool, async {
        let is_so = run(tool, how, what).await?;
        Ok::<_, Box<dyn Error>>(match is_so {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(NO),
        })
    })
}

/// Erases or checks; whether it is so now.
async fn run(tool: &str, how: How, what: &What) -> Result<bool, Box<dyn Error>> {
    let server = Server::new(what.server.clone(), what.stall)?;
    let ask = |builder: nbd_client::Builder| {
        let builder = builder.meta_context(context::BASE_ALLOCATION);
        builder.read_only(what.check)
    };
    let conn = server.connect(ask).await?;
    let range = range(&conn, what)?;
    let is_so = if what.check {
        check(&conn, how, range.clone()).await?
    } else {
        check_offers(&conn, how)?;
        check_blocks(&conn, how, &range)?;
        if !what.yes && !is_confirmed(&what.server, &range).await? {
            return Err("nothing was erased".into());
        }
        erase(&conn, how, range.clone()).await?;
        if conn.export()?.can_flush() {
            conn.flush().await?;
        }
        true
    };
    conn.disconnect().await?;
    if what.verbose && !what.quiet {
        let Range { start, end } = range;
        let is_so = match (what.check, is_so) {
            (false, _) => "erased",
            (true, true) => "yes",
            (true, false) => "no",
        };
        complain!("{tool}: {} bytes at offset {start}: {is_so}", end - start);
    }
    Ok(is_so)
}

fn range(conn: &Connection, what: &What) -> Result<Range<u64>, Box<dyn Error>> {
    let size = conn.size()?;
    let length = what
        .length
        .unwrap_or_else(|| size.saturating_sub(what.offset));
    match what.offset.checked_add(length).filter(|end| *end <= size) {
        Some(end) if what.offset <= end => Ok(what.offset..end),
        _ => Err(format!("the export has only {size} bytes").into()),
    }
}

/// Refuses what the export does not allow, before anybody is asked.
fn check_offers(conn: &Connection, how: How) -> Result<(), Box<dyn Error>> {
    let export = conn.export()?;
    Err(match how {
        _ if export.is_read_only() => "the export is read-only: let its server allow writing",
        How::Discard if !export.can_trim() => {
            "the server does not offer to discard: --zero may give room back instead"
        }
        How::Zero { fast: true, .. } if !export.can_fast_zero() => {
            "the server does not offer fast zeroes: without --fast-zero it may be slow"
        }
        _ => return Ok(()),
    }
    .into())
}

/// Refuses to discard parts of blocks, before anything is discarded. Of zeroes they are written.
fn check_blocks(conn: &Connection, how: How, range: &Range<u64>) -> Result<(), Box<dyn Error>> {
    let export = conn.export()?;
    let block = u64::from(export.block_size().map_or(1, |sizes| sizes.minimum));
    let Range { start, end } = *range;
    // The export may end inside a block.
    let is_whole = start % block == 0 && (end % block == 0 || end == export.size());
    if how != How::Discard || is_whole {
        return Ok(());
    }
    Err(format!(
        "the bytes from offset {start} to {end} are not whole blocks of {block} bytes, which the server \
         discards: --zero erases parts of blocks, too"
    )
    .into())
}

/// Asks whether to erase.
async fn is_confirmed(server: &Place, range: &Range<u64>) -> io::Result<bool> {
    let Range { start, end } = range;
    print_error(format_args!(
        "Erase {} bytes from offset {start} to {end} of {server} for ever? (y/N) ",
        end - start
    ));
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await??;
    let answer = answer.trim();
    Ok(["y", "yes"]
        .iter()
        .any(|yes| answer.eq_ignore_ascii_case(yes)))
}

async fn erase(conn: &Connection, how: How, range: Range<u64>) -> nbd_client::Result<()> {
    let Range { mut start, end } = range;
    while start < end {
        let length = STEP.min(end - start);
        match how {
            How::Discard => conn.trim(start, length).await?,
            How::Zero { keeps_room, fast } => {
                let mut zeroes = conn.write_zeroes(start, length).unaligned();
                zeroes = if fast {
                    zeroes.fast_zero()
                } else {
                    zeroes.or_write()
                };
                if keeps_room {
                    zeroes = zeroes.no_hole();
                }
                zeroes.await?;
            }
        }
        start += length;
    }
    Ok(())
}

/// Whether it has no room, or reads as zero.
async fn check(conn: &Connection, how: How, range: Range<u64>) -> nbd_client::Result<bool> {
    if how == How::Discard {
        let mut extents = conn.extents(context::BASE_ALLOCATION, range);
        while let Some(extent) = extents.try_next().await? {
            if !extent.is_hole() {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let mut pieces = conn.pieces(range);
    while let Some(piece) = pieces.try_next().await? {
        if let Chunk::Data { data, .. } = piece {
            if data.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
