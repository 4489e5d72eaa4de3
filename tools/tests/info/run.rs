//! Running both programs and comparing what they print.

use std::process::{Command, Output};

use serde_json::Value;

use crate::server::{Dir, Server};

/// Every question that `nbdinfo` 1.14 answers.
pub(crate) const QUESTIONS: [(&str, &str); 16] = [
    ("--can", "connect"),
    ("--can", "read"),
    ("--can", "write"),
    ("--can", "cache"),
    ("--can", "df"),
    ("--can", "fast-zero"),
    ("--can", "flush"),
    ("--can", "fua"),
    ("--can", "multi-conn"),
    ("--can", "structured-reply"),
    ("--can", "trim"),
    ("--can", "zero"),
    ("--is", "read-only"),
    ("--is", "readonly"),
    ("--is", "rotational"),
    ("--is", "tls"),
];

/// Keys that `nbdinfo` has since 1.18.
const NEWER: [&str; 3] = ["extended", "can_block_status_payload", "block_size_payload"];

/// A server that both programs are asked about.
pub(crate) struct Compared {
    start: Box<dyn Fn() -> (Server, Dir)>,
    /// Running, unless it takes one client and no more.
    server: Option<(Server, Dir)>,
    export: &'static str,
}

impl Compared {
    pub(crate) fn new(start: impl Fn() -> (Server, Dir) + 'static, export: &'static str) -> Self {
        Self {
            server: Some(start()),
            start: Box::new(start),
            export,
        }
    }

    /// A server that ends with its first client.
    pub(crate) fn one_client(mut self) -> Self {
        self.server = None;
        self
    }

    /// What a program says, with the name of the socket taken out.
    fn ask(&self, mut command: Command, args: &[&str]) -> (String, i32) {
        let fresh;
        let (server, _dir) = match &self.server {
            Some(server) => server,
            None => {
                fresh = (self.start)();
                &fresh
            }
        };
        let socket = server.socket();
        let socket = socket.to_str().unwrap();
        let uri = format!("nbd+unix:///{}?socket={socket}", self.export);
        let Output { status, stdout, .. } = command.args(args).arg(&uri).output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        (text.replace(socket, "SOCKET"), status.code().unwrap())
    }

    fn both(&self, args: &[&str]) -> [(String, i32); 2] {
        let theirs = self.ask(Command::new("nbdinfo"), args);
        [theirs, self.ask(info(), args)]
    }

    /// Both succeed, and every field of theirs is in ours.
    pub(crate) fn json(&self, args: &[&str]) {
        json_alike(self.both(args), args);
    }

    /// The same but for these facts of an export; gives what we print.
    pub(crate) fn json_but(&self, args: &[&str], but: &[&str]) -> Value {
        let both = self.both(args);
        let ours: Value = serde_json::from_str(&both[1].0).unwrap();
        let both = both.map(|(text, status)| {
            let mut value: Value = serde_json::from_str(&text).unwrap();
            for export in value["exports"].as_array_mut().unwrap() {
                let export = export.as_object_mut().unwrap();
                but.iter().for_each(|key| drop(export.remove(*key)));
            }
            (value.to_string(), status)
        });
        json_alike(both, args);
        ours
    }

    /// Both end alike and print the same.
    pub(crate) fn exactly(&self, args: &[&str]) {
        let [theirs, ours] = self.both(args);
        assert_eq!(theirs, ours, "{args:?}");
    }

    /// Both succeed, and ours are their lines, in their order, and those of newer versions.
    pub(crate) fn lines(&self, args: &[&str]) {
        self.lines_but(args, "\0");
    }

    /// The same but for lines that begin so.
    pub(crate) fn lines_but(&self, args: &[&str], but: &str) {
        let [(theirs, status), (ours, our_status)] = self.both(args);
        assert_eq!((status, our_status), (0, 0), "{args:?}");
        let is_newer = |line: &&str| NEWER.iter().any(|key| line.trim().starts_with(key));
        let ours: Vec<_> = ours.lines().filter(|line| !is_newer(line)).collect();
        let ours = ours
            .join("\n")
            .replace("extended packets", "structured packets");
        let told = |text: &str| {
            let lines = text.trim_end().lines();
            let told = lines.filter(|line| !line.trim().starts_with(but));
            told.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told(&theirs), told(&ours), "{args:?}");
    }

    /// Both fail in the same way.
    pub(crate) fn failure(&self, args: &[&str]) {
        let [(_, theirs), (text, ours)] = self.both(args);
        assert_eq!((theirs, ours), (1, 1), "{args:?}");
        assert_eq!(text, "", "{args:?}: nothing is printed by halves");
    }
}

/// Runs both on a command of their own, instead of a server that runs.
pub(crate) fn on_command(args: &[&str]) {
    let both = [Command::new("nbdinfo"), info()].map(|mut command| {
        let output = command.args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.code().unwrap())
    });
    json_alike(both, args);
}

fn json_alike(both: [(String, i32); 2], args: &[&str]) {
    let [theirs, ours] = both.map(|(text, status)| {
        assert_eq!(status, 0, "{args:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    });
    alike(&theirs, &ours, &format!("{args:?}"));
}

/// Checks that every field of theirs is in ours, and that ours are no others than newer ones.
fn alike(theirs: &Value, ours: &Value, path: &str) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let path = format!("{path}.{key}");
                let our = ours.get(key).unwrap_or_else(|| panic!("{path} is missing"));
                alike(value, our, &path);
            }
            for key in ours.keys() {
                let is_known = theirs.contains_key(key) || NEWER.contains(&&**key);
                assert!(is_known, "{path}.{key} is not in nbdinfo");
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            assert_eq!(theirs.len(), ours.len(), "{path}");
            for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                alike(theirs, ours, &format!("{path}[{at}]"));
            }
        }
        (Value::Number(theirs), Value::Number(ours)) => {
            assert_eq!(theirs.as_f64(), ours.as_f64(), "{path}");
        }
        _ => assert_eq!(theirs, ours, "{path}"),
    }
}

/// Our program.
pub(crate) fn info() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nbd"));
    command.arg("info");
    command
}
