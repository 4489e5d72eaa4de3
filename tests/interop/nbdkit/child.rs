//! nbdkit as child process of the client.

use std::future::IntoFuture;
use std::time::Duration;

use nbd_client::{Connection, Connector, Delivery, ErrorKind, State};
use tokio::task::{JoinSet, yield_now};

use crate::shared::process::{descriptors, eventually, in_a_process_of_its_own, is_gone};

pub(super) const MEMORY: [&str; 5] = ["nbdkit", "-s", "--exit-with-parent", "memory", "1M"];

/// A connection to a server of its own, and the number of its process.
async fn connect(argv: &[&str]) -> (Connection, u32) {
    let conn = Connection::new();
    conn.connect_command(argv).await.unwrap();
    let pid = conn.child_id().unwrap();
    assert!(!is_gone(pid));
    (conn, pid)
}

both_runtimes!(closing_waits_until_the_server_is_reaped);
async fn closing_waits_until_the_server_is_reaped() {
    let (conn, pid) = connect(&MEMORY).await;
    conn.write(0, vec![1; 512]).await.unwrap();
    conn.disconnect().await.unwrap();
    assert!(conn.is_closed());
    assert!(is_gone(pid));
    assert_eq!(conn.child_id(), None);
}

both_runtimes!(server_can_be_asked_to_end);
async fn server_can_be_asked_to_end() {
    let error = Connection::new().terminate_child().unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");

    let (conn, pid) = connect(&MEMORY).await;
    conn.terminate_child().unwrap();
    // It serves its client to the end.
    conn.disconnect().await.unwrap();
    assert!(is_gone(pid));
    let error = conn.terminate_child().unwrap_err();
    assert_eq!(error.errno(), Some(3), "{error}");

    // By SIGTERM, which is what this script notices.
    let script = "trap 'echo told >&2; exit 7' TERM; sleep 1000 & wait";
    let conn = Connection::new();
    let connecting = conn.aio_connect_command(["sh", "-c", script]).unwrap();
    while conn.child_id().is_none() {
        yield_now().await;
    }
    // Once it waits, it listens.
    let children = format!("/proc/{0}/task/{0}/children", conn.child_id().unwrap());
    eventually("the script waits", || {
        std::fs::read_to_string(&children).is_ok_and(|children| !children.is_empty())
    })
    .await;
    conn.terminate_child().unwrap();
    let error = connecting.await.unwrap_err();
    let child = error.child().unwrap();
    assert_eq!(child.status().unwrap().code(), Some(7), "{error}");
    assert_eq!(child.stderr().as_str(), "told\n");
}

both_runtimes!(k44_dropping_the_last_handle_ends_the_server);
async fn k44_dropping_the_last_handle_ends_the_server() {
    let (conn, pid) = connect(&MEMORY).await;
    let other = conn.clone();
    drop(conn);
    other.read(0, 512).await.unwrap();
    drop(other);
    eventually("the server is reaped", || is_gone(pid)).await;
}

both_runtimes!(dropping_a_connection_that_is_being_made_ends_the_server);
async fn dropping_a_connection_that_is_being_made_ends_the_server() {
    let conn = Connection::new();
    // A server that never greets.
    let connecting = conn.aio_connect_command(["sleep", "1000"]).unwrap();
    while conn.child_id().is_none() {
        yield_now().await;
    }
    let pid = conn.child_id().unwrap();
    drop(conn);
    eventually("the server is reaped", || is_gone(pid)).await;
    assert_eq!(connecting.await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn k44_the_end_of_the_runtime_ends_the_server() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let (conn, pid) = first.block_on(connect(&MEMORY));
    drop(first);
    runtime().block_on(eventually("the server is reaped", || is_gone(pid)));
    assert_eq!(conn.state(), State::Dead);
}

both_runtimes!(k48_a_server_takes_over_a_socket_and_ends_with_the_connection);
async fn k48_a_server_takes_over_a_socket_and_ends_with_the_connection() {
    let conn = Connection::new();
    let argv = ["nbdkit", "-f", "--exit-with-parent", "memory", "1M"];
    conn.connect_systemd_socket_activation(argv).await.unwrap();
    let pid = conn.child_id().unwrap();
    conn.write(512, vec![4; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![4; 512]);
    conn.disconnect().await.unwrap();
    assert!(conn.is_closed());
    assert!(is_gone(pid));
}

// P-036: a client may leave at any time.
both_runtimes!(aborting_the_negotiation_ends_the_server);
async fn aborting_the_negotiation_ends_the_server() {
    let conn = Connection::builder().opt_mode(true).build();
    conn.connect_command(MEMORY).await.unwrap();
    let pid = conn.child_id().unwrap();
    conn.opt_abort().await.unwrap();
    assert!(conn.is_closed());
    eventually("the server is reaped", || is_gone(pid)).await;
}

both_runtimes!(k42_a_server_that_does_not_start_says_why);
async fn k42_a_server_that_does_not_start_says_why() {
    let conn = Connection::new();
    let argv = ["nbdkit", "-s", "no-such-plugin-anywhere"];
    let error = conn.connect_command(argv).await.unwrap_err();
    assert_eq!(conn.state(), State::Dead);
    let report = error.ending().unwrap().child().unwrap();
    assert_eq!(report.status().unwrap().code(), Some(1));
    let words = report.stderr().as_str();
    assert!(words.contains("no-such-plugin-anywhere"), "{words}");
    let text = error.to_string();
    assert!(text.contains("exit status: 1"), "{text}");
    assert!(text.contains("no-such-plugin-anywhere"), "{text}");
}

both_runtimes!(k41_a_program_that_does_not_exist_is_named);
async fn k41_a_program_that_does_not_exist_is_named() {
    let conn = Connection::new();
    let argv = ["no-such-program-anywhere", "-s"];
    let error = conn.connect_command(argv).await.unwrap_err();
    assert_eq!(conn.state(), State::Dead);
    assert_eq!(error.errno(), Some(2), "{error}");
    let text = error.to_string();
    assert!(text.contains("no-such-program-anywhere"), "{text}");
}

both_runtimes!(k43_killing_the_server_fails_all_that_is_in_flight);
async fn k43_killing_the_server_fails_all_that_is_in_flight() {
    const READS: usize = 16;
    let slow = ["nbdkit", "-s", "--exit-with-parent", "--filter=delay"];
    let argv = [&slow[..], &["pattern", "1M", "rdelay=1000"]].concat();
    let (conn, pid) = connect(&argv).await;
    let mut reads = JoinSet::new();
    for block in 0..READS {
        reads.spawn(conn.read(block as u64 * 4096, 4096).into_future());
    }
    eventually("all are sent", || {
        conn.stats().messages_sent >= READS as u64
    })
    .await;
    assert_eq!(conn.in_flight(), READS);
    conn.kill_child(9).unwrap();
    for result in reads.join_all().await {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert_eq!(error.delivery(), Delivery::MaybeSent);
        assert!(error.is_retryable());
    }
    assert_eq!(conn.state(), State::Dead);
    let error = conn.read(0, 512).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert_eq!(error.delivery(), Delivery::NotSent);
    eventually("the server is reaped", || is_gone(pid)).await;
}

#[tokio::test]
async fn k44_k46_fifty_connections_leave_neither_descriptors_nor_processes_behind() {
    let name =
        "nbdkit::child::k44_k46_fifty_connections_leave_neither_descriptors_nor_processes_behind";
    if in_a_process_of_its_own(name) {
        return;
    }
    // What the first one opens for all: the means to learn of the end of a process.
    every_way().await;
    let before = descriptors();
    for _ in 0..50 {
        every_way().await;
    }
    // Some of the first ones may have been open still.
    eventually("descriptors are closed", || descriptors() <= before).await;
}

/// A connection that is closed, one that is dropped, one that fails, and one that never is.
async fn every_way() {
    let (conn, _) = connect(&MEMORY).await;
    conn.read(0, 512).await.unwrap();
    conn.disconnect().await.unwrap();
    let (conn, pid) = connect(&MEMORY).await;
    drop(conn);
    let conn = Connection::new();
    let failed = conn.connect_command(["sh", "-c", "exit 3"]).await;
    failed.unwrap_err();
    let conn = Connection::new();
    let failed = conn.connect_command(["no-such-program-anywhere"]).await;
    failed.unwrap_err();
    eventually("the server is reaped", || is_gone(pid)).await;
}

/// nbdkit asks the system for a signal at the end of the thread that has started it.
#[test]
fn a_server_outlives_the_thread_that_connects() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let from_a_thread = |connector: Connector| {
        let handle = runtime.handle().clone();
        let connect = move || handle.block_on(Connection::builder().connect(connector));
        std::thread::spawn(connect).join().unwrap().unwrap()
    };
    for connector in [
        Connector::command(["nbdkit", "-s", "memory", "1M"]),
        Connector::socket_activation(["nbdkit", "--exit-with-parent", "-f", "memory", "1M"]),
    ] {
        let conn = from_a_thread(connector);
        let used = async {
            for at in 0..100 {
                conn.write(at * 512, vec![1; 512]).await?;
                conn.read(at * 512, 512).await?;
            }
            conn.disconnect().await
        };
        let watched = async { tokio::time::timeout(Duration::from_secs(60), used).await };
        runtime.block_on(watched).unwrap().unwrap();
    }
}
