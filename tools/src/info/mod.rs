//! `nbd info` prints what is known of an NBD server and its exports, as `nbdinfo` of libnbd does:
//! the same options, the same JSON keys, the same exit codes.
//!
//! ```text
//! nbd info nbd://localhost
//! nbd info --json --list 'nbd+unix:///?socket=/tmp/nbd.sock'
//! nbd info --map --offset 1G --length 64M nbd://localhost
//! nbd info --map [ qemu-nbd -r -f qcow2 disk.qcow2 ]
//! ```

mod args;
mod fields;
mod map;
mod print;
mod style;

use std::process::ExitCode;

use tokio::task::spawn_blocking;

pub(crate) use args::InfoArgs as Args;

use crate::out;
use crate::program;
use crate::server::Server;
use args::Mode;
use style::Style;

/// The exit code of a failure, a wrong command line included: 2 is an answer.
pub(crate) const FAILURE: u8 = 1;
/// The exit code of a question that was answered with no.
const NO: u8 = 2;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

pub(crate) fn main(args: &Args) -> ExitCode {
    program::run("nbd info", async {
        let answer = run(args).await?;
        Ok::<_, Box<dyn std::error::Error>>(match answer {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(NO),
        })
    })
}

/// Does what is asked for; whether the answer is yes.
async fn run(args: &Args) -> Result<bool> {
    let server = Server::new(args.server.clone(), args.stall)?;
    // Printed at the end, so that there is all of it or nothing.
    let mut text = String::new();
    let mut refused = 0;
    let mode = args.mode();
    let style = Style::new(args.colours() && !args.json);
    match &mode {
        Mode::Question(question, wanted) => {
            let conn = server.connect(|builder| builder).await?;
            let answer = question.answer(&conn);
            conn.disconnect().await?;
            return Ok(answer? == *wanted);
        }
        Mode::Uri => {
            let conn = server.connect(|builder| builder).await?;
            let uri = conn.uri()?.to_string();
            conn.disconnect().await?;
            text = match args.json {
                true => format!("{}\n", print::quoted(&uri)),
                false => format!("{uri}\n"),
            };
        }
        Mode::Size => {
            let conn = server.connect(|builder| builder).await?;
            text = format!("{}\n", conn.size()?);
            conn.disconnect().await?;
        }
        Mode::Map(wanted) => {
            let ask = |builder: nbd_client::Builder| {
                let contexts = wanted.contexts.iter();
                contexts.fold(builder, |builder, context| {
                    builder.require_meta_context(context)
                })
            };
            let conn = server.connect(ask).await?;
            let maps = map::all(&conn, wanted).await?;
            conn.disconnect().await?;
            map::print(&maps, args.json, &style, &mut text);
        }
        Mode::Show | Mode::List => {
            let is_list = matches!(mode, Mode::List);
            // Reading a little of every export of a long list takes long.
            let content = args.content().unwrap_or(!is_list);
            let report = fields::Report::of(&server, is_list, content).await?;
            print::report(&report, args.json, &style, &mut text);
            refused = report.refused;
        }
    }
    spawn_blocking(move || out::print(format_args!("{text}"))).await?;
    match refused {
        0 => Ok(true),
        1 => Err("1 export of the list cannot be described".into()),
        _ => Err(format!("{refused} exports of the list cannot be described").into()),
    }
}
