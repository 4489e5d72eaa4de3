use super::*;
use crate::wire::num::{Command, CommandFlags, Errno, OptionReplyType, OptionType};

#[test]
fn what_one_side_of_the_handshake_encodes_the_other_decodes() {
    let mut client = OptionCodec::default();
    let mut server = ServerOptionCodec::new(HandshakeFlags::all());
    let mut bytes = BytesMut::new();

    let greeting = Greeting::Newstyle(HandshakeFlags::all());
    server
        .encode(ServerMessage::Greeting(greeting), &mut bytes)
        .unwrap();
    let got = client.decode(&mut bytes).unwrap();
    assert_eq!(got, Some(ServerMessage::Greeting(greeting)));

    let flags = ClientMessage::Flags(ClientFlags::all());
    let option = ClientMessage::Option(OptionRequest::bare(OptionType::LIST));
    client.encode(flags.clone(), &mut bytes).unwrap();
    client.encode(option.clone(), &mut bytes).unwrap();
    assert_eq!(server.decode(&mut bytes).unwrap(), Some(flags));
    assert_eq!(server.decode(&mut bytes).unwrap(), Some(option));
    assert_eq!(server.decode(&mut bytes).unwrap(), None);

    client.expect(Expect::Reply);
    let refusal = OptionReply::error(OptionType::LIST, OptionReplyType::ERR_POLICY, "not for you");
    server
        .encode(ServerMessage::Reply(refusal.clone()), &mut bytes)
        .unwrap();
    assert_eq!(
        client.decode(&mut bytes).unwrap(),
        Some(ServerMessage::Reply(refusal))
    );
}

// P-017: 124 zeroes follow unless NO_ZEROES was agreed.
#[test]
fn zeroes_follow_the_answer_to_export_name_unless_the_client_wants_none() {
    let export = ExportInfo {
        size: 1 << 20,
        flags: crate::wire::TransmissionFlags::HAS_FLAGS,
    };
    for (flags, length) in [(ClientFlags::all(), 10), (ClientFlags::FIXED_NEWSTYLE, 134)] {
        let mut server = ServerOptionCodec::new(HandshakeFlags::all());
        let mut bytes = BytesMut::from(&flags.bits().to_be_bytes()[..]);
        server.decode(&mut bytes).unwrap().unwrap();
        server
            .encode(ServerMessage::Export(export), &mut bytes)
            .unwrap();
        assert_eq!(bytes.len(), length);
    }
}

// P-013: only the two known flags are sent.
#[test]
fn client_flags_that_were_not_offered_are_refused() {
    let mut server = ServerOptionCodec::new(HandshakeFlags::FIXED_NEWSTYLE);
    assert!(
        server
            .decode(&mut BytesMut::from(&[0, 0, 0, 3][..]))
            .is_err()
    );
    assert!(
        server
            .decode(&mut BytesMut::from(&[0, 0, 0, 1][..]))
            .is_ok()
    );
}

#[test]
fn a_request_comes_with_its_payload_however_it_is_split() {
    let head = RequestHead {
        flags: CommandFlags::PAYLOAD_LEN,
        command: Command::WRITE,
        cookie: 1,
        offset: 0,
        length: 5,
    };
    let mut bytes = BytesMut::new();
    ReplyCodec::new(ReplyStyle::Extended)
        .encode(head, &mut bytes)
        .unwrap();
    bytes.extend_from_slice(b"hello");
    let mut server = RequestCodec::new(ReplyStyle::Extended, 1 << 20);
    let mut arrived = BytesMut::new();
    for byte in &bytes[..bytes.len() - 1] {
        arrived.extend_from_slice(&[*byte]);
        assert_eq!(server.decode(&mut arrived).unwrap(), None);
    }
    arrived.extend_from_slice(b"o");
    let request = server.decode(&mut arrived).unwrap().unwrap();
    assert_eq!((request.head, &request.payload[..]), (head, &b"hello"[..]));
}

#[test]
fn an_oversized_payload_is_refused_at_its_header() {
    let head = RequestHead {
        flags: CommandFlags::empty(),
        command: Command::WRITE,
        cookie: 1,
        offset: 0,
        length: 0xffff_ffff,
    };
    let mut bytes = BytesMut::new();
    head.encode(false, &mut bytes);
    assert!(
        RequestCodec::new(ReplyStyle::Simple, 1 << 25)
            .decode(&mut bytes)
            .is_err()
    );
}

#[test]
fn simple_reply_heads_leave_their_data_in_the_stream() {
    let mut bytes = BytesMut::new();
    let mut server = RequestCodec::new(ReplyStyle::Simple, 0);
    let reply = Reply::simple(9, Errno::OK, Bytes::from_static(b"data"));
    server.encode(reply, &mut bytes).unwrap();
    let head = ReplyCodec::new(ReplyStyle::Simple)
        .decode(&mut bytes)
        .unwrap();
    assert_eq!(
        head,
        Some(ReplyHead::Simple {
            cookie: 9,
            error: Errno::OK
        })
    );
    assert_eq!(&bytes[..], b"data");
}
