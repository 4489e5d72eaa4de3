//! Backpressure: who may send now, and who waits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::task::Waker;

/// What a request needs to pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// Payload in either direction, in bytes.
    pub bytes: u64,
    /// What it changes, in bytes from the start of the export: abandoned writes that overlap it
    /// must be answered first.
    pub changes: Option<Range<u64>>,
    /// The span of a change, see [`Barrier`](super::barrier::Barrier); of a flush, the one before
    /// which all changes have to be answered.
    pub span: u64,
}

/// A bound on requests and payload in flight, first come, first served.
#[derive(Debug)]
pub struct Gate<T> {
    max_requests: usize,
    max_bytes: u64,
    requests: usize,
    bytes: u64,
    next: u64,
    waiting: BTreeMap<u64, Waiter<T>>,
    /// Flushes that wait for changes before them. They are looked at only when such changes have
    /// been answered; until then they are in nobody's way.
    held: BTreeMap<u64, Waiter<T>>,
}

/// A request that waits, with all that is needed to send it: it does not depend on its caller,
/// who may have other things to do when its turn comes.
#[derive(Debug)]
pub struct Waiter<T> {
    pub want: Want,
    pub item: T,
    pub waker: Waker,
}

impl<T> Gate<T> {
    pub const fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self {
            max_requests,
            max_bytes,
            requests: 0,
            bytes: 0,
            next: 0,
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Lets a request pass, or says that it has to wait.
    pub fn enter(&mut self, want: &Want, is_open: impl Fn(&Want) -> bool) -> bool {
        let passes = self.fits(want) && is_open(want) && !self.has_turn(is_open);
        if passes {
            self.take(want);
        }
        passes
    }

    /// Puts a request at the end of the queue; says what its place is.
    pub fn wait(&mut self, waiter: Waiter<T>) -> u64 {
        let place = self.place();
        self.waiting.insert(place, waiter);
        place
    }

    /// Holds a flush back until [`release`](Self::release); says what its place is then.
    pub fn hold(&mut self, waiter: Waiter<T>) -> u64 {
        let place = self.place();
        self.held.insert(place, waiter);
        place
    }

    const fn place(&mut self) -> u64 {
        let place = self.next;
        self.next = self.next.wrapping_add(1);
        place
    }

    /// Puts the flushes that need not be held back any more into the queue. They have come in the
    /// order of their spans.
    pub fn release(&mut self, is_past: impl Fn(u64) -> bool) {
        while let Some(first) = self.held.first_entry() {
            if !is_past(first.get().want.span) {
                return;
            }
            let (place, waiter) = first.remove_entry();
            self.waiting.insert(place, waiter);
        }
    }

    /// Whom to wake when the turn of a waiting request comes.
    pub fn set_waker(&mut self, place: u64, waker: &Waker) {
        let waiter = self.waiting.get_mut(&place);
        if let Some(waiter) = waiter.or_else(|| self.held.get_mut(&place)) {
            waiter.waker.clone_from(waker);
        }
    }

    /// A request that passed is done.
    pub const fn leave(&mut self, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A waiting request gives up.
    pub fn cancel(&mut self, place: u64) -> Option<Waiter<T>> {
        self.waiting
            .remove(&place)
            .or_else(|| self.held.remove(&place))
    }

    /// Whether anybody waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets the next one pass who can, in order from the place `from` on. Who waits for an
    /// abandoned write is overtaken; who waits for room is not.
    pub fn grant(
        &mut self,
        from: &mut u64,
        is_open: impl Fn(&Want) -> bool,
    ) -> Option<(u64, Waiter<T>)> {
        let mut line = self.waiting.range(*from..);
        let (&place, waiter) = line.find(|(_, waiter)| is_open(&waiter.want))?;
        if !self.fits(&waiter.want) {
            return None;
        }
        *from = place.saturating_add(1);
        let waiter = self.waiting.remove(&place)?;
        self.take(&waiter.want);
        Some((place, waiter))
    }

    /// Wakes everybody: nobody will pass any more.
    pub fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        for line in [&mut self.waiting, &mut self.held] {
            let line = std::mem::take(line);
            woken.extend(line.into_values().map(|waiter| waiter.waker));
        }
    }

    /// Whether somebody waits whose turn it is: for room, not for an abandoned write.
    fn has_turn(&self, is_open: impl Fn(&Want) -> bool) -> bool {
        self.waiting.values().any(|waiter| is_open(&waiter.want))
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
    use proptest::prelude::*;

    use super::*;

    fn want(bytes: u64) -> Want {
        Want {
            bytes,
            changes: None,
            span: 0,
        }
    }

    /// Lets a request pass, or gives it a place.
    fn enter(gate: &mut Gate<()>, want: &Want, is_open: impl Fn(&Want) -> bool) -> Option<u64> {
        if gate.enter(want, is_open) {
            return None;
        }
        Some(gate.wait(Waiter {
            want: want.clone(),
            item: (),
            waker: Waker::noop().clone(),
        }))
    }

    /// The places of all who can pass now.
    fn grant(gate: &mut Gate<()>, is_open: impl Fn(&Want) -> bool) -> Vec<u64> {
        let mut from = 0;
        let next = || gate.grant(&mut from, &is_open).map(|(place, _)| place);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn waiters_pass_in_the_order_they_came() {
        let mut gate = Gate::new(1, 100);
        assert_eq!(enter(&mut gate, &want(0), |_| true), None);
        let b = enter(&mut gate, &want(0), |_| true).unwrap();
        let c = enter(&mut gate, &want(0), |_| true).unwrap();
        gate.leave(0);
        assert_eq!(grant(&mut gate, |_| true), [b]);
        gate.leave(0);
        assert_eq!(grant(&mut gate, |_| true), [c]);
    }

    #[test]
    fn bytes_are_bounded_but_one_large_request_passes_alone() {
        let mut gate = Gate::new(10, 100);
        assert_eq!(enter(&mut gate, &want(1000), |_| true), None);
        let b = enter(&mut gate, &want(1), |_| true).unwrap();
        assert!(grant(&mut gate, |_| true).is_empty());
        gate.leave(1000);
        assert_eq!(grant(&mut gate, |_| true), [b]);
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let mut gate = Gate::new(1, 100);
        assert_eq!(enter(&mut gate, &want(0), |_| true), None);
        let b = enter(&mut gate, &want(0), |_| true).unwrap();
        let c = enter(&mut gate, &want(0), |_| true).unwrap();
        assert!(gate.cancel(b).is_some());
        assert!(gate.cancel(b).is_none());
        gate.leave(0);
        assert_eq!(grant(&mut gate, |_| true), [c]);
        assert!(!gate.has_waiting());
    }

    #[test]
    fn who_waits_for_room_is_not_overtaken() {
        let mut gate = Gate::new(10, 100);
        assert_eq!(enter(&mut gate, &want(60), |_| true), None);
        let large = enter(&mut gate, &want(60), |_| true).unwrap();
        let small = enter(&mut gate, &want(1), |_| true).unwrap();
        assert!(grant(&mut gate, |_| true).is_empty());
        gate.leave(60);
        assert_eq!(grant(&mut gate, |_| true), [large, small]);
    }

    #[test]
    fn who_waits_for_an_abandoned_write_is_overtaken() {
        let mut gate = Gate::new(10, 100);
        let closed = |want: &Want| want.changes.is_none();
        let fenced = Want {
            bytes: 1,
            changes: Some(0..1),
            span: 0,
        };
        let a = enter(&mut gate, &fenced, closed).unwrap();
        assert_eq!(enter(&mut gate, &want(1), closed), None);
        assert!(grant(&mut gate, closed).is_empty());
        assert_eq!(grant(&mut gate, |_| true), [a]);
    }

    proptest! {
        #![proptest_config(crate::properties::config())]

        /// Each step comes, finishes, or gives up.
        #[test]
        fn bounds_hold_and_nobody_is_forgotten_or_overtaken(
            requests in 1usize..4,
            bytes in 0u64..20,
            steps in prop::collection::vec((0u8..4, any::<u8>(), 0u64..16), 1..60),
        ) {
            let mut gate = Gate::new(requests, bytes);
            let (mut inside, mut line) = (Vec::new(), Vec::new());
            for (step, which, size) in steps {
                match step {
                    0 | 1 => match enter(&mut gate, &want(size), |_| true) {
                        Some(place) => line.push((place, size)),
                        None => {
                            prop_assert!(line.is_empty(), "somebody was there before");
                            inside.push(size);
                        }
                    },
                    2 if !inside.is_empty() => {
                        gate.leave(inside.swap_remove(usize::from(which) % inside.len()));
                    }
                    3 if !line.is_empty() => {
                        let (place, _) = line.remove(usize::from(which) % line.len());
                        prop_assert!(gate.cancel(place).is_some());
                    }
                    _ => {}
                }
                let granted = grant(&mut gate, |_| true);
                let first: Vec<_> = line.drain(..granted.len()).collect();
                prop_assert_eq!(granted, first.iter().map(|(place, _)| *place).collect::<Vec<_>>());
                inside.extend(first.iter().map(|(_, size)| size));

                let total: u64 = inside.iter().sum();
                let alone = inside.iter().filter(|&&size| size > 0).count() == 1;
                prop_assert!(inside.len() <= requests && (total <= bytes || alone));
                if let Some((_, size)) = line.first() {
                    let fits = inside.len() < requests && (total == 0 || total + size <= bytes);
                    prop_assert!(!fits, "the first in the line could pass");
                }
                prop_assert_eq!(gate.has_waiting(), !line.is_empty());
            }
        }
    }
}
