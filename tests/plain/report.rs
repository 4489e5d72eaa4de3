//! What was done, counted by combination.

use std::fmt::Write as _;
use std::time::Duration;

use crate::lane::Tally;
use crate::plan::Plan;
use crate::shape::{COMMANDS, DEPTHS, Load, Place, Shape, THREADS, ways};

/// Upper bounds of the columns of sizes.
const SIZES: [(usize, &str); 8] = [
    (513, "1, 512"),
    (2049, "1–2 KiB"),
    (16_385, "4–16 KiB"),
    (65_537, "32–64 KiB"),
    (262_145, "128–256 KiB"),
    (1_048_577, "1 MiB"),
    (4_194_305, "4 MiB"),
    (usize::MAX, "16–64 MiB"),
];

pub(crate) struct Report {
    /// Requests, by place and load.
    counts: Vec<Vec<u64>>,
    slowest: Option<(Duration, Shape)>,
    connections: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            counts: vec![vec![0; plan.loads.len()]; plan.places.len()],
            slowest: None,
            connections: 0,
        }
    }

    pub(crate) const fn connected(&mut self) {
        self.connections += 1;
    }

    pub(crate) fn add(&mut self, plan: &Plan, place: Place, load: Load, tally: Tally) {
        let row = plan.places.iter().position(|known| *known == place);
        let column = plan.loads.iter().position(|known| *known == load);
        self.counts[row.unwrap()][column.unwrap()] += tally.requests;
        if self.slowest.is_none_or(|(time, _)| tally.slowest > time) {
            self.slowest = Some((tally.slowest, Shape { place, load }));
        }
    }

    /// Requests where this holds.
    fn count(&self, plan: &Plan, holds: impl Fn(&Place, &Load) -> bool) -> u64 {
        let mut sum = 0;
        for (place, row) in plan.places.iter().zip(&self.counts) {
            for (load, count) in plan.loads.iter().zip(row) {
                if *count > 0 && holds(place, load) {
                    sum += count;
                }
            }
        }
        sum
    }

    /// In one line.
    pub(crate) fn summary(&self, plan: &Plan) -> String {
        let mut all = 0;
        let mut reached = 0;
        let mut fewest = u64::MAX;
        for (place, row) in plan.places.iter().zip(&self.counts) {
            for (load, count) in plan.loads.iter().zip(row) {
                if load.command.exists_in(place.way.style) {
                    all += 1;
                    reached += u64::from(*count > 0);
                    fewest = fewest.min(*count);
                }
            }
        }
        let requests = self.count(plan, |_, _| true);
        let mut text = format!(
            "{requests} requests in {reached} of {all} combinations, at least {fewest} in each, {} connections",
            self.connections
        );
        if let Some((time, shape)) = self.slowest {
            write!(text, ", the slowest {} ms ({shape})", time.as_millis()).unwrap();
        }
        text
    }

    /// In tables.
    pub(crate) fn tables(&self, plan: &Plan) -> String {
        let mut text = String::new();
        let depths: Vec<_> = DEPTHS
            .iter()
            .map(|depth| format!("depth {depth}"))
            .collect();
        let head = |text: &mut String, what: &str, columns: &[String]| {
            let line = "---|".repeat(columns.len() + 2);
            writeln!(
                text,
                "\n| {what} | {} | all |\n|{line}",
                columns.join(" | ")
            )
            .unwrap();
        };
        let row = |text: &mut String, what: &str, counts: &[u64]| {
            let cells: Vec<_> = counts.iter().map(u64::to_string).collect();
            let sum: u64 = counts.iter().sum();
            writeln!(text, "| {what} | {} | {sum} |", cells.join(" | ")).unwrap();
        };
        head(&mut text, "callers", &depths);
        for threads in THREADS {
            let counts = DEPTHS.map(|depth| {
                self.count(plan, |place, load| {
                    place.threads == threads && load.depth == depth
                })
            });
            row(&mut text, &format!("{threads:?}"), &counts);
        }
        head(&mut text, "transport, server, replies", &depths);
        for way in ways() {
            let counts = DEPTHS.map(|depth| {
                self.count(plan, |place, load| place.way == way && load.depth == depth)
            });
            row(&mut text, &way.to_string(), &counts);
        }
        head(
            &mut text,
            "command",
            &SIZES.map(|(_, name)| name.to_owned()),
        );
        for command in COMMANDS {
            let mut from = 0;
            let counts = SIZES.map(|(to, _)| {
                let sizes = from..to;
                from = to;
                self.count(plan, |_, load| {
                    load.command == command && sizes.contains(&load.size)
                })
            });
            row(&mut text, &format!("{command:?}"), &counts);
        }
        text
    }
}
