//! Changes: tasks that follow what was sent to its end.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::{Lasting, MOST_LOSSES, is_lost, is_shutdown, was_sent};
use crate::disk::event::Event;
use crate::disk::hub::{Hub, Link};
use crate::disk::policy::Changes;
use crate::disk::state::Content;
use crate::error::{Error, Result};
use crate::request::Execute;
use crate::wire::CommandFlags;

/// A change on its way: a task of its own, which goes on if its caller gives up.
pub(super) struct Change<O: Execute> {
    pub(super) hub: Arc<Hub>,
    pub(super) request: Lasting<O>,
    pub(super) content: Content,
    /// The bytes that it writes, and what it makes of them: of a part of a block it writes all.
    pub(super) covers: Range<u64>,
    pub(super) effect: Content,
    pub(super) answer: oneshot::Sender<Result<O::Output>>,
    /// Whether anything may have been sent.
    pub(super) is_begun: Arc<AtomicBool>,
}

impl<O: Execute> Change<O> {
    pub(super) async fn carry_out(mut self) {
        // R0: until the end, no other change of these bytes is sent.
        let placed = self.hub.begin(self.covers.clone());
        let turn = tokio::select! {
            biased;
            () = self.answer.closed() => return,
            turn = self.hub.turn(&placed, &self.covers, &self.effect) => turn,
        };
        let result = match turn {
            Ok(()) => self.send().await,
            Err(error) => Some(Err(error)),
        };
        drop(placed);
        if let Some(result) = result {
            // Nobody may be there to hear it.
            let _ = self.answer.send(result);
        }
    }

    /// Sends the change until it is answered, or its outcome is said to be unknown. Returns `None`
    /// if the caller has given up and nothing was sent.
    async fn send(&mut self) -> Option<Result<O::Output>> {
        let (mut losses, mut refusals) = (0, 0);
        loop {
            let link = tokio::select! {
                biased;
                () = self.answer.closed(), if losses == 0 => return None,
                link = self.hub.link(None) => link,
            };
            let link = match link {
                Ok(link) => link,
                Err(error) => return Some(Err(error)),
            };
            // Whoever gives up closes the channel, and then looks whether it has begun.
            self.is_begun.store(true, Ordering::SeqCst);
            if losses == 0 && self.answer.is_closed() {
                self.hub.done(&link);
                return None;
            }
            let sending = self.hub.send(link.generation);
            let operation = self.request.operation.again();
            let result = self.request.on(&link.connection, operation).await;
            self.hub.done(&link);
            let ended = match result {
                Ok(output) => {
                    self.acknowledge(&link, losses > 0);
                    Some(Ok(output))
                }
                Err(error) => {
                    let is_over = is_lost(&error);
                    if is_over {
                        self.hub.leave(&link, &error);
                    }
                    let may_rest = self.may_have_rest(&error);
                    let has_rest = may_rest && link.connection.settled().await.is_err();
                    if is_over {
                        self.lost(&link, error, has_rest, (&mut losses, &mut refusals))
                    } else {
                        if has_rest {
                            self.hub.lose(&self.covers, &self.effect, &link);
                        }
                        Some(Err(error))
                    }
                }
            };
            drop(sending);
            if ended.is_some() {
                return ended;
            }
        }
    }

    fn acknowledge(&self, link: &Link, is_repeated: bool) {
        let is_durable = self.request.flags.contains(CommandFlags::FUA);
        let range = &self.request.range;
        self.hub
            .acknowledge(range, &self.content, link.generation, is_durable);
        if is_repeated {
            let range = range.clone();
            self.hub.tell(&Event::Repeated { range });
        }
    }

    /// Returns whether a change that has failed may have been sent as several messages, of which one
    /// was answered with the error: then others may still be on their way.
    fn may_have_rest(&self, error: &Error) -> bool {
        let Range { start, end } = self.covers;
        let most = u64::from(self.hub.facts.export().max_payload());
        let is_one_message = !self.request.is_unaligned && end - start <= most;
        !is_one_message && matches!(error, Error::Request(_))
    }

    /// The link was lost. Returns the result for the caller, unless the change is to be sent again.
    fn lost(
        &self,
        link: &Arc<Link>,
        error: Error,
        has_rest: bool,
        (losses, refusals): (&mut u32, &mut u32),
    ) -> Option<Result<O::Output>> {
        // R6: what was never sent is sent on the next link without ceremony.
        if !was_sent(&error) {
            return None;
        }
        // R5: so is what was refused, some times.
        if is_shutdown(&error) && !has_rest {
            *refusals += 1;
            return (*refusals >= MOST_LOSSES).then_some(Err(error));
        }
        let (range, generation) = (&self.request.range, link.generation);
        self.hub.lose(&self.covers, &self.effect, link);
        *losses += 1;
        let repeats = self.hub.settings.changes == Changes::Repeat
            && *losses < MOST_LOSSES
            && !self.answer.is_closed()
            && !matches!(self.effect, Content::Unknown);
        if repeats {
            return None;
        }
        let error = Error::lost_change(O::COMMAND, range.clone(), Some(generation), error);
        Some(Err(error))
    }
}
