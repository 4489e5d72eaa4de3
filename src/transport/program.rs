//! A program to run as a server, with everything that it is run with.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{InvalidUse, Result};

/// What a shell of this crate calls itself, so that its messages are not taken for those of another.
pub(super) const SHELL: &str = "nbd-client-sh";

/// A program to run as a server: its arguments, environment, working directory and user. Not on
/// Windows.
///
/// It is taken by [`Connection::connect_command`](crate::Connection::connect_command),
/// [`connect_systemd_socket_activation`](crate::Connection::connect_systemd_socket_activation), and
/// [`Connector`](crate::Connector), which runs it again for each connection. Where nothing but
/// arguments matters, these take a list as well. No shell is involved.
///
/// All programs are started by one thread, which is made with the first of them and keeps its namespaces,
/// limits and capabilities: what a thread has changed for itself alone does not concern its servers.
///
/// Standard input and output belong to the connection, and standard error is copied to that of this
/// program. `Debug` shows the names of the variables that are set, but not their values.
///
/// ```no_run
/// use nbd_client::{Connection, Program};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// let server = Program::new("nbdkit")
///     .args(["-s", "file", "disk.img"])
///     .env("TMPDIR", "/var/tmp")
///     .current_dir("/srv/disks");
/// let conn = Connection::new();
/// conn.connect_command(server).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq)]
#[must_use = "a program does nothing until it is run"]
pub struct Program {
    /// Program and arguments.
    argv: Vec<OsString>,
    clears_env: bool,
    /// Variables to set, or to remove.
    env: Vec<(OsString, Option<OsString>)>,
    dir: Option<PathBuf>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Program {
    /// Creates a description of a program, which is looked up in `PATH` if its name has no slash.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self::from_argv([program.into()])
    }

    /// Creates a description of the program and the arguments in a list, such as
    /// [`Uri::ssh_command`](crate::Uri::ssh_command).
    pub fn from_argv<I>(argv: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let own = |word: I::Item| word.as_ref().to_owned();
        Self {
            argv: argv.into_iter().map(own).collect(),
            clears_env: false,
            env: Vec::new(),
            dir: None,
            uid: None,
            gid: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        self.argv.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. By default the environment is that of this program.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// Removes all environment variables, including those that were set before this call.
    pub fn env_clear(mut self) -> Self {
        self.clears_env = true;
        self.env.clear();
        self
    }

    /// Sets the working directory. By default it is that of this program.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets the user, by number. Only a privileged program can set another one than its own. Set the
    /// [group](Self::gid), too.
    pub const fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Sets the group, by number. Only a privileged program can set any.
    pub const fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// Returns the program, without its arguments.
    pub(crate) fn name(&self) -> &OsStr {
        let program = self.argv.first();
        program.map(OsString::as_os_str).unwrap_or_default()
    }

    /// Returns the working directory, if it is not that of this process.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Returns the command that runs the program.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.name());
        command.args(self.argv.iter().skip(1));
        self.set_up(&mut command);
        command
    }

    /// Returns the command of a shell whose script becomes the program, which it gets as arguments.
    pub(super) fn command_by_shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, SHELL]).args(&self.argv);
        self.set_up(&mut command);
        command
    }

    fn set_up(&self, command: &mut Command) {
        if self.clears_env {
            command.env_clear();
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        if let Some(uid) = self.uid {
            command.uid(uid);
        }
        if let Some(gid) = self.gid {
            command.gid(gid);
        }
    }

    /// Refuses what no system could run.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(program) = self.argv.first() else {
            return Err(InvalidUse::Empty { what: "command" }.into());
        };
        if program.is_empty() {
            let what = "name of the program";
            return Err(InvalidUse::Empty { what }.into());
        }
        let nul = |word: &OsStr| word.as_bytes().contains(&0);
        let refuse = |what| Err(InvalidUse::ContainsNul { what }.into());
        if self.argv.iter().any(|word| nul(word)) {
            return refuse("command");
        }
        let is_bad = |(name, value): &(OsString, Option<OsString>)| {
            nul(name) || value.as_ref().is_some_and(|value| nul(value))
        };
        if self.env.iter().any(is_bad) {
            return refuse("environment of the command");
        }
        if self.dir.as_ref().is_some_and(|dir| nul(dir.as_os_str())) {
            return refuse("directory of the command");
        }
        Ok(())
    }
}

/// Values of variables may be secret.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Program")
            .field("argv", &self.argv)
            .field("clears_env", &self.clears_env)
            .field("env", &names)
            .field("current_dir", &self.dir)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish()
    }
}
