//! Metadata contexts.

use nbd_client::wire::ChunkType;
use nbd_client::wire::reply::status_body;
use nbd_client::{BlockStatus, InvalidRequest};
use tokio::time::timeout;

use super::*;

/// Only hangs are found by this.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Selects contexts at a server that answers with these replies.
async fn selected(replies: &[OptionReply]) -> Result<Vec<String>> {
    let bytes = encode(replies);
    let mut results = Vec::new();
    for way in option_ways() {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        let script = async {
            peer.expect_option().await.unwrap();
            // The client may be gone before all of it is sent.
            let _ = peer.send_bytes(&bytes).await;
        };
        let (result, ()) = tokio::join!(conn.opt_set_meta_context(["a:b", "c:d"]), script);
        results.push(result);
    }
    let first = results.remove(0);
    for again in results {
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
    }
    first
}

fn context(id: u32, name: &str) -> OptionReply {
    OptionReply::meta_context(OptionType::SET_META_CONTEXT, id, name)
}

const SET_ACK: OptionReply = OptionReply::ack(OptionType::SET_META_CONTEXT);

/// A reply with this payload.
fn raw(payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        payload: payload.into(),
        ..context(0, "")
    }
}

both_runtimes!(m01_a_context_without_a_name_or_with_one_too_long_is_a_violation);
async fn m01_a_context_without_a_name_or_with_one_too_long_is_a_violation() {
    for length in 0..=4 {
        violation(selected(&[raw(vec![0; length])]).await);
    }
    let most = format!("a:{}", "x".repeat(4094));
    let names = selected(&[context(1, &most), SET_ACK]).await.unwrap();
    assert_eq!(names, [&*most]);
    let long = most + "x";
    assert_matches!(
        violation(selected(&[context(1, &long)]).await),
        ProtocolError::Length { length: 4097, .. }
    );
}

both_runtimes!(m04_a_context_whose_name_is_no_string_or_has_no_namespace_is_a_violation);
async fn m04_a_context_whose_name_is_no_string_or_has_no_namespace_is_a_violation() {
    for name in [&b"a:\xff"[..], b"a:\0", b"\xff:b", b"nocolon"] {
        let payload = [b"\0\0\0\x01", name].concat();
        assert_matches!(
            violation(selected(&[raw(payload)]).await),
            ProtocolError::Text(_)
        );
    }
}

/// Opens an export whose server selects `given` although `base:allocation` was asked for, and
/// answers for each of them.
async fn given(style: ReplyStyle, given: &[(u32, &str)]) -> (Connection, Result<BlockStatus>) {
    selected_then(style, given, given).await
}

/// The same with a server that answers for `told`.
async fn selected_then(
    style: ReplyStyle,
    given: &[(u32, &str)],
    told: &[(u32, &str)],
) -> (Connection, Result<BlockStatus>) {
    let (mut peer, stream) = Peer::pair();
    let conn = builder(style).meta_context("base:allocation").build();
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        loop {
            let request = peer.expect_option().await.unwrap();
            match request.option {
                OptionType::SET_META_CONTEXT => {
                    for (id, name) in given {
                        peer.send_option_reply(context(*id, name)).await.unwrap();
                    }
                    peer.send_option_reply(SET_ACK).await.unwrap();
                }
                OptionType::GO => {
                    peer.send_export(OptionType::GO, INFO).await.unwrap();
                    break peer.speak(style);
                }
                option => {
                    peer.send_option_reply(OptionReply::ack(option))
                        .await
                        .unwrap();
                }
            }
        }
    };
    let (result, ()) = tokio::join!(conn.connect_stream(stream), script);
    result.unwrap();
    let script = async {
        let request = peer.expect_command(Command::BLOCK_STATUS).await.unwrap();
        for (id, _) in told {
            let extended = style == ReplyStyle::Extended;
            let body = status_body(extended, *id, &[(512, u64::from(*id))]);
            let kind = if extended {
                ChunkType::BLOCK_STATUS_EXT
            } else {
                ChunkType::BLOCK_STATUS
            };
            let chunk = peer.chunk(&request.head, kind, body);
            peer.send_reply(chunk).await.unwrap();
        }
        peer.acknowledge(&request.head).await.unwrap();
    };
    let status = tokio::select! {
        status = conn.block_status(0, 512).into_future() => status,
        () = async { script.await; std::future::pending().await } => unreachable!(),
    };
    (conn, status)
}

#[tokio::test]
async fn m03_a_context_that_was_not_asked_for_is_drained_and_not_reported() {
    for style in CHUNKED {
        let contexts = [(5, "x:y"), (7, "base:allocation"), (9, "base:other")];
        let (conn, status) = given(style, &contexts).await;
        let export = conn.export().unwrap();
        assert_eq!(export.contexts().collect::<Vec<_>>(), ["base:allocation"]);
        let status = status.unwrap();
        assert_eq!(status.len(), 1);
        let extents = status.get("base:allocation").unwrap();
        assert_eq!((extents[0].length, extents[0].flags), (512, 7));
        assert!(conn.is_ready());
        // With nothing else there is nothing to ask for.
        let (conn, status) = given(style, &[(5, "x:y")]).await;
        assert_matches!(status, Err(Error::Invalid(InvalidRequest::NoContexts)));
        assert!(conn.is_ready());
    }
}

both_runtimes!(m03_a_query_may_select_any_name_of_its_namespace_but_base);
async fn m03_a_query_may_select_any_name_of_its_namespace_but_base() {
    let names = selected(&[context(1, "a:z"), context(2, "e:b"), SET_ACK]).await;
    assert_eq!(names.unwrap(), ["a:z"]);
}

#[tokio::test]
async fn m05_without_a_context_no_status_is_asked_for() {
    assert_eq!(selected(&[SET_ACK]).await.unwrap(), Vec::<String>::new());
    for style in CHUNKED {
        let (conn, status) = given(style, &[]).await;
        assert_matches!(status, Err(Error::Invalid(InvalidRequest::NoContexts)));
        assert_eq!(conn.export().unwrap().contexts().count(), 0);
        assert!(conn.is_ready());
    }
}

both_runtimes!(m07_endless_contexts_are_a_violation);
async fn m07_endless_contexts_are_a_violation() {
    // Those that were not asked for count like the others, and so does one that is repeated.
    let distinct = |space| move |id: u32| context(id, &format!("{space}:{id}"));
    let repeated = |_| context(7, "a:b");
    let floods: [&dyn Fn(u32) -> OptionReply; 3] = [&distinct("a"), &distinct("x"), &repeated];
    for flood in floods {
        let mut replies: Vec<_> = (0..1024).map(flood).collect();
        replies.push(SET_ACK);
        selected(&replies).await.unwrap();
        replies.insert(1024, flood(1024));
        assert_matches!(
            violation(selected(&replies).await),
            ProtocolError::TooManyReplies(_)
        );
    }
}

both_runtimes!(m09_any_id_is_fine_but_each_once);
async fn m09_any_id_is_fine_but_each_once() {
    let names = selected(&[context(0, "c:d"), context(u32::MAX, "a:b"), SET_ACK]).await;
    assert_eq!(names.unwrap(), ["c:d", "a:b"]);
    let twice = selected(&[context(7, "a:b"), context(7, "c:d"), SET_ACK]).await;
    assert_eq!(violation(twice), ProtocolError::DuplicateContext(7));
}

both_runtimes!(m09_a_context_has_one_id);
async fn m09_a_context_has_one_id() {
    // Whether or not it was asked for.
    for name in ["a:b", "x:y"] {
        let twice = selected(&[context(7, name), context(8, name), SET_ACK]).await;
        let expected = ProtocolError::DuplicateContextName(name.into());
        assert_eq!(violation(twice), expected);
    }
}

// nbdkit answers a name that is asked for twice with the same context twice.
both_runtimes!(m09_a_context_that_is_given_again_is_the_same);
async fn m09_a_context_that_is_given_again_is_the_same() {
    let again = [
        context(7, "a:b"),
        context(8, "c:d"),
        context(7, "a:b"),
        SET_ACK,
    ];
    assert_eq!(selected(&again).await.unwrap(), ["a:b", "c:d"]);
    for style in CHUNKED {
        let twice = [(7, "base:allocation"), (7, "base:allocation")];
        let (conn, status) = selected_then(style, &twice, &twice[..1]).await;
        assert_eq!(status.unwrap().len(), 1);
        assert_eq!(conn.export().unwrap().contexts().count(), 1);
    }
}

// P-062: what was selected before chunks were agreed cannot be used without them.
both_runtimes!(without_chunks_a_context_that_was_selected_is_of_no_use);
async fn without_chunks_a_context_that_was_selected_is_of_no_use() {
    for way in option_ways() {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        let script = async {
            peer.expect_option().await.unwrap();
            peer.send_bytes(&encode(&[context(7, "a:b"), SET_ACK]))
                .await
                .unwrap();
            let go = peer.expect_option().await.unwrap().option;
            peer.send_export(go, INFO).await.unwrap();
        };
        let client = async {
            let names = conn.opt_set_meta_context(["a:b"]).await.unwrap();
            assert_eq!(names, ["a:b"]);
            conn.opt_go().await.unwrap();
            let status = conn.block_status(0, 512).into_future();
            timeout(WATCHDOG, status).await.unwrap()
        };
        let (status, ()) = tokio::join!(client, script);
        assert_matches!(status, Err(Error::Invalid(InvalidRequest::NoContexts)));
        assert!(conn.is_ready());
    }
}

#[tokio::test]
async fn m09_status_is_told_by_any_id() {
    for (style, id) in CHUNKED
        .into_iter()
        .flat_map(|style| [(style, 0), (style, u32::MAX)])
    {
        let (_conn, status) = given(style, &[(id, "base:allocation")]).await;
        let status = status.unwrap();
        assert_eq!(
            status.get("base:allocation").unwrap()[0].flags,
            u64::from(id)
        );
    }
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
            let context = context(id, &format!("x:{id}"));
            peer.send_option_reply(context).await.unwrap();
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
