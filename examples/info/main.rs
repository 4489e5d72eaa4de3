//! Prints what is known of an NBD server and its exports, like `nbdinfo` of libnbd: the same
//! options, the same JSON keys, the same exit codes.
//!
//! ```text
//! cargo run --example info -- nbd://localhost
//! cargo run --example info -- --json --list 'nbd+unix:///?socket=/tmp/nbd.sock'
//! cargo run --example info -- --map -- [ qemu-nbd -r -f qcow2 disk.qcow2 ]
//! ```

mod args;
mod fields;
mod map;
#[path = "../shared/out.rs"]
mod out;
mod print;
mod server;

use std::process::ExitCode;

use args::{Args, Command, Mode};
use out::{complain, say};
use server::Server;

/// What a question that was answered with no ends with; a failure ends with 1.
const NO: u8 = 2;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(args)) => args,
        Ok(Command::Help) => {
            out::print(format_args!("{}", args::USAGE));
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            say!("info of nbd-client {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            complain!("info: {why}\n{}", args::USAGE);
            return ExitCode::FAILURE;
        }
    };
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(error) => {
            complain!("info: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what is asked for; whether the answer is yes.
async fn run(args: &Args) -> Result<bool> {
    let server = Server::new(&args.target)?;
    // Printed at the end, so that there is all of it or nothing.
    let mut text = String::new();
    match &args.mode {
        Mode::Question(question) => {
            let conn = server.connect(|builder| builder).await?;
            let answer = question.answer(&conn);
            conn.disconnect().await?;
            return answer;
        }
        Mode::Size => {
            let conn = server.connect(|builder| builder).await?;
            text = format!("{}\n", conn.size()?);
            conn.disconnect().await?;
        }
        Mode::Map { context, totals } => {
            let conn = server.connect(|b| b.meta_context(context)).await?;
            let map = map::Map::of(&conn, context, *totals).await?;
            conn.disconnect().await?;
            map.print(args.json, &mut text);
        }
        Mode::Show | Mode::List => {
            let is_list = matches!(args.mode, Mode::List);
            // Reading a little of every export of a long list takes long.
            let content = args.content.unwrap_or(!is_list);
            let report = fields::Report::of(&server, is_list, content).await?;
            print::report(&report, args.json, &mut text);
        }
    }
    out::print(format_args!("{text}"));
    Ok(true)
}
