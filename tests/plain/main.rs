//! What users write first, in every combination of runtime, transport, style of replies, command,
//! size and depth, for long enough to meet orders that are rare.
//!
//! No request may take longer than ten seconds, and everything that is read is looked at.
//! Requests are awaited as they are, without a timeout: a thread that takes no part watches.
//!
//! `NBD_PLAIN_SECONDS` says how long; to meet all combinations takes some hours. `NBD_SEED`
//! decides on their order. `tests/long plain reads` runs both tests for long.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

#[path = "../shared/mod.rs"]
mod shared;

mod content;
mod fleet;
mod lane;
mod plan;
mod reads;
mod report;
mod shape;
mod visit;
mod watch;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fleet::Fleet;
use plan::Plan;
use report::Report;
use shared::random::Random;
use visit::Visitor;
use watch::Watch;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many connections there are at a time, each with servers of its own.
const VISITORS: usize = 2;
/// How long it takes at every change.
const SECONDS: u64 = 45;
/// One third of the time is for what users are likely to have.
const LIKELY: u32 = 3;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome<()> {
    match holds {
        true => Ok(()),
        false => Err(otherwise().into()),
    }
}

/// What all visitors share.
struct Tour {
    plan: Plan,
    next: AtomicUsize,
    report: Mutex<Report>,
    end: Instant,
}

impl Tour {
    /// Makes visits until the time is over.
    fn run(&self, mut visitor: Visitor) -> Outcome<()> {
        let start = Instant::now();
        let mut likely = Duration::ZERO;
        while Instant::now() < self.end {
            let begun = Instant::now();
            let is_likely = likely * LIKELY <= start.elapsed();
            let visit = match is_likely {
                true => self.plan.likely(&mut visitor.random),
                false => {
                    let number = self.next.fetch_add(1, Ordering::Relaxed);
                    self.plan.visit(number)
                }
            };
            let place = visit.place;
            visitor.visit(place, &visit.loads, visit.each, |load, tally| {
                let mut report = self.report.lock().unwrap();
                report.add(&self.plan, place, load, tally);
            })?;
            self.report.lock().unwrap().connected();
            if is_likely {
                likely += begun.elapsed();
            }
        }
        Ok(())
    }
}

#[test]
fn requests_are_answered_in_every_combination() {
    let seconds = std::env::var("NBD_PLAIN_SECONDS").map_or(SECONDS, |seconds| {
        seconds.parse().expect("NBD_PLAIN_SECONDS must be a number")
    });
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut random = Random::new(since.unwrap().as_nanos() as u64);
    let plan = Plan::new(&mut random);
    let tour = Arc::new(Tour {
        report: Mutex::new(Report::new(&plan)),
        plan,
        next: AtomicUsize::new(0),
        end: Instant::now() + Duration::from_secs(seconds),
    });
    let (tell, told) = mpsc::channel();
    let mut seen = Vec::new();
    for _ in 0..VISITORS {
        let (fleet, watch) = (Arc::new(Fleet::new()), Arc::new(Watch::new()));
        seen.push((fleet.clone(), watch.clone()));
        let visitor = Visitor {
            fleet,
            watch,
            random: random.fork(),
            generation: 0,
            end: tour.end,
        };
        let (tour, tell) = (tour.clone(), tell.clone());
        thread::spawn(move || drop(tell.send(tour.run(visitor))));
    }
    drop(tell);
    let failure = watch_over(&told, &seen);
    for (fleet, _) in &seen {
        fleet.stop();
    }
    let report = tour.report.lock().unwrap();
    println!("{}", report.tables(&tour.plan));
    if let Some(failure) = failure {
        println!("{}", report.summary(&tour.plan));
        panic!("{failure}");
    }
    println!("reached: {}", report.summary(&tour.plan));
}

/// Waits until all visitors are done; says what went wrong first.
fn watch_over(
    told: &mpsc::Receiver<Outcome<()>>,
    seen: &[(Arc<Fleet>, Arc<Watch>)],
) -> Option<String> {
    let mut left = VISITORS;
    while left > 0 {
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok(Ok(())) => left -= 1,
            Ok(Err(failure)) => return Some(failure.to_string()),
            Err(RecvTimeoutError::Disconnected) => return Some("a visitor panicked".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        for (_, watch) in seen {
            if let Some(stuck) = watch.overdue() {
                return Some(stuck.or_late(watch));
            }
        }
    }
    None
}
