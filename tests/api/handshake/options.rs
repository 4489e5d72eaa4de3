//! What all options have in common.

use super::*;

#[tokio::test]
async fn o01_a_wrong_reply_magic_is_told_from_its_bytes_alone() {
    let builder = builder(ReplyStyle::Simple);
    let (_, result, _) = gone_with(builder, &7u64.to_be_bytes()).await;
    assert_eq!(violation(result), ProtocolError::OptionReplyMagic(7));
}

#[tokio::test]
async fn o02_a_reply_to_another_option_is_a_violation() {
    let other = OptionReply::ack(OptionType::LIST);
    assert_matches!(fatal(vec![other]).await, ProtocolError::WrongOption { .. });
}

#[tokio::test]
async fn o03_l08_replies_of_other_types_are_a_violation() {
    for kind in [0, 2, 4, 77].map(OptionReplyType) {
        assert_matches!(
            fatal(vec![reply(kind, Bytes::new())]).await,
            ProtocolError::UnexpectedOptionReply { .. }
        );
    }
}

#[tokio::test]
async fn o04_o05_every_refusal_is_told_with_its_reason_and_the_server_is_left_politely() {
    use OptionReplyType as R;
    for kind in [
        R::ERR_POLICY,
        R::ERR_INVALID,
        R::ERR_PLATFORM,
        R::ERR_TLS_REQD,
        R::ERR_UNKNOWN,
        R::ERR_SHUTDOWN,
        R::ERR_BLOCK_SIZE_REQD,
        R::ERR_TOO_BIG,
        R::ERR_EXT_HEADER_REQD,
        OptionReplyType(0x8000_ffff),
    ] {
        let (conn, result, next) = gone(vec![reply(kind, "why not")]).await;
        match result {
            Err(Error::Refused(refusal)) => {
                assert_eq!(refusal.option(), OptionType::GO);
                assert_eq!(refusal.reply(), kind);
                assert_eq!(refusal.message().as_str(), "why not");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next, Some(OptionType::ABORT), "{kind}");
        assert_eq!(conn.state(), State::Dead);
    }
}

#[tokio::test]
async fn o05_a_refusal_leaves_option_mode_usable() {
    let (conn, mut peer) = crate::options::negotiating().await;
    for kind in 1..=10 {
        let kind = OptionReplyType(0x8000_0000 + kind);
        // Shutting down is the end; without GO the name alone is tried.
        if [OptionReplyType::ERR_SHUTDOWN, OptionReplyType::ERR_UNSUP].contains(&kind) {
            continue;
        }
        for what in 0..4 {
            let ask = async {
                match what {
                    0 => conn.opt_list().await.map(drop),
                    1 => conn.opt_info().await.map(drop),
                    2 => conn.opt_go().await,
                    _ => conn.opt_list_meta_context(["a:"]).await.map(drop),
                }
            };
            let (result, ()) = tokio::join!(ask, async {
                let option = peer.expect_option().await.unwrap().option;
                let refusal = OptionReply::error(option, kind, "no");
                peer.send_option_reply(refusal).await.unwrap();
            });
            assert_matches!(result, Err(Error::Refused(_)));
            assert_eq!(conn.state(), State::Negotiating);
        }
    }
}

#[tokio::test]
async fn o07_an_impossible_length_is_told_at_the_head() {
    for length in [u32::MAX, (64 << 20) + 1, 65537] {
        for kind in [1, 2, 3, 4, 0x8000_0001, 77] {
            let mut head = BytesMut::new();
            head.put_u64(0x0003_e889_0455_65a9);
            head.put_u32(OptionType::GO.0);
            head.put_u32(kind);
            head.put_u32(length);
            let (_, result, _) = gone_with(builder(ReplyStyle::Simple), &head).await;
            assert_matches!(violation(result), ProtocolError::Length { .. });
        }
    }
}

#[tokio::test]
async fn o08_a_message_of_4096_bytes_is_told_and_a_longer_one_is_a_violation() {
    let refusal = |length| reply(OptionReplyType::ERR_POLICY, "x".repeat(length));
    let (_, result, _) = gone(vec![refusal(4096)]).await;
    assert_matches!(result, Err(Error::Refused(r)) if r.message().as_str().len() == 4096);
    assert_matches!(
        fatal(vec![refusal(4097)]).await,
        ProtocolError::Length { .. }
    );
}

#[tokio::test]
async fn o09_a_hostile_message_is_printed_without_control_characters() {
    let text = &b"\0\x1b]0;pwned\x07\r\n\xff\xe2\x80\xae"[..];
    let (_, result, _) = gone(vec![reply(OptionReplyType::ERR_POLICY, text)]).await;
    let printed = result.unwrap_err().to_string();
    assert!(!printed.contains(char::is_control), "{printed:?}");
    assert!(!printed.contains('\u{202e}'), "{printed:?}");
}

#[tokio::test]
async fn o12_endless_information_is_a_violation() {
    let violation = fatal(vec![export(); 65]).await;
    assert_matches!(violation, ProtocolError::TooManyReplies(OptionType::GO));
}

#[tokio::test]
async fn o14_replies_sent_before_they_were_asked_for_do_no_harm() {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(ReplyStyle::Simple).build();
    let mut bytes = greeting(Greeting::Newstyle(HandshakeFlags::all()));
    export().encode(&mut bytes);
    ack().encode(&mut bytes);
    let (result, _) = tokio::join!(conn.connect_stream(stream), peer.send_bytes(&bytes));
    result.unwrap();
    assert_eq!(conn.size().unwrap(), INFO.size);
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
