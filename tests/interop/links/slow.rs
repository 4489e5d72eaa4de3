//! A server that takes as long for a write as the test wants, and says when it has begun and done it.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use nbd_client::Program;

use crate::shared::process::eventually;
use crate::shared::server::{Dir, Server};

/// Each write is a process of its own, which outlives the server if that is killed alone. It waits
/// while the file is there that was named when it began.
const WRITE: &str = r#"cat >"$0.$$"; held=$(cat DIR/hold); echo begun >>DIR/log
while [ -e "DIR/$held" ]; do sleep 0.01; done
dd if="$0.$$" of=DIR/disk bs=64K conv=notrunc oflag=seek_bytes seek="$4" status=none; rm "$0.$$"
echo done >>DIR/log"#;
const READ: &str =
    "dd if=DIR/disk iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=64K status=none";

/// No file has this name.
const NOTHING: &str = "nothing";

/// The storage of slow servers: their disk, their log, and what holds their writes up.
pub(super) struct Storage {
    dir: Dir,
    holds: AtomicUsize,
}

impl Storage {
    pub(super) fn new() -> Self {
        let dir = Dir::new();
        dir.disk("disk", 1 << 20);
        dir.file("hold", NOTHING);
        dir.file("log", "");
        let holds = AtomicUsize::new(0);
        Self { dir, holds }
    }

    /// Holds up each write that begins from now on.
    pub(super) fn hold(&self) {
        let number = self.holds.fetch_add(1, Ordering::Relaxed);
        let name = format!("held{number}");
        self.dir.file(&name, "");
        self.set_hold(&name);
    }

    /// Carries out at once each write that begins from now on.
    pub(super) fn pass(&self) {
        self.set_hold(NOTHING);
    }

    fn set_hold(&self, name: &str) {
        // In one step: a server may be reading it.
        fs::rename(self.dir.file("next", name), self.dir.path("hold")).unwrap();
    }

    /// Lets go of what was held up.
    pub(super) fn let_go(&self) {
        self.pass();
        for number in 0..self.holds.load(Ordering::Relaxed) {
            // Those of before are gone.
            let _ = fs::remove_file(self.dir.path(&format!("held{number}")));
        }
    }

    fn count(&self, word: &str) -> usize {
        count(&self.dir.path("log"), word)
    }

    pub(super) fn begun(&self) -> usize {
        self.count("begun")
    }

    /// How many writes were carried out.
    pub(super) fn done(&self) -> usize {
        self.count("done")
    }

    /// Waits until so many writes are carried out.
    pub(super) async fn all_done(&self, writes: usize) {
        eventually("all are carried out", || self.done() >= writes).await;
    }

    /// A future that waits until so many writes are carried out.
    pub(super) fn proof(&self, writes: usize) -> impl Future<Output = ()> + Send + use<> {
        let log = self.dir.path("log");
        async move {
            eventually("the lost write is carried out", || {
                count(&log, "done") >= writes
            })
            .await;
        }
    }

    /// The byte that fills the first so many bytes.
    pub(super) fn fill(&self, length: usize) -> u8 {
        uniform(&fs::read(self.dir.path("disk")).unwrap()[..length])
    }

    fn args(&self) -> Vec<String> {
        let here = self.dir.path("disk");
        let here = here.trim_end_matches("/disk");
        let script = |text: &str| text.replace("$0", "DIR/part").replace("DIR", here);
        vec![
            "eval".into(),
            "get_size=echo 1M".into(),
            "thread_model=echo parallel".into(),
            format!("pread={}", script(READ)),
            format!("pwrite={}", script(WRITE)),
            "flush=exit 0".into(),
            // One that is unused, by which tests find the process.
            format!("missing=exit 2 # {here}"),
        ]
    }

    /// A server that listens.
    pub(super) fn listen(&self) -> Server {
        self.listen_with(&[])
    }

    /// A server that listens, with these options before the plugin.
    pub(super) fn listen_with(&self, options: &[&str]) -> Server {
        let args = self.args();
        let args = args.iter().map(String::as_str);
        let args: Vec<&str> = options.iter().copied().chain(args).collect();
        Server::nbdkit(&args)
    }

    /// The path of a file for the process number of a server.
    pub(super) fn pid_file(&self) -> String {
        self.dir.path("pid")
    }

    /// A server to be run as child.
    pub(super) fn child(&self) -> Program {
        Program::new("nbdkit").arg("-s").args(self.args())
    }

    /// A server to be run by socket activation, which several connections may use at a time.
    pub(super) fn activated(&self) -> Program {
        let server = Program::new("nbdkit").arg("-f").args(self.args());
        server.arg("can_multi_conn=exit 0")
    }

    /// The process of the server that is a child of ours.
    pub(super) fn pid(&self) -> u32 {
        child_with(&self.args()[6])
    }

    /// Sends a signal to the server that is a child of ours; to its group, if that is asked for.
    pub(super) fn signal(&self, signal: &str, group: bool) {
        signal_child(&self.args()[6], signal, group);
    }
}

/// The byte that all bytes are.
pub(super) fn uniform(bytes: &[u8]) -> u8 {
    assert!(
        bytes.iter().all(|byte| *byte == bytes[0]),
        "all are the same"
    );
    bytes[0]
}

fn count(log: &str, word: &str) -> usize {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| *line == word).count()
}

/// Sends a signal to the child of ours that has this argument, or to its group.
pub(super) fn signal_child(argument: &str, signal: &str, group: bool) {
    let pid = child_with(argument);
    let whom = if group {
        format!("-{pid}")
    } else {
        pid.to_string()
    };
    let kill = Command::new("kill").args([signal, "--", &whom]).status();
    assert!(kill.unwrap().success());
}

/// The child of ours that has this argument.
fn child_with(argument: &str) -> u32 {
    let us = format!("PPid:\t{}\n", std::process::id());
    for entry in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let file = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let status = String::from_utf8_lossy(&file("status")).into_owned();
        let command = String::from_utf8_lossy(&file("cmdline")).into_owned();
        if status.contains(&us) && command.split('\0').any(|word| word == argument) {
            return entry.file_name().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("there is no such child");
}
