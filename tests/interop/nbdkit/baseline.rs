//! What connections leave behind: nothing, however many there were and however they ended.

use nbd_client::Connection;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

#[cfg(feature = "tls")]
use crate::behind_tls;
use crate::shared::process::{Baseline, in_a_process_of_its_own, memory, times};
use crate::shared::server::Server;

const MEMORY: [&str; 5] = ["nbdkit", "-s", "--exit-with-parent", "memory", "1M"];
/// So many servers are started at the same time.
const GROUP: u64 = 10;

/// How a connection to a child ends.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Clean,
    Crash,
    Dropped,
    RuntimeShutDown,
}

const EXITS: [Exit; 4] = [
    Exit::Clean,
    Exit::Crash,
    Exit::Dropped,
    Exit::RuntimeShutDown,
];

async fn spawn_and_end(exit: Exit) {
    let conn = Connection::new();
    conn.connect_command(MEMORY).await.unwrap();
    conn.write(0, vec![1; 4096]).await.unwrap();
    match exit {
        Exit::Clean => conn.disconnect().await.unwrap(),
        Exit::Crash => {
            conn.kill_child(9).unwrap();
            conn.closed().await;
        }
        Exit::Dropped => drop(conn),
        Exit::RuntimeShutDown => {
            // For ever, so that the runtime has it when it goes.
            tokio::spawn(async move {
                loop {
                    if conn.read(0, 4096).await.is_err() {
                        break;
                    }
                }
            });
        }
    }
}

async fn group(exit: Exit) {
    let mut tasks = JoinSet::new();
    for _ in 0..GROUP {
        tasks.spawn(spawn_and_end(exit));
    }
    tasks.join_all().await;
}

fn runtimes() -> [Runtime; 2] {
    let mut builders = [Builder::new_current_thread(), Builder::new_multi_thread()];
    builders
        .each_mut()
        .map(|builder| builder.worker_threads(2).enable_all().build().unwrap())
}

fn groups(main: &Runtime, exit: Exit, count: u64) {
    for number in 0..count {
        match exit {
            Exit::RuntimeShutDown => {
                let [first, second] = runtimes();
                let runtime = if number % 2 == 0 { first } else { second };
                runtime.block_on(group(exit));
            }
            _ => main.block_on(group(exit)),
        }
    }
}

#[test]
fn k44_k46_spawned_servers_leave_nothing_behind_however_they_end() {
    let name = "nbdkit::baseline::k44_k46_spawned_servers_leave_nothing_behind_however_they_end";
    if in_a_process_of_its_own(name) {
        return;
    }
    let [main, _] = runtimes();
    // What the first ones open for all: the means to learn of the end of a process.
    groups(&main, Exit::Clean, 1);
    let before = main.block_on(async { Baseline::now() });
    let count = times(200);
    for exit in EXITS {
        groups(&main, exit, count / GROUP);
        main.block_on(before.returns());
    }
    println!("reached: {count} spawns of each of {EXITS:?}");
}

/// Connects again and again; descriptors, tasks and memory stay what they were.
async fn connect_often<F>(
    count: u64,
    client: &nbd_client::Builder,
    connect: impl Fn(Connection) -> F,
) where
    F: Future<Output = nbd_client::Result<()>>,
{
    const DRIFT: u64 = 1 << 20;
    let one = async || {
        let conn = client.clone().build();
        connect(conn.clone()).await.unwrap();
        conn.read(0, 512).await.unwrap();
        conn.disconnect().await.unwrap();
    };
    for _ in 0..300 {
        one().await;
    }
    let (before, used) = (Baseline::now(), memory());
    for _ in 0..count {
        one().await;
    }
    before.returns().await;
    let drift = memory().saturating_sub(used);
    println!(
        "reached: {count} connections, {} KiB more memory",
        drift >> 10
    );
    assert!(drift <= DRIFT, "{drift} bytes more are in use");
}

/// The same on a Unix socket.
pub(crate) async fn connect_often_unix(count: u64, server: &Server) {
    let socket = server.socket();
    let connect = async |conn: Connection| conn.connect_unix(&socket).await;
    connect_often(count, &server.client(), connect).await;
}

#[tokio::test]
async fn k46_connections_one_after_the_other_leave_nothing_behind() {
    let name = "nbdkit::baseline::k46_connections_one_after_the_other_leave_nothing_behind";
    if in_a_process_of_its_own(name) {
        return;
    }
    let server = Server::nbdkit(&["memory", "1M"]);
    connect_often_unix(times(5000), &server).await;
}

// Both sides prove who they are, each time anew: no session is taken up again.
#[cfg(feature = "tls")]
#[tokio::test]
async fn k46_behind_tls_connections_one_after_the_other_leave_nothing_behind() {
    let name =
        "nbdkit::baseline::k46_behind_tls_connections_one_after_the_other_leave_nothing_behind";
    if in_a_process_of_its_own(name) {
        return;
    }
    let server = behind_tls::nbdkit(&["memory", "1M"]);
    connect_often_unix(times(2000), &server).await;
}

// Each takes a port for a minute, of the 28 000 there are.
#[tokio::test]
async fn k46_k50_connections_over_tcp_leave_nothing_behind() {
    let name = "nbdkit::baseline::k46_k50_connections_over_tcp_leave_nothing_behind";
    if in_a_process_of_its_own(name) {
        return;
    }
    let server = Server::nbdkit_tcp(&["memory", "1M"]);
    let port = server.port();
    let connect = async |conn: Connection| conn.connect_tcp("127.0.0.1", port).await;
    connect_often(times(1000), &server.client(), connect).await;
}
