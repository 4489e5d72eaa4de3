//! Runtimes that are missing, or go away.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::{Connection, Error, InvalidUse, Phase, State};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::shared::watchdog;
use crate::support::*;

fn runtimes() -> Vec<Runtime> {
    vec![
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    ]
}

#[test]
fn connecting_without_a_runtime_is_an_error_that_leaves_the_handle_new() {
    let conn = Connection::new();
    let (stream, _other) = tokio::io::duplex(64);
    let refused = [
        conn.aio_connect_stream(stream).map(drop),
        conn.aio_connect_unix("/nowhere").map(drop),
        conn.aio_connect_tcp("localhost", 1).map(drop),
        conn.aio_connect_command(["true"]).map(drop),
        block_on(conn.connect_unix("/nowhere")),
    ];
    for result in refused {
        assert_matches!(result, Err(Error::InvalidUse(InvalidUse::NoRuntime(_))));
    }
    assert_eq!(conn.state(), State::Created);
}

fn is_no_runtime(result: nbd_client::Result<()>) {
    assert_matches!(result, Err(Error::InvalidUse(InvalidUse::NoRuntime(_))));
}

#[test]
fn a_runtime_without_time_is_an_error_that_leaves_the_handle_new() {
    for runtime in [
        Builder::new_current_thread().build().unwrap(),
        Builder::new_current_thread().enable_io().build().unwrap(),
        Builder::new_multi_thread().enable_io().build().unwrap(),
    ] {
        runtime.block_on(async {
            let conn = Connection::new();
            let (stream, _other) = tokio::io::duplex(64);
            is_no_runtime(conn.aio_connect_stream(stream).map(drop));
            is_no_runtime(conn.aio_connect_unix("/nowhere").map(drop));
            is_no_runtime(conn.connect_tcp("localhost", 1).await);
            is_no_runtime(conn.aio_connect_command(["true"]).map(drop));
            is_no_runtime(conn.connect_uri("nbd://localhost:1").await);
            assert_eq!(conn.state(), State::Created);
        });
    }
}

#[test]
fn a_runtime_without_io_connects_streams_and_nothing_else() {
    for runtime in [
        Builder::new_current_thread().enable_time().build().unwrap(),
        Builder::new_multi_thread().enable_time().build().unwrap(),
    ] {
        runtime.block_on(async {
            let conn = Connection::new();
            let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            is_no_runtime(conn.aio_connect_socket(socket).map(drop));
            is_no_runtime(conn.aio_connect_unix("/nowhere").map(drop));
            is_no_runtime(conn.connect_tcp("localhost", 1).await);
            is_no_runtime(conn.aio_connect_command(["true"]).map(drop));
            let activation = conn.aio_connect_systemd_socket_activation(["true"]);
            is_no_runtime(activation.map(drop));
            is_no_runtime(conn.connect_uri("nbd://localhost:1").await);
            assert_eq!(conn.state(), State::Created);
            let server = Server::new(Export::new(1 << 20));
            conn.connect_stream(server.connect()).await.unwrap();
            conn.read(0, 512).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }
}

#[test]
fn a_deadline_where_time_is_not_enabled_is_an_error() {
    let home = Builder::new_multi_thread().enable_all().build().unwrap();
    let timeless = Builder::new_current_thread().build().unwrap();
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    home.block_on(conn.connect_stream({
        let _inside = home.enter();
        server.connect()
    }))
    .unwrap();
    timeless.block_on(async {
        let second = Duration::from_secs(1);
        is_no_runtime(conn.read(0, 512).timeout(second).await.map(drop));
        is_no_runtime(conn.disconnect().timeout(second).await);
        let mut chunks = conn.read_structured(0, 512).timeout(second);
        let chunk =
            std::future::poll_fn(|cx| futures::Stream::poll_next(Pin::new(&mut chunks), cx));
        is_no_runtime(chunk.await.unwrap().map(drop));
        conn.read(0, 512).await.unwrap();
    });
}

/// In which phase a connection was lost.
#[track_caller]
fn lost_in<T>(result: nbd_client::Result<T>) -> Phase {
    match result {
        Err(Error::Disconnected(lost, _)) => lost.phase(),
        other => panic!("not lost: {:?}", other.err()),
    }
}

#[test]
fn k05_a_runtime_that_goes_away_at_once_was_connecting() {
    let conn = Connection::new();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let connecting = {
        let _inside = runtime.enter();
        let (stream, _silent) = tokio::io::duplex(64);
        conn.aio_connect_stream(stream).unwrap()
    };
    // Its task has never run.
    drop(runtime);
    assert_eq!(lost_in(block_on(connecting)), Phase::Connect);
}

#[test]
fn k05_a_runtime_that_shuts_down_answers_futures_held_elsewhere() {
    for how in 0..3 {
        for runtime in runtimes() {
            let server = Server::new(Export::new(1 << 20));
            let conn = Connection::new();
            server.pause();
            let mut read = Box::pin(conn.read(0, 512).into_future());
            runtime.block_on(async {
                conn.connect_stream(server.connect()).await.unwrap();
                assert!(drop_after(2, &mut read).await.is_none());
            });
            match how {
                0 => drop(runtime),
                1 => runtime.shutdown_background(),
                _ => runtime.shutdown_timeout(Duration::from_secs(5)),
            }
            assert_eq!(lost_in(block_on(read)), Phase::Request);
            assert_matches!(
                block_on(conn.flush().into_future()),
                Err(Error::Disconnected(..))
            );
            assert_matches!(block_on(conn.closed()), Error::Disconnected(..));
            assert_eq!(conn.state(), State::Dead);
            assert_matches!(
                block_on(conn.disconnect().into_future()),
                Err(Error::Disconnected(..))
            );
        }
    }
}

#[test]
fn k05_a_runtime_that_shuts_down_ends_a_handshake() {
    for opt_mode in [false, true] {
        for runtime in runtimes() {
            let conn = Connection::builder().opt_mode(opt_mode).build();
            let (stream, mut server) = tokio::io::duplex(1);
            let connecting = {
                let _inside = runtime.enter();
                conn.aio_connect_stream(stream).unwrap()
            };
            // The pipe holds one byte: the other one is being read.
            runtime.block_on(server.write_all(b"NB")).unwrap();
            drop(runtime);
            assert_eq!(lost_in(block_on(connecting)), Phase::Greeting);
            assert_eq!(conn.state(), State::Dead);
        }
    }
}

#[test]
fn k05_a_runtime_that_shuts_down_answers_options() {
    for runtime in runtimes() {
        let conn = Connection::builder()
            .opt_mode(true)
            .structured_replies(false)
            .build();
        let mut list = Box::pin(conn.opt_list());
        runtime.block_on(async {
            let (mut peer, stream) = nbd_client::testing::Peer::pair();
            let (connected, greeted) = tokio::join!(
                conn.connect_stream(stream),
                peer.greet(nbd_client::wire::HandshakeFlags::all())
            );
            connected.unwrap();
            greeted.unwrap();
            assert!(drop_after(1, &mut list).await.is_none());
            peer.expect_option().await.unwrap();
            std::mem::forget(peer);
        });
        drop(runtime);
        assert_eq!(lost_in(block_on(list)), Phase::Handshake);
    }
}

#[test]
fn w12_a_disconnect_gives_up_although_the_runtime_of_the_connection_does_not_run() {
    watchdog::within(|| {
        let home = Builder::new_current_thread().enable_all().build().unwrap();
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::new();
        home.block_on(async { conn.connect_stream(server.connect()).await })
            .unwrap();
        // Its clock moves on whenever there is nothing to do but wait.
        let away = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let limit = Duration::from_secs(9);
        let ended = away.block_on(conn.disconnect().timeout(limit).into_future());
        assert_matches!(ended, Err(Error::Timeout(Phase::Shutdown, _)));
        // The connection ends as soon as its runtime runs.
        let cause = home.block_on(conn.closed());
        assert_matches!(cause, Error::Timeout(Phase::Shutdown, _));
    });
}

#[test]
fn k09_a_handle_works_from_another_runtime_and_from_none() {
    let [home, away] = <[Runtime; 2]>::try_from(runtimes()).unwrap();
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    away.block_on(async { conn.connect_stream(server.connect()).await })
        .unwrap();
    home.block_on(async {
        conn.write(0, vec![5; 512]).await.unwrap();
    });
    assert_eq!(
        block_on(conn.read(0, 512).into_future()).unwrap()[..],
        [5; 512]
    );
}

/// Polls what is begun with a connection on a runtime that goes away, and awaits it on that of the
/// connection, whose clock stands still. The server answers only then, if at all.
fn moved<F: Future<Output = nbd_client::Result<()>>>(
    answers: bool,
    begin: impl FnOnce(Connection) -> F,
) {
    let mut home = Builder::new_current_thread();
    let home = home.enable_all().start_paused(true).build().unwrap();
    let away = Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    let connecting = async { conn.connect_stream(server.connect()).await };
    home.block_on(connecting).unwrap();
    server.pause();
    let mut future = Box::pin(begin(conn.clone()));
    assert!(away.block_on(drop_after(2, &mut future)).is_none());
    drop(away);
    let result = home.block_on(async {
        if answers {
            server.resume();
        }
        // Nobody waits for ever.
        tokio::time::timeout(Duration::from_secs(3600), future).await
    });
    match result.expect("it is not woken") {
        Err(error) if !answers => assert_matches!(error, Error::Timeout(..)),
        result => assert!(answers && result.is_ok(), "{result:?}"),
    }
}

#[test]
fn a_deadline_survives_the_runtime_of_its_first_poll() {
    const MINUTE: Duration = Duration::from_secs(60);
    for answers in [true, false] {
        moved(answers, async |conn| {
            conn.read(0, 512).timeout(MINUTE).await.map(drop)
        });
        moved(answers, async |conn| {
            let mut chunks = conn.read_structured(0, 512).timeout(MINUTE);
            chunks.next().await.unwrap().map(drop)
        });
        moved(answers, async |conn| {
            let _flush = conn.flush().submit();
            conn.disconnect().timeout(MINUTE).await
        });
    }
}

/// A stream that panics when it has been read to a byte.
struct Fragile<S>(S, usize);

impl<S: AsyncRead + Unpin> AsyncRead for Fragile<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        self.1 = self.1.checked_sub(count).expect("a stream may panic");
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fragile<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn k13_a_stream_that_panics_ends_its_connection_only() {
    for fragile in [0, 100, 5000] {
        let export = Export::new(1 << 20);
        export.fill(0, 1 << 20, 1);
        let server = Server::new(export);
        let conn = Connection::new();
        let result = async {
            let stream = Fragile(server.connect(), fragile);
            conn.connect_stream(stream).await?;
            conn.read(0, 100_000).await.map(drop)
        };
        let error = result.await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("panicked"), "{text}");
        let is_early = text.contains("greeting") || text.contains("handshake");
        assert_eq!(is_early, fragile != 5000, "{text}");
        assert_eq!(conn.in_flight(), 0);
        server.connected(0).await;
    }
}

/// A waker that panics.
struct Explosive;

impl std::task::Wake for Explosive {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

// On a clock that stands still a caller that is never woken fails at once.
#[tokio::test(start_paused = true)]
async fn k13_a_waker_that_panics_ends_its_connection_and_wakes_everybody_else() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    server.pause();
    let read = || conn.read(0, 512).into_future();
    let others = |count| (0..count).map(|_| tokio::spawn(read())).collect::<Vec<_>>();
    let mut rest = others(4);
    settle().await;
    let mut explosive = Box::pin(read());
    let waker = Waker::from(Arc::new(Explosive));
    let polled = explosive.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    rest.extend(others(4));
    server.held(9).await;
    // All answers come at once.
    server.resume();
    for task in rest {
        let answer = tokio::time::timeout(Duration::from_secs(60), task).await;
        match answer.expect("never woken").unwrap() {
            Ok(data) => assert_eq!(data.len(), 512),
            Err(error) => assert!(error.to_string().contains("panicked"), "{error}"),
        }
    }
    assert_matches!(conn.closed().await, Error::Disconnected(..));
    assert_eq!(conn.state(), State::Dead);
    // No lock is poisoned.
    assert_eq!(conn.in_flight(), 0);
    assert_matches!(conn.flush().await, Err(Error::Disconnected(..)));
    server.connected(0).await;
}
