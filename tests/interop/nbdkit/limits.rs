//! Too few descriptors, and calls to the system that fail.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use nbd_client::{Connection, Error, ErrorKind, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::shared::process::{Baseline, again, in_a_process_of_its_own, is_alone, times};
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

/// Far beyond what anything here takes: whoever waits longer waits for ever.
const WATCHDOG: Duration = Duration::from_secs(120);

/// How long an answer is waited for that may have been lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What clients connect to.
struct Servers {
    unix: Server,
    tcp: Server,
}

impl Servers {
    fn start() -> Self {
        let unix = Server::nbdkit(&["memory", "1M"]);
        let tcp = Server::nbdkit_tcp(&["memory", "1M"]);
        Self { unix, tcp }
    }
}

const WAYS: [&str; 5] = ["unix", "tcp", "command", "activation", "socket"];

/// One session: data is what was written, or there is an error.
async fn session(way: &str, unix: &str, port: u16) -> Result<()> {
    let conn = Connection::new();
    match way {
        "unix" => conn.connect_unix(unix).await?,
        "tcp" => conn.connect_tcp("localhost", port).await?,
        "command" => {
            let argv = ["nbdkit", "-s", "--exit-with-parent", "memory", "1M"];
            conn.connect_command(argv).await?;
        }
        "activation" => {
            let argv = ["nbdkit", "-f", "--exit-with-parent", "memory", "1M"];
            conn.connect_systemd_socket_activation(argv).await?;
        }
        _ => match UnixStream::connect(unix) {
            Ok(socket) => conn.connect_socket(socket).await?,
            // None of our calls.
            Err(_) => return Ok(()),
        },
    }
    for round in 1..40u8 {
        let (offset, length) = (u64::from(round) * 1000, usize::from(round) * 1500);
        conn.write(offset, vec![round; length])
            .timeout(PATIENCE)
            .await?;
        let data = conn.read(offset, length).timeout(PATIENCE).await?;
        assert!(data.iter().all(|&byte| byte == round));
    }
    conn.disconnect().timeout(PATIENCE).await
}

/// Allows so many descriptors beside those that are open.
fn leave_room(room: usize) {
    let is_free = |number: &u64| !fs::exists(format!("/proc/self/fdinfo/{number}")).unwrap();
    let current = (0..).filter(is_free).nth(room);
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// Finds out how few descriptors do.
async fn connect_with_too_few(way: &str, socket: &str, port: u16) {
    let usual = getrlimit(Resource::Nofile);
    session(way, socket, port).await.unwrap();
    let before = Baseline::now();
    let (mut failed, mut room) = (0, 0);
    loop {
        leave_room(room);
        let result = timeout(WATCHDOG, session(way, socket, port)).await;
        setrlimit(Resource::Nofile, usual).unwrap();
        let result = result.unwrap_or_else(|_| panic!("{way} hangs with {room}"));
        before.returns().await;
        match result {
            Err(error) => {
                assert!(error.kind() == ErrorKind::Disconnected, "{way}: {error}");
                failed += u64::from(error.errno() == Some(24));
            }
            Ok(()) if way == "socket" && room == 0 => failed += 1,
            Ok(()) => break,
        }
        room += 1;
        assert!(room < 50, "{way} needs more than {room} descriptors");
    }
    assert!(failed > 0, "{way} needs no descriptor");
}

#[test]
fn k28_without_descriptors_connecting_is_an_error() {
    let name = "nbdkit::limits::k28_without_descriptors_connecting_is_an_error";
    if in_a_process_of_its_own(name) {
        return;
    }
    let servers = Servers::start();
    let (socket, port) = (servers.unix.socket(), servers.tcp.port());
    let runtime = Builder::new_current_thread()
        .enable_all()
        // Threads that look names up do not stay.
        .thread_keep_alive(Duration::from_millis(1))
        .build()
        .unwrap();
    for way in WAYS {
        runtime.block_on(connect_with_too_few(way, socket.to_str().unwrap(), port));
    }
}

/// What fails, how, and how often, in the words of `strace`.
const RULES: [(&str, &str, &str); 11] = [
    ("tcp", "recvfrom", "error=EINTR:when=3+7"),
    ("unix", "sendto", "error=EINTR:when=4+5"),
    ("unix", "epoll_wait", "error=EINTR:when=2+3"),
    ("tcp", "recvfrom", "error=ECONNRESET:when=12"),
    ("unix", "sendto", "error=EPIPE:when=7"),
    ("tcp", "sendmsg", "error=EPIPE:when=2"),
    ("tcp", "socket", "error=EMFILE:when=2"),
    ("unix", "connect", "error=EINTR:when=1"),
    ("command", "socketpair", "error=EMFILE:when=2+"),
    ("unix", "epoll_ctl", "error=ENOMEM:when=3+"),
    ("tcp", "setsockopt", "error=ENOBUFS:when=1+"),
];

/// What fails at random, and from which call on: before that it is Tokio that calls, and panics
/// for want of a runtime; as it does if waiting fails.
const CALLS: [(&str, u64); 13] = [
    ("recvfrom", 1),
    ("sendmsg", 1),
    ("sendto", 1),
    ("socket", 1),
    ("connect", 1),
    ("epoll_ctl", 1),
    ("socketpair", 2),
    ("setsockopt", 1),
    ("getsockopt", 1),
    ("getpeername", 1),
    ("shutdown", 1),
    ("bind", 1),
    ("listen", 1),
];
const ERRORS: [&str; 7] = [
    "EINTR",
    "ENOMEM",
    "ECONNRESET",
    "EPIPE",
    "EMFILE",
    "ENOBUFS",
    "EIO",
];

const INJECTED: &str = "nbdkit::limits::k28_calls_that_fail_are_errors_or_are_made_good";

/// Runs one session in which calls fail; says what became of it, and how many failed.
async fn inject(servers: &Servers, way: &str, call: &str, how: &str) -> (String, usize) {
    let dir = Dir::new();
    let log = dir.path("strace");
    let (trace, rule) = (format!("trace={call}"), format!("inject={call}:{how}"));
    let runner = ["strace", "-f", "-qq", "-o", &log, "-e", &trace, "-e", &rule];
    let mut command = Command::from(again(&runner, INJECTED));
    command
        .env("NBD_TEST_WAY", way)
        .env("NBD_TEST_UNIX", servers.unix.socket())
        .env("NBD_TEST_TCP", servers.tcp.port().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = timeout(WATCHDOG, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{rule} hangs {way}"));
    let output = output.expect("this test needs strace, see tests/run");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{rule}, {way}: {said}{complaint}");
    let outcome = said.lines().find_map(|line| line.split_once("outcome: "));
    let outcome = outcome.expect("it must have come to its end").1.to_owned();
    let log = fs::read_to_string(log).unwrap();
    (outcome, log.matches("(INJECTED)").count())
}

/// What becomes of a session in this process, in which calls fail.
fn session_with_failures() -> String {
    let [way, unix, port] =
        ["WAY", "UNIX", "TCP"].map(|name| std::env::var(format!("NBD_TEST_{name}")).unwrap());
    let runtime = Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return "no runtime, which is not for us to make".into();
    };
    match runtime.block_on(session(&way, &unix, port.parse().unwrap())) {
        Ok(()) => "success".into(),
        Err(error @ (Error::Disconnected(..) | Error::Timeout(..))) => error.to_string(),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn k28_calls_that_fail_are_errors_or_are_made_good() {
    if is_alone() {
        println!("outcome: {}", session_with_failures());
        return;
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let servers = Servers::start();
    for (way, call, how) in RULES {
        let (outcome, failures) = runtime.block_on(inject(&servers, way, call, how));
        println!("{way}, {call}, {how}, {failures} times: {outcome}");
        assert!(failures > 0, "{call} is not called");
    }
    let mut random = Random::new(28);
    let more = 10 * (times(1) - 1);
    for _ in 0..more {
        let mut any = |count: usize| random.below(count as u64) as usize;
        let (way, error) = (WAYS[any(WAYS.len())], ERRORS[any(ERRORS.len())]);
        let (call, least) = CALLS[any(CALLS.len())];
        let (first, step) = (least + random.below(6), 1 + random.below(9));
        let how = format!("error={error}:when={first}+{step}");
        let (outcome, failures) = runtime.block_on(inject(&servers, way, call, &how));
        println!("{way}, {call}, {how}, {failures} times: {outcome}");
    }
    println!("reached: {} rules", RULES.len() as u64 + more);
}
