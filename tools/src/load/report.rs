//! What the load did, and what it cost.

use std::time::Duration;

use super::Outcome;
use super::histogram::Histogram;
use crate::out::say;

/// Processor time of this process so far, in seconds.
pub(crate) struct Usage {
    user: f64,
    system: f64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program may contain anything; what follows it does not.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = |at: usize| {
            let field = fields.split_whitespace().nth(at);
            field.and_then(|field| field.parse::<f64>().ok())
        };
        let (user, system) = (ticks(11).unwrap_or(0.0), ticks(12).unwrap_or(0.0));
        // How time is divided is told in hundredths of a second only; the sum is known better.
        let total = scheduled().unwrap_or((user + system) / 100.0);
        let part = user / (user + system).max(1.0);
        Self {
            user: total * part,
            system: total * (1.0 - part),
        }
    }
}

/// Processor time of all threads there are, in seconds, where the kernel counts it.
fn scheduled() -> Option<f64> {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let path = thread.ok()?.path().join("schedstat");
        // A thread that has ended meanwhile is one of the idle helpers of the runtime.
        let Ok(line) = std::fs::read_to_string(path) else {
            continue;
        };
        nanos += line.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanos as f64 / 1e9)
}

pub(crate) struct Report {
    ops: u64,
    bytes: u64,
    beside: u64,
    wall: f64,
    usage: Usage,
    percentiles: Option<[f64; 3]>,
}

impl Report {
    /// A report on a load that took so long since `before`.
    pub(crate) fn new(
        outcome: &Outcome,
        wall: Duration,
        before: &Usage,
        latency: Option<&Histogram>,
    ) -> Self {
        let now = Usage::now();
        Self {
            ops: outcome.ops,
            bytes: outcome.bytes,
            beside: 0,
            wall: wall.as_secs_f64(),
            usage: Usage {
                user: (now.user - before.user).max(0.0),
                system: (now.system - before.system).max(0.0),
            },
            percentiles: latency.map(|latency| [0.5, 0.99, 0.999].map(|p| latency.quantile(p))),
        }
    }

    /// Adds how many large reads there were beside the load.
    pub(crate) const fn beside(mut self, reads: u64) -> Self {
        self.beside = reads;
        self
    }

    pub(crate) fn print(&self, json: bool) {
        let Self {
            ops,
            bytes,
            beside,
            wall,
            usage: Usage { user, system },
            percentiles,
        } = self;
        let iops = *ops as f64 / wall;
        let mib = *bytes as f64 / wall / f64::from(1 << 20);
        let cpu = (user + system) * 1e6 / (*ops).max(1) as f64;
        let rss = memory_kib("VmHWM:");
        if json {
            let latencies = percentiles.map_or_else(String::new, |[p50, p99, p999]| {
                format!("\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"p999_us\":{p999:.1},")
            });
            say!(
                "{{\"ops\":{ops},\"bytes\":{bytes},\"wall_s\":{wall:.4},\"iops\":{iops:.0},\
                 \"mib_s\":{mib:.1},\"user_s\":{user:.4},\"sys_s\":{system:.4},\
                 \"cpu_us_op\":{cpu:.3},{latencies}\"max_rss_kib\":{rss},\"beside\":{beside}}}"
            );
            return;
        }
        say!("{ops} operations, {} MiB in {wall:.2} s", bytes >> 20);
        say!("{iops:.0} operations/s, {mib:.1} MiB/s");
        if let Some([p50, p99, p999]) = percentiles {
            say!("latency: p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs");
        }
        say!("processor: {user:.2} s user, {system:.2} s system, {cpu:.2} µs an operation");
        say!("memory: {rss} KiB at most");
        if *beside > 0 {
            say!("beside: {beside} large reads");
        }
    }
}

/// What connections cost that do nothing.
pub(crate) fn print_idle(connections: usize, before: u64, peak: u64, after: u64, json: bool) {
    let each = after.saturating_sub(before) as f64 / connections as f64;
    if json {
        say!(
            "{{\"connections\":{connections},\"before_kib\":{before},\"peak_kib\":{peak},\
             \"after_kib\":{after},\"kib_per_connection\":{each:.2}}}"
        );
    } else {
        say!("memory: {before} KiB with one connection, {peak} KiB while they read,");
        say!("{after} KiB with {connections} that are idle: {each:.2} KiB each");
    }
}

/// A line of this process's status, in KiB: `VmRSS:` is its memory now, `VmHWM:` at most.
pub(crate) fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
