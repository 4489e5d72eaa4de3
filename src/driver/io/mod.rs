//! The driver in the transmission phase: it writes and reads in every poll.
//!
//! ```text
//! poll ──▶ write all that is queued ──▶ read what is there ──▶ wake its callers ──▶ let them run, so
//!   ▲                                                          that they can queue more    │
//!   └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A single caller wakes the driver when it has run. To several, the driver yields.

mod end;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(super) use end::Ended;

use super::busy::BusyPoll;
use super::input::Input;
use super::output::Output;
use super::overdue::Overdue;
use super::parting::Stage;
use super::stall::Stall;
use super::timer::Timer;
use super::transmission::Transmission;
use super::wake::wake_all;
use crate::config::Config;
use crate::error::{Error, Phase};
use crate::transport::Rouse;
use crate::wire::ProtocolError;

/// Memory is freed after this long without a request in flight.
const IDLE: Duration = Duration::from_secs(1);

/// Moves bytes between the socket and the session of one connection.
pub(super) struct Driver {
    transmission: Arc<Transmission>,
    output: Output,
    /// Whether a request was answered before it was fully written.
    early: bool,
    input: Input,
    /// How many bytes of data the server owed when the session was last asked.
    expected: u64,
    woken: Vec<Waker>,
    shutdown_timeout: Duration,
    stage: Stage,
    /// Whether the runtime was made to look at its sockets before `DISC`.
    looked: bool,
    /// How long `DISC` waits for callers whose requests have messages to come.
    callers: Timer,
    busy_poll: BusyPoll,
    /// Whether the last write waits for room in the socket.
    blocked: bool,
    /// Whether the session has queued something that no caller has submitted, such as `DISC`, for the
    /// next poll to write.
    queued: bool,
    /// Whether a reply came since `idle` was set.
    active: bool,
    /// The time to free memory.
    idle: Timer,
    stall: Option<Stall>,
    overdue: Option<Overdue>,
}

/// What the driver does when it has taken in what it has read.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// Read on: there is no caller to wake.
    Read,
    /// Wake one caller. Nothing else is to be done.
    WakeOne,
    /// Wake the callers, and let them run before it writes what is queued and takes in what is left.
    Yield,
}

impl Driver {
    /// Creates the driver of `transmission`.
    pub(super) fn new(
        transmission: Arc<Transmission>,
        input: Input,
        output: Output,
        rouse: Option<Rouse>,
        config: &Config,
    ) -> Self {
        transmission.count_received(input.len());
        Self {
            transmission,
            output,
            early: false,
            input,
            expected: 0,
            woken: Vec::new(),
            shutdown_timeout: config.shutdown_timeout,
            stage: Stage::Serving,
            looked: false,
            callers: Timer::default(),
            busy_poll: BusyPoll::new(config.busy_poll, rouse),
            blocked: false,
            queued: false,
            active: false,
            idle: Timer::default(),
            stall: config.stall_timeout.map(Stall::new),
            overdue: config.reply_timeout.map(Overdue::new),
        }
    }

    /// Runs until the connection ends.
    pub(super) async fn run(&mut self) -> Ended {
        // P-180: what the server sent ahead of any request is a reply to none.
        if !self.input.is_empty() {
            if let Err(error) = self.process() {
                return Ended::Failed(error);
            }
        }
        let ended = poll_fn(|cx| self.poll(cx)).await;
        wake_all(self.woken.drain(..));
        // The callers got the cause that ended the session first.
        match self.transmission.change(|session| session.ended().cloned()) {
            Some(error) => Ended::Failed(error),
            None => ended,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(ended) = std::task::ready!(self.poll_ending(cx)) {
            return Poll::Ready(ended);
        }
        let written = self.poll_goodbye(cx);
        let broken = match written {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        };
        if self.settle() {
            self.yield_to_callers(cx);
            return Poll::Pending;
        }
        let (mut has_read, mut next) = (false, Next::Read);
        loop {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(self.eof()),
                // K28: a signal interrupted the call.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A failed write is reported only when nothing more can be read: the server may
                // have said why it has gone.
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(error)),
                Poll::Pending => {
                    let Some(error) = broken else {
                        return self.rest(next, cx);
                    };
                    if !has_read {
                        return Poll::Ready(self.lost(error));
                    }
                    // The read may be pending only because the task has used up its share of
                    // the runtime.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            has_read = true;
            next = match self.process() {
                // A single caller is woken when the socket is known to be empty.
                Ok(then) if next == Next::Read => then,
                Ok(_) => Next::Yield,
                Err(error) => {
                    // Answers that came before the violation stand.
                    wake_all(self.woken.drain(..));
                    return Poll::Ready(Ended::Failed(error));
                }
            };
            // Before a request is taken to be overdue, all that was sent is taken in.
            if next == Next::Yield && !self.is_look_due(cx) {
                self.yield_to_callers(cx);
                return Poll::Pending;
            }
        }
    }

    /// Sleeps until the server sends something or, if a caller is to be woken, until that caller has
    /// run. To be woken by it costs less than to [yield](Self::yield_to_callers): for a task that
    /// yields, the multi-thread runtime wakes another worker.
    fn rest(&mut self, next: Next, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some((phase, limit)) = self.poll_deadlines(cx) {
            return Poll::Ready(Ended::Failed(Error::timeout(phase, limit)));
        }
        match next {
            Next::Read => {
                self.poll_idle(cx);
                self.poll_busy(cx);
            }
            Next::WakeOne => {
                self.transmission.await_caller();
                wake_all(self.woken.drain(..));
                self.poll_idle(cx);
            }
            Next::Yield => self.yield_to_callers(cx),
        }
        Poll::Pending
    }

    /// Writes what is queued, and after `DISC` shuts the stream down.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.output.written();
        let written = self.poll_output(cx);
        if self.output.written() != before {
            self.busy_poll.end();
            self.transmission.count_sent(self.output.written());
        }
        self.blocked = written.is_pending();
        let Stage::Parting(parting) = &mut self.stage else {
            return written;
        };
        parting.unheard |= matches!(written, Poll::Ready(Err(_)));
        std::task::ready!(written)?;
        if !parting.said {
            // P-106, P-148: with TLS this sends close_notify.
            std::task::ready!(self.output.poll_shutdown(cx))?;
            parting.said = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.output.poll_write(cx))?;
            // Bytes that were queued before this poll may have had to wait for earlier output.
            // Callers that queue bytes later wake the driver.
            if !self.blocked || !self.transmission.take_output(&mut self.output) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads once, unless messages that were read before are left. Returns false at the end of the
    /// stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.input.take_left() {
            return Poll::Ready(Ok(true));
        }
        let count = std::task::ready!(self.input.poll_fill(self.expected, cx))?;
        if count == 0 {
            return Poll::Ready(Ok(false));
        }
        self.transmission.count_received(count);
        self.busy_poll.heard(count);
        if let Some(stall) = &mut self.stall {
            stall.heard();
        }
        Poll::Ready(Ok(true))
    }

    /// Hands what was read to the session. Returns what is to be done next.
    fn process(&mut self) -> Result<Next, Error> {
        if !self.takes_answers() {
            // Bytes that come after our DISC are ignored.
            self.input.clear();
            return Ok(Next::Read);
        }
        // A reply must not be taken before the session knows what has been written.
        let (written, input) = (self.output.written(), &mut self.input);
        let (now, busy_poll) = (self.transmission.now(), &mut self.busy_poll);
        let taken = self.transmission.change_with(&mut self.woken, |session| {
            session.set_now(now);
            session.set_written(written);
            let waits = input.take_in(session)?;
            let queued = session.take_unprompted() | session.try_disconnect();
            let has_output = session.has_output();
            let (early, expected) = (session.has_early(), session.expected());
            busy_poll.set_messages(session.messages().1);
            Ok::<_, ProtocolError>((waits, queued, has_output, early, expected))
        });
        let (waits, queued, has_output, early, expected) = taken?;
        (self.queued, self.early, self.expected) = (queued, early, expected);
        if waits && !self.woken.is_empty() {
            self.input.expect_small();
        }
        self.active = true;
        Ok(match self.woken.len() {
            0 if !queued => Next::Read,
            1 if !has_output && !self.input.has_left() => Next::WakeOne,
            _ => Next::Yield,
        })
    }

    /// Returns whether answers are expected.
    fn takes_answers(&self) -> bool {
        match self.stage.parting() {
            None => true,
            Some(parting) => parting.takes && self.transmission.in_flight() > 0,
        }
    }

    /// Completes the answers that waited for their requests to be written. Returns whether there is
    /// a caller to wake, or something to write that no caller has submitted.
    fn settle(&mut self) -> bool {
        if self.early {
            let written = self.output.written();
            let (early, queued) = self.transmission.change_with(&mut self.woken, |session| {
                session.set_written(written);
                (
                    session.has_early(),
                    session.take_unprompted() | session.try_disconnect(),
                )
            });
            self.early = early;
            self.queued = queued && self.stage.is_serving();
        }
        !self.woken.is_empty() || self.queued
    }

    /// Wakes the callers whose answers have come, and lets them run first, so that what they ask
    /// next, or else what is queued, leaves in one write.
    fn yield_to_callers(&mut self, cx: &Context<'_>) {
        self.queued = false;
        self.transmission.mark_scheduled();
        wake_all(self.woken.drain(..));
        cx.waker().wake_by_ref();
    }

    /// Returns the deadline that has passed and its length, if one has. Called before waiting.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Option<(Phase, Duration)> {
        // After DISC only the shutdown deadline counts.
        if !self.stage.is_serving() {
            return None;
        }
        let in_flight = self.transmission.in_flight();
        if let Some(stall) = &mut self.stall {
            if stall.poll(in_flight, cx) {
                return Some((Phase::Stall, stall.limit()));
            }
        }
        let overdue = self.overdue.as_mut()?;
        overdue
            .poll(&self.transmission, in_flight, cx)
            .then(|| (Phase::Reply, overdue.limit()))
    }

    /// Returns whether the age of the requests in flight is to be looked at.
    fn is_look_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(overdue) = self.overdue.as_mut().filter(|_| self.stage.is_serving()) else {
            return false;
        };
        overdue.is_due(self.transmission.in_flight(), cx)
    }

    /// Polls once more before sleeping, if that was asked for or pays. Called before waiting.
    fn poll_busy(&mut self, cx: &mut Context<'_>) {
        // A caller that submits a request meanwhile wakes the driver, perhaps for another worker than
        // the one that is to poll it again.
        self.busy_poll.poll(self.transmission.in_flight(), cx);
    }

    /// Frees memory once a whole period has passed without a reply and nothing is in flight. Called
    /// before waiting.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let is_counting = self.idle.is_set() && !self.idle.is_expired();
        if is_counting || self.transmission.in_flight() > 0 {
            return;
        }
        if self.active {
            self.active = false;
            self.idle.set(IDLE);
            self.idle.poll_expired(cx);
        } else if self.idle.is_set() {
            self.idle.clear();
            if self.busy_poll.rest() {
                cx.waker().wake_by_ref();
            }
            self.woken = Vec::new();
            self.output.shrink();
            self.transmission.shrink();
            // The largest is last: some allocators return memory to the system only then.
            self.input.shrink();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The error of each request says whether it was sent.
        let written = self.output.written();
        self.transmission
            .change(|session| session.set_written(written));
        // There are some if a stream has panicked, or the runtime goes away.
        wake_all(self.woken.drain(..));
    }
}
