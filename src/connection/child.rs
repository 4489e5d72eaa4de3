//! The server process of a connection.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use super::Connection;
use crate::driver::timer::{after, until};
use crate::error::{Error, InvalidUse, Phase, Result};
use crate::transport::process::Gone;
use crate::wire::Text;

/// The server process, if the connection has started one. Not on Windows.
impl Connection {
    /// Returns the process id of the server, if this connection runs it and it has not ended.
    #[doc(alias = "nbd_get_subprocess_pid")]
    #[must_use]
    pub fn child_id(&self) -> Option<u32> {
        self.inner().lock_facts().child.as_ref()?.process.id()
    }

    /// Returns the last 4 KiB that the server process has written to its standard error, or `None`
    /// if this connection runs no server. They stay known after the connection has ended.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// conn.connect_command(["nbdkit", "-s", "-v", "memory", "1M"]).await?;
    /// if let Err(error) = conn.flush().await {
    ///     println!("{error}; before that, the server said: {}", conn.child_stderr().unwrap());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn child_stderr(&self) -> Option<Text> {
        let child = self.inner().lock_facts().child.clone()?;
        Some(Text::from_bytes(&child.words.tail()))
    }

    /// Asks the server process to end, with SIGTERM. It does the same as `kill_child(15)`.
    ///
    /// The connection ends when the server does. Some servers first serve their client to the end,
    /// as nbdkit does: disconnect, or drop the connection, for these.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let conn = nbd_client::Connection::new();
    /// conn.connect_command(["nbdkit", "-s", "memory", "1M"]).await?;
    /// conn.terminate_child()?;
    /// conn.disconnect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If this connection runs no process, or it has ended.
    #[doc(alias = "nbd_kill_subprocess")]
    pub fn terminate_child(&self) -> Result<()> {
        self.kill_child(Signal::TERM.as_raw())
    }

    /// Sends a signal, by number, to the server process. This is for servers that do not exit when
    /// the connection ends, if they should end before [`disconnect`](Self::disconnect) ends them.
    ///
    /// The signal goes to the server alone, not to the processes that it has started. Only SIGKILL
    /// goes to the whole process group. When the server exits, the rest of the group is ended
    /// anyway, see [`aio_connect_command`](Self::aio_connect_command).
    ///
    /// # Errors
    /// If this connection runs no process, it has ended, or the number is no signal. The number 0
    /// sends nothing, and only tells whether the process runs; for libnbd it means SIGTERM, which is
    /// [`terminate_child`](Self::terminate_child) here.
    #[doc(alias = "nbd_kill_subprocess")]
    pub fn kill_child(&self, signal: i32) -> Result<()> {
        let child = self.inner().lock_facts().child.clone();
        let Some(child) = child else {
            return Err(InvalidUse::NoChild.into());
        };
        child
            .process
            .kill(signal)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::SRCH) => InvalidUse::ChildEnded.into(),
                Some(Errno::INVAL) => InvalidUse::Signal(signal).into(),
                _ => Error::io(Phase::Shutdown, error),
            })
    }

    /// Ends the server process and its group, as at the end of a connection: SIGTERM, and SIGKILL after
    /// the [`child_kill_delay`](crate::Builder::child_kill_delay). Returns how it has ended, or `None`
    /// if this connection runs no process.
    pub(crate) async fn end_child(&self) -> Option<Gone> {
        // It may have ended already.
        let _ = self.terminate_child();
        let patience = after(self.inner().config.child_kill_delay);
        if let Some(gone) = until(patience, self.child_gone()).await {
            return gone;
        }
        let _ = self.kill_child(Signal::KILL.as_raw());
        self.child_gone().await
    }

    /// Waits until the server process and its group are gone. Returns how it has ended, or `None` if
    /// this connection runs no process.
    pub(crate) async fn child_gone(&self) -> Option<Gone> {
        /// How often the process is looked at.
        const TICK: Duration = Duration::from_millis(10);
        let process = self.inner().lock_facts().child.as_ref()?.process.clone();
        loop {
            if let Some(gone) = process.gone() {
                return Some(gone);
            }
            tokio::time::sleep(TICK).await;
        }
    }
}
