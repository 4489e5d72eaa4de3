//! The handshake in every style, and its refusals.

use super::*;
use crate::testing::Export;
use crate::wire::{HandshakeFlags, TransmissionFlags};

fn server() -> Server {
    Server::builder()
        .export("a", Export::new(1000).description("first"))
        .export("b", Export::new(2000).read_only(true))
        .build()
}

#[tokio::test]
async fn oldstyle_serves_the_default_export_at_once() {
    let server = Server::builder()
        .export("a", Export::from_contents(b"hello"))
        .oldstyle(true)
        .build();
    let mut client = Client::new(server.connect());
    let Greeting::Oldstyle(info) = client.greeting().await else {
        panic!("newstyle greeting");
    };
    assert_eq!(info.size, 5);
    assert_eq!(client.read(1, 4).await.data(), b"ello");
}

// P-016: without fixed newstyle, only EXPORT_NAME; P-017: 124 zeroes follow unless NO_ZEROES was
// agreed.
#[tokio::test]
async fn export_name_is_answered_with_zeroes_unless_agreed_otherwise() {
    for (flags, padding) in [
        (ClientFlags::empty(), true),
        (ClientFlags::NO_ZEROES, false),
    ] {
        let server = Server::builder()
            .export("a", Export::from_contents(b"hello"))
            .fixed_newstyle(false)
            .build();
        let mut client = Client::new(server.connect());
        let greeting = client.greeting().await;
        assert_eq!(greeting, Greeting::Newstyle(HandshakeFlags::NO_ZEROES));
        client.send_flags(flags).await;
        client.send_option(OptionRequest::export_name("a")).await;
        let message = client.message(Expect::Export { padding }).await.unwrap();
        assert!(matches!(message, ServerMessage::Export(info) if info.size == 5));
        assert_eq!(client.read(0, 5).await.data(), b"hello");
    }
}

// P-016: without fixed newstyle, only EXPORT_NAME; P-018: a server refuses EXPORT_NAME by closing.
#[tokio::test]
async fn what_cannot_be_refused_is_answered_by_a_close() {
    for request in [
        OptionRequest::export_name("nowhere"),
        OptionRequest::bare(OptionType::LIST),
    ] {
        let server = Server::builder().export("a", Export::new(1)).build();
        let mut client = Client::new(server.connect());
        client.greeting().await;
        client.send_flags(ClientFlags::empty()).await;
        client.send_option(request).await;
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn exports_are_listed_with_their_descriptions() {
    let mut client = Client::greeted(&server()).await;
    let replies = client.option(OptionRequest::bare(OptionType::LIST)).await;
    let listed: Vec<_> = replies[..replies.len() - 1]
        .iter()
        .map(|reply| reply.parse_server().unwrap())
        .collect();
    assert_eq!(listed[0], ("a".into(), "first".into()));
    assert_eq!(listed[1], ("b".into(), "".into()));
    assert_eq!(listed.len(), 2);
}

#[tokio::test]
async fn info_tells_what_was_asked_and_negotiation_goes_on() {
    let server = Server::builder()
        .export(
            "a",
            Export::new(4096)
                .description("first")
                .block_sizes(512, 1024, 4096),
        )
        .build();
    let mut client = Client::greeted(&server).await;
    let asked = [InfoType::NAME, InfoType::DESCRIPTION, InfoType::BLOCK_SIZE];
    let request = OptionRequest::info(OptionType::INFO, "", &asked);
    let replies = client.option(request).await;
    let infos: Vec<_> = replies[..replies.len() - 1]
        .iter()
        .map(|reply| Info::decode(&reply.payload).unwrap())
        .collect();
    assert!(matches!(infos[0], Info::Export(info) if info.size == 4096));
    let expected = [
        // P-057: the default export has a name.
        Info::Name(Some("a".into())),
        Info::Description("first".into()),
        Info::BlockSize {
            minimum: 512,
            preferred: 1024,
            maximum: 4096,
        },
    ];
    assert_eq!(infos[1..], expected);
    let info = client.go("a").await;
    assert!(!info.flags.contains(TransmissionFlags::READ_ONLY));
}

#[tokio::test]
async fn options_are_refused_as_the_protocol_says() {
    let info = |name| OptionRequest::info(OptionType::INFO, name, &[]);
    let twice = [InfoType::NAME, InfoType::NAME];
    let mut cut = OptionRequest::info(OptionType::GO, "a", &[]);
    cut.data.truncate(5);
    let mut full = OptionRequest::bare(OptionType::STRUCTURED_REPLY);
    full.data = Bytes::from_static(b"x");
    let mut client = Client::greeted(&server()).await;
    for (request, expected) in [
        (info("nowhere"), OptionReplyType::ERR_UNKNOWN),
        (info("b"), OptionReplyType::ACK),
        (
            OptionRequest::info(OptionType::GO, "a", &twice),
            OptionReplyType::ERR_INVALID,
        ),
        (cut, OptionReplyType::ERR_INVALID),
        (full, OptionReplyType::ERR_INVALID),
        (
            OptionRequest::bare(OptionType::STARTTLS),
            OptionReplyType::ERR_UNSUP,
        ),
        (
            OptionRequest::bare(OptionType(77)),
            OptionReplyType::ERR_UNSUP,
        ),
        (
            OptionRequest::bare(OptionType::STRUCTURED_REPLY),
            OptionReplyType::ACK,
        ),
        (
            OptionRequest::bare(OptionType::EXTENDED_HEADERS),
            OptionReplyType::ACK,
        ),
        // extended headers take precedence.
        (
            OptionRequest::bare(OptionType::STRUCTURED_REPLY),
            OptionReplyType::ERR_EXT_HEADER_REQD,
        ),
        (OptionRequest::bare(OptionType::ABORT), OptionReplyType::ACK),
    ] {
        assert_eq!(client.last(request.clone()).await, expected, "{request:?}");
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn options_that_are_switched_off_are_refused() {
    let export = || Server::builder().export("a", Export::new(1));
    let go = OptionRequest::info(OptionType::GO, "a", &[]);
    let set = OptionRequest::meta_context::<&str>(OptionType::SET_META_CONTEXT, "a", &[]);
    let bare = OptionRequest::bare;
    use OptionReplyType as Is;
    for (server, request, expected) in [
        (export().go(false), go.clone(), Is::ERR_UNSUP),
        (export().list(false), bare(OptionType::LIST), Is::ERR_POLICY),
        (
            export().structured_replies(false),
            bare(OptionType::STRUCTURED_REPLY),
            Is::ERR_UNSUP,
        ),
        (
            export().extended_headers(false),
            bare(OptionType::EXTENDED_HEADERS),
            Is::ERR_UNSUP,
        ),
        (export().meta_contexts(false), set, Is::ERR_UNSUP),
        (export().tls_required(true), go.clone(), Is::ERR_TLS_REQD),
        (
            export().block_size_required(true),
            go.clone(),
            Is::ERR_BLOCK_SIZE_REQD,
        ),
        (
            export().extended_headers_required(true),
            go.clone(),
            Is::ERR_EXT_HEADER_REQD,
        ),
    ] {
        let mut client = Client::greeted(&server.build()).await;
        assert_eq!(client.last(request).await, expected);
    }
    let server = export().build();
    server.shut_down();
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.last(go).await, Is::ERR_SHUTDOWN);
}

// no EXPORT_NAME after extended headers.
#[tokio::test]
async fn export_name_after_extended_headers_is_answered_by_a_close() {
    let mut client = Client::greeted(&server()).await;
    client.bare(OptionType::EXTENDED_HEADERS).await;
    client.send_option(OptionRequest::export_name("a")).await;
    assert!(client.is_closed().await);
}

fn contexts_of(replies: &[OptionReply]) -> Vec<(u32, String)> {
    let replies = replies.iter();
    let contexts = replies.filter(|reply| reply.reply == OptionReplyType::META_CONTEXT);
    contexts
        .map(|reply| reply.parse_meta_context().unwrap())
        .collect()
}

#[tokio::test]
async fn contexts_are_found_by_name_and_listed_by_namespace() {
    let export = Export::new(1)
        .context("x:one", [(1, 1)])
        .context("x:wide", [(1, 1 << 40)]);
    let server = Server::new(export);
    let mut client = Client::greeted(&server).await;
    client.bare(OptionType::STRUCTURED_REPLY).await;
    for (option, queries, expected) in [
        (
            OptionType::LIST_META_CONTEXT,
            &[][..],
            &["base:allocation", "x:one", "x:wide"][..],
        ),
        (
            OptionType::LIST_META_CONTEXT,
            &["base:"],
            &["base:allocation"],
        ),
        (OptionType::LIST_META_CONTEXT, &["x:"], &["x:one", "x:wide"]),
        (OptionType::SET_META_CONTEXT, &["base:"], &[]),
        (OptionType::SET_META_CONTEXT, &["y:what"], &[]),
        (OptionType::SET_META_CONTEXT, &[], &[]),
        // a 64-bit context can be seen, but not selected without extended headers.
        (
            OptionType::SET_META_CONTEXT,
            &["x:wide", "x:one"],
            &["x:one"],
        ),
    ] {
        let request = OptionRequest::meta_context(option, "", queries);
        let found = contexts_of(&client.option(request).await);
        let names: Vec<_> = found.into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, expected, "{option} {queries:?}");
    }
    client.bare(OptionType::EXTENDED_HEADERS).await;
    let request = OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "", &["x:wide"]);
    assert_eq!(contexts_of(&client.option(request).await).len(), 1);
}

// P-070: contexts need structured replies; P-072: a context has namespace and leaf.
#[tokio::test]
async fn contexts_are_refused_without_structured_replies_or_namespace() {
    let mut client = Client::greeted(&server()).await;
    let set =
        |name, query| OptionRequest::meta_context(OptionType::SET_META_CONTEXT, name, &[query]);
    let good = set("a", "base:allocation");
    assert_eq!(
        client.last(good.clone()).await,
        OptionReplyType::ERR_INVALID
    );
    client.bare(OptionType::STRUCTURED_REPLY).await;
    assert_eq!(
        client.last(set("a", "base")).await,
        OptionReplyType::ERR_INVALID
    );
    let unknown = set("nowhere", "base:allocation");
    assert_eq!(client.last(unknown).await, OptionReplyType::ERR_UNKNOWN);
    let first = contexts_of(&client.option(good.clone()).await);
    let second = contexts_of(&client.option(good).await);
    // P-075: context ids are opaque.
    assert_ne!(first[0].0, second[0].0);
}

// P-058: a selection is for one export; P-074: a selection replaces the former one; P-085: block
// status needs selected contexts.
#[tokio::test]
async fn a_selection_is_lost_with_a_failed_set_or_another_export() {
    let set =
        |name, query| OptionRequest::meta_context(OptionType::SET_META_CONTEXT, name, &[query]);
    for (requests, export, works) in [
        (vec![set("a", "base:allocation")], "a", true),
        (vec![set("a", "base:allocation")], "b", false),
        (
            vec![set("a", "base:allocation"), set("a", "base")],
            "a",
            false,
        ),
        (
            vec![set("b", "base:allocation"), set("a", "base:allocation")],
            "a",
            true,
        ),
    ] {
        let mut client = Client::greeted(&server()).await;
        client.bare(OptionType::STRUCTURED_REPLY).await;
        for request in requests {
            client.option(request).await;
        }
        client.go(export).await;
        client.style = ReplyStyle::Structured;
        let answer = client
            .call(Command::BLOCK_STATUS, CommandFlags::empty(), 0, 10)
            .await;
        assert_eq!(answer.error.is_none(), works);
    }
}
