//! `nbd`: tools for NBD servers. Each subcommand is a program of its own.
//!
//! ```text
//! nbd copy nbd://localhost disk.img
//! nbd dump --offset 1G --length 512 nbd://localhost
//! nbd info --json nbd://localhost
//! nbd load --unix /tmp/nbd.sock --op randread --bs 4k --qd 64 --seconds 5
//! ```

mod colours;
mod copy;
mod dump;
mod erase;
mod info;
mod load;
mod out;
mod place;
mod program;
mod server;
mod size;
mod stall;
mod tls;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit code after a command line that makes no sense.
const USAGE: u8 = 2;

/// Tools for NBD (Network Block Device) servers
#[derive(Debug, Parser)]
#[command(name = "nbd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    Copy(Box<copy::Args>),
    Discard(erase::DiscardArgs),
    Dump(dump::Args),
    Info(info::Args),
    Load(load::Args),
    Zero(erase::ZeroArgs),
}

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    let tool = words.get(1).and_then(|word| word.to_str());
    // Where 2 is an answer, it cannot be the code of a wrong command line, too.
    let answers = matches!(tool, Some("info" | "zero" | "discard"));
    // Of a load, a command is what follows two dashes.
    if tool.is_some_and(|tool| tool != "load") {
        place::join_commands(&mut words);
    }
    match Cli::try_parse_from(words) {
        Ok(Cli { tool }) => match tool {
            Tool::Copy(args) => copy::main(&args),
            Tool::Discard(args) => erase::discard(&args),
            Tool::Dump(args) => dump::main(&args),
            Tool::Info(args) => info::main(&args),
            Tool::Load(args) => load::main(args),
            Tool::Zero(args) => erase::zero(&args),
        },
        Err(error) => {
            let text = place::separate_words(&error.render().to_string());
            if !error.use_stderr() {
                out::print(format_args!("{text}"));
                return ExitCode::SUCCESS;
            }
            out::print_error(format_args!("{text}"));
            ExitCode::from(if answers { info::FAILURE } else { USAGE })
        }
    }
}
