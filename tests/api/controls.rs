//! What can be switched and asked while connecting, and how queued requests are given up.

use std::future::IntoFuture;

use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::OptionReply;
use nbd_client::wire::{Command, HandshakeFlags, OptionReplyType, OptionType, ReplyStyle};
use nbd_client::{Connection, Delivery, Error, Handshake, State, context};

use crate::support::*;

fn server() -> Server {
    Server::builder()
        .export("a", Export::new(1 << 20).context("x:y", [(100, 1)]))
        .export(
            "b",
            Export::new(1 << 10)
                .description("the other")
                .read_only(true),
        )
        .build()
}

async fn negotiating(builder: nbd_client::Builder, server: &Server) -> Connection {
    let conn = builder.opt_mode(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    assert!(conn.is_negotiating());
    conn
}

#[tokio::test]
async fn abandoning_gives_up_what_is_not_sent_and_finishes_what_is() {
    for style in STYLES {
        let (conn, mut peer) = narrow(style, 4096).await;
        let write = |byte: u8| {
            let write = conn.write(0, vec![byte; 100_000]);
            tokio::spawn(write.into_future())
        };
        // The pipe takes a part of the first; the others wait behind it.
        let first = write(1);
        settle().await;
        let (second, third) = (write(2), write(3));
        settle().await;
        assert_eq!(conn.in_flight(), 3);
        let ends = tokio::spawn(conn.disconnect().abandon().into_future());
        for given_up in [second, third] {
            let error = given_up.await.unwrap().unwrap_err();
            assert_matches!(&error, Error::Closed(_));
            assert_eq!(error.delivery(), Delivery::NotSent);
        }
        assert_eq!(conn.in_flight(), 1);
        let request = peer.expect_command(Command::WRITE).await.unwrap();
        assert!(request.payload.iter().all(|byte| *byte == 1));
        assert_eq!(request.payload.len(), 100_000);
        peer.acknowledge(&request.head).await.unwrap();
        first.await.unwrap().unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
        drop(peer);
        ends.await.unwrap().unwrap();
        assert_eq!(conn.state(), State::Closed);
        assert_eq!(conn.stats().messages_sent, sent_in_all(style));
    }
}

/// Flags, options of the handshake, one write, and the goodbye.
fn sent_in_all(style: ReplyStyle) -> u64 {
    match style {
        ReplyStyle::Simple => 2 + 2,
        ReplyStyle::Structured | ReplyStyle::Extended => 3 + 2,
    }
}

#[tokio::test]
async fn abandoning_on_an_idle_connection_is_a_plain_goodbye() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let ends = tokio::spawn(conn.disconnect().abandon().into_future());
    peer.expect_command(Command::DISC).await.unwrap();
    drop(peer);
    ends.await.unwrap().unwrap();
    conn.disconnect().abandon().await.unwrap();
}

#[tokio::test]
async fn abandoning_waits_for_what_was_sent() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let flush = tokio::spawn(conn.flush().into_future());
    let request = peer.expect_command(Command::FLUSH).await.unwrap();
    let ends = tokio::spawn(conn.disconnect().abandon().into_future());
    settle().await;
    peer.acknowledge(&request.head).await.unwrap();
    flush.await.unwrap().unwrap();
    peer.expect_command(Command::DISC).await.unwrap();
    drop(peer);
    ends.await.unwrap().unwrap();
}

#[tokio::test]
async fn export_name_is_used_on_demand_though_go_is_known() {
    let conn = Connection::builder()
        .export_name("b")
        .meta_context(context::BASE_ALLOCATION)
        .force_export_name(true)
        .build();
    conn.connect_stream(server().connect()).await.unwrap();
    // so no extended headers. Structured replies and contexts are possible.
    let protocol = conn.protocol().unwrap();
    assert!(protocol.structured_replies && !protocol.extended_headers);
    let export = conn.export().unwrap();
    assert_eq!(export.size(), 1 << 10);
    assert!(export.has_context(context::BASE_ALLOCATION));
    // P-017: EXPORT_NAME tells size and flags and nothing else.
    assert_eq!(export.block_size(), None);
    conn.read(0, 1024).await.unwrap();
}

// P-018: a server refuses EXPORT_NAME by closing.
#[tokio::test]
async fn export_name_that_is_not_there_is_a_closed_connection() {
    let conn = Connection::builder()
        .export_name("c")
        .force_export_name(true)
        .build();
    let error = conn.connect_stream(server().connect()).await.unwrap_err();
    assert!(error.to_string().contains("\"c\""), "{error}");
    assert_eq!(conn.state(), State::Dead);
}

// no EXPORT_NAME after extended headers.
#[tokio::test]
async fn export_name_is_impossible_after_extended_headers() {
    let conn = negotiating(
        Connection::builder()
            .export_name("a")
            .force_export_name(true),
        &server(),
    )
    .await;
    assert!(conn.opt_extended_headers().await.unwrap());
    let error = conn.opt_go().await.unwrap_err();
    assert_eq!(error.errno(), Some(95), "{error}");
    assert!(conn.is_negotiating());
}

#[tokio::test]
async fn features_are_not_asked_for_on_demand() {
    let no_flags = HandshakeFlags::empty();
    for (builder, handshake, structured, extended) in [
        (Connection::builder(), Handshake::FixedNewstyle, true, true),
        (
            Connection::builder().extended_headers(false),
            Handshake::FixedNewstyle,
            true,
            false,
        ),
        (
            Connection::builder().structured_replies(false),
            Handshake::FixedNewstyle,
            false,
            false,
        ),
        (
            Connection::builder().handshake_flags(no_flags),
            Handshake::Newstyle,
            false,
            false,
        ),
    ] {
        let conn = builder.build();
        conn.connect_stream(server().connect()).await.unwrap();
        let protocol = conn.protocol().unwrap();
        assert_eq!(protocol.handshake, handshake);
        assert_eq!(protocol.structured_replies, structured);
        assert_eq!(protocol.extended_headers, extended);
        conn.read(0, 512).await.unwrap();
    }
}

#[tokio::test]
async fn information_is_forgotten_when_the_name_changes_or_info_fails() {
    let conn = negotiating(Connection::builder().full_info(true), &server()).await;
    assert_eq!(conn.size().unwrap_err().errno(), Some(22));
    conn.set_export_name("b").unwrap();
    let info = conn.opt_info().await.unwrap();
    assert_eq!(info.description().unwrap().as_str(), "the other");
    assert_eq!(conn.size().unwrap(), 1 << 10);
    // The same name changes nothing.
    conn.set_export_name("b").unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 10);
    conn.set_export_name("a").unwrap();
    assert!(conn.export().is_err());
    conn.opt_info().await.unwrap();
    conn.set_export_name("c").unwrap();
    let refusal = conn.opt_info().await.unwrap_err();
    assert_eq!(refusal.errno(), Some(2), "{refusal}");
    assert!(conn.export().is_err());
    // A failure to enter is one, too, and leaves the negotiation usable.
    conn.set_export_name("a").unwrap();
    conn.opt_info().await.unwrap();
    conn.set_export_name("c").unwrap();
    assert_eq!(conn.opt_go().await.unwrap_err().errno(), Some(2));
    assert!(conn.export().is_err());
    conn.set_export_name("b").unwrap();
    conn.opt_go().await.unwrap();
    assert!(conn.is_ready());
    assert!(conn.export().unwrap().is_read_only());
}

#[tokio::test]
async fn whether_a_context_can_be_used_is_known_after_a_selection() {
    let base = context::BASE_ALLOCATION;
    let fresh = Connection::new();
    assert_eq!(fresh.can_meta_context(base).unwrap_err().errno(), Some(107));
    let conn = negotiating(Connection::builder().export_name("a"), &server()).await;
    // None is asked for, so none is there; once one is asked for, it is not decided.
    assert!(!conn.can_meta_context(base).unwrap());
    conn.add_meta_context(base).unwrap();
    assert_eq!(conn.meta_contexts(), [base]);
    assert_eq!(conn.can_meta_context(base).unwrap_err().errno(), Some(22));
    conn.opt_info().await.unwrap();
    assert!(conn.can_meta_context(base).unwrap());
    assert!(!conn.can_meta_context("x:y").unwrap());
    // P-074: a selection replaces the one before.
    assert_eq!(conn.opt_set_meta_context(["x:y"]).await.unwrap(), ["x:y"]);
    assert!(conn.can_meta_context("x:y").unwrap());
    assert!(!conn.can_meta_context(base).unwrap());
    let none: [&str; 0] = [];
    conn.opt_set_meta_context(none).await.unwrap();
    assert!(!conn.can_meta_context("x:y").unwrap());
    conn.set_export_name("b").unwrap();
    assert!(conn.can_meta_context(base).is_err());
    // P-058: what was selected for another export does not count.
    conn.set_request_meta_context(false).unwrap();
    conn.opt_go().await.unwrap();
    assert!(!conn.can_meta_context(base).unwrap());
}

#[tokio::test]
async fn explicit_selection_stays_if_none_is_asked_for() {
    for clears in [false, true] {
        let conn = negotiating(Connection::builder().export_name("a"), &server()).await;
        conn.add_meta_context(context::BASE_ALLOCATION).unwrap();
        conn.opt_set_meta_context(["x:y"]).await.unwrap();
        if clears {
            conn.clear_meta_contexts().unwrap();
        } else {
            conn.set_request_meta_context(false).unwrap();
        }
        conn.opt_go().await.unwrap();
        let export = conn.export().unwrap();
        assert_eq!(export.contexts().collect::<Vec<_>>(), ["x:y"]);
        let status = conn.block_status(0, 1000).await.unwrap();
        assert_eq!(status.get("x:y").unwrap().len(), 2);
    }
}

#[tokio::test]
async fn what_is_asked_for_can_be_changed_only_before_it_is_asked() {
    let conn = Connection::new();
    conn.set_export_name("a").unwrap();
    conn.add_meta_context("x:y").unwrap();
    conn.set_full_info(true).unwrap();
    conn.set_request_block_size(false).unwrap();
    conn.connect_stream(server().connect()).await.unwrap();
    assert_eq!(conn.export().unwrap().block_size(), None);
    for result in [
        conn.set_export_name("b"),
        conn.add_meta_context("x:z"),
        conn.clear_meta_contexts(),
        conn.set_full_info(false),
        conn.set_request_block_size(true),
        conn.set_request_meta_context(true),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.errno(), Some(22), "{error}");
        assert!(error.to_string().contains("ready"), "{error}");
    }
    assert_eq!(conn.export_name(), "a");
}

// P-033: ERR_SHUTDOWN is answered with ABORT.
#[tokio::test]
async fn server_that_shuts_down_is_left_politely() {
    let server = server();
    let conn = negotiating(Connection::builder().export_name("a"), &server).await;
    server.shut_down();
    let error = conn.opt_list().await.unwrap_err();
    assert_matches!(
        &error,
        Error::Refused(refusal) if refusal.reply() == OptionReplyType::ERR_SHUTDOWN
            && refusal.option() == OptionType::LIST
    );
    assert_eq!(error.errno(), Some(108));
    conn.closed().await;
    assert!(!conn.is_negotiating());
}

#[tokio::test]
async fn options_from_several_tasks_take_turns() {
    let conn = negotiating(Connection::builder().export_name("a"), &server()).await;
    let none: [&str; 0] = [];
    let (list, contexts, info) = tokio::join!(
        conn.opt_list(),
        conn.opt_list_meta_context(none),
        conn.opt_info()
    );
    assert_eq!(list.unwrap().len(), 2);
    assert_eq!(contexts.unwrap().len(), 2);
    assert_eq!(info.unwrap().size(), 1 << 20);
    assert!(conn.is_negotiating());
}

// P-083: replies are read while queries are written.
#[tokio::test]
async fn long_queries_are_written_while_replies_are_read() {
    // Neither side's pipe holds what it has to say, and the server answers the first query.
    let (client, stream) = tokio::io::duplex(512);
    let mut peer = Peer::new(stream);
    let conn = Connection::builder()
        .opt_mode(true)
        .structured_replies(false)
        .build();
    let (connected, greeted) = tokio::join!(
        conn.connect_stream(client),
        peer.greet(HandshakeFlags::all())
    );
    greeted.unwrap();
    connected.unwrap();
    let queries = (0..1000).map(|number| format!("x:{number}"));
    let listing = conn.opt_list_meta_context(queries);
    let option = OptionType::LIST_META_CONTEXT;
    let script = async {
        let before = peer.received().len();
        while peer.received().len() == before {
            let part = drop_after(1, peer.expect_option()).await;
            assert!(part.is_none(), "the whole option has come");
            tokio::task::yield_now().await;
        }
        for number in 0..1000 {
            let name = format!("x:{number}");
            let reply = OptionReply::meta_context(option, 0, &name);
            peer.send_option_reply(reply).await.unwrap();
        }
        let request = peer.expect_option().await.unwrap();
        assert_eq!(request.option, option);
        let ack = OptionReply::ack(option);
        peer.send_option_reply(ack).await.unwrap();
    };
    let (names, ()) = tokio::join!(listing, script);
    assert_eq!(names.unwrap().len(), 1000);
}

#[tokio::test]
async fn k37_export_names_are_any_text_of_at_most_4096_bytes_without_nul() {
    let longest = "n".repeat(4096);
    for name in [
        "",
        "/",
        "//a",
        " a b ",
        "..",
        "\u{e4}\u{1f980}",
        "a\nb",
        &longest,
    ] {
        let server = Server::builder().export(name, Export::new(7)).build();
        let conn = Connection::builder().export_name(name).build();
        conn.connect_stream(server.connect()).await.unwrap();
        assert_eq!(conn.size().unwrap(), 7, "{name:?}");
    }
    let too_long = "\u{e4}".repeat(2049);
    for name in ["a\0b", "\0", &too_long] {
        let conn = Connection::builder().export_name(name).build();
        let (stream, mut other) = tokio::io::duplex(64);
        let error = conn.connect_stream(stream).await.unwrap_err();
        assert_matches!(error, Error::Invalid(_));
        // Not a byte was sent, and the handle is as it was.
        let mut byte = [0; 1];
        let end = tokio::io::AsyncReadExt::read(&mut other, &mut byte).await;
        assert_eq!(end.unwrap(), 0);
        assert!(conn.is_created());
        let negotiating = negotiating(Connection::builder(), &server()).await;
        assert_matches!(negotiating.set_export_name(name), Err(Error::Invalid(_)));
    }
}
