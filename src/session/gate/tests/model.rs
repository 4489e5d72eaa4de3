//! The gate beside a model that looks at everybody.

use proptest::prelude::*;

use super::*;

/// The same by simple rules, which look at everybody all the time.
struct Model {
    requests: usize,
    bytes: u64,
    inside: Vec<Inside>,
    line: Vec<(u64, Want)>,
    held: Vec<(u64, Want)>,
}

struct Inside {
    want: Want,
    /// Its ticket, or another number if it had none.
    number: u64,
    is_abandoned: bool,
}

impl Model {
    fn fits(&self, want: &Want) -> bool {
        let total: u64 = self.inside.iter().map(|inside| inside.want.bytes).sum();
        self.inside.len() < self.requests && (total == 0 || total + want.bytes <= self.bytes)
    }

    fn is_open(&self, ticket: u64, want: &Want) -> bool {
        let overlaps = |other: &Want| match (&want.changes, &other.changes) {
            (Some(a), Some(b)) => a.start < b.end && b.start < a.end,
            _ => false,
        };
        let holds =
            |inside: &&Inside| want.exclusive || inside.want.exclusive || inside.is_abandoned;
        let mut holding = self.inside.iter().filter(holds);
        let is_ahead = |(first, waiter): &&(u64, Want)| waiter.exclusive && *first < ticket;
        let mut ahead = self.line.iter().filter(is_ahead);
        !holding.any(|inside| overlaps(&inside.want)) && !ahead.any(|(_, waiter)| overlaps(waiter))
    }

    fn has_open(&self) -> bool {
        let mut line = self.line.iter();
        line.any(|(ticket, waiter)| self.is_open(*ticket, waiter))
    }

    fn passes(&self, want: &Want) -> bool {
        self.fits(want) && self.is_open(u64::MAX, want) && !self.has_open()
    }

    fn take(&mut self, want: Want, number: u64) {
        self.inside.push(Inside {
            want,
            number,
            is_abandoned: false,
        });
    }

    /// Lets all pass who can.
    fn grant(&mut self) -> Vec<u64> {
        let mut granted = Vec::new();
        let is_open = |model: &Self| {
            let mut line = model.line.iter();
            line.position(|(ticket, want)| model.is_open(*ticket, want))
        };
        while let Some(first) = is_open(self) {
            if !self.fits(&self.line[first].1) {
                break;
            }
            let (ticket, want) = self.line.remove(first);
            self.take(want, ticket);
            granted.push(ticket);
        }
        granted
    }

    /// Whether the gate must be told that a change is answered.
    fn tells(inside: &Inside, gate: &Gate<()>) -> bool {
        inside.is_abandoned || gate.tracks_changes()
    }
}

/// Lets all pass who can, and makes their changes known as a session does.
fn grant_known(gate: &mut Gate<()>) -> Vec<u64> {
    let mut granted = Vec::new();
    while let Some((ticket, waiter)) = gate.grant() {
        begin(gate, &waiter.want, ticket);
        granted.push(ticket);
    }
    granted
}

fn begin(gate: &mut Gate<()>, want: &Want, number: u64) {
    if let Some(changes) = want.changes.as_ref().filter(|_| gate.tracks_changes()) {
        gate.begin(changes, want.exclusive, number);
    }
}

/// Makes the changes inside known before the first exclusive one.
fn track(gate: &mut Gate<()>, model: &Model) {
    let changes = model.inside.iter();
    let changes = changes.filter_map(|inside| Some((inside.number, inside.want.changes.clone()?)));
    gate.track_changes(changes);
}

proptest! {
    #![proptest_config(crate::tests::properties::config())]

    /// Each step comes, is done, is abandoned, gives up, or is a flush that is held or released.
    #[test]
    fn the_gate_does_what_it_would_by_looking_at_everybody(
        requests in 1usize..12,
        bytes in 0u64..200,
        steps in prop::collection::vec(
            (0u8..16, any::<u8>(), 0u64..16, prop::option::of((0u64..60, 1u64..30)), 0u8..4),
            1..150,
        ),
    ) {
        let mut gate = Gate::new(requests, bytes);
        let (inside, line, held) = (Vec::new(), Vec::new(), Vec::new());
        let mut model = Model { requests, bytes, inside, line, held };
        // Who passes at once has no ticket.
        let mut number = 1 << 32;
        for (step, which, size, changes, kind) in steps {
            let pick = |count: usize| usize::from(which) % count.max(1);
            let mut wanted = want(size);
            wanted.changes = changes.map(|(start, length)| start..start + length);
            if let (0, Some((start, _))) = (kind, changes) {
                wanted = exclusive(size, start / 8 * 8..start / 8 * 8 + 8);
            }
            match step {
                0..6 => {
                    if wanted.exclusive && !gate.tracks_changes() {
                        track(&mut gate, &model);
                    }
                    let ticket = enter(&mut gate, &wanted);
                    prop_assert_eq!(ticket.is_none(), model.passes(&wanted));
                    if let Some(ticket) = ticket {
                        model.line.push((ticket, wanted));
                    } else {
                        number += 1;
                        begin(&mut gate, &wanted, number);
                        model.take(wanted, number);
                    }
                }
                6..10 if !model.inside.is_empty() => {
                    let done = model.inside.swap_remove(pick(model.inside.len()));
                    gate.free(done.want.bytes);
                    if let Some(changes) = done.want.changes.as_ref().filter(|_| Model::tells(&done, &gate)) {
                        gate.answered(changes, done.number);
                    }
                }
                10..13 if !model.inside.is_empty() => {
                    let at = pick(model.inside.len());
                    let inside = &mut model.inside[at];
                    // An exclusive change holds up others whether or not it is abandoned.
                    if !std::mem::replace(&mut inside.is_abandoned, true) && !inside.want.exclusive {
                        if let Some(changes) = &inside.want.changes {
                            gate.abandon(changes, inside.number);
                        }
                    }
                    // This makes no room.
                    continue;
                }
                13 if !model.line.is_empty() => {
                    let (ticket, wanted) = model.line.remove(pick(model.line.len()));
                    prop_assert_eq!(gate.cancel(ticket).map(|waiter| waiter.want), Some(wanted));
                }
                14 => model.held.push((gate.hold(waiter(&want(size))), want(size))),
                15 => {
                    gate.release(|_| true);
                    model.line.append(&mut model.held);
                    model.line.sort_by_key(|(ticket, _)| *ticket);
                }
                _ => {}
            }
            prop_assert_eq!(grant_known(&mut gate), model.grant());
            let total: u64 = model.inside.iter().map(|inside| inside.want.bytes).sum();
            let alone = model.inside.iter().filter(|inside| inside.want.bytes > 0).count() == 1;
            prop_assert!(model.inside.len() <= requests && (total <= bytes || alone));
            prop_assert_eq!(gate.has_waiting(), model.has_open());
        }
        // Once all is answered, nobody has been forgotten.
        while let Some(done) = model.inside.pop() {
            gate.free(done.want.bytes);
            if let Some(changes) = done.want.changes.as_ref().filter(|_| Model::tells(&done, &gate)) {
                gate.answered(changes, done.number);
            }
            prop_assert_eq!(grant_known(&mut gate), model.grant());
        }
        prop_assert!(model.line.is_empty() && !gate.has_waiting());
    }
}
