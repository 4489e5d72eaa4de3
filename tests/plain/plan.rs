//! Which combinations come when.

use std::time::Duration;

use crate::shape::{Command, Load, Place, Program, THREADS, Threads, Transport, loads, ways};
use crate::shared::random::Random;

/// So many loads share a connection,
const GROUP: usize = 6;
/// or so many that are heavy.
const HEAVY_GROUP: usize = 3;
/// A load is heavy that has more bytes in flight.
const HEAVY: usize = 8 << 20;
/// At first, one visit in so many may be heavy.
const SELDOM: usize = 16;
/// How long one load runs.
const EACH: Duration = Duration::from_millis(10);
/// How long a load runs that users are likely to have.
const LONG: Duration = Duration::from_millis(300);

pub(crate) struct Plan {
    pub(crate) places: Vec<Place>,
    pub(crate) loads: Vec<Load>,
    /// All loads, light ones with light ones.
    groups: Vec<Vec<Load>>,
    light: Vec<Vec<Load>>,
}

/// What is done on one connection.
pub(crate) struct Visit {
    pub(crate) place: Place,
    pub(crate) loads: Vec<Load>,
    pub(crate) each: Duration,
}

impl Plan {
    /// All combinations, in an order of their own for each seed.
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut places = Vec::new();
        for threads in THREADS {
            places.extend(ways().into_iter().map(|way| Place { threads, way }));
        }
        let mut loads = loads();
        shuffle(&mut places, random);
        shuffle(&mut loads, random);
        let is_heavy = |load: &Load| load.command.carries() && load.size * load.depth > HEAVY;
        let (heavy, light): (Vec<Load>, Vec<Load>) = loads.iter().copied().partition(is_heavy);
        let chunks =
            |loads: &[Load], size| -> Vec<_> { loads.chunks(size).map(<[Load]>::to_vec).collect() };
        let light = chunks(&light, GROUP);
        let mut groups = chunks(&heavy, HEAVY_GROUP);
        groups.extend(light.iter().cloned());
        shuffle(&mut groups, random);
        Self {
            places,
            loads,
            groups,
            light,
        }
    }

    /// The visit of this number. The first round goes everywhere once, mostly with light loads;
    /// as many rounds as there are groups make every load everywhere.
    pub(crate) fn visit(&self, number: usize) -> Visit {
        let (round, at) = (number / self.places.len(), number % self.places.len());
        let place = self.places[at];
        let groups = match round {
            0 if at % SELDOM > 0 => &self.light,
            _ => &self.groups,
        };
        let group = &groups[(round + at) % groups.len()];
        let exists = |load: &&Load| load.command.exists_in(place.way.style);
        Visit {
            place,
            loads: group.iter().filter(exists).copied().collect(),
            each: EACH,
        }
    }

    /// What users write first: one request after the other, on the multi-thread runtime.
    pub(crate) fn likely(&self, random: &mut Random) -> Visit {
        let workers = [1, 2, 4][random.below(3) as usize];
        let likely = |place: &&Place| {
            let way = place.way;
            place.threads == Threads::Multi(workers)
                && matches!(way.transport, Transport::Unix | Transport::Tcp)
                && matches!(way.program, Program::Nbdkit | Program::Qemu)
        };
        let places: Vec<_> = self.places.iter().filter(likely).collect();
        let place = *places[random.below(places.len() as u64) as usize];
        let load = |command, size| Load {
            command,
            size,
            depth: 1,
        };
        let loads = [4 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20].map(|size| {
            let command = match random.below(3) {
                0 => Command::Write,
                _ => Command::Read,
            };
            load(command, size)
        });
        Visit {
            place,
            loads: loads.to_vec(),
            each: LONG,
        }
    }
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}
