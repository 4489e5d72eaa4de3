//! Both sides of the handshake.

use bytes::{BufMut, Bytes, BytesMut};

use proptest::prelude::*;

use super::*;
use crate::wire::ProtocolError;
use crate::wire::num::*;

#[test]
fn greetings_survive_a_round_trip_and_any_truncation() {
    let export = ExportInfo {
        size: 1 << 20,
        flags: TransmissionFlags::HAS_FLAGS,
    };
    for greeting in [
        Greeting::Oldstyle(export),
        Greeting::Newstyle(HandshakeFlags::from_bits_retain(0xfffc)),
    ] {
        let mut whole = BytesMut::new();
        greeting.encode(&mut whole);
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(Greeting::decode(&mut part), Ok(None), "cut at {cut}");
            assert_eq!(part.len(), cut, "an incomplete greeting is left alone");
        }
        assert_eq!(Greeting::decode(&mut whole), Ok(Some(greeting)));
        assert!(whole.is_empty());
    }
}

// P-010: an oldstyle greeting has 152 bytes.
#[test]
fn an_oldstyle_greeting_has_152_bytes() {
    let mut bytes = BytesMut::new();
    let export = ExportInfo {
        size: 0,
        flags: TransmissionFlags::HAS_FLAGS,
    };
    Greeting::Oldstyle(export).encode(&mut bytes);
    assert_eq!(bytes.len(), 152);
}

#[test]
fn other_protocols_are_told_at_once() {
    let error = Greeting::decode(&mut BytesMut::from("SSH-2.0-x\r\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the peer does not speak NBD: it began with "SSH-2.0-x\r\n""#
    );
}

#[test]
fn option_requests_survive_a_round_trip() {
    let asked = [InfoType::BLOCK_SIZE, InfoType(77)];
    let request = OptionRequest::info(OptionType::GO, "disk", &asked);
    assert_eq!(request.data.len(), 4 + 4 + 2 + 4, "P-054: the length fits");
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes);
    let back = OptionRequest::decode(&mut bytes).unwrap().unwrap();
    assert_eq!(
        back.parse_info().unwrap(),
        ("disk".to_owned(), asked.to_vec())
    );

    let queries = ["base:allocation", "qemu:"];
    let request = OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "", &queries);
    let (name, back) = request.parse_meta_context().unwrap();
    assert_eq!((name.as_str(), back.len()), ("", 2));
}

#[test]
fn a_reply_too_long_is_refused_before_its_payload_is_there() {
    for (reply, limit) in [
        (OptionReplyType::ACK, 0),
        (OptionReplyType::ERR_POLICY, 4096),
        (OptionReplyType::INFO, MAX_INFO),
        (OptionReplyType::SERVER, MAX_OPTION_REPLY),
        (OptionReplyType(77), MAX_OPTION_REPLY),
    ] {
        let head = |length: u32| {
            let mut bytes = BytesMut::new();
            bytes.put_u64(OPTION_REPLY_MAGIC);
            bytes.put_u32(OptionType::GO.0);
            bytes.put_u32(reply.0);
            bytes.put_u32(length);
            bytes
        };
        let over = OptionReply::decode(&mut head(limit + 1));
        assert_eq!(
            over,
            Err(ProtocolError::length("option reply", u64::from(limit) + 1))
        );
        assert!(OptionReply::decode(&mut head(limit)).is_ok());
    }
}

// P-042: the name fits its reply.
#[test]
fn a_list_entry_is_a_name_and_a_description() {
    let reply = OptionReply::server("disk", "of mine");
    let (name, description) = reply.parse_server().unwrap();
    assert_eq!((name.as_str(), description.as_str()), ("disk", "of mine"));
    let long = OptionReply {
        payload: Bytes::from_static(b"\0\0\0\x05disk"),
        ..reply
    };
    assert_eq!(
        long.parse_server(),
        Err(ProtocolError::length("export name", 5))
    );
}

// P-049: information has the length of its type.
#[test]
fn information_has_the_length_of_its_type() {
    for length in [2, 10, 11, 13] {
        assert_eq!(
            Info::decode(&vec![0; length]),
            Err(ProtocolError::Info(InfoType::EXPORT))
        );
    }
    let block = Info::BlockSize {
        minimum: 1,
        preferred: 4096,
        maximum: 1 << 25,
    };
    let reply = OptionReply::info(OptionType::GO, &block);
    assert_eq!(Info::decode(&reply.payload), Ok(block));
    assert_eq!(
        Info::decode(&[0]),
        Err(ProtocolError::length("information reply", 1))
    );
    assert_eq!(
        Info::decode(&[0, 77, 1, 2]),
        Ok(Info::Unknown(InfoType(77)))
    );
}

// P-072: a context has namespace and leaf; P-081: a context name is a valid string.
#[test]
fn context_names_have_a_namespace() {
    let reply = OptionReply::meta_context(OptionType::SET_META_CONTEXT, 0, "base:allocation");
    assert_eq!(
        reply.parse_meta_context(),
        Ok((0, "base:allocation".to_owned()))
    );
    let bare = OptionReply::meta_context(OptionType::SET_META_CONTEXT, 0, "base");
    assert_eq!(
        bare.parse_meta_context(),
        Err(ProtocolError::Text("metadata context"))
    );
}

/// Bytes that are nearly an option reply.
fn nearly_a_reply() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..80);
    let head = (
        0u32..12,
        prop_oneof![0u32..6, 0x8000_0000u32..0x8000_000c, any::<u32>()],
    );
    (head, -2i64..3, body, 0usize..110).prop_map(|((option, reply), more, body, cut)| {
        let mut bytes = Vec::new();
        bytes.put_u64(OPTION_REPLY_MAGIC);
        bytes.put_u32(option);
        bytes.put_u32(reply);
        bytes.put_i32(i32::try_from(body.len() as i64 + more).unwrap());
        bytes.extend(body);
        bytes.truncate(cut);
        bytes
    })
}

proptest! {
    #![proptest_config(crate::tests::properties::config())]

    #[test]
    fn no_bytes_break_the_parsing_of_option_replies(
        bytes in prop_oneof![nearly_a_reply(), prop::collection::vec(any::<u8>(), 0..80)],
    ) {
        let mut rest = BytesMut::from(&bytes[..]);
        let decoded = OptionReply::decode(&mut rest);
        prop_assert!(bytes.ends_with(&rest));
        match decoded {
            Ok(Some(reply)) => {
                let mut again = BytesMut::new();
                reply.encode(&mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
                let _ = (reply.parse_server(), reply.parse_meta_context());
                let _ = (Info::decode(&reply.payload), reply.message());
            }
            Ok(None) | Err(_) => prop_assert_eq!(rest.len(), bytes.len()),
        }
    }

    #[test]
    fn any_option_reads_back_equal(
        name in "[^\0]{0,20}",
        queries in prop::collection::vec("[^\0]{0,9}", 0..5),
        asked in prop::collection::vec(any::<u16>().prop_map(InfoType), 0..5),
    ) {
        let info = OptionRequest::info(OptionType::GO, &name, &asked);
        let meta = OptionRequest::meta_context(OptionType::LIST_META_CONTEXT, &name, &queries);
        let mut bytes = BytesMut::new();
        info.encode(&mut bytes);
        meta.encode(&mut bytes);
        prop_assert_eq!(OptionRequest::decode(&mut bytes), Ok(Some(info.clone())));
        prop_assert_eq!(OptionRequest::decode(&mut bytes), Ok(Some(meta.clone())));
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(info.parse_info(), Ok((name.clone(), asked)));
        prop_assert_eq!(meta.parse_meta_context(), Ok((name, queries)));
    }
}
