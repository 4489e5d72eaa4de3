//! FAULTS of greetings, options and exports, one by one.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::{ExportInfo, Greeting, Info, OptionReply};
use nbd_client::wire::{
    Command, HandshakeFlags, InfoType, OptionReplyType, OptionType, ProtocolError, ReplyStyle,
    TransmissionFlags,
};
use nbd_client::{Builder, Connection, Error, Phase, Result, State};
use tokio::time::Instant;

use crate::support::*;

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

fn greeting(greeting: Greeting) -> BytesMut {
    let mut bytes = BytesMut::new();
    greeting.encode(&mut bytes);
    bytes
}

#[track_caller]
fn assert_eof(result: Result<()>, expected: Phase) {
    match result {
        Err(Error::Disconnected(lost, _)) => {
            assert_eq!(lost.phase(), expected);
            assert_eq!(lost.io().kind(), std::io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
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

/// Connects to a server that answers `GO` with these replies; gives what else it received.
async fn gone(replies: Vec<OptionReply>) -> (Connection, Result<()>, Option<OptionType>) {
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    gone_with(builder(ReplyStyle::Simple), &bytes).await
}

async fn gone_with(builder: Builder, bytes: &[u8]) -> (Connection, Result<()>, Option<OptionType>) {
    let (mut peer, stream) = Peer::pair();
    let conn = builder.build();
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let go = peer.expect_option().await.unwrap();
        assert_eq!(go.option, OptionType::GO);
        let _ = peer.send_bytes(bytes).await;
        // Whatever the client says next, or that it leaves.
        let next = drop_after(200, peer.expect_option()).await;
        let next = next.and_then(|next| next.ok()).map(|next| next.option);
        if next == Some(OptionType::ABORT) {
            peer.half_close().await.unwrap();
        }
        next
    };
    let (result, next) = tokio::join!(conn.connect_stream(stream), script);
    (conn, result, next)
}

fn export() -> OptionReply {
    OptionReply::info(OptionType::GO, &Info::Export(INFO))
}

fn reply(kind: OptionReplyType, payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        option: OptionType::GO,
        reply: kind,
        payload: payload.into(),
    }
}

fn info(kind: InfoType, rest: &[u8]) -> OptionReply {
    let mut payload = BytesMut::new();
    payload.put_u16(kind.0);
    payload.put_slice(rest);
    reply(OptionReplyType::INFO, payload)
}

fn sizes(minimum: u32, preferred: u32, maximum: u32) -> OptionReply {
    let sizes = Info::BlockSize {
        minimum,
        preferred,
        maximum,
    };
    OptionReply::info(OptionType::GO, &sizes)
}

fn ack() -> OptionReply {
    OptionReply::ack(OptionType::GO)
}

/// Says that these replies to `GO` are a violation, after which nothing is sent.
async fn fatal(replies: Vec<OptionReply>) -> ProtocolError {
    let (conn, result, next) = gone(replies).await;
    assert_eq!(next, None, "nothing is said to such a server");
    assert_eq!(conn.state(), State::Dead);
    let cause = violation(result);
    assert_eq!(violation(conn.read(0, 1).await), cause);
    cause
}

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

#[tokio::test]
async fn i01_go_without_size_and_flags_is_a_violation() {
    assert_matches!(fatal(vec![ack()]).await, ProtocolError::NoExportInfo(_));
    let description = info(InfoType::DESCRIPTION, b"a disk");
    assert_matches!(
        fatal(vec![description, ack()]).await,
        ProtocolError::NoExportInfo(_)
    );
}

#[tokio::test]
async fn i02_i03_i04_information_of_the_wrong_length_is_a_violation() {
    for length in [0, 1] {
        fatal(vec![reply(OptionReplyType::INFO, vec![0; length])]).await;
    }
    for length in [0, 8, 9, 11, 4094] {
        fatal(vec![info(InfoType::EXPORT, &vec![0; length]), ack()]).await;
    }
    for length in [0, 8, 11, 13, 4094] {
        let sizes = info(InfoType::BLOCK_SIZE, &vec![0; length]);
        fatal(vec![export(), sizes, ack()]).await;
    }
}

#[tokio::test]
async fn i06_unknown_information_is_skipped_up_to_64_kib() {
    for length in [0, 1, 100, (64 << 10) - 2] {
        let unknown = info(InfoType(0x7777), &vec![1; length]);
        let (conn, result, _) = gone(vec![unknown.clone(), export(), unknown, ack()]).await;
        result.unwrap();
        assert_eq!(conn.size().unwrap(), INFO.size);
    }
    fatal(vec![info(InfoType(0x7777), &vec![1; (64 << 10) - 1])]).await;
}

#[tokio::test]
async fn i07_names_over_4096_bytes_are_a_violation() {
    for kind in [InfoType::NAME, InfoType::DESCRIPTION] {
        fatal(vec![export(), info(kind, &[b'x'; 4097]), ack()]).await;
    }
}

#[tokio::test]
async fn i08_names_that_are_no_strings_are_left_out() {
    for bytes in [&b"\xff\xfe"[..], b"a\0b"] {
        let mut replies = BytesMut::new();
        for reply in [
            export(),
            info(InfoType::NAME, bytes),
            info(InfoType::DESCRIPTION, bytes),
            ack(),
        ] {
            reply.encode(&mut replies);
        }
        let builder = builder(ReplyStyle::Simple).full_info(true);
        let (conn, result, _) = gone_with(builder, &replies).await;
        result.unwrap();
        let export = conn.export().unwrap();
        assert_eq!(export.canonical_name(), None);
        let printed = export.description().map(ToString::to_string);
        assert!(!printed.unwrap_or_default().contains(char::is_control));
    }
}

#[tokio::test]
async fn i09_an_export_larger_than_63_bits_is_refused() {
    for size in [1 << 63, u64::MAX] {
        let flags = TransmissionFlags::HAS_FLAGS;
        let huge = OptionReply::info(OptionType::GO, &Info::Export(ExportInfo { size, flags }));
        assert_eq!(
            fatal(vec![huge, ack()]).await,
            ProtocolError::ExportSize(size)
        );
    }
}

#[tokio::test]
async fn i10_an_empty_export_is_fine_and_nothing_is_inside() {
    let empty = ExportInfo { size: 0, ..INFO };
    let empty = OptionReply::info(OptionType::GO, &Info::Export(empty));
    let (conn, result, _) = gone(vec![empty, ack()]).await;
    result.unwrap();
    assert_eq!(conn.size().unwrap(), 0);
    assert_matches!(conn.read(0, 1).await, Err(Error::Invalid(_)));
}

#[tokio::test]
async fn i11_flags_without_has_flags_are_a_violation() {
    for bits in [0, 4, 0xfffe] {
        let flags = TransmissionFlags::from_bits_retain(bits);
        let info = ExportInfo { size: 512, flags };
        let info = OptionReply::info(OptionType::GO, &Info::Export(info));
        assert_eq!(
            fatal(vec![info, ack()]).await,
            ProtocolError::TransmissionFlags(bits)
        );
    }
}

#[tokio::test]
async fn i13_unknown_flags_are_ignored() {
    let flags = TransmissionFlags::from_bits_retain(0xe001);
    let info = ExportInfo { size: 512, flags };
    let info = OptionReply::info(OptionType::GO, &Info::Export(info));
    let (conn, result, _) = gone(vec![info, ack()]).await;
    result.unwrap();
    assert!(!conn.export().unwrap().can_flush());
}

#[tokio::test]
async fn i14_impossible_block_sizes_are_refused() {
    for (minimum, preferred, maximum) in [
        (0, 4096, 1 << 20),
        (3, 4096, 1 << 20),
        (1 << 17, 1 << 17, 1 << 20),
        (4096, 512, 1 << 20),
        (1, 256, 1 << 20),
        (512, 4096, 2048),
        (4096, 4096, 4097),
    ] {
        assert_matches!(
            fatal(vec![export(), sizes(minimum, preferred, maximum), ack()]).await,
            ProtocolError::BlockSizes { .. }
        );
    }
}

#[tokio::test]
async fn i15_no_maximum_means_ours() {
    let (conn, result, _) = gone(vec![sizes(1, 512, u32::MAX), export(), ack()]).await;
    result.unwrap();
    assert_eq!(
        conn.export().unwrap().max_payload(),
        nbd_client::MAX_PAYLOAD
    );
}

#[tokio::test]
async fn i20_what_go_says_counts_whatever_info_said() {
    let (conn, mut peer) = crate::options::negotiating().await;
    let (info, ()) = tokio::join!(conn.opt_info(), async {
        let option = peer.expect_option().await.unwrap().option;
        let larger = ExportInfo {
            size: 1 << 30,
            ..INFO
        };
        peer.send_export(option, larger).await.unwrap();
    });
    assert_eq!(info.unwrap().size(), 1 << 30);
    let (go, ()) = tokio::join!(conn.opt_go(), async {
        let option = peer.expect_option().await.unwrap().option;
        peer.send_export(option, INFO).await.unwrap();
    });
    go.unwrap();
    assert_eq!(conn.size().unwrap(), INFO.size);
}

/// Lists the exports of a server that answers with these replies.
async fn listed(replies: &[OptionReply]) -> Result<Vec<nbd_client::ListedExport>> {
    let (conn, mut peer) = crate::options::negotiating().await;
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    let script = async {
        peer.expect_option().await.unwrap();
        let _ = peer.send_bytes(&bytes).await;
    };
    let (result, ()) = tokio::join!(conn.opt_list(), script);
    result
}

fn server_reply(payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        option: OptionType::LIST,
        reply: OptionReplyType::SERVER,
        payload: payload.into(),
    }
}

#[tokio::test]
async fn l01_l02_entries_of_the_wrong_form_are_a_violation() {
    for payload in [
        vec![],
        vec![0, 0, 0],
        vec![0, 0, 0, 2, b'x'],
        vec![0xff, 0xff, 0xff, 0xff, b'x'],
    ] {
        violation(listed(&[server_reply(payload)]).await);
    }
    let long = "x".repeat(4097);
    for entry in [
        OptionReply::server(&long, ""),
        OptionReply::server("", &long),
    ] {
        violation(listed(&[entry]).await);
    }
}

#[tokio::test]
async fn l05_ten_thousand_exports_are_listed() {
    let mut replies: Vec<_> = (0..10_000)
        .map(|i| OptionReply::server(&i.to_string(), "a disk"))
        .collect();
    replies.push(OptionReply::ack(OptionType::LIST));
    let exports = listed(&replies).await.unwrap();
    assert_eq!(exports.len(), 10_000);
    assert_eq!(exports[9_999].name, "9999");
}

#[tokio::test]
async fn l06_one_export_more_is_a_violation() {
    let many = vec![OptionReply::server("x", ""); 10_001];
    assert_matches!(
        violation(listed(&many).await),
        ProtocolError::TooManyReplies(_)
    );
    let large = vec![OptionReply::server("x", &"d".repeat(4096)); 2050];
    assert_matches!(
        violation(listed(&large).await),
        ProtocolError::TooManyReplies(_)
    );
}

#[tokio::test]
async fn l08_information_in_a_list_is_a_violation() {
    let mut stray = export();
    stray.option = OptionType::LIST;
    assert_matches!(
        violation(listed(&[stray]).await),
        ProtocolError::UnexpectedOptionReply { .. }
    );
}

/// Selects contexts at a server that answers with these replies.
async fn selected(replies: &[OptionReply]) -> (Connection, Result<Vec<String>>) {
    let (conn, mut peer) = crate::options::negotiating().await;
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    let script = async {
        peer.expect_option().await.unwrap();
        let _ = peer.send_bytes(&bytes).await;
    };
    let (result, ()) = tokio::join!(conn.opt_set_meta_context(["a:b", "c:d"]), script);
    drop(peer);
    (conn, result)
}

fn context(id: u32, name: &str) -> OptionReply {
    OptionReply::meta_context(OptionType::SET_META_CONTEXT, id, name)
}

const SET_ACK: OptionReply = OptionReply::ack(OptionType::SET_META_CONTEXT);

#[tokio::test]
async fn m01_m04_contexts_of_the_wrong_form_are_a_violation() {
    let raw = |payload: &'static [u8]| OptionReply {
        payload: Bytes::from_static(payload),
        ..context(0, "")
    };
    let long = format!("a:{}", "x".repeat(4095));
    for reply in [
        raw(b""),
        raw(b"\0\0\0"),
        raw(b"\0\0\0\x01"),
        raw(b"\0\0\0\x01a:\xff"),
        context(1, "nocolon"),
        context(1, &long),
    ] {
        violation(selected(&[reply]).await.1);
    }
}

#[tokio::test]
async fn m05_no_context_is_no_violation() {
    let (_, names) = selected(&[SET_ACK]).await;
    assert_eq!(names.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn m07_endless_contexts_are_a_violation() {
    let replies: Vec<_> = (0..1025).map(|id| context(id, "a:b")).collect();
    assert_matches!(
        violation(selected(&replies).await.1),
        ProtocolError::TooManyReplies(_)
    );
}

#[tokio::test]
async fn m09_any_id_is_fine_but_each_once() {
    let (_, names) = selected(&[context(0, "c:d"), context(u32::MAX, "a:b"), SET_ACK]).await;
    assert_eq!(names.unwrap(), ["c:d", "a:b"]);
    let twice = selected(&[context(7, "a:b"), context(7, "c:d"), SET_ACK]).await;
    assert_eq!(violation(twice.1), ProtocolError::DuplicateContext(7));
}

#[tokio::test(start_paused = true)]
async fn m08_replies_are_read_while_queries_are_still_being_sent() {
    let (client, server) = tokio::io::duplex(256);
    let mut peer = Peer::new(server);
    let conn = Connection::builder()
        .opt_mode(true)
        .structured_replies(false)
        .build();
    let (connected, _) = tokio::join!(
        conn.connect_stream(client),
        peer.greet(HandshakeFlags::all())
    );
    connected.unwrap();
    let queries: Vec<_> = (0..15)
        .map(|i| format!("x:{i}{}", "q".repeat(4000)))
        .collect();
    let script = async {
        while peer.received().len() < 20 {
            assert!(drop_after(1, peer.expect_option()).await.is_none());
            tokio::task::yield_now().await;
        }
        // From here on the server does not read until all its replies are taken.
        for id in 0..1000 {
            peer.send_option_reply(context(id, "x:y")).await.unwrap();
        }
        peer.expect_option().await.unwrap();
        peer.send_option_reply(SET_ACK).await.unwrap();
    };
    let (names, ()) = tokio::join!(conn.opt_set_meta_context(queries), script);
    assert_eq!(names.unwrap().len(), 1000);
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

#[tokio::test]
async fn m08_queries_of_more_than_64_kib_are_refused_here() {
    let queries: Vec<_> = (0..20)
        .map(|i| format!("x:{i}{}", "q".repeat(4000)))
        .collect();
    let (conn, peer) = crate::options::negotiating().await;
    let before = peer.received().len();
    for result in [
        conn.opt_set_meta_context(queries.clone()).await,
        conn.opt_list_meta_context(queries.clone()).await,
    ] {
        assert_matches!(result, Err(Error::Invalid(_)));
        assert!(conn.is_negotiating());
    }
    assert_eq!(peer.received().len(), before);
}

#[tokio::test]
async fn m08_too_many_contexts_end_the_handshake_politely() {
    let server = Server::new(Export::new(1 << 20));
    let contexts = (0..20).map(|i| format!("x:{i}{}", "q".repeat(4000)));
    let builder = contexts.fold(Connection::builder(), Builder::meta_context);
    let conn = builder.build();
    let result = conn.connect_stream(server.connect()).await;
    assert_matches!(result, Err(Error::Invalid(_)));
    assert_eq!(conn.state(), State::Dead);
    server.connected(0).await;
}
