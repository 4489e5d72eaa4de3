//! How far a copy is.

use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// What a copy is doing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CopyPhase {
    /// Connecting, and looking at both sides.
    #[default]
    Preparing,
    /// Copying.
    Copying,
    /// Making durable what was copied.
    Flushing,
    /// Reading both sides again.
    Verifying,
    /// The copy has succeeded.
    Complete,
}

/// How far a copy was at one time. All lengths are in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CopyProgress {
    /// What it is doing.
    pub phase: CopyPhase,
    /// What this phase has to do; `None` if the source is a stream, whose length is not known.
    pub total: Option<u64>,
    /// What is completed: answered by the destination, known to be zero on both sides, or skipped.
    pub done: u64,
    /// What was read and written.
    pub data: u64,
    /// What is zero.
    pub zeroes: u64,
    /// What needed no copying.
    pub skipped: u64,
    /// What was copied once more after a loss.
    pub repeated: u64,
    /// How long this phase has taken.
    pub elapsed: Duration,
}

impl CopyProgress {
    /// Returns how much of the phase is done, from 0 to 1, if it is known.
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        match self.total? {
            0 => Some(1.0),
            total => Some((self.done as f64 / total as f64).min(1.0)),
        }
    }

    /// Returns the bytes that were completed a second, on average; what was skipped does not count.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        let done = self.done.saturating_sub(self.skipped) as f64;
        if seconds > 0.0 { done / seconds } else { 0.0 }
    }

    /// Returns how long the rest of the phase takes at that rate, if it is known.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done) as f64;
        let rate = self.rate();
        (rate > 0.0).then(|| Duration::try_from_secs_f64(left / rate).ok())?
    }
}

/// How far a copy is, see [`Copying::progress`](crate::Copying::progress). It does not hold up the copy.
#[derive(Clone, Debug)]
pub struct Progress {
    state: watch::Receiver<State>,
}

impl Progress {
    /// Returns how far the copy is now.
    #[must_use]
    pub fn now(&self) -> CopyProgress {
        self.state.borrow().now()
    }

    /// Returns how far the copy is when something has changed, at most once in `every`, until it has
    /// ended; the last item is how it ended.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use nbd_client::{Connection, testing};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// # let server = testing::Server::new(testing::Export::new(1 << 20));
    /// # let source = Connection::new();
    /// # source.connect_stream(server.connect()).await?;
    /// use futures::StreamExt;
    /// use nbd_client::{CopyPhase, Destination, copy};
    ///
    /// let copying = copy(source, Destination::nothing());
    /// let mut updates = Box::pin(copying.progress().updates(Duration::from_millis(100)));
    /// let show = tokio::spawn(async move {
    ///     let mut last = None;
    ///     while let Some(progress) = updates.next().await {
    ///         println!("{:?} of {:?}", progress.done, progress.total);
    ///         last = Some(progress.phase);
    ///     }
    ///     last
    /// });
    /// copying.await?;
    /// assert_eq!(show.await.unwrap(), Some(CopyPhase::Complete));
    /// # Ok(())
    /// # }
    /// ```
    pub fn updates(self, every: Duration) -> impl Stream<Item = CopyProgress> + Send + 'static {
        stream::unfold(
            (self.state, false),
            move |(mut state, is_over)| async move {
                if is_over {
                    return None;
                }
                let is_over = match state.changed().await {
                    // An early end of the copy must not wait.
                    Ok(()) => !open_after(&state, every).await,
                    Err(_) => true,
                };
                let now = state.borrow_and_update().now();
                Some((now, (state, is_over)))
            },
        )
    }
}

/// Waits for a time, or until the copy has ended. Returns whether it has not.
async fn open_after(state: &watch::Receiver<State>, every: Duration) -> bool {
    let mut probe = state.clone();
    let ended = async move { while probe.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        () = ended => false,
        () = sleep(every) => true,
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    progress: CopyProgress,
    since: Instant,
}

impl State {
    fn now(&self) -> CopyProgress {
        let mut progress = self.progress;
        if progress.phase != CopyPhase::Complete {
            progress.elapsed = self.since.elapsed();
        }
        progress
    }
}

/// Tells how far a copy is. The copy alone has it.
#[derive(Debug)]
pub(super) struct Publisher {
    state: watch::Sender<State>,
}

impl Default for Publisher {
    fn default() -> Self {
        let (progress, since) = (CopyProgress::default(), Instant::now());
        let state = watch::Sender::new(State { progress, since });
        Self { state }
    }
}

impl Publisher {
    pub(super) fn subscribe(&self) -> Progress {
        let state = self.state.subscribe();
        Progress { state }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        self.state.send_modify(|state| change(&mut state.progress));
    }

    /// Begins a phase that starts at nothing done.
    pub(super) fn begin(&self, phase: CopyPhase, total: Option<u64>) {
        self.state.send_modify(|state| {
            state.since = Instant::now();
            state.progress.phase = phase;
            state.progress.total = total;
            state.progress.done = 0;
            state.progress.skipped = 0;
        });
    }

    /// Goes on to a phase, with what is done so far.
    pub(super) fn enter(&self, phase: CopyPhase) {
        self.state.send_modify(|state| {
            state.progress.elapsed = state.since.elapsed();
            state.progress.phase = phase;
        });
    }
}
