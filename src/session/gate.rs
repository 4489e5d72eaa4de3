//! Backpressure: who may send now, and who waits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::{Poll, Waker};

/// What a request needs to pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// Payload in either direction, in bytes.
    pub bytes: u64,
    /// What it changes, in bytes from the start of the export: abandoned writes that overlap it
    /// must be answered first.
    pub changes: Option<Range<u64>>,
}

/// A bound on requests and payload in flight, first come, first served.
#[derive(Debug)]
pub struct Gate {
    max_requests: usize,
    max_bytes: u64,
    requests: usize,
    bytes: u64,
    next: u64,
    waiting: BTreeMap<u64, (Want, Waker)>,
    granted: BTreeMap<u64, Want>,
}

impl Gate {
    pub const fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self {
            max_requests,
            max_bytes,
            requests: 0,
            bytes: 0,
            next: 0,
            waiting: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }

    /// Lets a request pass, or makes it wait. `place` is its place in the queue, once it has one.
    pub fn enter(
        &mut self,
        place: &mut Option<u64>,
        want: &Want,
        is_open: impl Fn(&Want) -> bool,
        waker: &Waker,
    ) -> Poll<()> {
        match *place {
            None if self.fits(want) && is_open(want) && !self.has_turn(is_open) => {
                self.take(want);
                Poll::Ready(())
            }
            None => {
                self.waiting
                    .insert(self.next, (want.clone(), waker.clone()));
                *place = Some(self.next);
                self.next = self.next.wrapping_add(1);
                Poll::Pending
            }
            Some(number) => {
                if self.granted.remove(&number).is_some() {
                    *place = None;
                    return Poll::Ready(());
                }
                if let Some((_, old)) = self.waiting.get_mut(&number) {
                    old.clone_from(waker);
                }
                Poll::Pending
            }
        }
    }

    /// A request that passed is done.
    pub const fn leave(&mut self, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A waiting request gives up.
    pub fn cancel(&mut self, place: u64) {
        if let Some(want) = self.granted.remove(&place) {
            self.leave(want.bytes);
        }
        self.waiting.remove(&place);
    }

    /// Whether anybody waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nobody waits, nor has been told to go and not gone yet.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.granted.is_empty()
    }

    /// Lets those pass who can, in order. Who waits for an abandoned write is overtaken; who
    /// waits for room is not.
    pub fn grant(&mut self, is_open: impl Fn(&Want) -> bool, woken: &mut Vec<Waker>) {
        let mut next = 0;
        while let Some((&number, (want, _))) = self.waiting.range(next..).next() {
            next = number.saturating_add(1);
            if !is_open(want) {
                continue;
            }
            if !self.fits(want) {
                break;
            }
            if let Some((want, waker)) = self.waiting.remove(&number) {
                self.take(&want);
                self.granted.insert(number, want);
                woken.push(waker);
            }
        }
    }

    /// Wakes everybody: the connection has ended.
    pub fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        self.granted.clear();
        woken.extend(
            std::mem::take(&mut self.waiting)
                .into_values()
                .map(|(_, waker)| waker),
        );
    }

    /// Whether somebody waits whose turn it is: for room, not for an abandoned write.
    fn has_turn(&self, is_open: impl Fn(&Want) -> bool) -> bool {
        self.waiting.values().any(|(want, _)| is_open(want))
    }

    const fn fits(&self, want: &Want) -> bool {
        // One request may be larger than the bound, but then it goes alone.
        self.requests < self.max_requests
            && (self.bytes == 0 || self.bytes.saturating_add(want.bytes) <= self.max_bytes)
    }

    const fn take(&mut self, want: &Want) {
        self.requests = self.requests.saturating_add(1);
        self.bytes = self.bytes.saturating_add(want.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &mut Gate, place: &mut Option<u64>, bytes: u64) -> bool {
        let want = Want {
            bytes,
            changes: None,
        };
        gate.enter(place, &want, |_| true, Waker::noop()).is_ready()
    }

    #[test]
    fn waiters_pass_in_the_order_they_came() {
        let mut gate = Gate::new(1, 100);
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(enter(&mut gate, &mut a, 0));
        assert!(!enter(&mut gate, &mut b, 0));
        assert!(!enter(&mut gate, &mut c, 0));
        let mut woken = Vec::new();
        gate.leave(0);
        gate.grant(|_| true, &mut woken);
        assert_eq!(woken.len(), 1);
        assert!(!enter(&mut gate, &mut c, 0), "b was first");
        assert!(enter(&mut gate, &mut b, 0));
    }

    #[test]
    fn bytes_are_bounded_but_one_large_request_passes_alone() {
        let mut gate = Gate::new(10, 100);
        let (mut a, mut b) = (None, None);
        assert!(enter(&mut gate, &mut a, 1000));
        assert!(!enter(&mut gate, &mut b, 1));
        let mut woken = Vec::new();
        gate.leave(1000);
        gate.grant(|_| true, &mut woken);
        assert!(enter(&mut gate, &mut b, 1));
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let mut gate = Gate::new(1, 100);
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(enter(&mut gate, &mut a, 0));
        assert!(!enter(&mut gate, &mut b, 0));
        assert!(!enter(&mut gate, &mut c, 0));
        let mut woken = Vec::new();
        gate.leave(0);
        gate.grant(|_| true, &mut woken);
        gate.cancel(b.unwrap());
        gate.grant(|_| true, &mut woken);
        assert!(
            enter(&mut gate, &mut c, 0),
            "b was told to go, gave up, and c took its place"
        );
        gate.leave(0);
        assert!(gate.is_empty());
    }

    #[test]
    fn who_waits_for_an_abandoned_write_is_overtaken() {
        let mut gate = Gate::new(10, 100);
        let closed = |want: &Want| want.changes.is_none();
        let fenced = Want {
            bytes: 1,
            changes: Some(0..1),
        };
        let mut a = None;
        assert!(
            gate.enter(&mut a, &fenced, closed, Waker::noop())
                .is_pending()
        );
        let mut b = None;
        let free = Want {
            bytes: 1,
            changes: None,
        };
        assert!(gate.enter(&mut b, &free, closed, Waker::noop()).is_ready());
        let mut woken = Vec::new();
        gate.grant(|_| true, &mut woken);
        assert!(
            gate.enter(&mut a, &fenced, closed, Waker::noop())
                .is_ready()
        );
    }
}
