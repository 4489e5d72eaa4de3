use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use futures::FutureExt;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::transport::testing::{alone, eventually};

/// Ends when it is told to.
const WILLING: &str = "exec sleep 1000";
/// Ends when it is killed.
const STUBBORN: &str = "trap '' TERM; echo ready >&2; exec sleep 1000";

const TERMS: Terms = Terms {
    grace: Duration::ZERO,
    kill_delay: Duration::from_secs(2),
    leads: true,
};

fn run(script: &str) -> Child {
    run_with(script, TERMS)
}

fn run_with(script: &str, terms: Terms) -> Child {
    let child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    Child::new(child, Parent::get().unwrap(), io::sink(), terms).unwrap()
}

impl Child {
    fn process(&self) -> &Process {
        &self.process
    }

    fn kill(&self, signal: i32) -> io::Result<()> {
        self.process.kill(signal)
    }

    pub(crate) async fn wait(&mut self) -> ChildReport {
        self.ended().await;
        self.report().await
    }

    /// Returns whether it is to be told now, after its end was begun.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.termination.as_ref().and_then(Termination::due);
        due.is_some_and(|at| at <= Instant::now())
    }
}

fn run_stubborn() -> Child {
    let child = run(STUBBORN);
    eventually("ready", || child.stderr.words().tail() == b"ready\n");
    child
}

/// Returns the directory of a process in /proc. It exists until the process is reaped.
fn proc_dir(child: &Child) -> PathBuf {
    PathBuf::from(format!("/proc/{}", child.process.number()))
}

fn runtimes() -> [Runtime; 2] {
    let mut builders = [Builder::new_current_thread(), Builder::new_multi_thread()];
    builders
        .each_mut()
        .map(|builder| builder.enable_all().build().unwrap())
}

#[tokio::test]
async fn k42_status_and_last_words_are_reported_as_often_as_asked() {
    let mut child = run("echo first >&2; echo last >&2; exit 7");
    for _ in 0..2 {
        let report = child.wait().await;
        assert_eq!(report.status().unwrap().code(), Some(7));
        assert_eq!(report.stderr().as_str(), "first\nlast\n");
    }
    assert_eq!(child.process().id(), None);
}

#[tokio::test]
async fn dropped_wait_can_be_repeated() {
    let mut child = run(WILLING);
    for _ in 0..3 {
        assert!(child.wait().now_or_never().is_none());
    }
    child.kill(9).unwrap();
    assert_eq!(child.wait().await.status().unwrap().signal(), Some(9));
}

#[tokio::test]
async fn looking_at_the_end_does_not_hide_it_from_the_one_who_waits() {
    let mut child = run(WILLING);
    let process = child.process().clone();
    let waiting = tokio::spawn(async move { child.wait().await });
    tokio::task::yield_now().await;
    process.kill(9).unwrap();
    // Meanwhile the runtime does not turn.
    eventually("ended", || process.id().is_none());
    let report = time::timeout(Duration::from_secs(10), waiting).await;
    assert_eq!(report.unwrap().unwrap().status().unwrap().signal(), Some(9));
}

#[test]
fn process_is_waited_for_in_another_runtime() {
    let [first, second] = runtimes();
    let mut child = first.block_on(async { run("read line; exit 7") });
    drop(first);
    let report = second.block_on(child.wait());
    assert_eq!(report.status().unwrap().code(), Some(7));
}

#[tokio::test]
async fn k45_grandchild_that_holds_standard_error_is_not_waited_for() {
    let mut child = run("sleep 1000 & echo $! >&2; exit 3");
    let report = child.wait().await;
    assert_eq!(report.status().unwrap().code(), Some(3));
}

/// Where the processes of a group are that run, those that are not reaped left out.
fn members(group: u32) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_member = |proc_dir: &PathBuf| {
        let stat = fs::read_to_string(proc_dir.join("stat")).unwrap_or_default();
        // After the name: state, parent, group.
        let mut words = stat.rsplit(')').next().unwrap().split_whitespace();
        let state = words.next().unwrap_or("Z");
        state != "Z" && words.nth(1) == Some(&group.to_string())
    };
    processes.filter(is_member).collect()
}

/// A child that has exited, or is to, with a process that stays in its group.
fn run_parent(script: &str, then: &str, terms: Terms) -> (Child, u32) {
    let script = format!("sh -c '{script}' & {then}");
    let child = run_with(&script, terms);
    eventually("ready", || child.stderr.words().tail() == b"ready\n");
    let group = child.process.number();
    assert!(!members(group).is_empty());
    (child, group)
}

const HELPER: &str = "echo ready >&2; sleep 1000; echo done >&2";
const STUBBORN_HELPER: &str = "trap \"\" TERM; echo ready >&2; sleep 1000; sleep 1000";

#[tokio::test]
async fn k44_what_a_process_leaves_behind_in_its_group_ends_with_it() {
    for (helper, delay) in [(HELPER, 1000), (STUBBORN_HELPER, 0)] {
        for then in ["sleep 0.1; exit 3", "wait", "exec sleep 1000"] {
            let kill_delay = Duration::from_secs(delay);
            let terms = Terms {
                kill_delay,
                ..TERMS
            };
            let (mut child, group) = run_parent(helper, then, terms);
            if then.contains("exit") {
                assert_eq!(child.wait().await.status().unwrap().code(), Some(3));
            }
            drop(child);
            eventually("all are gone", || members(group).is_empty());
        }
    }
}

#[tokio::test]
async fn k44_sigkill_leaves_nothing_of_the_group() {
    let terms = Terms {
        kill_delay: Duration::MAX,
        ..TERMS
    };
    let (mut child, group) = run_parent(STUBBORN_HELPER, "exec sleep 1000", terms);
    child.kill(9).unwrap();
    assert_eq!(child.wait().await.status().unwrap().signal(), Some(9));
    eventually("all are gone", || members(group).is_empty());
}

#[tokio::test]
async fn signal_that_does_not_kill_goes_to_the_process_alone() {
    let (child, group) = run_parent(HELPER, "trap : USR1; while :; do wait; done", TERMS);
    let before = members(group).len();
    child.kill(Signal::USR1.as_raw()).unwrap();
    // A process that is just being started may have come.
    assert!(members(group).len() >= before);
}

#[tokio::test]
async fn process_that_has_left_its_group_is_ended() {
    let leave =
        "exec perl -e 'setpgrp(0, getpgrp(getppid())) or die; print STDERR qq(ready\n); sleep'";
    for ends in [false, true] {
        let mut child = run(leave);
        eventually("it has left", || child.stderr.words().tail() == b"ready\n");
        let status = match ends {
            true => child.terminate().await.unwrap(),
            false => {
                child.kill(9).unwrap();
                child.wait().await.status().unwrap()
            }
        };
        assert_eq!(status.signal(), Some(if ends { 15 } else { 9 }));
    }
}

#[tokio::test]
async fn stopped_process_is_continued_to_end() {
    let terms = Terms {
        kill_delay: Duration::MAX,
        ..TERMS
    };
    let mut child = run_with(WILLING, terms);
    child.kill(Signal::STOP.as_raw()).unwrap();
    let status = child.terminate().await;
    assert_eq!(status.unwrap().signal(), Some(15));
}

#[tokio::test]
async fn signal_reaches_the_process_until_it_has_ended() {
    let mut child = run(WILLING);
    let process = child.process().clone();
    assert_eq!(process.id(), child.process().id());
    process.kill(0).unwrap();
    for none in [-1, 9999] {
        let error = child.kill(none).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }
    process.kill(Signal::USR1.as_raw()).unwrap();
    assert_eq!(child.wait().await.status().unwrap().signal(), Some(10));
    for signal in [0, 9, 9999] {
        let error = process.kill(signal).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
    }
}

#[tokio::test]
async fn terminated_process_may_end_by_itself() {
    let terms = Terms {
        grace: Duration::from_secs(10),
        ..TERMS
    };
    let mut child = run_with("trap 'exit 9' TERM; echo bye >&2; exit 0", terms);
    assert!(child.terminate().await.unwrap().success());
    let report = child.report().await;
    assert!(report.status().unwrap().success());
    assert_eq!(report.stderr().as_str(), "bye\n");
}

#[tokio::test]
async fn terminated_process_gets_a_signal_after_its_time() {
    let mut child = run(WILLING);
    assert_eq!(child.terminate().await.unwrap().signal(), Some(15));
    // It did not end by itself.
    assert_eq!(child.report().await.status(), None);
}

#[tokio::test]
async fn k44_stubborn_process_is_killed_and_reaped() {
    let mut child = run_stubborn();
    let proc_dir = proc_dir(&child);
    let start = Instant::now();
    let status = child.terminate().await;
    assert!(start.elapsed() >= TERMS.kill_delay);
    assert_eq!(status.unwrap().signal(), Some(9));
    assert!(!proc_dir.exists());
}

#[tokio::test]
async fn k44_dropped_processes_are_ended_and_reaped() {
    let children = [run(WILLING), run_stubborn(), run("exit 0"), run_stubborn()];
    let proc_dirs = children.each_ref().map(proc_dir);
    let start = Instant::now();
    drop(children);
    assert!(start.elapsed() < Duration::from_secs(1), "drop has waited");
    eventually("reaped", || {
        !proc_dirs.iter().any(|proc_dir| proc_dir.exists())
    });
}

#[test]
fn k44_processes_of_a_dropped_runtime_are_ended_and_reaped() {
    let mut proc_dirs = Vec::new();
    for runtime in runtimes() {
        for _ in 0..10 {
            let (sender, started) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                let mut child = run(WILLING);
                sender.send(proc_dir(&child)).unwrap();
                child.wait().await
            });
            runtime.block_on(tokio::task::yield_now());
            proc_dirs.push(started.recv().unwrap());
        }
        assert!(proc_dirs.iter().any(|proc_dir| proc_dir.exists()));
        runtime.shutdown_background();
    }
    eventually("reaped", || {
        !proc_dirs.iter().any(|proc_dir| proc_dir.exists())
    });
}

#[tokio::test]
async fn k44_process_of_a_panicking_task_is_ended_and_reaped() {
    let child = run(WILLING);
    let proc_dir = proc_dir(&child);
    let task = tokio::spawn(async move {
        let _child = child;
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    eventually("reaped", || !proc_dir.exists());
}

#[tokio::test]
async fn k11_process_of_a_dropped_termination_is_ended_and_reaped() {
    for mut child in [run(WILLING), run_stubborn()] {
        let proc_dir = proc_dir(&child);
        assert!(child.terminate().now_or_never().is_none());
        drop(child);
        eventually("reaped", || !proc_dir.exists());
    }
}

#[tokio::test]
async fn k47_process_that_somebody_else_reaped_has_no_status() {
    let mut child = run("exit 7");
    let pid = Pid::from_raw(child.process.number().try_into().unwrap()).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap();
    assert_eq!(child.wait().await.status(), None);
    let error = child.kill(9).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
}

#[test]
fn k47_ignored_sigchld_costs_only_the_status() {
    let name = "transport::child::tests::k47_ignored_sigchld_costs_only_the_status";
    if !alone(name, &["--ignore-signal=CHLD"]) {
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    assert_ne!(ignored & 1 << 16, 0);

    let runtime = Runtime::new().unwrap();
    // None may end before Tokio has seen it, because Tokio then handles the signal itself.
    let start = |script| runtime.block_on(async { run(script) });
    let mut killed = start("echo why >&2; exec sleep 1000");
    let [mut terminated, dropped] = [WILLING; 2].map(start);
    eventually("why", || killed.stderr.words().tail() == b"why\n");
    killed.kill(9).unwrap();
    let report = runtime.block_on(killed.wait());
    assert_eq!(report.status(), None);
    assert_eq!(report.stderr().as_str(), "why\n");
    assert_eq!(runtime.block_on(terminated.terminate()), None);
    let proc_dir = proc_dir(&dropped);
    drop(dropped);
    eventually("gone", || !proc_dir.exists());
}
