//! What the handles and the driver of one connection share while commands flow.

mod serve;
mod write;

use std::fmt;
use std::sync::{PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::wake::wake_all;
pub(super) use serve::Duty;
use write::Writer;

use crate::builder::Config;
use crate::chunk::Chunk;
use crate::error::Error;
use crate::export::SharedExport;
use crate::session::{Answer, Bounds, Buffers, Outbox, Session, Submission, Ticket};
use crate::stats::Stats;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::transport::WriteHalf;
use crate::wire::ReplyStyle;

/// While at most this many requests are in flight, a caller writes its request itself instead of
/// waking the driver: one task switch less.
const DIRECT: usize = 1;

/// The transmission phase of one connection, shared by its handles and its driver.
pub(crate) struct Link {
    export: SharedExport,
    style: ReplyStyle,
    /// Whether callers may write by themselves; not if the driver is to see every request.
    direct: bool,
    /// Whether it matters since when the server owes replies.
    timed: bool,
    core: Mutex<Core>,
    // Lock order: the writer before the core. Whoever holds the core may only try the writer.
    writer: Mutex<Writer>,
    written: AtomicU64,
    /// Somebody waits for `written` to grow.
    early: AtomicBool,
    in_flight: AtomicUsize,
    expected: AtomicU64,
    received: AtomicU64,
    buffers: Buffers,
}

struct Core {
    session: Session,
    driver: Option<Waker>,
    /// The driver is about to run: it need not be woken.
    scheduled: bool,
    /// Nobody holds the connection any more.
    abandoned: bool,
    /// Since when requests have been in flight without a break; only if that matters.
    owing: Option<Instant>,
    /// The driver is to see the next request, so as to begin to count.
    unwatched: bool,
}

impl Link {
    pub(super) fn new(
        export: SharedExport,
        style: ReplyStyle,
        bounds: Bounds,
        half: WriteHalf,
        config: &Config,
    ) -> Self {
        let timed = config.stall_timeout.is_some();
        let session =
            Session::new(style, bounds, Session::random_cookie()).with_limits(config.limits);
        Self {
            buffers: session.buffers().clone(),
            export,
            style,
            direct: config.busy_poll.is_none_or(|period| period.is_zero()),
            timed,
            core: Mutex::new(Core {
                session,
                driver: None,
                scheduled: true,
                abandoned: false,
                owing: None,
                unwatched: timed,
            }),
            writer: Mutex::new(Writer {
                half: Some(half),
                outbox: Outbox::default(),
                unflushed: false,
            }),
            written: AtomicU64::new(0),
            early: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            expected: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(crate) const fn export(&self) -> &SharedExport {
        &self.export
    }

    pub(crate) const fn style(&self) -> ReplyStyle {
        self.style
    }

    /// Where the buffers of reads come from and go back to.
    pub(crate) const fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn publish(&self, session: &Session) {
        self.in_flight.store(session.in_flight(), Ordering::Relaxed);
        self.expected.store(session.expected(), Ordering::Relaxed);
    }

    /// What has gone over the connection since the handshake.
    pub(crate) fn stats(&self) -> Stats {
        let (messages_sent, messages_received) = self.core().session.messages();
        Stats {
            bytes_sent: self.written.load(Ordering::Relaxed),
            bytes_received: self.received.load(Ordering::Relaxed),
            messages_sent,
            messages_received,
        }
    }

    /// Hands a request in; see [`Session::poll_submit`].
    pub(crate) fn poll_submit(
        &self,
        submission: &mut Option<Submission>,
        place: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Ticket, Error>> {
        let mut core = self.core();
        let before = core.session.in_flight();
        let result = core.session.poll_submit(submission, place, waker);
        if let Poll::Ready(Ok(_)) = result {
            if self.timed && before == 0 {
                core.owing = Some(Instant::now());
            }
            self.publish(&core.session);
            self.start_sending(core, before);
        }
        result
    }

    /// Sees to it that what is queued gets written: by this task if the connection was idle, by
    /// the driver otherwise.
    fn start_sending(&self, mut core: MutexGuard<'_, Core>, before: usize) {
        if core.scheduled {
            return;
        }
        let driver = core.driver.clone();
        if self.direct && before < DIRECT && !core.unwatched {
            if let (Some(waker), Some(mut writer)) = (&driver, self.try_writer()) {
                if writer.outbox.is_empty() {
                    core.session.take_outbox(&mut writer.outbox);
                    drop(core);
                    // The driver is the one to be woken when the socket has room again; an
                    // error too is left for it to find.
                    let flushed = self.flush(&mut writer, &mut Context::from_waker(waker));
                    drop(writer);
                    if !matches!(flushed, Poll::Ready(Ok(()))) || self.has_early() {
                        self.wake_driver();
                    }
                    return;
                }
            }
        }
        core.scheduled = true;
        drop(core);
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    /// Why no request is taken any more, if none is.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.core().session.refusal()
    }

    pub(crate) fn poll_answer(&self, ticket: Ticket, waker: &Waker) -> Poll<Result<Answer, Error>> {
        self.core().session.poll_answer(ticket, waker)
    }

    pub(crate) fn poll_chunk(
        &self,
        ticket: Ticket,
        waker: &Waker,
    ) -> Poll<Option<Result<Chunk, Error>>> {
        self.core().session.poll_chunk(ticket, waker)
    }

    /// Nobody waits for this request any more.
    pub(crate) fn abandon(&self, ticket: Ticket) {
        self.core().session.abandon(ticket);
    }

    /// A request that waited for room gives up. If it was let go meanwhile, this gives its ticket.
    pub(crate) fn leave_queue(&self, place: u64) -> Option<Ticket> {
        let (ticket, has_output) =
            self.change(|session| (session.leave_queue(place), session.has_output()));
        // Others may have their turn now.
        if has_output {
            self.wake_driver();
        }
        ticket
    }

    /// Takes no further requests, lets those in flight finish, then disconnects.
    pub(crate) fn close(&self) {
        self.change(Session::close);
        self.wake_driver();
    }

    /// Nobody holds the connection any more: says goodbye without waiting for anything.
    pub(crate) fn abandon_all(&self) {
        self.core().abandoned = true;
        self.wake_driver();
    }

    /// Whether changes are acknowledged that are not known to be durable.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.core().session.has_unflushed()
    }

    /// Lets flushes succeed again although one has failed.
    pub(crate) fn clear_flush_error(&self) {
        self.core().session.clear_flush_error();
    }

    /// Ends everything with this error, at once. Gives it with what is to be said of the end.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let error = error.with_unflushed(self.has_unflushed());
        // Nobody writes while it is decided what has been sent.
        let writer = self.writer();
        self.change(|session| {
            session.set_written(self.written.load(Ordering::SeqCst));
            session.fail(&error);
        });
        drop(writer);
        self.wake_driver();
        error
    }

    /// Gives up every request of which nothing has been written. One of which a part has been
    /// written is written to its end.
    pub(crate) fn drop_unsent(&self) {
        let mut woken = Vec::new();
        let mut writer = self.writer();
        self.change_with(&mut woken, |session| {
            let written = self.written.load(Ordering::SeqCst);
            session.set_written(written);
            // A goodbye is queued only when nothing is left to give up.
            if session.is_disconnecting() {
                return;
            }
            let keep = session.drop_unsent().saturating_sub(written);
            let taken = writer.outbox.remaining();
            writer.outbox.truncate(keep);
            session.truncate_outbox(keep.saturating_sub(taken));
        });
        drop(writer);
        wake_all(woken);
        self.wake_driver();
    }

    /// Changes the session and wakes whoever has something to look at.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut woken = Vec::new();
        let result = self.change_with(&mut woken, change);
        wake_all(woken);
        result
    }

    /// The same, leaving it to the caller to wake `woken`.
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

    pub(super) fn wake_driver(&self) {
        let waker = {
            let mut core = self.core();
            core.scheduled = true;
            core.driver.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    // A panic of a caller's waker cannot leave the session half changed: wakers are called
    // without the lock. So a poisoned lock is as good as any.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("style", &self.style)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
