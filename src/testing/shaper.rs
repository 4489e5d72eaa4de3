//! Replies that leave later, or in another order, than their requests came.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::wire::codec::Request;

use super::builder::ReplyOrder;
use super::command::ServerSession;
use super::reply_gate::ReplyGate;
use super::reply_queue::{Message, ReplyQueue};

/// The way of requests that are not answered at once.
///
/// ```text
/// push ─▶ waiting ─▶ running ─▶ ready ─▶ queue
///          max_concurrent  latency   gate, order
/// ```
pub(super) struct Shaper<'a> {
    gate: &'a ReplyGate,
    waiting: VecDeque<Request>,
    running: FuturesUnordered<BoxFuture<'static, Request>>,
    ready: VecDeque<Vec<Message>>,
    random: Random,
}

impl<'a> Shaper<'a> {
    pub(super) fn new(gate: &'a ReplyGate, order: ReplyOrder) -> Self {
        Self {
            gate,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            ready: VecDeque::new(),
            random: Random::new(match order {
                ReplyOrder::Random(seed) => seed,
                _ => 0,
            }),
        }
    }

    pub(super) fn push(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.ready.is_empty()
    }

    /// Moves everything on as far as it goes; returns whether any reply left.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        session: &ServerSession<'_>,
        queue: &mut ReplyQueue,
    ) -> bool {
        loop {
            self.start(session);
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.finish(session, &request),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let admitted = self.gate.admit(self.ready.len());
        if admitted == 0 {
            return false;
        }
        self.gate.sub_held(admitted);
        let order = session.server.knobs.order;
        let mut leaving: Vec<_> = (0..admitted)
            .filter_map(|_| self.take(order))
            .map(Vec::into_iter)
            .collect();
        if session.server.knobs.interleave_chunks {
            // P-131: the chunks of one reply keep their order among themselves.
            while !leaving.is_empty() {
                leaving.retain_mut(|reply| match reply.next() {
                    Some(message) => {
                        queue.push(message);
                        true
                    }
                    None => false,
                });
            }
        } else {
            leaving
                .into_iter()
                .flatten()
                .for_each(|message| queue.push(message));
        }
        true
    }

    /// Starts waiting requests as long as there is room.
    fn start(&mut self, session: &ServerSession<'_>) {
        let knobs = &session.server.knobs;
        while self.running.len() < knobs.max_concurrent {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            let latency = knobs.latency.as_ref().map(|latency| latency(&request.head));
            match latency {
                Some(latency) if !latency.is_zero() => {
                    let sleep = tokio::time::sleep(latency);
                    self.running.push(sleep.map(|()| request).boxed());
                }
                _ => self.finish(session, &request),
            }
        }
    }

    fn finish(&mut self, session: &ServerSession<'_>, request: &Request) {
        let mut messages = Vec::with_capacity(1);
        session.execute(request, &mut |message| messages.push(message));
        self.ready.push_back(messages);
        self.gate.add_held(1);
    }

    fn take(&mut self, order: ReplyOrder) -> Option<Vec<Message>> {
        match order {
            ReplyOrder::InOrder => self.ready.pop_front(),
            ReplyOrder::Reversed => self.ready.pop_back(),
            ReplyOrder::Random(_) => {
                let index = self.random.below(self.ready.len());
                self.ready.remove(index)
            }
        }
    }
}

impl Drop for Shaper<'_> {
    fn drop(&mut self) {
        self.gate.sub_held(self.ready.len());
    }
}

/// SplitMix64: enough to shuffle replies the same way each time.
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The remainder is below `limit`, so it fits.
        usize::try_from(mixed % (limit.max(1) as u64)).unwrap_or(0)
    }
}
