//! Old servers: oldstyle, without fixed newstyle, without `GO`.

use super::*;

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

both_runtimes!(p016_without_fixed_newstyle_option_mode_is_left_without_a_word);
async fn p016_without_fixed_newstyle_option_mode_is_left_without_a_word() {
    for (way, drops) in ways().flat_map(|way| [(way, false), (way, true)]) {
        let (conn, mut peer, connecting) = way.connect(Connection::builder().opt_mode(true));
        let (result, greeted) = tokio::join!(connecting, peer.greet(HandshakeFlags::NO_ZEROES));
        result.unwrap();
        greeted.unwrap();
        let before = peer.received().len();
        match drops {
            true => drop(conn),
            false => conn.disconnect().await.unwrap(),
        }
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

/// Refuses `GO` as unsupported, and lets `then` go on when the name alone is sent.
async fn without_go(way: Way, then: impl AsyncFnOnce(&mut Peer)) -> (Connection, Result<()>) {
    let (conn, mut peer, connecting) = way.connect(builder(ReplyStyle::Simple).export_name("disk"));
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let go = peer.expect_option().await.unwrap().option;
        let refusal = OptionReply::error(go, OptionReplyType::ERR_UNSUP, "");
        peer.send_option_reply(refusal).await.unwrap();
        let name = peer.expect_option().await.unwrap();
        assert_eq!(name.option, OptionType::EXPORT_NAME);
        assert_eq!(&name.data[..], b"disk");
        then(&mut peer).await;
    };
    let (result, ()) = tokio::join!(connecting, script);
    (conn, result)
}

// That it is so with TLS required shows `tls::clear`; without fixed newstyle, G08.
both_runtimes!(i17_a_server_without_go_is_asked_by_name);
async fn i17_a_server_without_go_is_asked_by_name() {
    for way in option_ways() {
        let mut bytes = BytesMut::new();
        INFO.encode(false, &mut bytes);
        let answer = async |peer: &mut Peer| peer.send_bytes(&bytes).await.unwrap();
        let (conn, result) = without_go(way, answer).await;
        result.unwrap();
        assert_eq!(conn.size().unwrap(), INFO.size);
    }
}

// Its first bytes are those of an enormous export without flags.
both_runtimes!(i17_an_option_reply_to_the_name_is_not_taken_for_an_export);
async fn i17_an_option_reply_to_the_name_is_not_taken_for_an_export() {
    for way in option_ways() {
        let refusal = OptionReplyType::ERR_UNKNOWN;
        let bytes = encode(&[OptionReply::error(OptionType::EXPORT_NAME, refusal, "")]);
        let answer = async |peer: &mut Peer| peer.send_bytes(&bytes).await.unwrap();
        let (_conn, result) = without_go(way, answer).await;
        assert_matches!(violation(result), ProtocolError::NoExportInfo(_));
    }
}

both_runtimes!(i17_after_extended_headers_a_server_without_go_is_left);
async fn i17_after_extended_headers_a_server_without_go_is_left() {
    for way in option_ways() {
        let (_conn, mut peer, connecting) = way.connect(builder(ReplyStyle::Extended));
        let script = async {
            peer.greet(HandshakeFlags::all()).await.unwrap();
            let option = peer.expect_option().await.unwrap().option;
            assert_eq!(option, OptionType::EXTENDED_HEADERS);
            peer.send_option_reply(OptionReply::ack(option))
                .await
                .unwrap();
            let go = peer.expect_option().await.unwrap().option;
            let refusal = OptionReply::error(go, OptionReplyType::ERR_UNSUP, "");
            peer.send_option_reply(refusal).await.unwrap();
            // EXPORT_NAME is forbidden now.
            let abort = peer.expect_option().await.unwrap().option;
            assert_eq!(abort, OptionType::ABORT);
            peer.close();
        };
        let (result, ()) = tokio::join!(connecting, script);
        assert_matches!(result, Err(Error::Refused(r)) if r.option() == OptionType::GO);
    }
}

// There is no reply that refuses a name, and a connection that breaks off here for another reason
// looks the same (P-018). So this is a lost connection that says what it was asked for.
both_runtimes!(i18_a_server_that_closes_when_asked_by_name_has_not_got_the_export);
async fn i18_a_server_that_closes_when_asked_by_name_has_not_got_the_export() {
    for way in option_ways() {
        let close = async |peer: &mut Peer| peer.half_close().await.unwrap();
        let (conn, result) = without_go(way, close).await;
        let text = result.as_ref().unwrap_err().to_string();
        assert!(
            text.contains("after the option EXPORT_NAME for \"disk\""),
            "{text}"
        );
        assert_eof(result, Phase::Handshake);
        assert_eq!(conn.state(), State::Dead);
    }
}
