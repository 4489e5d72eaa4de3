//! What proves that a lost connection is really over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::hub::Link;
use crate::connection::Connection;

/// What proves that no change of a lost connection can be carried out any more.
///
/// A lost connection proves nothing by itself: the server may still work on what it was sent, and
/// carry it out later. While that is possible, a [`Disk`](crate::Disk) lets no change pass that would
/// be undone ([`Error::Held`](crate::Error::Held)). A fence ends that. None is the default, so that
/// nothing is promised that nobody knows. A fence that is not sound for a server can cost data.
///
/// | Fence | Sound if |
/// |---|---|
/// | [`quiet`](Self::quiet) | no request takes longer than this, whatever becomes of its client |
/// | [`drained_close`](Self::drained_close) | the server closes a connection only when it has carried out what it was sent, as the protocol demands; nbdkit does, qemu-nbd does not; and nothing between closes it |
/// | [`terminate_child`](Self::terminate_child) | the server is a child process that carries out what it was sent before it exits on SIGTERM, and nothing behind it works on; nbdkit does |
/// | [`process_gone`](Self::process_gone) | the server is a child process that works on storage of this machine by itself, and starts no process outside of its group |
/// | [`by`](Self::by) | what the closure does proves it: a unit that was restarted and had no other process, `block-export-del` of QMP with `mode: hard`, a storage system's own fencing |
///
/// Before a silent connection is given up, the disk reads on for a while: see
/// [`DiskBuilder::drain`](crate::DiskBuilder::drain). What is answered meanwhile needs no fence.
///
/// If a fence cannot prove its point for a connection, changes that it holds fail with
/// [`Error::Held`](crate::Error::Held) and do not wait, until
/// [`Disk::assume_fenced`](crate::Disk::assume_fenced).
///
/// ```
/// use std::time::Duration;
/// use nbd_client::{Disk, Fence};
///
/// let disk = Disk::builder().fence(Fence::quiet(Duration::from_secs(60)));
/// # drop(disk);
/// ```
#[derive(Clone)]
pub struct Fence(Way);

#[derive(Clone)]
enum Way {
    Quiet(Duration),
    DrainedClose,
    #[cfg(unix)]
    TerminateChild,
    #[cfg(unix)]
    ProcessGone,
    By(Arc<dyn Fn(u64) -> Running + Send + Sync>),
}

type Running = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Fence {
    /// Waits this long after the connection was lost. The caller promises that no request outlives
    /// that.
    #[must_use]
    pub const fn quiet(period: Duration) -> Self {
        Self(Way::Quiet(period))
    }

    /// Ends a connection that is given up by `NBD_CMD_DISC`, and waits until the server closes it. This
    /// happens when the connection is silent for its
    /// [`stall_timeout`](crate::Builder::stall_timeout); the server has the time of
    /// [`drain`](crate::DiskBuilder::drain) for it.
    ///
    /// The protocol says that the server must first carry out all requests that it has got. nbdkit
    /// does; qemu-nbd closes at once, and carries them out later. A proxy that closes the connection
    /// when it likes proves nothing. Neither does a connection that ends in another way: its changes
    /// stay held.
    #[must_use]
    pub const fn drained_close() -> Self {
        Self(Way::DrainedClose)
    }

    /// Sends SIGTERM to the server, which is a child process
    /// ([`Connector::command`](crate::Connector::command),
    /// [`Connector::socket_activation`](crate::Connector::socket_activation)), and waits until it has
    /// exited with all of its group.
    ///
    /// This is sound if the server carries out all requests that it has got before it exits, as
    /// nbdkit does, and if nothing behind it works on what the server was told, as a server elsewhere
    /// may for a proxy. A server that is ended by a signal has proven nothing: raise
    /// [`child_kill_delay`](crate::Builder::child_kill_delay) if it takes long.
    #[cfg(unix)]
    #[must_use]
    pub const fn terminate_child() -> Self {
        Self(Way::TerminateChild)
    }

    /// Ends the server, which is a child process, and waits until it is gone with all of its process
    /// group, whether it has exited or was killed.
    ///
    /// This is sound if nothing else can carry out what the server was told: its storage belongs to
    /// this machine, and is written by the server itself and by processes of its group. It is not
    /// sound for a proxy, such as `nbdkit nbd` or `ssh`, or for a server that uses network storage.
    #[cfg(unix)]
    #[must_use]
    pub const fn process_gone() -> Self {
        Self(Way::ProcessGone)
    }

    /// Calls `prove` with the number of the newest lost connection, counted from 1. When the future
    /// returns `Ok`, no change of the lost connections up to that one can be carried out any more. After
    /// an error it is called again, after a delay.
    ///
    /// With several connections it may be called once for each that is lost, in whatever order: what it
    /// does must be safe to repeat.
    ///
    /// ```
    /// use nbd_client::Fence;
    ///
    /// let fence = Fence::by(|generation| async move {
    ///     println!("connections up to {generation} are lost: restart the server");
    ///     Ok(())
    /// });
    /// # drop(fence);
    /// ```
    #[must_use]
    pub fn by<F, R>(prove: F) -> Self
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self(Way::By(Arc::new(move |generation| {
            Box::pin(prove(generation))
        })))
    }

    /// Whether a silent link is to be ended by `DISC`.
    pub(super) const fn is_drained_close(&self) -> bool {
        matches!(self.0, Way::DrainedClose)
    }

    /// Waits until the links up to this generation are over; `links` are those that have left ghosts.
    /// Returns the generations of those of which it cannot prove that.
    pub(super) async fn wait(self, generation: u64, links: &[Arc<Link>]) -> Vec<u64> {
        /// The delay after a failure.
        const AGAIN: Duration = Duration::from_secs(1);
        match &self.0 {
            Way::Quiet(period) => tokio::time::sleep(*period).await,
            Way::By(prove) => {
                while let Err(error) = prove(generation).await {
                    debug!(%error, generation, "the fence failed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            _ => {
                let mut unproven = Vec::new();
                for link in links {
                    if !self.proves(&link.connection).await {
                        debug!(generation = link.generation, "the fence proves nothing");
                        unproven.push(link.generation);
                    }
                }
                return unproven;
            }
        }
        Vec::new()
    }

    /// Waits until a lost connection is over. Returns whether that is proven.
    async fn proves(&self, lost: &Connection) -> bool {
        match self.0 {
            Way::Quiet(_) | Way::By(_) => false,
            Way::DrainedClose => lost.was_drained(),
            #[cfg(unix)]
            Way::TerminateChild => {
                // It may have ended already.
                let _ = lost.terminate_child();
                let gone = lost.child_gone().await;
                gone.is_some_and(|gone| gone.has_exited)
            }
            #[cfg(unix)]
            Way::ProcessGone => lost.end_child().await.is_some_and(|gone| gone.led),
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Quiet(period) => f.debug_tuple("Quiet").field(period).finish(),
            Way::DrainedClose => f.write_str("DrainedClose"),
            #[cfg(unix)]
            Way::TerminateChild => f.write_str("TerminateChild"),
            #[cfg(unix)]
            Way::ProcessGone => f.write_str("ProcessGone"),
            Way::By(_) => f.write_str("By"),
        }
    }
}
