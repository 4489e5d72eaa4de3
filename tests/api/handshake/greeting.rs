//! Greetings, and the old ways that follow them.

use super::*;

const NBD_MAGIC: &[u8] = b"NBDMAGIC";

/// Connects to a server that sends these bytes, then stops sending.
async fn greeted_with(bytes: &[u8]) -> Result<()> {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::new();
    let script = async {
        // The client may be gone before all of it is sent.
        let _ = peer.send_bytes(bytes).await;
        let _ = peer.half_close().await;
    };
    let (result, ()) = tokio::join!(conn.connect_stream(stream), script);
    assert_matches!(conn.state(), State::Dead | State::Ready);
    result
}

#[tokio::test]
async fn g01_g18_a_greeting_cut_off_at_any_byte_is_an_error() {
    let whole = greeting(Greeting::Newstyle(HandshakeFlags::all()));
    for cut in 0..whole.len() {
        assert_eof(greeted_with(&whole[..cut]).await, Phase::Greeting);
    }
    assert_eof(greeted_with(&whole).await, Phase::Handshake);
}

#[tokio::test]
async fn g02_g15_a_server_that_does_not_speak_nbd_is_told_at_once() {
    for start in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"N\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x1b[31mNBDMAGIC",
        b"nbdmagic",
    ] {
        let (mut peer, stream) = Peer::pair();
        let conn = Connection::new();
        // It goes on talking: one byte that is wrong is enough.
        let (result, _) = tokio::join!(conn.connect_stream(stream), peer.send_bytes(start));
        let error = result.unwrap_err();
        assert!(!error.to_string().contains(char::is_control));
        assert_matches!(violation::<()>(Err(error)), ProtocolError::NotNbd { .. });
    }
}

#[tokio::test]
async fn g03_an_unknown_kind_of_handshake_is_a_violation() {
    let mut bytes = BytesMut::from(NBD_MAGIC);
    bytes.put_u64(0x1234);
    let violation = violation(greeted_with(&bytes).await);
    assert_eq!(violation, ProtocolError::UnknownHandshake(0x1234));
}

#[tokio::test]
async fn g04_an_oldstyle_server_is_ready_at_once() {
    for opt_mode in [false, true] {
        let (mut peer, stream) = Peer::pair();
        let conn = Connection::builder().opt_mode(opt_mode).build();
        let (result, _) = tokio::join!(
            conn.connect_stream(stream),
            peer.send_greeting(Greeting::Oldstyle(INFO))
        );
        result.unwrap();
        let (read, ()) = tokio::join!(conn.read(0, 4).into_future(), async {
            let request = peer.expect_command(Command::READ).await.unwrap();
            peer.send_data(&request.head, b"data").await.unwrap();
        });
        assert_eq!(&read.unwrap()[..], b"data");
        assert!(!conn.protocol().unwrap().structured_replies);
    }
}

#[tokio::test]
async fn g05_an_oldstyle_greeting_cut_off_at_any_byte_is_an_error() {
    let whole = greeting(Greeting::Oldstyle(INFO));
    assert_eq!(whole.len(), 152);
    for cut in 16..whole.len() {
        assert_eof(greeted_with(&whole[..cut]).await, Phase::Greeting);
    }
}

#[tokio::test]
async fn g06_an_impossible_oldstyle_export_is_refused() {
    for (size, flags) in [
        (1 << 20, TransmissionFlags::empty()),
        (1 << 63, TransmissionFlags::HAS_FLAGS),
    ] {
        let bytes = greeting(Greeting::Oldstyle(ExportInfo { size, flags }));
        assert_matches!(
            violation(greeted_with(&bytes).await),
            ProtocolError::TransmissionFlags(_) | ProtocolError::ExportSize(_)
        );
    }
}

#[tokio::test]
async fn g08_without_fixed_newstyle_nothing_but_the_name_is_sent() {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::builder().export_name("disk").build();
    let script = async {
        peer.greet(HandshakeFlags::NO_ZEROES).await.unwrap();
        let request = peer.expect_option().await.unwrap();
        assert_eq!(request.option, OptionType::EXPORT_NAME);
        assert_eq!(&request.data[..], b"disk");
        let mut bytes = BytesMut::new();
        INFO.encode(false, &mut bytes);
        peer.send_bytes(&bytes).await.unwrap();
    };
    let (result, ()) = tokio::join!(conn.connect_stream(stream), script);
    result.unwrap();
}

#[tokio::test]
async fn g08_without_fixed_newstyle_options_are_refused_here() {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::builder().opt_mode(true).build();
    let (result, greeted) = tokio::join!(
        conn.connect_stream(stream),
        peer.greet(HandshakeFlags::NO_ZEROES)
    );
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

#[tokio::test]
async fn g09_unknown_handshake_flags_are_never_answered() {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::new();
    let offered = HandshakeFlags::from_bits_retain(0xffff);
    let script = async {
        let flags = peer.greet(offered).await.unwrap();
        assert_eq!(flags.bits(), 3);
        peer.close();
    };
    let (result, ()) = tokio::join!(conn.connect_stream(stream), script);
    result.unwrap_err();
}

#[tokio::test]
async fn g10_i19_an_answer_to_export_name_cut_off_anywhere_is_an_error() {
    for (offered, length) in [
        (HandshakeFlags::empty(), 134),
        (HandshakeFlags::NO_ZEROES, 10),
    ] {
        for cut in 0..=length {
            let (mut peer, stream) = Peer::pair();
            let conn = Connection::new();
            let script = async {
                peer.greet(offered).await.unwrap();
                peer.expect_option().await.unwrap();
                let mut bytes = BytesMut::new();
                INFO.encode(length == 134, &mut bytes);
                assert_eq!(bytes.len(), length);
                peer.send_bytes(&bytes[..cut]).await.unwrap();
                peer.half_close().await.unwrap();
            };
            let (result, ()) = tokio::join!(conn.connect_stream(stream), script);
            if cut == length {
                assert_eq!(conn.size().unwrap(), INFO.size);
            } else {
                assert_eof(result, Phase::Handshake);
            }
        }
    }
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
async fn g14_g19_a_server_that_stalls_is_given_up_and_its_stream_closed() {
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
