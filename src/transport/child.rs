//! A server that runs as a child process.

use std::future::poll_fn;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::{process, time};

use super::process::Process;
use super::reaper::{PATIENCE, Reaper};
use super::stderr::Stderr;
use crate::error::ChildReport;
use crate::wire::Text;

/// How long the standard error of a child that has ended is read on. Processes that it started
/// may hold the other end for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The only owner of a child process.
///
/// Dropping it while the process runs ends the process, without blocking: SIGTERM, after two
/// seconds SIGKILL, and in every case it is reaped, also when the runtime is gone (K44).
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    stderr: Stderr,
    reaper: Reaper,
}

impl Child {
    /// Takes charge of a process. If its standard error is a pipe, it is copied.
    ///
    /// Must be called inside a Tokio runtime.
    pub(super) fn new(
        mut child: process::Child,
        reaper: Reaper,
        copy: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let stderr = child.stderr.take();
        // From here on an error ends the process.
        let mut child = Self {
            process: Process::new(child),
            stderr: Stderr::default(),
            reaper,
        };
        if let Some(stderr) = stderr {
            child.stderr = Stderr::read(stderr.into_owned_fd()?, copy)?;
        }
        Ok(child)
    }

    /// Its number and the means to send it signals, for others.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Sends a signal; `ESRCH` if the process has ended.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        self.process.kill(signal)
    }

    /// Waits until it ends by itself.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again, also after the end.
    pub(crate) async fn wait(&mut self) -> ChildReport {
        let status = self.ended().await;
        self.report(Some(status)).await
    }

    /// Ends it: waits for `grace`, because a server stops when its socket is closed, then sends
    /// SIGTERM and two seconds later SIGKILL.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is dropping the child.
    pub(crate) async fn terminate(mut self, grace: Duration) -> ChildReport {
        let mut status = time::timeout(grace, self.ended()).await.ok();
        for signal in [Signal::TERM, Signal::KILL] {
            if status.is_none() {
                let _ = self.kill(signal.as_raw());
                status = time::timeout(PATIENCE, self.ended()).await.ok();
            }
        }
        // Even SIGKILL has to wait for a process that hangs in the kernel: drop sees to it.
        self.report(status).await
    }

    /// Can be dropped and called again, also after the end.
    async fn ended(&self) -> Option<ExitStatus> {
        poll_fn(|cx| self.process.poll_wait(cx)).await
    }

    async fn report(&mut self, status: Option<Option<ExitStatus>>) -> ChildReport {
        // Out of time: what has come is what there is.
        let _ = time::timeout(LAST_WORDS, self.stderr.end()).await;
        ChildReport {
            status: status.flatten(),
            stderr: Text::from_bytes(&self.stderr.tail()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.try_wait().is_none() {
            self.reaper.leave(self.process.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::time::Instant;

    use futures::FutureExt;
    use rustix::io::Errno;
    use rustix::process::{Pid, WaitOptions, kill_process, waitpid};
    use tokio::process::Command;
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::transport::testing::{alone, eventually};

    /// Ends when it is told to.
    const WILLING: &str = "exec sleep 1000";
    /// Ends when it is killed.
    const STUBBORN: &str = "trap '' TERM; echo ready >&2; exec sleep 1000";

    fn run(script: &str) -> Child {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Child::new(child, Reaper::get().unwrap(), io::sink()).unwrap()
    }

    fn run_stubborn() -> Child {
        let child = run(STUBBORN);
        eventually("ready", || child.stderr.tail() == b"ready\n");
        child
    }

    /// Where a process is, running or not reaped.
    fn place(child: &Child) -> PathBuf {
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
        let grandchild = report.stderr().as_str().trim().parse().unwrap();
        kill_process(Pid::from_raw(grandchild).unwrap(), Signal::KILL).unwrap();
        assert_eq!(report.status().unwrap().code(), Some(3));
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
        let child = run("trap 'exit 9' TERM; echo bye >&2; exit 0");
        let report = child.terminate(Duration::from_secs(10)).await;
        assert!(report.status().unwrap().success());
        assert_eq!(report.stderr().as_str(), "bye\n");
    }

    #[tokio::test]
    async fn terminated_process_gets_a_signal_after_its_time() {
        let report = run(WILLING).terminate(Duration::ZERO).await;
        assert_eq!(report.status().unwrap().signal(), Some(15));
    }

    #[tokio::test]
    async fn k44_stubborn_process_is_killed_and_reaped() {
        let child = run_stubborn();
        let place = place(&child);
        let start = Instant::now();
        let report = child.terminate(Duration::ZERO).await;
        assert!(start.elapsed() >= PATIENCE);
        assert_eq!(report.status().unwrap().signal(), Some(9));
        assert!(!place.exists());
    }

    #[tokio::test]
    async fn k44_dropped_processes_are_ended_and_reaped() {
        let children = [run(WILLING), run_stubborn(), run("exit 0"), run_stubborn()];
        let places = children.each_ref().map(place);
        let start = Instant::now();
        drop(children);
        assert!(start.elapsed() < Duration::from_secs(1), "drop has waited");
        eventually("reaped", || !places.iter().any(|place| place.exists()));
    }

    #[test]
    fn k44_processes_of_a_dropped_runtime_are_ended_and_reaped() {
        let mut places = Vec::new();
        for runtime in runtimes() {
            for _ in 0..10 {
                let (sender, started) = std::sync::mpsc::channel();
                runtime.spawn(async move {
                    let mut child = run(WILLING);
                    sender.send(place(&child)).unwrap();
                    child.wait().await
                });
                runtime.block_on(tokio::task::yield_now());
                places.push(started.recv().unwrap());
            }
            assert!(places.iter().any(|place| place.exists()));
            runtime.shutdown_background();
        }
        eventually("reaped", || !places.iter().any(|place| place.exists()));
    }

    #[tokio::test]
    async fn k44_process_of_a_panicking_task_is_ended_and_reaped() {
        let child = run(WILLING);
        let place = place(&child);
        let task = tokio::spawn(async move {
            let _child = child;
            panic!("on purpose");
        });
        assert!(task.await.unwrap_err().is_panic());
        eventually("reaped", || !place.exists());
    }

    #[tokio::test]
    async fn k11_process_of_a_dropped_termination_is_ended_and_reaped() {
        let child = run(WILLING);
        let place = place(&child);
        let terminating = child.terminate(Duration::from_secs(1000));
        assert!(terminating.now_or_never().is_none());
        eventually("reaped", || !place.exists());
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
        let [terminated, dropped] = [WILLING; 2].map(start);
        eventually("why", || killed.stderr.tail() == b"why\n");
        killed.kill(9).unwrap();
        let report = runtime.block_on(killed.wait());
        assert_eq!(report.status(), None);
        assert_eq!(report.stderr().as_str(), "why\n");
        let report = runtime.block_on(terminated.terminate(Duration::ZERO));
        assert_eq!(report.status(), None);
        let place = place(&dropped);
        drop(dropped);
        eventually("gone", || !place.exists());
    }
}
