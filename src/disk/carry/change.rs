//! Changes: what was sent is followed to its end.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

use super::carrier::Carrier;
use super::{Lasting, MOST_LOSSES, flush_early, is_lost, is_shutdown, was_sent};
use crate::disk::event::Event;
use crate::disk::hub::{Hub, Link, Placed};
use crate::disk::policy::Changes;
use crate::disk::state::Content;
use crate::error::{Error, Phase, Result};
use crate::request::{Effect, Execute, op};
use crate::wire::CommandFlags;

/// A change on its way, whoever carries it.
pub(super) struct Change<O: Execute> {
    pub(super) hub: Arc<Hub>,
    pub(super) request: Lasting<O>,
    /// The bytes that the caller has asked for.
    pub(super) asked: Range<u64>,
    /// The bytes that it writes: of a part of a block it writes all.
    pub(super) covers: Range<u64>,
    pub(super) carrier: Arc<Carrier<O::Output>>,
}

/// The other messages of a change of which one has failed.
#[derive(Clone, Copy, PartialEq)]
enum Rest {
    /// There are none.
    Alone,
    /// All are answered, or were never sent.
    Answered,
    OnItsWay,
}

/// What becomes of a change that was on its way over a link.
enum Fate<T> {
    Over(Result<T>),
    Again,
}

impl<O: Execute> Change<O> {
    /// Sends the change when it is its turn, until it is answered, or its outcome is said to be
    /// unknown. Returns `None` if the caller has given up and nothing was sent.
    ///
    /// R0: until the end, no other change of these bytes is sent.
    pub(super) async fn carry_out(mut self, mut placed: Placed) -> Option<Result<O::Output>> {
        let mut next = self.at_once(&mut placed);
        let (mut losses, mut refusals) = (0, 0);
        // Whether some of its messages may have been carried out.
        let mut is_begun = false;
        loop {
            let link = match next.take() {
                Some(link) => link,
                // Rare, and large: it is kept out of this future.
                None => match Box::pin(self.wait(&mut placed)).await {
                    Ok(link) => link,
                    Err(error) if is_begun => return Some(Err(self.unknown(None, error))),
                    Err(error) => return Some(Err(error)),
                },
            };
            if self.carrier.signs().begin() {
                self.hub.done(&link, self.length());
                return None;
            }
            let operation = self.request.operation.again();
            let error = match self.request.on(&link.connection, operation).await {
                Ok(output) => {
                    self.acknowledge(placed, &link, losses > 0);
                    return Some(Ok(output));
                }
                Err(error) => error,
            };
            self.hub.done(&link, self.length());
            if is_lost(&error) {
                self.hub.leave(&link, &error);
            }
            let rest = match self.may_have_rest(&error) {
                false => Rest::Alone,
                true if link.connection.settled().await.is_ok() => Rest::Answered,
                true => Rest::OnItsWay,
            };
            let fate = self.failed(&link, error, rest, (&mut losses, &mut refusals));
            is_begun |= losses > 0 || rest == Rest::Answered;
            placed.resolve();
            if let Fate::Over(result) = fate {
                return Some(result);
            }
        }
    }

    /// Returns the link for a change that need not wait for anything.
    fn at_once(&self, placed: &mut Placed) -> Option<Arc<Link>> {
        let (effect, reads) = (self.effect(), self.reads());
        let is_scattered = reads.is_some_and(|range| self.hub.is_scattered(range));
        match self.must_be_whole() || is_scattered {
            true => None,
            false => self.hub.at_once(placed, &self.covers, &effect, reads),
        }
    }

    /// Waits until the change may be sent over a link, and makes it whole before if it must be.
    async fn wait(&mut self, placed: &mut Placed) -> Result<Arc<Link>> {
        if self.must_be_whole() {
            let effect = self.effect();
            self.hub.turn(placed, &self.covers, &effect).await?;
            self.make_whole().await?;
        }
        let (effect, reads) = (self.effect(), self.reads());
        if reads.is_some_and(|range| self.hub.is_scattered(range)) {
            flush_early(&self.hub).await;
        }
        let link = self.hub.link_for(placed, &self.covers, &effect, reads);
        link.await
    }

    /// What the link reads of the export to carry out the change: all of the blocks of which it writes
    /// a part (P6).
    fn reads(&self) -> Option<&Range<u64>> {
        (self.covers != self.request.range).then_some(&self.covers)
    }

    const fn length(&self) -> u64 {
        self.covers.end - self.covers.start
    }

    /// Whether the change writes a part of a block, and may have to be repeated: then all of the block
    /// must be known.
    fn must_be_whole(&self) -> bool {
        self.hub.settings.changes == Changes::Repeat
            && self.covers != self.request.range
            && matches!(self.request.operation.effect(), Effect::Data(_))
    }

    /// Reads what else is in the blocks of a write, which writes them as a whole then. Nothing else
    /// writes there before it has ended, and no ghost may.
    async fn make_whole(&mut self) -> Result<()> {
        let Effect::Data(data) = self.request.operation.effect() else {
            return Ok(());
        };
        let (covers, range) = (self.covers.clone(), self.request.range.clone());
        let length = usize::try_from(covers.end - covers.start).unwrap_or(usize::MAX);
        let mut whole = BytesMut::with_capacity(length);
        for edge in [covers.start..range.start, range.end..covers.end] {
            if !edge.is_empty() {
                let read = Lasting {
                    operation: op::Read,
                    range: edge.clone(),
                    flags: CommandFlags::empty(),
                    is_unaligned: true,
                };
                let found = super::read(self.hub.clone(), read).await?;
                whole.extend_from_slice(&found);
            }
            if edge.end == range.start {
                whole.extend_from_slice(&data);
            }
        }
        if let Some(operation) = self.request.operation.of_data(whole.freeze()) {
            self.request.operation = operation;
            self.request.range = covers;
            self.request.is_unaligned = false;
        }
        Ok(())
    }

    /// What the change writes.
    fn content(&self) -> Content {
        match self.request.operation.effect() {
            Effect::Data(data) => Content::Data(data),
            Effect::Zeroes => Content::Zeroes,
            Effect::None | Effect::Unknown => Content::Unknown,
        }
    }

    /// What the change makes of the bytes that it covers: of a part of a block it writes the rest with
    /// what was read.
    fn effect(&self) -> Content {
        match self.covers == self.request.range {
            true => self.content(),
            false => Content::Unknown,
        }
    }

    fn acknowledge(&self, placed: Placed, link: &Link, is_repeated: bool) {
        let is_durable = self.request.flags.contains(CommandFlags::FUA);
        let range = &self.request.range;
        let on = (link, self.length());
        placed.acknowledge(&self.asked, range, &self.content(), on, is_durable);
        if is_repeated {
            let range = self.asked.clone();
            self.hub.tell(&Event::Repeated { range });
        }
    }

    /// Records that the change has failed over a link.
    fn failed(
        &self,
        link: &Arc<Link>,
        error: Error,
        rest: Rest,
        counts: (&mut u32, &mut u32),
    ) -> Fate<O::Output> {
        // What was answered with an error, or in part, may have been written all the same.
        let is_refused = is_shutdown(&error) && rest == Rest::Alone;
        if was_sent(&error) && !is_refused {
            self.hub.doubt(&self.covers, &self.effect());
        }
        if is_lost(&error) {
            return self.lost(link, error, rest, counts);
        }
        if rest == Rest::OnItsWay {
            self.hub.lose(&self.covers, &self.effect(), link);
        }
        Fate::Over(Err(error))
    }

    /// Returns whether a change that has failed may have been sent as several messages, of which one
    /// was answered with the error, or given up: then others may still be on their way.
    fn may_have_rest(&self, error: &Error) -> bool {
        let Range { start, end } = self.covers;
        let export = self.hub.facts.export();
        let request = &self.request;
        let is_written = request.operation.may_be_written();
        let is_flushed = request.flags.contains(CommandFlags::FUA) && !export.can_fua();
        let is_one_message = !request.is_unaligned
            && !is_written
            && !is_flushed
            && end - start <= u64::from(export.max_payload());
        let may_go_on = match error {
            Error::Request(_) => true,
            // The link takes no more, or was silent: what it was sent before may be answered.
            Error::Closed(_) => was_sent(error),
            Error::Disconnected(lost, _) => was_sent(error) && lost.phase() == Phase::Shutdown,
            _ => false,
        };
        !is_one_message && may_go_on
    }

    /// Records that the link was lost, and decides whether to send the change again.
    fn lost(
        &self,
        link: &Arc<Link>,
        error: Error,
        rest: Rest,
        (losses, refusals): (&mut u32, &mut u32),
    ) -> Fate<O::Output> {
        // R6: what was never sent is sent on the next link without ceremony.
        if !was_sent(&error) {
            return Fate::Again;
        }
        // R5: so is what was refused, some times, and what was sent in part and is on its way no longer.
        if is_shutdown(&error) && rest != Rest::OnItsWay || rest == Rest::Answered {
            *refusals += 1;
            return match *refusals < MOST_LOSSES {
                true => Fate::Again,
                false => Fate::Over(Err(error)),
            };
        }
        let effect = self.effect();
        self.hub.lose(&self.covers, &effect, link);
        *losses += 1;
        let repeats = self.hub.settings.changes == Changes::Repeat
            && *losses < MOST_LOSSES
            && !self.carrier.signs().is_given_up()
            && !matches!(effect, Content::Unknown);
        if repeats {
            return Fate::Again;
        }
        Fate::Over(Err(self.unknown(Some(link.generation), error)))
    }

    /// The error of a change whose outcome is unknown.
    fn unknown(&self, generation: Option<u64>, cause: Error) -> Error {
        let error = Error::lost_change(O::COMMAND, self.asked.clone(), generation, cause);
        match self.effect() {
            Content::Unknown => error.of_a_part(),
            Content::Data(_) | Content::Zeroes => error,
        }
    }
}
