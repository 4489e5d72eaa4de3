//! Children that do not end when they should, and what they have started.

use std::future::IntoFuture;
use std::process::Stdio;
use std::time::Duration;

use nbd_client::{Builder, Connection, Error, ErrorKind, State};
use tokio::time::timeout;

use super::child::MEMORY;
use crate::shared::process::{
    Baseline, again, eventually, group_of, has_ended, in_a_process_of_its_own, is_alone, is_gone,
    members,
};
use crate::shared::server::{Dir, run};

const SECOND: Duration = Duration::from_secs(1);
/// What nobody is to wait for.
const LONG: Duration = Duration::from_secs(60);

/// Fails if something takes nearly as long as what nobody is to wait for.
async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    let soon = timeout(Duration::from_secs(20), future.into_future());
    soon.await.expect("it does not end")
}

/// A connection to what a shell runs.
async fn connect(builder: Builder, script: &str) -> (Connection, Result<(), Error>) {
    let conn = builder.build();
    let connecting = conn.aio_connect_command(["sh", "-c", script]).unwrap();
    let result = soon(connecting).await;
    (conn, result)
}

/// Waits until a child that was never waited for has left nothing.
async fn leaves_nothing(group: u32) {
    eventually("the server and all it has started end", || {
        is_gone(group) && members(group).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_ends_at_its_deadline_whatever_the_server_does() {
    for script in [
        "exec sleep 1000",
        "trap '' TERM; sleep 1000",
        "kill -STOP $$; sleep 1000",
    ] {
        let builder = Connection::builder()
            .handshake_timeout(SECOND)
            .child_kill_delay(LONG);
        let conn = builder.build();
        let connecting = conn.aio_connect_command(["sh", "-c", script]).unwrap();
        let group = conn.child_id().unwrap();
        let error = soon(connecting).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(error.child().unwrap().status(), None);
        soon(conn.disconnect()).await.unwrap_err();
        if script.starts_with("trap") {
            assert!(!members(group).is_empty());
            conn.kill_child(9).unwrap();
        }
        leaves_nothing(group).await;
    }
}

#[test]
fn a_stubborn_server_of_a_handshake_that_failed_ends_after_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (group, ended) = runtime.block_on(async {
        let builder = Connection::builder()
            .handshake_timeout(SECOND)
            .child_kill_delay(SECOND);
        let conn = builder.build();
        let script = "trap '' TERM; sleep 1000; sleep 1000";
        let connecting = conn.aio_connect_command(["sh", "-c", script]).unwrap();
        (conn.child_id().unwrap(), soon(connecting).await)
    });
    ended.unwrap_err();
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(leaves_nothing(group));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_ends_at_its_deadline_whatever_the_server_does() {
    // The server goes, and then there is one that has its socket and ignores everything.
    let script = format!("trap '' TERM; {}; exec sleep 1000", MEMORY.join(" "));
    for stopped in [false, true] {
        let builder = Connection::builder()
            .shutdown_timeout(SECOND)
            .child_kill_delay(LONG);
        let (conn, result) = connect(builder, &script).await;
        result.unwrap();
        let group = conn.child_id().unwrap();
        if stopped {
            conn.kill_child(19).unwrap();
        }
        soon(conn.disconnect()).await.unwrap();
        assert!(conn.is_closed());
        assert!(!members(group).is_empty());
        conn.kill_child(9).unwrap();
        leaves_nothing(group).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_gives_up_does_not_wait_for_the_server() {
    let script = format!(
        "trap '' TERM; {}; exec sleep 1000 <&- >&-",
        MEMORY.join(" ")
    );
    let builder = Connection::builder()
        .shutdown_timeout(LONG)
        .child_kill_delay(LONG);
    let (conn, result) = connect(builder, &script).await;
    result.unwrap();
    let group = conn.child_id().unwrap();
    let ends = soon(conn.disconnect().timeout(SECOND)).await;
    assert_eq!(ends.unwrap_err().kind(), ErrorKind::Timeout);
    conn.kill_child(9).unwrap();
    leaves_nothing(group).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_its_socket_to_another_process_has_ended() {
    let name = "nbdkit::group::a_server_that_leaves_its_socket_to_another_process_has_ended";
    if in_a_process_of_its_own(name) {
        return;
    }
    let never = || Connection::builder().handshake_timeout(Duration::MAX);
    // What the first one opens for all.
    connect(never(), "exit 3").await.1.unwrap_err();
    let before = Baseline::now();
    let dir = Dir::new();
    for helper in [
        "sleep 1000 <&0",
        "sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' <&0",
        // It leaves the group, and is not ours to end.
        "setsid sleep 1000 <&0",
    ] {
        let script = format!("{helper} & echo $! >{}; exit 3", dir.path("pid"));
        let conn = never().build();
        let connecting = conn.aio_connect_command(["sh", "-c", &script]).unwrap();
        let group = conn.child_id();
        let error = soon(connecting).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        let report = error.child().unwrap();
        assert_eq!(report.status().unwrap().code(), Some(3));
        if let Some(group) = group {
            eventually("its group ends", || members(group).is_empty()).await;
        }
        // Nothing of ours waits for the one that is left.
        before.returns().await;
        let helper_pid = std::fs::read_to_string(dir.path("pid")).unwrap();
        if helper.starts_with("setsid") {
            run("kill", &[helper_pid.trim()]);
        }
    }
}

/// A server, and a process of its group that has its socket.
async fn connect_with_helper(helper: &str) -> (Connection, u32) {
    let script = format!("{helper} <&0 & exec {}", MEMORY.join(" "));
    let (conn, result) = connect(Connection::builder(), &script).await;
    result.unwrap();
    let group = conn.child_id().unwrap();
    assert_eq!(members(group).len(), 2);
    (conn, group)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k45_helpers_end_with_their_server_and_keep_nobody_waiting() {
    for helper in ["sleep 1000", "sh -c 'trap \"\" TERM; exec sleep 1000'"] {
        let (conn, group) = connect_with_helper(helper).await;
        conn.write(0, vec![1; 512]).await.unwrap();
        soon(conn.disconnect()).await.unwrap();
        leaves_nothing(group).await;

        let (conn, group) = connect_with_helper(helper).await;
        drop(conn);
        leaves_nothing(group).await;

        let (conn, group) = connect_with_helper(helper).await;
        // Not by its own connection: to that, it would be for all of the group.
        run("kill", &["-KILL", &group.to_string()]);
        let error = soon(conn.closed()).await;
        let report = error.child().unwrap();
        assert_eq!(report.status().unwrap().to_string(), "signal: 9 (SIGKILL)");
        assert_eq!(
            soon(conn.read(0, 512)).await.unwrap_err().kind(),
            error.kind()
        );
        assert_eq!(conn.state(), State::Dead);
        leaves_nothing(group).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_works_in_the_background_ends_with_the_server() {
    let dir = Dir::new();
    let write = format!(
        "pwrite=(trap '' TERM; echo >{}; sleep 1000; sleep 1000) >/dev/null 2>&1 & cat >/dev/null",
        dir.path("begun")
    );
    let argv = ["nbdkit", "-s", "eval", "get_size=echo 1M", &write];
    for way in 0..3 {
        let builder = Connection::builder().child_kill_delay(SECOND);
        let conn = builder.build();
        soon(conn.connect_command(argv)).await.unwrap();
        let group = conn.child_id().unwrap();
        soon(conn.write(0, vec![1; 512])).await.unwrap();
        eventually("the plugin works", || {
            std::fs::exists(dir.path("begun")).unwrap()
        })
        .await;
        match way {
            0 => soon(conn.disconnect()).await.unwrap(),
            1 => conn.kill_child(9).unwrap(),
            _ => drop(conn),
        }
        leaves_nothing(group).await;
        std::fs::remove_file(dir.path("begun")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_owes_nothing_is_no_success() {
    for flushed in [false, true] {
        for noticed in [false, true] {
            for activated in [false, true] {
                let conn = Connection::new();
                if activated {
                    let argv = ["nbdkit", "-f", "--exit-with-parent", "memory", "1M"];
                    conn.connect_systemd_socket_activation(argv).await.unwrap();
                } else {
                    conn.connect_command(MEMORY).await.unwrap();
                }
                conn.write(0, vec![1; 512]).await.unwrap();
                if flushed {
                    conn.flush().await.unwrap();
                }
                conn.kill_child(9).unwrap();
                if noticed {
                    soon(conn.closed()).await;
                }
                let error = soon(conn.disconnect()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                assert_eq!(error.has_unflushed_writes(), !flushed);
                let status = error.child().unwrap().status().unwrap();
                assert_eq!(status.to_string(), "signal: 9 (SIGKILL)", "{error}");
                assert_eq!(soon(conn.closed()).await.to_string(), error.to_string());
                assert_eq!(conn.state(), State::Dead);
            }
        }
    }
}

const REFUSAL: [&str; 6] = [
    "nbdkit",
    "-s",
    "--exit-with-parent",
    "eval",
    "get_size=echo 1M",
    "open=echo the disk is on holiday >&2; exit 1",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_has_the_words_of_the_server_and_they_are_printed_once() {
    const NAME: &str =
        "nbdkit::group::a_refusal_has_the_words_of_the_server_and_they_are_printed_once";
    if !is_alone() {
        let output = again(&[], NAME).stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("on holiday").count(), 2, "{text}");
        assert_eq!(text.matches("while ready").count(), 1, "{text}");
        return;
    }
    for activated in [false, true] {
        let conn = Connection::new();
        let error = if activated {
            let argv = [&["nbdkit", "-f"], &REFUSAL[2..]].concat();
            soon(conn.connect_systemd_socket_activation(argv)).await
        } else {
            soon(conn.connect_command(REFUSAL)).await
        };
        let error = error.unwrap_err();
        let Error::Refused(refusal) = &error else {
            panic!("{error}");
        };
        let words = refusal.child().unwrap().stderr().as_str().to_owned();
        assert!(words.contains("the disk is on holiday"), "{words}");
        assert!(conn.child_stderr().unwrap().as_str().contains(&words));
        eprintln!("{error}");
    }
    // What comes later is printed at once, and not again.
    let talks = "pread=echo while ready >&2; echo EIO >&2; exit 1";
    let conn = Connection::new();
    let argv = ["nbdkit", "-s", "eval", "get_size=echo 1M", talks];
    soon(conn.connect_command(argv)).await.unwrap();
    soon(conn.read(0, 512)).await.unwrap_err();
    eventually("the server is heard", || {
        conn.child_stderr()
            .unwrap()
            .as_str()
            .contains("while ready")
    })
    .await;
    conn.kill_child(9).unwrap();
    let error = soon(conn.closed()).await;
    let words = error.child().unwrap().stderr().as_str();
    assert!(words.contains("while ready"), "{words}");
    eprintln!("{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_is_known_at_any_time() {
    let conn = Connection::new();
    assert_eq!(conn.child_stderr(), None);
    let script = format!(
        "head -c 10000 /dev/zero | tr '\\0' x >&2; exec {}",
        MEMORY.join(" ")
    );
    soon(conn.connect_command(["sh", "-c", &script]))
        .await
        .unwrap();
    let said = || conn.child_stderr().unwrap().as_str().to_owned();
    eventually("all is read", || said() == "x".repeat(4096)).await;
    soon(conn.disconnect()).await.unwrap();
    assert_eq!(said(), "x".repeat(4096));
}

// What a terminal sends to the foreground is not for a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_in_the_group_of_the_client() {
    let ours = group_of(std::process::id());
    let conn = Connection::new();
    soon(conn.connect_command(MEMORY)).await.unwrap();
    let pid = conn.child_id().unwrap();
    assert_eq!(group_of(pid), pid);
    assert_ne!(group_of(pid), ours);
    assert!(!has_ended(pid));
    soon(conn.disconnect()).await.unwrap();
}
