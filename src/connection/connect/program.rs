//! The types that say which program to run.

#![allow(unnameable_types, reason = "the kinds only keep implementations apart")]

use std::ffi::OsStr;
use std::process::Command;

use sealed::{ToCommand, ToProgram};

use crate::transport::program::Program;

/// Types that say which program to run, and can say so again: a list of program and arguments (any
/// `IntoIterator` over strings), a [`Program`], or a reference to one.
///
/// `Kind` keeps the implementations apart, and is always inferred. The trait is sealed.
pub trait IntoProgram<Kind>: ToProgram<Kind> {}

/// Types that say which program to run: what implements [`IntoProgram`], or a `Command` of `std` or
/// Tokio, whose standard streams and process group are replaced.
///
/// `Kind` keeps the implementations apart, and is always inferred. The trait is sealed.
///
/// ```no_run
/// use nbd_client::{Connection, Program};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// Connection::new().connect_command(["nbdkit", "-s", "memory", "1M"]).await?;
///
/// let server = Program::new("nbdkit").args(["-s", "memory", "1M"]).current_dir("/tmp");
/// Connection::new().connect_command(&server).await?;
///
/// let mut server = tokio::process::Command::new("nbdkit");
/// server.args(["-s", "memory", "1M"]).env_clear();
/// Connection::new().connect_command(server).await?;
/// # Ok(())
/// # }
/// ```
pub trait IntoCommand<Kind>: ToCommand<Kind> {}

impl<T: ToProgram<Kind>, Kind> IntoProgram<Kind> for T {}
impl<T: ToCommand<Kind>, Kind> IntoCommand<Kind> for T {}

/// What is to be run.
#[derive(Debug)]
pub enum Runnable {
    Program(Program),
    Command(Command),
}

mod sealed {
    use super::{Program, Runnable};

    pub trait ToProgram<Kind> {
        fn into_program(self) -> Program;
    }

    pub trait ToCommand<Kind> {
        fn into_runnable(self) -> Runnable;
    }
}

/// A list of strings.
#[derive(Debug)]
pub struct ByArgv;

impl<I: IntoIterator<Item: AsRef<OsStr>>> ToProgram<ByArgv> for I {
    fn into_program(self) -> Program {
        Program::from_argv(self)
    }
}

/// A program, or a reference to one.
#[derive(Debug)]
pub struct ByProgram;

impl ToProgram<ByProgram> for Program {
    fn into_program(self) -> Program {
        self
    }
}

impl ToProgram<ByProgram> for &Program {
    fn into_program(self) -> Program {
        self.clone()
    }
}

/// What becomes a program.
#[derive(Debug)]
pub struct Known<Kind>(Kind);

impl<T: ToProgram<Kind>, Kind> ToCommand<Known<Kind>> for T {
    fn into_runnable(self) -> Runnable {
        Runnable::Program(self.into_program())
    }
}

/// A command of the standard library's or Tokio's.
#[derive(Debug)]
pub struct Foreign;

impl ToCommand<Foreign> for Command {
    fn into_runnable(self) -> Runnable {
        Runnable::Command(self)
    }
}

impl ToCommand<Foreign> for Runnable {
    fn into_runnable(self) -> Runnable {
        self
    }
}

impl ToCommand<Foreign> for tokio::process::Command {
    fn into_runnable(self) -> Runnable {
        Runnable::Command(self.into_std())
    }
}
