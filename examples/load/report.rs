//! What the load did, and what it cost.

use std::time::Duration;

use super::Outcome;

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
            field
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
                / 100.0
        };
        Self {
            user: ticks(11),
            system: ticks(12),
        }
    }
}

pub(crate) struct Report {
    ops: u64,
    bytes: u64,
    wall: f64,
    usage: Usage,
    percentiles: [f64; 3],
}

impl Report {
    pub(crate) fn new(outcome: &Outcome, wall: Duration, before: &Usage) -> Self {
        let now = Usage::now();
        let usage = Usage {
            user: now.user - before.user,
            system: now.system - before.system,
        };
        let percentiles = [0.5, 0.99, 0.999].map(|part| outcome.latency.quantile(part));
        let (ops, bytes) = (outcome.ops, outcome.bytes);
        Self {
            ops,
            bytes,
            wall: wall.as_secs_f64(),
            usage,
            percentiles,
        }
    }

    pub(crate) fn print(&self, json: bool) {
        let Self {
            ops,
            bytes,
            wall,
            usage: Usage { user, system },
            percentiles,
        } = self;
        let [p50, p99, p999] = percentiles;
        let iops = *ops as f64 / wall;
        let mib = *bytes as f64 / wall / f64::from(1 << 20);
        let cpu = (user + system) * 1e6 / (*ops).max(1) as f64;
        let rss = max_rss_kib();
        if json {
            println!(
                "{{\"ops\":{ops},\"bytes\":{bytes},\"wall_s\":{wall:.3},\"iops\":{iops:.0},\
                 \"mib_s\":{mib:.1},\"user_s\":{user:.2},\"sys_s\":{system:.2},\
                 \"cpu_us_op\":{cpu:.3},\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\
                 \"p999_us\":{p999:.1},\"max_rss_kib\":{rss}}}"
            );
            return;
        }
        println!("{ops} operations, {} MiB in {wall:.2} s", bytes >> 20);
        println!("{iops:.0} operations/s, {mib:.1} MiB/s");
        println!("latency: p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs");
        println!("processor: {user:.2} s user, {system:.2} s system, {cpu:.2} µs an operation");
        println!("memory: {rss} KiB at most");
    }
}

/// The most memory this process has had, in KiB.
fn max_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
