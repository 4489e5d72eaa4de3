//! The watchdog: a thread that looks at what others are doing, and takes no part in it.
//!
//! It is no timer of Tokio's: what the callers do is what a program without timeouts does, and a
//! runtime that is stuck as a whole is noticed as well.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::Connection;

use crate::shape::{DEPTHS, Shape};

/// How long a request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What a slow machine carries at least, in bytes a second: a request waits for those before it.
const SLOWEST: u64 = 16 << 20;

/// How long it is waited for an answer that is late, to tell whether it comes at all.
const AFTER: Duration = Duration::from_secs(20);

const LANES: usize = DEPTHS[DEPTHS.len() - 1] + 1;
/// The lane of what is done between loads.
const BETWEEN: usize = LANES - 1;

/// What is done between loads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Connect,
    Fill,
    Prepare,
    ReadBack,
    Disconnect,
}

const STEPS: [Step; 5] = [
    Step::Connect,
    Step::Fill,
    Step::Prepare,
    Step::ReadBack,
    Step::Disconnect,
];

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What one caller is doing.
#[derive(Default)]
struct Beacon {
    /// Milliseconds after the epoch, plus one; zero if it waits for nothing.
    since: AtomicU64,
    number: AtomicU64,
}

/// What all callers of a visitor are doing.
pub(crate) struct Watch {
    beacons: [Beacon; LANES],
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    what: String,
    conn: Option<Connection>,
    patience: Duration,
}

/// Somebody who waits for too long.
pub(crate) struct Stuck {
    lane: usize,
    /// When that began.
    since: u64,
    text: String,
}

/// Somebody waits; until this is dropped.
pub(crate) struct Waiting<'a>(&'a Beacon);

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            beacons: std::array::from_fn(|_| Beacon::default()),
            now: Mutex::default(),
        }
    }

    /// Says what is done from now on.
    pub(crate) fn set(&self, shape: &Shape, arrangement: &str, conn: Option<&Connection>) {
        let volume = (shape.load.size * shape.load.depth) as u64;
        let mut now = self.lock();
        now.what = format!("{shape}, {arrangement}");
        now.conn = conn.cloned();
        now.patience = PATIENCE + Duration::from_millis(volume * 1000 / SLOWEST);
    }

    /// The connection is let go.
    pub(crate) fn forget(&self) {
        self.lock().conn = None;
    }

    pub(crate) fn begin(&self, lane: usize, number: u64) -> Waiting<'_> {
        let beacon = &self.beacons[lane];
        beacon.number.store(number, Relaxed);
        beacon.since.store(millis() + 1, Relaxed);
        Waiting(beacon)
    }

    pub(crate) fn step(&self, step: Step) -> Waiting<'_> {
        self.begin(BETWEEN, step as u64)
    }

    /// Who waits for too long, if anybody does.
    pub(crate) fn overdue(&self) -> Option<Stuck> {
        let limit = self.lock().patience;
        let stuck = |lane: &usize| self.waits(*lane).is_some_and(|time| time > limit);
        let lane = (0..LANES).find(stuck)?;
        Some(Stuck {
            lane,
            since: self.beacons[lane].since.load(Relaxed),
            text: self.describe(lane),
        })
    }

    /// For how long this one has been waiting.
    fn waits(&self, lane: usize) -> Option<Duration> {
        match self.beacons[lane].since.load(Relaxed) {
            0 => None,
            since => Some(Duration::from_millis((millis() + 1).saturating_sub(since))),
        }
    }

    fn describe(&self, lane: usize) -> String {
        let number = self.beacons[lane].number.load(Relaxed);
        let who = match lane {
            BETWEEN => format!("{:?}", STEPS[number as usize]),
            _ => format!("request {number} of lane {lane}"),
        };
        let (what, conn) = {
            let now = self.lock();
            (now.what.clone(), now.conn.clone())
        };
        let waits = self.waits(lane).unwrap_or_default();
        let waiting = (0..LANES).filter(|lane| self.waits(*lane).is_some());
        let waiting = waiting.count();
        let stats = conn.as_ref().map(Connection::stats);
        format!(
            "{what}: {who} has not been answered for {waits:?}; \
             {waiting} lanes wait; {conn:?}; {stats:?}"
        )
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stuck {
    /// Waits for a while yet, and says whether the answer came after all.
    pub(crate) fn or_late(self, watch: &Watch) -> String {
        let text = self.text;
        let start = Instant::now();
        while watch.beacons[self.lane].since.load(Relaxed) == self.since {
            if start.elapsed() > AFTER {
                return format!("HANG: {text}; nor in {AFTER:?} more");
            }
            thread::sleep(Duration::from_millis(10));
        }
        format!("LATE: {text}; it was {:?} later", start.elapsed())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Relaxed);
    }
}

fn millis() -> u64 {
    EPOCH.elapsed().as_millis() as u64
}
