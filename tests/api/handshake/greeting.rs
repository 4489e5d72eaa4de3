//! Greetings, and the old ways that follow them.

use std::io;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::*;

const NBD_MAGIC: &[u8] = b"NBDMAGIC";

/// Connects to a server that sends these bytes, then stops sending.
async fn greeted_with(bytes: &[u8]) -> Result<()> {
    let mut results = Vec::new();
    for way in ways() {
        let (conn, mut peer, connecting) = way.connect(Connection::builder());
        let script = async {
            // The client may be gone before all of it is sent.
            let _ = peer.send_bytes(bytes).await;
            let _ = peer.half_close().await;
        };
        let (result, ()) = tokio::join!(connecting, script);
        assert_matches!(conn.state(), State::Dead | State::Ready);
        results.push(result);
    }
    let first = results.remove(0);
    for again in results {
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
    }
    first
}

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

both_runtimes!(g04_an_oldstyle_server_is_ready_at_once);
async fn g04_an_oldstyle_server_is_ready_at_once() {
    for (way, opt_mode) in ways().flat_map(|way| [(way, false), (way, true)]) {
        let (conn, mut peer, connecting) = way.connect(Connection::builder().opt_mode(opt_mode));
        let (result, _) = tokio::join!(connecting, peer.send_greeting(Greeting::Oldstyle(INFO)));
        result.unwrap();
        let (read, ()) = tokio::join!(conn.read(0, 4).into_future(), async {
            let request = peer.expect_command(Command::READ).await.unwrap();
            peer.send_data(&request.head, b"data").await.unwrap();
        });
        assert_eq!(&read.unwrap()[..], b"data");
        assert!(!conn.protocol().unwrap().structured_replies);
    }
}

both_runtimes!(g05_an_oldstyle_greeting_cut_off_at_any_byte_is_an_error);
async fn g05_an_oldstyle_greeting_cut_off_at_any_byte_is_an_error() {
    let whole = greeting(Greeting::Oldstyle(INFO));
    assert_eq!(whole.len(), 152);
    for cut in 16..whole.len() {
        assert_eof(greeted_with(&whole[..cut]).await, Phase::Greeting);
    }
}

both_runtimes!(g06_an_impossible_oldstyle_export_is_refused);
async fn g06_an_impossible_oldstyle_export_is_refused() {
    for (size, flags) in [
        (1 << 20, TransmissionFlags::SEND_FLUSH),
        (1 << 63, TransmissionFlags::HAS_FLAGS),
    ] {
        let bytes = greeting(Greeting::Oldstyle(ExportInfo { size, flags }));
        assert_matches!(
            violation(greeted_with(&bytes).await),
            ProtocolError::TransmissionFlags(_) | ProtocolError::ExportSize(_)
        );
    }
}

// They are older than the flags, and qemu and the kernel take them.
both_runtimes!(g06_an_oldstyle_server_that_knows_no_flags_is_read_and_written);
async fn g06_an_oldstyle_server_that_knows_no_flags_is_read_and_written() {
    for way in ways() {
        let flags = TransmissionFlags::empty();
        let info = ExportInfo {
            size: 1 << 20,
            flags,
        };
        let (conn, mut peer, connecting) = way.connect(Connection::builder());
        peer.send_bytes(&greeting(Greeting::Oldstyle(info)))
            .await
            .unwrap();
        connecting.await.unwrap();
        peer.speak(ReplyStyle::Simple);
        let (write, ()) = tokio::join!(conn.write(0, "data").into_future(), async {
            let request = peer.expect_command(Command::WRITE).await.unwrap();
            peer.acknowledge(&request.head).await.unwrap();
        });
        write.unwrap();
        assert_matches!(conn.flush().await, Err(Error::Invalid(_)));
    }
}

both_runtimes!(g08_without_fixed_newstyle_nothing_but_the_name_is_sent);
async fn g08_without_fixed_newstyle_nothing_but_the_name_is_sent() {
    for way in ways() {
        let (_conn, mut peer, connecting) = way.connect(Connection::builder().export_name("disk"));
        let script = async {
            peer.greet(HandshakeFlags::NO_ZEROES).await.unwrap();
            let request = peer.expect_option().await.unwrap();
            assert_eq!(request.option, OptionType::EXPORT_NAME);
            assert_eq!(&request.data[..], b"disk");
            let mut bytes = BytesMut::new();
            INFO.encode(false, &mut bytes);
            peer.send_bytes(&bytes).await.unwrap();
        };
        let (result, ()) = tokio::join!(connecting, script);
        result.unwrap();
    }
}

both_runtimes!(g08_without_fixed_newstyle_options_are_refused_here);
async fn g08_without_fixed_newstyle_options_are_refused_here() {
    for way in ways() {
        let (conn, mut peer, connecting) = way.connect(Connection::builder().opt_mode(true));
        let (result, greeted) = tokio::join!(connecting, peer.greet(HandshakeFlags::NO_ZEROES));
        result.unwrap();
        greeted.unwrap();
        let before = peer.received().len();
        assert_matches!(conn.opt_list().await, Err(Error::Invalid(_)));
        assert_matches!(conn.opt_info().await, Err(Error::Invalid(_)));
        assert_matches!(conn.opt_structured_reply().await, Err(Error::Invalid(_)));
        assert_matches!(
            conn.opt_set_meta_context(["a:b"]).await,
            Err(Error::Invalid(_))
        );
        assert!(conn.is_negotiating());
        conn.opt_abort().await.unwrap();
        peer.expect_end().await.unwrap();
        assert_eq!(peer.received().len(), before);
    }
}

both_runtimes!(g09_unknown_handshake_flags_are_never_answered);
async fn g09_unknown_handshake_flags_are_never_answered() {
    for way in ways() {
        let (_conn, mut peer, connecting) = way.connect(Connection::builder());
        let offered = HandshakeFlags::from_bits_retain(0xffff);
        let script = async {
            let flags = peer.greet(offered).await.unwrap();
            assert_eq!(flags.bits(), 3);
            peer.close();
        };
        let (result, ()) = tokio::join!(connecting, script);
        result.unwrap_err();
    }
}

/// An answer to `EXPORT_NAME` that is cut off at each byte.
async fn cut_off_answers(offered: HandshakeFlags, length: usize) {
    for (way, cut) in ways().flat_map(|way| (0..=length).map(move |cut| (way, cut))) {
        let (conn, mut peer, connecting) =
            way.connect(Connection::builder().force_export_name(true));
        let script = async {
            peer.greet(offered).await.unwrap();
            loop {
                let option = peer.expect_option().await.unwrap().option;
                if option == OptionType::EXPORT_NAME {
                    break;
                }
                let refusal = OptionReply::error(option, OptionReplyType::ERR_UNSUP, "");
                peer.send_option_reply(refusal).await.unwrap();
            }
            let mut bytes = BytesMut::new();
            INFO.encode(length == 134, &mut bytes);
            assert_eq!(bytes.len(), length);
            peer.send_bytes(&bytes[..cut]).await.unwrap();
            peer.half_close().await.unwrap();
        };
        let (result, ()) = tokio::join!(connecting, script);
        if cut == length {
            assert_eq!(conn.size().unwrap(), INFO.size);
        } else {
            assert_eof(result, Phase::Handshake);
        }
    }
}

both_runtimes!(g10_without_no_zeroes_134_bytes_follow_the_name_and_none_may_be_missing);
async fn g10_without_no_zeroes_134_bytes_follow_the_name_and_none_may_be_missing() {
    cut_off_answers(HandshakeFlags::empty(), 134).await;
    cut_off_answers(HandshakeFlags::FIXED_NEWSTYLE, 134).await;
}

both_runtimes!(i19_with_no_zeroes_ten_bytes_follow_the_name_and_none_may_be_missing);
async fn i19_with_no_zeroes_ten_bytes_follow_the_name_and_none_may_be_missing() {
    cut_off_answers(HandshakeFlags::NO_ZEROES, 10).await;
    cut_off_answers(HandshakeFlags::all(), 10).await;
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
