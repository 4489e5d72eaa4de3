//! `nbd`: tools for NBD servers. Each subcommand is a program of its own.
//!
//! ```text
//! nbd copy nbd://localhost disk.img
//! nbd info --json nbd://localhost
//! nbd load --unix /tmp/nbd.sock --op randread --bs 4k --qd 64 --seconds 5
//! ```

mod copy;
mod info;
mod load;
mod out;
mod size;
mod tls;

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
    Info(info::Args),
    Load(load::Args),
}

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    let is_info = words.get(1).is_some_and(|word| word == "info");
    if is_info {
        info::separate_command(&mut words);
    }
    if words.get(1).is_some_and(|word| word == "copy") {
        copy::join_commands(&mut words);
    }
    match Cli::try_parse_from(words) {
        Ok(Cli { tool }) => match tool {
            Tool::Copy(args) => copy::main(&args),
            Tool::Info(args) => info::main(&args),
            Tool::Load(args) => load::main(args),
        },
        Err(error) => {
            // A reader that has closed the pipe has seen enough.
            let _ = error.print();
            match error.use_stderr() {
                false => ExitCode::SUCCESS,
                true if is_info => ExitCode::from(info::FAILURE),
                true => ExitCode::from(USAGE),
            }
        }
    }
}
