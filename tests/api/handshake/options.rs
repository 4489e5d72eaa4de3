//! What all options have in common.

use super::*;

both_runtimes!(o01_a_wrong_reply_magic_is_told_from_its_bytes_alone);
async fn o01_a_wrong_reply_magic_is_told_from_its_bytes_alone() {
    let builder = builder(ReplyStyle::Simple);
    let (_, result, _) = gone_with(&builder, &7u64.to_be_bytes()).await;
    assert_eq!(violation(result), ProtocolError::OptionReplyMagic(7));
}

both_runtimes!(o02_a_reply_to_another_option_is_a_violation);
async fn o02_a_reply_to_another_option_is_a_violation() {
    let other = OptionReply::ack(OptionType::LIST);
    assert_matches!(fatal(vec![other]).await, ProtocolError::WrongOption { .. });
}

both_runtimes!(o03_replies_of_other_types_are_a_violation);
async fn o03_replies_of_other_types_are_a_violation() {
    // LIST's and SET_META_CONTEXT's are as wrong here as those that nobody knows.
    for kind in [0, 2, 4, 77, 0x7fff_ffff].map(OptionReplyType) {
        assert_matches!(
            fatal(vec![reply(kind, Bytes::new())]).await,
            ProtocolError::UnexpectedOptionReply { .. }
        );
    }
}

/// Refuses `GO` so; the client must tell it, and leave politely.
async fn refused(kind: OptionReplyType) {
    // Block sizes are not asked for: see I22.
    let builder = builder(ReplyStyle::Simple).request_block_size(false);
    let bytes = encode(&[reply(kind, "why not")]);
    for way in option_ways().filter(|&way| may_refuse(way, kind)) {
        let (conn, result, next) = gone_by(way, &builder, &bytes).await;
        match result {
            Err(Error::Refused(refusal)) => {
                assert_eq!(refusal.option(), OptionType::GO);
                assert_eq!(refusal.reply(), kind);
                assert_eq!(refusal.message().as_str(), "why not");
                assert!(Error::Refused(refusal).is_fatal());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next, Some(OptionType::ABORT), "{kind}");
        assert_eq!(conn.state(), State::Dead);
    }
}

/// Whether this is a possible refusal: who has TLS cannot be told to have it (see T27).
fn may_refuse(way: Way, kind: OptionReplyType) -> bool {
    !way.is_tls() || kind != OptionReplyType::ERR_TLS_REQD
}

both_runtimes!(o04_an_unknown_refusal_is_a_refusal);
async fn o04_an_unknown_refusal_is_a_refusal() {
    for kind in [0x8000_0000, 0x8000_000b, 0x8000_ffff, u32::MAX] {
        refused(OptionReplyType(kind)).await;
    }
}

both_runtimes!(o05_every_refusal_is_told_with_its_reason_and_the_server_is_left_politely);
async fn o05_every_refusal_is_told_with_its_reason_and_the_server_is_left_politely() {
    // UNSUP is answered with EXPORT_NAME: see I17.
    for kind in 2..=10 {
        refused(OptionReplyType(0x8000_0000 + kind)).await;
    }
}

both_runtimes!(o05_a_refusal_leaves_option_mode_usable);
async fn o05_a_refusal_leaves_option_mode_usable() {
    for (way, what) in option_ways().flat_map(|way| (0..7).map(move |what| (way, what))) {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        conn.set_request_block_size(false).unwrap();
        for kind in 1..=10 {
            let kind = OptionReplyType(0x8000_0000 + kind);
            // Shutting down is the end; without GO the name alone is tried.
            if !may_refuse(way, kind)
                || kind == OptionReplyType::ERR_SHUTDOWN
                || what == 2 && kind == OptionReplyType::ERR_UNSUP
            {
                continue;
            }
            let ask = async {
                match what {
                    0 => conn.opt_list().await.map(drop),
                    1 => conn.opt_info().await.map(drop),
                    2 => conn.opt_go().await,
                    3 => conn.opt_list_meta_context(["a:"]).await.map(drop),
                    4 => conn.opt_set_meta_context(["a:b"]).await.map(drop),
                    // A feature is there or not.
                    5 => conn.opt_structured_reply().await.map(|on| assert!(!on)),
                    _ => conn.opt_extended_headers().await.map(|on| assert!(!on)),
                }
            };
            let (result, ()) = tokio::join!(ask, async {
                let option = peer.expect_option().await.unwrap().option;
                let refusal = OptionReply::error(option, kind, "no");
                peer.send_option_reply(refusal).await.unwrap();
            });
            match result {
                Err(Error::Refused(refusal)) if what < 5 => {
                    assert_eq!(refusal.reply(), kind);
                    assert!(!Error::Refused(refusal).is_fatal());
                }
                Ok(()) if what >= 5 => {}
                other => panic!("{what}, {kind}: {other:?}"),
            }
            assert_eq!(conn.state(), State::Negotiating);
        }
    }
}

// extended headers take precedence; X-12: a server may require extended headers.
both_runtimes!(extended_headers_cannot_be_required_from_who_has_them);
async fn extended_headers_cannot_be_required_from_who_has_them() {
    for (way, what) in option_ways().flat_map(|way| (0..6).map(move |what| (way, what))) {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        let (on, ()) = tokio::join!(conn.opt_extended_headers(), async {
            let option = peer.expect_option().await.unwrap().option;
            peer.send_option_reply(OptionReply::ack(option))
                .await
                .unwrap();
        });
        assert!(on.unwrap());
        let ask = async {
            match what {
                0 => conn.opt_list().await.map(drop),
                1 => conn.opt_info().await.map(drop),
                2 => conn.opt_go().await,
                3 => conn.opt_list_meta_context(["a:"]).await.map(drop),
                4 => conn.opt_set_meta_context(["a:b"]).await.map(drop),
                _ => conn.opt_structured_reply().await.map(|on| assert!(!on)),
            }
        };
        let required = OptionReplyType::ERR_EXT_HEADER_REQD;
        let (result, option) = tokio::join!(ask, async {
            let option = peer.expect_option().await.unwrap().option;
            let refusal = OptionReply::error(option, required, "");
            peer.send_option_reply(refusal).await.unwrap();
            option
        });
        if option == OptionType::STRUCTURED_REPLY {
            // There is no way back, and no harm done.
            result.unwrap();
            assert_eq!(conn.state(), State::Negotiating);
            continue;
        }
        let expected = ProtocolError::UnexpectedOptionReply {
            option,
            reply: required,
        };
        assert_eq!(violation(result), expected);
        assert_eq!(conn.state(), State::Dead);
    }
}

/// Refuses the next option because the server shuts down, and is left.
async fn shut_down(peer: &mut Peer) {
    let option = peer.expect_option().await.unwrap().option;
    let refusal = OptionReply::error(option, OptionReplyType::ERR_SHUTDOWN, "");
    peer.send_option_reply(refusal).await.unwrap();
    let abort = peer.expect_option().await.unwrap().option;
    assert_eq!(abort, OptionType::ABORT);
    peer.send_option_reply(OptionReply::ack(abort))
        .await
        .unwrap();
    peer.expect_end().await.unwrap();
}

both_runtimes!(o05_a_server_that_shuts_down_is_left_whatever_was_asked);
async fn o05_a_server_that_shuts_down_is_left_whatever_was_asked() {
    for (way, what) in option_ways().flat_map(|way| (0..6).map(move |what| (way, what))) {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        let ask = async {
            match what {
                0 => conn.opt_list().await.map(drop),
                1 => conn.opt_info().await.map(drop),
                2 => conn.opt_go().await,
                3 => conn.opt_structured_reply().await.map(drop),
                4 => conn.opt_extended_headers().await.map(drop),
                _ => conn.opt_set_meta_context(["a:b"]).await.map(drop),
            }
        };
        let (result, ()) = tokio::join!(ask, shut_down(&mut peer));
        let error = result.unwrap_err();
        assert_matches!(&error, Error::Refused(r) if r.reply() == OptionReplyType::ERR_SHUTDOWN);
        assert!(error.is_fatal() && conn.closed().await.is_fatal());
        assert_eq!(conn.state(), State::Dead);
    }
}

both_runtimes!(a_server_that_shuts_down_when_a_feature_is_asked_for_is_left);
async fn a_server_that_shuts_down_when_a_feature_is_asked_for_is_left() {
    for (extended, opt_mode) in [(false, false), (true, false), (true, true)] {
        for way in option_ways() {
            let builder = Connection::builder().extended_headers(extended);
            let (conn, mut peer, connecting) = way.connect(builder.opt_mode(opt_mode));
            let (result, ()) = tokio::join!(connecting, async {
                peer.greet(HandshakeFlags::all()).await.unwrap();
                shut_down(&mut peer).await;
            });
            let error = result.unwrap_err();
            assert_matches!(&error, Error::Refused(r) if r.reply() == OptionReplyType::ERR_SHUTDOWN);
            assert_eq!(conn.state(), State::Dead);
        }
    }
}

both_runtimes!(o07_an_impossible_length_is_told_at_the_head);
async fn o07_an_impossible_length_is_told_at_the_head() {
    for length in [u32::MAX, (64 << 20) + 1, 65537] {
        for kind in [1, 2, 3, 4, 0x8000_0001, 77] {
            let mut head = BytesMut::new();
            head.put_u64(0x0003_e889_0455_65a9);
            head.put_u32(OptionType::GO.0);
            head.put_u32(kind);
            head.put_u32(length);
            let (_, result, _) = gone_with(&builder(ReplyStyle::Simple), &head).await;
            assert_matches!(violation(result), ProtocolError::Length { .. });
        }
    }
}

both_runtimes!(o08_a_message_of_4096_bytes_is_told_and_a_longer_one_is_a_violation);
async fn o08_a_message_of_4096_bytes_is_told_and_a_longer_one_is_a_violation() {
    let refusal = |length| reply(OptionReplyType::ERR_POLICY, "x".repeat(length));
    let (_, result, _) = gone(vec![refusal(4096)]).await;
    assert_matches!(result, Err(Error::Refused(r)) if r.message().as_str().len() == 4096);
    assert_matches!(
        fatal(vec![refusal(4097)]).await,
        ProtocolError::Length { .. }
    );
}

both_runtimes!(o09_a_hostile_message_is_printed_without_control_characters);
async fn o09_a_hostile_message_is_printed_without_control_characters() {
    let text = &b"\0\x1b]0;pwned\x07\r\n\xff\xe2\x80\xae"[..];
    let (_, result, _) = gone(vec![reply(OptionReplyType::ERR_POLICY, text)]).await;
    let printed = result.unwrap_err().to_string();
    assert!(!printed.contains(char::is_control), "{printed:?}");
    assert!(!printed.contains('\u{202e}'), "{printed:?}");
}

both_runtimes!(o12_endless_information_is_a_violation);
async fn o12_endless_information_is_a_violation() {
    let violation = fatal(vec![export(); 65]).await;
    assert_matches!(violation, ProtocolError::TooManyReplies(OptionType::GO));
}

both_runtimes!(o14_replies_sent_before_they_were_asked_for_do_no_harm);
async fn o14_replies_sent_before_they_were_asked_for_do_no_harm() {
    let mut bytes = greeting(Greeting::Newstyle(HandshakeFlags::all()));
    export().encode(&mut bytes);
    ack().encode(&mut bytes);
    for way in ways() {
        let (conn, mut peer, connecting) = way.connect(builder(ReplyStyle::Simple));
        let (result, _) = tokio::join!(connecting, peer.send_bytes(&bytes));
        result.unwrap();
        assert_eq!(conn.size().unwrap(), INFO.size);
    }
}

#[tokio::test(start_paused = true)]
async fn o10_options_that_stall_are_given_up_at_the_deadline() {
    for what in 0..4 {
        let (conn, peer) = crate::options::negotiating().await;
        let start = Instant::now();
        let result = match what {
            0 => conn.opt_list().await.map(drop),
            1 => conn.opt_info().await.map(drop),
            2 => conn.opt_go().await,
            _ => conn.opt_structured_reply().await.map(drop),
        };
        assert_matches!(result, Err(Error::Timeout(Phase::Handshake, _)));
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        assert_eq!(conn.state(), State::Dead);
        drop(peer);
    }
}
