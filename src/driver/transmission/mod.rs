//! The state that the handles and the driver of one connection share while commands flow.

mod serve;

use std::fmt;
use std::sync::PoisonError;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::wake::wake_all;
pub(super) use serve::Duty;

use crate::chunk::Chunk;
use crate::config::Config;
use crate::driver::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::driver::sync::{Mutex, MutexGuard};
use crate::error::{Error, RequestError};
use crate::export::SharedExport;
use crate::session::{Answer, Bounds, Buffers, Cookie, Place, Session, Submission};
use crate::stats::Stats;
use crate::wire::ReplyStyle;

/// The transmission phase of one connection, shared by its handles and its driver.
pub(crate) struct Transmission {
    export: SharedExport,
    style: ReplyStyle,
    core: Mutex<Core>,
    // Copies for handles that look without the lock. Nothing else depends on them.
    in_flight: AtomicUsize,
    received: AtomicU64,
    sent: AtomicU64,
    /// The start of the transmission phase, if latency is measured.
    clock: Option<Instant>,
    buffers: Buffers,
}

struct Core {
    session: Session,
    driver: Option<Waker>,
    /// Whether the driver is about to run, so that it need not be woken.
    scheduled: bool,
    /// Whether the driver sleeps although it has more to do once the caller that it woke has run:
    /// that caller wakes it.
    awaits_caller: bool,
    /// Whether the driver is to fail the requests of which nothing is written.
    discarding: bool,
    /// Whether the last handle is gone.
    detached: bool,
    /// How long the server may take to close the connection, once `DISC` is to be sent while requests
    /// are in flight.
    leaving: Option<Duration>,
    /// Whether the server has closed the connection after that.
    drained: bool,
}

impl Transmission {
    pub(super) fn new(
        export: SharedExport,
        style: ReplyStyle,
        bounds: Bounds,
        config: &Config,
    ) -> Self {
        let session = Session::new(style, bounds, Session::random_cookie());
        Self {
            buffers: session.buffers().clone(),
            export,
            style,
            core: Mutex::new(Core {
                session,
                driver: None,
                scheduled: true,
                awaits_caller: false,
                discarding: false,
                detached: false,
                leaving: None,
                drained: false,
            }),
            in_flight: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            clock: config.measure_latency.then(Instant::now),
        }
    }

    pub(crate) const fn export(&self) -> &SharedExport {
        &self.export
    }

    pub(crate) const fn style(&self) -> ReplyStyle {
        self.style
    }

    /// Returns the buffers of reads.
    pub(crate) const fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn publish(&self, session: &Session) {
        self.in_flight.store(session.in_flight(), Ordering::Relaxed);
    }

    /// Returns what has gone over the connection since the handshake.
    pub(crate) fn stats(&self) -> Stats {
        let core = self.core();
        let (messages_sent, messages_received) = core.session.messages();
        Stats {
            bytes_sent: self.sent.load(Ordering::Relaxed),
            bytes_received: self.received.load(Ordering::Relaxed),
            messages_sent,
            messages_received,
            commands: *core.session.commands(),
        }
    }

    /// Returns the time since the transmission phase began, if latency is measured.
    pub(super) fn now(&self) -> Option<Duration> {
        self.clock.map(|clock| clock.elapsed())
    }

    /// Submits a message, see [`Session::poll_message`].
    pub(crate) fn poll_submit(
        &self,
        continues: bool,
        submission: &mut Option<Submission>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Cookie, Error>> {
        let now = self.now();
        let mut core = self.core();
        core.session.set_now(now);
        let session = &mut core.session;
        let result = session.poll_message(continues, submission, ticket, waker);
        if let Poll::Ready(Ok(_)) = result {
            self.publish(&core.session);
            Self::schedule(core);
        }
        result
    }

    /// Wakes the driver, unless it is about to run, so that it writes what is queued.
    fn schedule(mut core: MutexGuard<'_, Core>) {
        if std::mem::replace(&mut core.scheduled, true) {
            return;
        }
        let driver = core.driver.clone();
        drop(core);
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    /// Lets a caller use the session, and then wakes the driver if it waits for a caller.
    fn call<T>(&self, call: impl FnOnce(&mut Session) -> T) -> T {
        let mut core = self.core();
        let result = call(&mut core.session);
        if core.awaits_caller {
            Self::schedule(core);
        }
        result
    }

    /// Begins a request of several messages, see [`Session::begin_several`].
    pub(crate) fn begin_several(&self) -> bool {
        self.core().session.begin_several()
    }

    /// Ends a request of several messages: all are queued or given up.
    pub(crate) fn end_several(&self) {
        let mut core = self.core();
        if core.session.end_several() {
            Self::schedule(core);
        }
    }

    /// Returns the reason why a message is refused, if so, see [`Session::refusal`].
    pub(crate) fn refusal(&self, continues: bool) -> Option<Error> {
        self.core().session.refusal(continues)
    }

    pub(crate) fn poll_answer(&self, cookie: Cookie, waker: &Waker) -> Poll<Result<Answer, Error>> {
        self.call(|session| session.poll_answer(cookie, waker))
    }

    pub(crate) fn poll_chunk(
        &self,
        cookie: Cookie,
        waker: &Waker,
    ) -> Poll<Option<Result<Chunk, Error>>> {
        self.call(|session| session.poll_chunk(cookie, waker))
    }

    /// Abandons a request: its caller has dropped it.
    pub(crate) fn abandon(&self, cookie: Cookie) {
        let has_output = self.change(|session| {
            session.abandon(cookie);
            session.has_output()
        });
        // Requests that waited behind a change that now waits for this one may have been queued.
        self.wake_for(has_output);
    }

    /// Removes a waiting request. Returns its cookie if it was admitted meanwhile.
    pub(crate) fn cancel(&self, ticket: u64) -> Option<Cookie> {
        let (cookie, has_output) =
            self.change(|session| (session.cancel(ticket), session.has_output()));
        // Requests that waited behind it may have been queued.
        self.wake_for(has_output);
        cookie
    }

    /// Waits for earlier changes, see [`Session::poll_settled`].
    pub(crate) fn poll_settled(
        &self,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        self.call(|session| session.poll_settled(place, waker))
    }

    pub(crate) fn leave_settling(&self, place: Place) {
        self.call(|session| session.leave_settling(place));
    }

    /// Refuses further requests, lets those in flight finish, and then disconnects.
    pub(crate) fn close(&self) {
        self.change(Session::close);
        self.wake_driver();
    }

    /// Disconnects without waiting for requests in flight, since the last handle is gone.
    pub(crate) fn detach(&self) {
        self.core().detached = true;
        self.wake_driver();
    }

    /// Disconnects without waiting for requests in flight, but still takes their answers, until the
    /// server closes the connection or `patience` is over.
    pub(crate) fn leave(&self, patience: Duration) {
        self.change(|session| session.refuse(Error::closed()));
        self.core().leaving = Some(patience);
        self.wake_driver();
    }

    /// Returns whether the server has closed the connection by itself after [`leave`](Self::leave).
    pub(crate) fn was_drained(&self) -> bool {
        self.core().drained
    }

    /// Returns whether acknowledged changes may not be durable.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.core().session.has_unflushed()
    }

    /// Returns the flush that has failed first, unless that is forgiven.
    pub(crate) fn flush_failure(&self) -> Option<RequestError> {
        self.core().session.flush_failure().cloned()
    }

    /// Lets flushes succeed again after one has failed.
    pub(crate) fn clear_flush_error(&self) {
        self.core().session.clear_flush_error();
    }

    /// Ends the connection with `error`: from now on every request is refused with it, and the
    /// driver, which knows what was sent, fails those in flight. Returns the error, which also says
    /// whether writes were left unflushed.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let error = self.change(|session| session.stop(error));
        self.wake_driver();
        error
    }

    /// Fails every request that still waits with `error`, since the driver is gone, and frees memory.
    pub(super) fn end(&self, error: &Error) {
        self.change(|session| {
            session.fail(error);
            session.shrink();
        });
    }

    /// Has the driver fail every request of which nothing has been written. A request that is
    /// partly written is written to its end.
    pub(crate) fn discard_unsent(&self) {
        self.core().discarding = true;
        self.wake_driver();
    }

    /// Has the driver fail nothing, if it has not yet.
    pub(crate) fn keep_unsent(&self) {
        self.core().discarding = false;
    }

    /// Changes the session, and wakes the tasks that have something to poll.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut woken = Vec::new();
        let result = self.change_with(&mut woken, change);
        wake_all(woken);
        result
    }

    /// Changes the session, and moves the wakers of the tasks that have something to poll into
    /// `woken`.
    pub(super) fn change_with<T>(
        &self,
        woken: &mut Vec<Waker>,
        change: impl FnOnce(&mut Session) -> T,
    ) -> T {
        let mut core = self.core();
        let result = change(&mut core.session);
        core.session.take_woken(woken);
        self.publish(&core.session);
        result
    }

    fn wake_driver(&self) {
        Self::schedule(self.core());
    }

    /// Wakes the driver if there is something to write, or if it waits for a caller.
    fn wake_for(&self, has_output: bool) {
        let core = self.core();
        if has_output || core.awaits_caller {
            Self::schedule(core);
        }
    }

    // Poison is ignored: a panic of a caller's waker cannot leave the session half changed, since
    // wakers are called without the lock.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Transmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmission")
            .field("style", &self.style)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
