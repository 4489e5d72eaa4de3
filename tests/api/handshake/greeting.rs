//! Greetings, and the old ways that follow them.

use std::io;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::*;

const NBD_MAGIC: &[u8] = b"NBDMAGIC";

/// What is said of a server that begins so and waits for an answer.
async fn foreign(start: &[u8]) -> Error {
    let mut errors = Vec::new();
    for way in ways() {
        let (_conn, mut peer, connecting) = way.connect(Connection::builder());
        let (result, _) = tokio::join!(connecting, peer.send_bytes(start));
        errors.push(result.unwrap_err());
        // Nothing is said to it.
        let _ = peer.expect_end().await;
        assert_eq!(peer.received(), b"");
    }
    assert_eq!(errors[0].to_string(), errors[1].to_string());
    errors.remove(0)
}

both_runtimes!(g01_a_greeting_cut_off_at_any_byte_is_an_error);
async fn g01_a_greeting_cut_off_at_any_byte_is_an_error() {
    let whole = greeting(Greeting::Newstyle(HandshakeFlags::all()));
    assert_eq!(whole.len(), 18);
    for cut in 0..whole.len() {
        assert_eof(greeted_with(&whole[..cut]).await, Phase::Greeting);
    }
}

both_runtimes!(g02_a_wrong_magic_is_quoted);
async fn g02_a_wrong_magic_is_quoted() {
    for (start, quoted) in [
        (&b"nbdmagicIHAVEOPT\0\x03"[..], "\"nbdmagicIHAVEOPT\""),
        (b"\x1b[31mNBDMAGIC", "\"\\x1b[31mNBDMAGIC\""),
        (b"N\0\r\n", "\"N\\x00\\r\\n\""),
        (&[0xff; 4096], &format!("\"{}\"", "\\xff".repeat(16))),
    ] {
        let error = foreign(start).await;
        assert!(error.to_string().contains(quoted), "{error}");
        assert!(!error.to_string().contains(char::is_control));
        assert_matches!(violation::<()>(Err(error)), ProtocolError::NotNbd { .. });
    }
}

both_runtimes!(g15_a_server_of_another_kind_is_told_by_its_first_bytes);
async fn g15_a_server_of_another_kind_is_told_by_its_first_bytes() {
    for start in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        // An alert of TLS, and an error message of PostgreSQL.
        b"\x15\x03\x03\0\x02\x02\x46",
        b"E\0\0\0\x0cSFATAL\0",
        b"N",
        // One byte that is wrong is enough.
        b"H",
    ] {
        if start == b"N" {
            // This could still become an NBD server.
            assert_eof(greeted_with(start).await, Phase::Greeting);
            continue;
        }
        let error = foreign(start).await;
        assert_matches!(violation::<()>(Err(error)), ProtocolError::NotNbd { .. });
    }
}

/// The kind of error with which a connection was not made or lost.
#[track_caller]
fn lost(result: Result<()>) -> io::ErrorKind {
    match result {
        Err(Error::Disconnected(lost, _)) => lost.io().kind(),
        other => panic!("{other:?}"),
    }
}

both_runtimes!(g16_the_kind_of_an_error_of_the_system_is_kept);
async fn g16_the_kind_of_an_error_of_the_system_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = async || Connection::new().connect_tcp("127.0.0.1", port).await;
    let (result, ()) = tokio::join!(connect(), async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_zero_linger().unwrap();
    });
    assert_eq!(lost(result), io::ErrorKind::ConnectionReset);
    let (result, ()) = tokio::join!(connect(), async {
        drop(listener.accept().await.unwrap());
    });
    assert_eq!(lost(result), io::ErrorKind::UnexpectedEof);
    drop(listener);
    assert_eq!(lost(connect().await), io::ErrorKind::ConnectionRefused);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let result = Connection::new().connect_unix(&path).await;
    assert_eq!(lost(result), io::ErrorKind::NotFound);
    drop(UnixListener::bind(&path).unwrap());
    let result = Connection::new().connect_unix(&path).await;
    assert_eq!(lost(result), io::ErrorKind::ConnectionRefused);
}

both_runtimes!(g18_a_server_that_greets_and_says_no_more_is_told_from_one_that_stalls);
async fn g18_a_server_that_greets_and_says_no_more_is_told_from_one_that_stalls() {
    for way in ways() {
        let (_conn, mut peer, connecting) = way.connect(Connection::builder());
        let script = async {
            peer.greet(HandshakeFlags::all()).await.unwrap();
            peer.half_close().await.unwrap();
            // It goes on reading.
            while peer.expect_option().await.is_ok() {}
        };
        let (result, ()) = tokio::join!(connecting, script);
        assert_eof(result, Phase::Handshake);
    }
}

both_runtimes!(g03_an_unknown_kind_of_handshake_is_a_violation);
async fn g03_an_unknown_kind_of_handshake_is_a_violation() {
    let mut bytes = BytesMut::from(NBD_MAGIC);
    bytes.put_u64(0x1234);
    let violation = violation(greeted_with(&bytes).await);
    assert_eq!(violation, ProtocolError::UnknownHandshake(0x1234));
}

#[tokio::test(start_paused = true)]
async fn g13_a_server_that_drips_is_given_up_at_the_deadline() {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::new();
    let start = Instant::now();
    let drip = async {
        for byte in greeting(Greeting::Newstyle(HandshakeFlags::all())) {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = peer.send_bytes(&[byte]).await;
        }
    };
    let (result, ()) = tokio::join!(conn.connect_stream(stream), drip);
    assert_matches!(result, Err(Error::Timeout(Phase::Greeting, _)));
    assert!(start.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn g14_a_server_that_stalls_is_given_up_and_its_stream_closed() {
    let whole = greeting(Greeting::Newstyle(HandshakeFlags::all()));
    for stall in 0..=whole.len() {
        let (mut peer, stream) = Peer::pair();
        let conn = Connection::builder()
            .handshake_timeout(Duration::from_secs(2))
            .build();
        let start = Instant::now();
        let (result, _) = tokio::join!(
            conn.connect_stream(stream),
            peer.send_bytes(&whole[..stall])
        );
        let expected = if stall == whole.len() {
            Phase::Handshake
        } else {
            Phase::Greeting
        };
        assert_matches!(result, Err(Error::Timeout(phase, _)) if phase == expected);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        while drop_after(1, peer.expect_option())
            .await
            .is_some_and(|o| o.is_ok())
        {}
        assert_eq!(conn.state(), State::Dead);
    }
}

#[tokio::test(start_paused = true)]
async fn g19_a_server_that_never_reads_is_given_up_at_the_deadline() {
    // The client's flags and its first option do not fit.
    for capacity in [1, 3, 4, 19] {
        let (client, mut server) = tokio::io::duplex(capacity);
        let conn = Connection::builder()
            .handshake_timeout(Duration::from_secs(2))
            .build();
        let start = Instant::now();
        let greeting = greeting(Greeting::Newstyle(HandshakeFlags::all()));
        let (result, sent) = tokio::join!(conn.connect_stream(client), server.write_all(&greeting));
        sent.unwrap();
        assert_matches!(result, Err(Error::Timeout(Phase::Handshake, _)));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        // What it could have read is there, and then the end.
        let mut unread = Vec::new();
        server.read_to_end(&mut unread).await.unwrap();
        assert_eq!(unread.len(), capacity);
    }
}

#[tokio::test]
async fn g20_a_full_queue_of_a_listener_is_waited_for_up_to_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        queued.push(stream);
    }
    let conn = Connection::builder()
        .handshake_timeout(Duration::from_millis(50))
        .build();
    assert_matches!(
        conn.connect_unix(&path).await,
        Err(Error::Timeout(Phase::Connect, _))
    );
    // Whoever waits longer gets in.
    let conn = Connection::new();
    let connecting = conn.aio_connect_unix(&path).unwrap();
    settle().await;
    for _ in 0..queued.len() {
        drop(listener.accept().unwrap());
    }
    let accepted = tokio::task::spawn_blocking(move || listener.accept().unwrap().0);
    let accepted = accepted.await.unwrap();
    accepted.set_nonblocking(true).unwrap();
    let stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(accepted));
    let mut peer = Peer::new(UnixStream::from_std(stream).unwrap());
    let handshake = peer.handshake(ReplyStyle::Structured, INFO, &[]);
    let (result, greeted) = tokio::join!(connecting, handshake);
    greeted.unwrap();
    result.unwrap();
}
