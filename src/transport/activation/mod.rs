//! A server as child process that takes over a listening socket, as systemd would hand it one.

mod guests;

use std::collections::hash_map::RandomState;
use std::env;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

pub(crate) use guests::Guests;
use guests::{Guest, Invitation};

use super::child::{Child, Terms};
use super::command::not_run;
use super::parent::Parent;
use super::program::Program;
use super::unix;
use crate::error::trying;
use crate::error::{Error, InvalidUse, Phase, Result};

/// Longest name of a socket.
const MAX_NAME: usize = 32;

/// The script that sets `LISTEN_PID`, moves the socket to descriptor 3, and executes the server.
///
/// `LISTEN_PID` must be the number of the server's process, which is unknown before the process
/// exists; a shell knows its own. The price is that some shells drop environment variables whose
/// names they cannot represent. No part of the command becomes part of the script. The socket comes
/// as standard input, since `std` can pass no other descriptor.
const SCRIPT: &str = r#"LISTEN_PID=$$; export LISTEN_PID; exec "$@" 3<&0 0</dev/null"#;

/// The way to a listening socket that has no path any more. Only its owner can use it.
///
/// It is known on Linux alone, where the descriptor of a socket's place has a path.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    place: Arc<OwnedFd>,
    invitation: Invitation,
}

impl Door {
    #[cfg(target_os = "linux")]
    fn at(path: &Path) -> io::Result<Option<(Self, Guests)>> {
        use rustix::fs::{Mode, OFlags, open};
        let place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let place = Arc::new(place);
        let (guests, invitation) = Guests::new();
        Ok(Some((Self { place, invitation }, guests)))
    }

    #[cfg(not(target_os = "linux"))]
    fn at(_: &Path) -> io::Result<Option<(Self, Guests)>> {
        Ok(None)
    }

    /// Lets a guest in. Returns `None` if the server is about to end.
    pub(crate) fn enter(&self) -> Option<Guest> {
        self.invitation.accept()
    }

    /// Connects to the socket.
    pub(crate) async fn connect(&self) -> Result<unix::Stream> {
        let path = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        unix::connect(Path::new(&path)).await
    }
}

/// Refuses commands that cannot be started in this way, and names that a socket cannot have.
pub(crate) fn check(program: &Program, name: Option<&str>) -> Result<()> {
    if program.name().as_bytes().starts_with(b"-") {
        // Some shells take it for an option of `exec`, and not all know `--`.
        let program = program.name().to_string_lossy().into_owned();
        return Err(InvalidUse::ProgramName(program).into());
    }
    match name {
        Some(name) if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(InvalidUse::SocketName(name.to_owned()).into())
        }
        Some(name) if name.len() > MAX_NAME => Err(InvalidUse::TooLong {
            what: "socket name",
            length: name.len(),
            limit: MAX_NAME,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Starts a program with a listening socket as its descriptor 3, and connects to that.
///
/// The name is for servers that get several sockets; the empty one is none. Standard input is
/// empty, standard output is ours. What the program writes to its standard error goes to ours,
/// too; the end of it is kept for the report.
///
/// That the program cannot be run is not an error here: the stream ends, and the child reports
/// what the shell said of it, and 126 or 127 as its status.
///
/// Must be called inside a Tokio runtime.
pub(crate) fn spawn(
    program: &Program,
    name: Option<&str>,
    kill_delay: Duration,
) -> Result<(unix::Stream, Child)> {
    start(program, name, kill_delay, io::stderr())
}

fn start(
    program: &Program,
    name: Option<&str>,
    kill_delay: Duration,
    stderr: impl Write + Send + 'static,
) -> Result<(unix::Stream, Child)> {
    check(program, name)?;
    let failed = |what, error| Error::io(Phase::Connect, trying(what, error));
    let root = env::temp_dir();
    let listening = listen(&root)
        .map_err(|error| failed(format!("cannot make a socket in {root:?}"), error))?;
    let terms = Terms {
        // The end of a connection is nothing to a server that listens.
        grace: Duration::ZERO,
        kill_delay,
        leads: true,
    };
    launch(program, name, terms, listening, stderr)
        .map_err(|error| not_run(program.name(), program.directory(), error))
}

/// A listening socket, a connection that waits to be accepted, and the way to others.
///
/// The connection is made before the program starts, so that connecting cannot fail later. If the
/// program does not accept the connection, the connection ends with the last copy of the listening
/// socket. No other process can connect, since the socket has no path any more when the program gets
/// it.
fn listen(root: &Path) -> io::Result<Listening> {
    let directory = Directory::new(root)?;
    let path = directory.socket();
    let listener = net::UnixListener::bind(&path)?;
    let stream = net::UnixStream::connect(&path)?;
    let door = Door::at(&path)?;
    Ok((listener, stream, door))
}

type Listening = (net::UnixListener, net::UnixStream, Option<(Door, Guests)>);

fn launch(
    program: &Program,
    name: Option<&str>,
    terms: Terms,
    (listener, stream, door): Listening,
    stderr: impl Write + Send + 'static,
) -> io::Result<(unix::Stream, Child)> {
    let parent = Parent::get()?;
    // Before the child is started, see `command`.
    let stream = unix::Stream::new(stream)?;

    let name = name.filter(|name| !name.is_empty()).unwrap_or("unknown");
    let mut command = Command::from(program.command_by_shell(SCRIPT));
    command
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        // Not for this process, if we have been activated ourselves.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_PIDFDID")
        .stdin(OwnedFd::from(listener))
        .stderr(Stdio::piped())
        .kill_on_drop(false)
        .process_group(0);
    let child = parent.start(command)?;
    Ok((
        stream,
        Child::new(child, parent, stderr, terms)?
            .by_shell(program.name())
            .with_door(door),
    ))
}

/// A directory that only we can enter, for as long as this lives.
struct Directory(PathBuf);

impl Directory {
    fn new(root: &Path) -> io::Result<Self> {
        loop {
            // A random number without a generator. It only has to be rare: what is there already
            // is never taken over.
            let number = RandomState::new().build_hasher().finish();
            let path = root.join(format!("nbd-client-{number:016x}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The path of the one file in it.
    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // There is none if it could not be made.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests;
