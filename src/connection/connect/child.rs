//! Servers that are started as child processes.

use std::ffi::OsStr;

use super::Connecting;
use super::program::{IntoCommand, IntoProgram, Runnable};
use crate::connection::Connection;
use crate::driver;
use crate::error::Result;
use crate::state::State;
use crate::transport::Transport;
use crate::transport::activation;
use crate::transport::child::Child;
use crate::transport::command::{self, Group};
use crate::transport::unix;

/// Connecting to a server that the connection starts and ends. Not on Windows.
impl Connection {
    /// Runs a server as child process and begins to connect over its standard input and output.
    ///
    /// `server` is a list of the program, looked up in `PATH`, and its arguments; or a
    /// [`Program`](crate::Program), which has an environment, a directory and a user as well; or a
    /// `Command` of `std` or Tokio. No shell is involved. The server gets one end of a Unix socket
    /// pair as its standard input and output, as from inetd. Its standard error is copied to that of
    /// this program. Whatever a `Command` says of its standard streams, its process group and
    /// `kill_on_drop` is replaced.
    ///
    /// The server must speak on its standard input and output, which `nbdkit` does with `-s`. With `-f`
    /// alone, `nbdkit` listens on a port, and with `-U` on a Unix socket: run it apart, and
    /// [connect](Self::connect_uri) there. The error of a server that says nothing names this.
    ///
    /// The server leads a process group of its own, and must stay in the foreground. When the
    /// connection ends, in whatever way, the server sees the end of its input. If it does not exit
    /// within half a second, its group gets SIGTERM, and later SIGKILL, see
    /// [`child_kill_delay`](crate::Builder::child_kill_delay). Where the connection was lost, SIGTERM
    /// comes after a fifth of a second, and after a deadline at once. The server is always reaped. When it
    /// exits, the connection ends, even if a process that it has started still has the socket, and
    /// the rest of its group is ended in the same way. When the runtime ends first, the group gets
    /// SIGTERM at once.
    ///
    /// For a terminal, the server is a background process: Ctrl-C and Ctrl-Z do not reach it, and it
    /// is stopped if it reads from the terminal, for instance to ask for a password. If Ctrl-C ends
    /// your program, the server sees the end of its input. If your program goes on, drop the
    /// connection, or [disconnect](Self::disconnect), to end the server.
    ///
    /// The standard error of the server is held back until the handshake is done, and copied then.
    /// If the attempt fails, the last 4 KiB are part of the error instead, with the exit status if
    /// the server has exited. See also [`child_stderr`](Self::child_stderr).
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// let connecting = conn.aio_connect_command(["nbdkit", "-s", "memory", "1M"])?;
    /// assert!(conn.is_connecting());
    /// connecting.await?;
    /// assert!(conn.is_ready());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, the list is empty or contains NUL, or the
    /// program cannot be started.
    #[doc(alias = "nbd_aio_connect_command")]
    pub fn aio_connect_command<Kind>(&self, server: impl IntoCommand<Kind>) -> Result<Connecting> {
        self.prepare()?;
        let command = match server.into_runnable() {
            Runnable::Program(program) => {
                program.check()?;
                program.command()
            }
            Runnable::Command(command) => command,
        };
        self.inner().begin()?;
        self.set_program(command.get_program());
        let delay = self.inner().config.child_kill_delay;
        self.start_child(command::spawn(command, Group::Own, delay))
    }

    /// Runs a server as child process and connects over its standard input and output; see
    /// [`aio_connect_command`](Self::aio_connect_command).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    #[doc(alias = "nbd_connect_command")]
    pub async fn connect_command<Kind>(&self, server: impl IntoCommand<Kind>) -> Result<()> {
        let connecting = self.aio_connect_command(server)?;
        connecting.await
    }

    /// Runs a server as child process that takes over a listening socket, and begins to connect to
    /// that socket: "socket activation", as by systemd.
    ///
    /// `server` is a list of the program and its arguments, or a [`Program`](crate::Program), which
    /// has an environment, a directory and a user as well. A `Command` cannot be taken: a shell sets
    /// `LISTEN_PID` and becomes the server, and the program of a `Command` cannot be changed.
    ///
    /// This is for servers that do not serve on their standard input and output, such as
    /// `qemu-nbd`. The server gets the socket as its descriptor 3, and `LISTEN_PID`, `LISTEN_FDS`
    /// and `LISTEN_FDNAMES` in its environment, the last one as set by
    /// [`socket_activation_name`](crate::Builder::socket_activation_name). Its standard input is
    /// empty. Everything else is as with [`aio_connect_command`](Self::aio_connect_command), with
    /// two differences. The server does not notice the end of the connection, so it gets SIGTERM at
    /// once. Nor does it notice if your program is killed, by Ctrl-C for instance: it must take care
    /// of that itself, as `nbdkit --exit-with-parent` does, or `qemu-nbd` without `-t`.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// conn.connect_systemd_socket_activation(["qemu-nbd", "-f", "qcow2", "disk.qcow2"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the handle is not new, there is no runtime, the list is empty or contains NUL, the name
    /// of the socket cannot be one, or the program cannot be started.
    #[doc(alias = "nbd_aio_connect_systemd_socket_activation")]
    #[doc(alias = "connect_activation")]
    pub fn aio_connect_systemd_socket_activation<Kind>(
        &self,
        server: impl IntoProgram<Kind>,
    ) -> Result<Connecting> {
        self.prepare()?;
        let program = server.into_program();
        program.check()?;
        let name = self.inner().config.socket_name.as_deref();
        activation::check(&program, name)?;
        self.inner().begin()?;
        self.set_program(program.name());
        let delay = self.inner().config.child_kill_delay;
        self.start_child(activation::spawn(&program, name, delay))
    }

    /// Runs a server as child process that takes over a listening socket, and connects to that;
    /// see [`aio_connect_systemd_socket_activation`](Self::aio_connect_systemd_socket_activation).
    ///
    /// # Errors
    /// As there, and if the handshake fails.
    #[doc(alias = "nbd_connect_systemd_socket_activation")]
    pub async fn connect_systemd_socket_activation<Kind>(
        &self,
        server: impl IntoProgram<Kind>,
    ) -> Result<()> {
        let connecting = self.aio_connect_systemd_socket_activation(server)?;
        connecting.await
    }

    /// Begins to connect to the server process of another connection, if that listens: one that was
    /// started by socket activation. Not known but on Linux.
    pub(crate) fn aio_connect_beside(&self, other: &Self) -> Option<Result<Connecting>> {
        let (child, program) = {
            let facts = other.inner().lock_facts();
            (facts.child.clone()?, facts.program.clone())
        };
        let door = child.door.clone()?;
        let guest = door.enter()?;
        let open = async move {
            let transport = Transport::from(door.connect().await?);
            Ok(transport.keeping(guest))
        };
        let connecting = self.prepare().and_then(|()| self.begin(open));
        let mut facts = self.inner().lock_facts();
        (facts.child, facts.program) = (Some(child), program);
        drop(facts);
        Some(connecting)
    }

    /// Notes the program for errors, without its arguments, which may be secret.
    fn set_program(&self, program: &OsStr) {
        self.inner().lock_facts().program = Some(format!("{program:?}"));
    }

    /// Begins the handshake with a server that was started, or ends the connection if it was not.
    pub(super) fn start_child(&self, spawned: Result<(unix::Stream, Child)>) -> Result<Connecting> {
        match spawned {
            Ok((stream, child)) => {
                let open = async { Ok(stream.into()) };
                driver::spawn(self.inner().clone(), Some(child), open);
                Ok(Connecting::new(self.inner().clone()))
            }
            Err(error) => {
                self.inner().end(State::Dead, error.clone());
                Err(error)
            }
        }
    }
}
