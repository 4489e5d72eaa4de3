//! Processes: those of the program, and the servers that it starts.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes.
const WATCHDOG: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Our program, with the signals that end it: whoever runs the tests may have them ignored, as `nohup`
/// does.
pub(crate) fn nbd() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_nbd")]);
    command
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits for what comes without anybody telling.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(POLL);
    }
}

/// Returns whether a process has this word in its command line.
pub(crate) fn is_running(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|of| of == word.as_bytes())
    })
}
