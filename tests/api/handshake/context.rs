//! Metadata contexts.

use super::*;

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
