//! Connecting is allowed once: every way to connect, tried in every state.

use std::future::IntoFuture;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Std;

use nbd_client::{Connection, Error, InvalidRequest, InvalidUse, Result, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Every way to connect. Each would go through or begin to on a new handle.
async fn connect(conn: &Connection, way: &str) -> Result<()> {
    match way {
        "command" => conn.connect_command(["cat"]).await,
        "aio_command" => conn.aio_connect_command(["cat"]).map(drop),
        "socket" => conn.connect_socket(socket()).await,
        "aio_socket" => conn.aio_connect_socket(socket()).map(drop),
        "stream" => conn.connect_stream(tokio::io::empty()).await,
        "aio_stream" => conn.aio_connect_stream(tokio::io::empty()).map(drop),
        "tcp" => conn.connect_tcp("localhost", 9).await,
        "aio_tcp" => conn.aio_connect_tcp("localhost", 9).map(drop),
        "unix" => conn.connect_unix("/").await,
        "aio_unix" => conn.aio_connect_unix("/").map(drop),
        "uri" => conn.connect_uri("nbd+unix:///?socket=/").await,
        "aio_uri" => conn.aio_connect_uri("nbd+unix:///?socket=/").map(drop),
        "activation" => conn.connect_systemd_socket_activation(["cat"]).await,
        "aio_activation" => {
            let begun = conn.aio_connect_systemd_socket_activation(["cat"]);
            begun.map(drop)
        }
        #[cfg(all(feature = "vsock", target_os = "linux"))]
        "vsock" => conn.connect_vsock(2, 10809).await,
        #[cfg(all(feature = "vsock", target_os = "linux"))]
        "aio_vsock" => conn.aio_connect_vsock(2, 10809).map(drop),
        _ => unreachable!("{way}"),
    }
}

const WAYS: &[&str] = &[
    "command",
    "aio_command",
    "socket",
    "aio_socket",
    "stream",
    "aio_stream",
    "tcp",
    "aio_tcp",
    "unix",
    "aio_unix",
    "uri",
    "aio_uri",
    "activation",
    "aio_activation",
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    "vsock",
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    "aio_vsock",
];

fn socket() -> OwnedFd {
    Std::pair().unwrap().0.into()
}

/// A server of the old style, which says everything at once: the client is ready.
async fn ready() -> (Connection, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut greeting = b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53".to_vec();
    greeting.extend((1u64 << 20).to_be_bytes());
    greeting.extend(1u32.to_be_bytes());
    greeting.extend([0; 124]);
    theirs.write_all(&greeting).await.unwrap();
    let conn = Connection::new();
    conn.connect_stream(ours).await.unwrap();
    (conn, theirs)
}

/// A connection in this state, and what keeps it there.
async fn in_state(state: State) -> (Connection, Option<UnixStream>) {
    let (conn, peer) = match state {
        State::Created => (Connection::new(), None),
        State::Connecting => {
            // Nobody greets.
            let (ours, theirs) = UnixStream::pair().unwrap();
            let conn = Connection::new();
            drop(conn.aio_connect_stream(ours).unwrap());
            (conn, Some(theirs))
        }
        State::Negotiating => {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(b"NBDMAGICIHAVEOPT\0\x03").await.unwrap();
            let conn = Connection::builder()
                .opt_mode(true)
                .extended_headers(false)
                .structured_replies(false)
                .build();
            conn.connect_stream(ours).await.unwrap();
            (conn, Some(theirs))
        }
        State::Ready => {
            let (conn, theirs) = ready().await;
            (conn, Some(theirs))
        }
        State::Closed => {
            let (conn, mut theirs) = ready().await;
            let leave = async {
                theirs.read_exact(&mut [0; 28]).await.unwrap();
                drop(theirs);
            };
            let (result, ()) = tokio::join!(conn.disconnect().into_future(), leave);
            result.unwrap();
            (conn, None)
        }
        State::Dead => {
            let conn = Connection::new();
            conn.connect_unix("/").await.unwrap_err();
            (conn, None)
        }
    };
    assert_eq!(conn.state(), state);
    (conn, peer)
}

both_runtimes!(a_handle_that_is_not_new_refuses_to_connect_and_says_its_state);
async fn a_handle_that_is_not_new_refuses_to_connect_and_says_its_state() {
    for state in [
        State::Connecting,
        State::Negotiating,
        State::Ready,
        State::Closed,
        State::Dead,
    ] {
        let (conn, _peer) = in_state(state).await;
        for &way in WAYS {
            let error = connect(&conn, way).await.unwrap_err();
            let Error::Invalid(InvalidRequest::State { state: named, .. }) = &error else {
                panic!("{way} while {state}: {error}");
            };
            assert_eq!(*named, state, "{way}");
            assert!(error.to_string().contains(&state.to_string()), "{error}");
            assert_eq!(conn.state(), state, "after {way}");
        }
    }
}

// On the one thread of this runtime nothing goes on before the test waits.
#[tokio::test]
async fn a_new_handle_begins_to_connect_in_every_way() {
    for &way in WAYS.iter().filter(|way| way.starts_with("aio_")) {
        let (conn, _) = in_state(State::Created).await;
        connect(&conn, way).await.unwrap();
        assert!(conn.is_connecting(), "{way}");
    }
}

// On other threads it may have failed already, where nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_began_to_connect_is_not_new_any_more() {
    for &way in WAYS.iter().filter(|way| way.starts_with("aio_")) {
        let (conn, _) = in_state(State::Created).await;
        connect(&conn, way).await.unwrap();
        let state = conn.state();
        let begun = matches!(state, State::Connecting | State::Dead);
        assert!(begun, "{way}: {state:?}");
    }
}

// Two begin at once: one of them wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_connect_one_handle_one_begins() {
    for _ in 0..50 {
        let (conn, _) = in_state(State::Created).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let conn = conn.clone();
            tasks.spawn(async move { conn.aio_connect_socket(socket()).is_ok() });
        }
        let begun = tasks.join_all().await;
        assert_eq!(begun.iter().filter(|begun| **begun).count(), 1);
    }
}

both_runtimes!(a_connection_that_was_refused_its_socket_closes_it);
async fn a_connection_that_was_refused_its_socket_closes_it() {
    let (conn, _peer) = in_state(State::Ready).await;
    let (ours, theirs) = Std::pair().unwrap();
    conn.aio_connect_socket(ours).unwrap_err();
    let end = std::io::Read::read(&mut &theirs, &mut [0; 1]);
    assert_eq!(end.unwrap(), 0);
}

#[test]
fn outside_a_runtime_connecting_is_an_error_and_no_panic() {
    let conn = Connection::new();
    let error = conn.aio_connect_unix("/").unwrap_err();
    assert!(
        matches!(error, Error::InvalidUse(InvalidUse::NoRuntime(_))),
        "{error}"
    );
    assert!(conn.is_created());
}
