//! What proves that a lost connection is really over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

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
/// | [`by`](Self::by) | what the closure does proves it: a unit that was restarted and had no other process, `block-export-del` of QMP with `mode: hard`, a storage system's own fencing |
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

    /// Calls `prove` with the number of the newest lost connection, counted from 1. When the future
    /// returns `Ok`, no change of the connections up to that one can be carried out any more. After an
    /// error it is called again, after a delay.
    ///
    /// ```
    /// use nbd_client::Fence;
    ///
    /// let fence = Fence::by(|generation| async move {
    ///     println!("links up to {generation} are lost: restart the server");
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

    /// Waits until the links up to this generation are over.
    pub(super) async fn wait(self, generation: u64) {
        /// The delay after a failure.
        const AGAIN: Duration = Duration::from_secs(1);
        match self.0 {
            Way::Quiet(period) => tokio::time::sleep(period).await,
            Way::By(prove) => {
                while let Err(error) = prove(generation).await {
                    debug!(%error, generation, "the fence failed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Quiet(period) => f.debug_tuple("Quiet").field(period).finish(),
            Way::By(_) => f.write_str("By"),
        }
    }
}
