//! Changes: tasks that follow what was sent to its end.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::{Lasting, MOST_LOSSES, is_lost, note, was_refused};
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
        let mut losses = 0;
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
                Err(error) if is_lost(&error) => {
                    note(&self.hub, &link);
                    self.lost(&link, error, &mut losses)
                }
                Err(error) => Some(Err(error)),
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

    /// The link was lost. Returns the result for the caller, unless the change is to be sent again.
    fn lost(&self, link: &Link, error: Error, losses: &mut u32) -> Option<Result<O::Output>> {
        // R6: what was never sent, or refused, is sent on the next link without ceremony.
        if was_refused(&error) {
            return None;
        }
        let (range, generation) = (&self.request.range, link.generation);
        self.hub.lose(&self.covers, &self.effect, generation);
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
