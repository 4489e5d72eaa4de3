//! This process: what it holds, and how to have one for a test alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::long;

/// Says to a test that it runs in a process of its own.
const ALONE: &str = "NBD_TEST_ALONE";

/// How much is done in a long run, for so much in a short one: `NBD_LONG` times as much.
pub(crate) fn times(count: u64) -> u64 {
    count * long::factor() as u64
}

/// Waits for what comes without anybody telling, such as the end of a process.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process has gone and left nothing behind, not even a zombie.
pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether a process that is not ours to reap runs no more.
pub(crate) fn has_ended(pid: u32) -> bool {
    status(&format!("/proc/{pid}/status"), "State:").is_none_or(|state| state.starts_with('Z'))
}

/// The group a process is in; zero if it has gone.
pub(crate) fn group_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may be anything: state, parent, group.
    let words = stat.rsplit(')').next().unwrap();
    let group: Option<i64> = words
        .split_whitespace()
        .nth(2)
        .map(|group| group.parse().unwrap());
    // Of one that is just being reaped, the kernel says -1.
    group.map_or(0, |group| u32::try_from(group).unwrap_or(0))
}

/// The processes of a group that run.
pub(crate) fn members(group: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| group_of(*pid) == group && !has_ended(*pid))
        .collect()
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// How many children this process has, zombies included.
pub(crate) fn children() -> usize {
    let us = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let is_child = |entry: &fs::DirEntry| {
        let path = entry.path().join("status");
        status(path.to_str().unwrap(), "PPid:").as_ref() == Some(&us)
    };
    processes.filter(is_child).count()
}

/// How much memory this process has in use, in bytes.
pub(crate) fn memory() -> u64 {
    let kibibytes = status("/proc/self/status", "VmRSS:").unwrap();
    kibibytes.trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn status(path: &str, key: &str) -> Option<String> {
    // None: it has just gone.
    let status = fs::read_to_string(path).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().to_owned())
}

/// What must not grow, in a process of its own.
#[derive(Debug)]
pub(crate) struct Baseline {
    descriptors: usize,
    children: usize,
    threads: usize,
    tasks: usize,
}

impl Baseline {
    pub(crate) fn now() -> Self {
        Self {
            descriptors: descriptors(),
            children: children(),
            threads: threads(),
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
        }
    }

    /// Waits until there is no more of anything than there was.
    pub(crate) async fn returns(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = Self::now();
            if now.is_within(self) {
                break;
            }
            assert!(Instant::now() < deadline, "{now:?} is more than {self:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What there was before may have gone since, such as a thread that was idle.
    const fn is_within(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.children <= before.children
            && self.threads <= before.threads
            && self.tasks <= before.tasks
    }
}

/// This test once more, in a process of its own; with `runner` to run it if that is not empty.
pub(crate) fn again(runner: &[&str], name: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match runner {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null());
    command
}

/// Whether this is a process that was started by [`again`].
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs this test again, alone in a process where no other test opens or closes anything.
/// False if this is that process.
pub(crate) fn in_a_process_of_its_own(name: &str) -> bool {
    if is_alone() {
        return false;
    }
    let output = again(&[], name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(text.contains("1 passed"), "{text}");
    true
}
