//! The states of a connection, and what each allows.

use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Error, InvalidRequest, State};

use crate::support::*;

/// Every command, and how it fails.
async fn every_command(conn: &Connection) -> Vec<Error> {
    let mut chunks = conn.read_structured(0, 512);
    let chunk =
        std::future::poll_fn(|cx| futures::Stream::poll_next(std::pin::Pin::new(&mut chunks), cx));
    vec![
        conn.read(0, 512).await.unwrap_err(),
        conn.read_into(0, bytes::BytesMut::zeroed(512))
            .await
            .unwrap_err(),
        chunk.await.unwrap().unwrap_err(),
        conn.write(0, vec![0; 512]).await.unwrap_err(),
        conn.flush().await.unwrap_err(),
        conn.trim(0, 512).await.unwrap_err(),
        conn.write_zeroes(0, 512).await.unwrap_err(),
        conn.cache(0, 512).await.unwrap_err(),
        conn.block_status(0, 512).await.unwrap_err(),
    ]
}

/// Every call that connects, and how it fails.
async fn every_connect(conn: &Connection) -> Vec<Error> {
    let (stream, _other) = tokio::io::duplex(64);
    let (socket, _rest) = std::os::unix::net::UnixStream::pair().unwrap();
    vec![
        conn.connect_stream(stream).await.unwrap_err(),
        conn.connect_socket(socket).await.unwrap_err(),
        conn.connect_unix("/nowhere").await.unwrap_err(),
        conn.connect_tcp("localhost", 1).await.unwrap_err(),
        conn.connect_command(["true"]).await.unwrap_err(),
        conn.connect_uri("nbd://localhost:1").await.unwrap_err(),
    ]
}

#[track_caller]
fn assert_states(errors: Vec<Error>, expected: State) {
    for error in errors {
        match error {
            Error::Invalid(InvalidRequest::State { state, .. }) => assert_eq!(state, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_new_handle_takes_no_commands_and_no_options() {
    let conn = Connection::new();
    assert_states(every_command(&conn).await, State::Created);
    assert_states(vec![conn.opt_list().await.unwrap_err()], State::Created);
    assert_states(vec![conn.disconnect().await.unwrap_err()], State::Created);
    assert_states(
        vec![conn.size().unwrap_err(), conn.protocol().unwrap_err()],
        State::Created,
    );
    assert!(conn.is_created());
    assert_eq!(conn.in_flight(), 0);
}

both_runtimes!(a_connection_goes_from_state_to_state_and_is_connected_once);
async fn a_connection_goes_from_state_to_state_and_is_connected_once() {
    let conn = Connection::builder()
        .opt_mode(true)
        .structured_replies(false)
        .build();
    let watcher = conn.clone();
    let (mut peer, stream) = Peer::pair();
    let connecting = conn.aio_connect_stream(stream).unwrap();
    assert!(watcher.is_connecting());
    assert_states(every_connect(&watcher).await, State::Connecting);
    assert_states(every_command(&watcher).await, State::Connecting);
    let all = nbd_client::wire::HandshakeFlags::all();
    let (connected, greeted) = tokio::join!(connecting, peer.greet(all));
    connected.unwrap();
    greeted.unwrap();
    assert!(watcher.is_negotiating());
    assert_states(every_connect(&watcher).await, State::Negotiating);
    assert_states(every_command(&watcher).await, State::Negotiating);
    let ready = tokio::spawn({
        let conn = conn.clone();
        async move { conn.ready().await }
    });
    let (go, ()) = tokio::join!(conn.opt_go(), async {
        let option = peer.expect_option().await.unwrap().option;
        assert!(watcher.is_connecting(), "while an option runs");
        peer.send_export(option, INFO).await.unwrap();
    });
    go.unwrap();
    ready.await.unwrap().unwrap();
    assert!(watcher.is_ready() && !watcher.is_processing());
    assert_states(every_connect(&watcher).await, State::Ready);
    assert_states(vec![conn.opt_list().await.unwrap_err()], State::Ready);
    let flush = tokio::spawn(conn.flush().into_future());
    let request = peer.expect_command(Command::FLUSH).await.unwrap();
    assert!(watcher.is_ready() && watcher.is_processing());
    assert_eq!(watcher.in_flight(), 1);
    peer.acknowledge(&request.head).await.unwrap();
    flush.await.unwrap().unwrap();
    assert!(!watcher.is_processing());
    let (ended, ()) = tokio::join!(conn.disconnect().into_future(), async {
        peer.expect_command(Command::DISC).await.unwrap();
        peer.close();
    });
    ended.unwrap();
    assert!(watcher.is_closed());
    assert_states(every_connect(&watcher).await, State::Closed);
}

both_runtimes!(k08_after_a_failure_everything_fails_with_its_cause);
async fn k08_after_a_failure_everything_fails_with_its_cause() {
    for style in STYLES {
        let (conn, mut peer) = ready_with(builder(style).meta_context("x:y"), style).await;
        peer.send_bytes(b"nonsense").await.unwrap();
        let cause = conn.closed().await.to_string();
        let received = peer.received().len();
        assert!(conn.is_dead());
        for (index, error) in every_command(&conn).await.into_iter().enumerate() {
            // Without chunks there is no block status in any state.
            if index == 8 && style == ReplyStyle::Simple {
                continue;
            }
            let request = error.request().unwrap();
            let text = error.to_string();
            assert_eq!(text, format!("{request} failed: {cause}"), "{index}");
            assert_eq!(error.delivery(), nbd_client::Delivery::NotSent);
        }
        assert_eq!(conn.opt_list().await.unwrap_err().to_string(), cause);
        assert_eq!(conn.ready().await.unwrap_err().to_string(), cause);
        assert_eq!(conn.disconnect().await.unwrap_err().to_string(), cause);
        assert_states(every_connect(&conn).await, State::Dead);
        assert_eq!(conn.size().unwrap(), INFO.size, "it stays known");
        assert_eq!(conn.in_flight(), 0);
        assert_eq!(peer.received().len(), received);
    }
}

#[tokio::test]
async fn w06_a_server_that_leaves_when_nothing_is_due_closes_the_connection() {
    for style in STYLES {
        let (conn, peer) = ready(style).await;
        drop(peer);
        assert_matches!(conn.closed().await, Error::Disconnected(..));
        assert_eq!(conn.state(), State::Closed);
        assert_matches!(conn.flush().await, Err(Error::Disconnected(..)));
    }
}

#[tokio::test]
async fn r05_a_server_that_leaves_with_requests_in_flight_kills_the_connection() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let read = tokio::spawn(conn.read(0, 512).into_future());
        peer.expect_command(Command::READ).await.unwrap();
        drop(peer);
        let error = read.await.unwrap().unwrap_err();
        assert_matches!(&error, Error::Disconnected(..));
        assert_eq!(error.delivery(), nbd_client::Delivery::MaybeSent);
        assert_eq!(conn.state(), State::Dead);
    }
}

#[tokio::test]
async fn k08_after_disconnecting_nothing_is_sent() {
    let export = Export::new(1 << 20).log_requests(10);
    let server = Server::new(export.clone());
    let conn = Connection::builder()
        .meta_context("base:allocation")
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.disconnect().await.unwrap();
    for error in every_command(&conn).await {
        assert_matches!(error, Error::Closed(_));
    }
    assert_matches!(conn.ready().await, Err(Error::Closed(_)));
    assert_eq!(export.counters().requests(), 0);
    assert_eq!(export.counters().disconnects, 1);
}

#[tokio::test]
async fn k08_a_long_request_on_a_dead_connection_was_not_sent() {
    let server = Server::new(Export::new(1 << 20).block_sizes(1, 512, 4096));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    server.hang_up();
    conn.closed().await;
    let error = conn.write(0, vec![1; 10_000]).await.unwrap_err();
    assert_eq!(error.delivery(), nbd_client::Delivery::NotSent);
}
