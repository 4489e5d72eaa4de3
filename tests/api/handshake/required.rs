//! Metadata contexts without which an export is not entered.

use nbd_client::testing::{Export, Server};
use nbd_client::{ErrorKind, MissingContext};
use tokio::time::timeout;

use super::*;

/// Only hangs are found by this.
const WATCHDOG: Duration = Duration::from_secs(60);

const BITMAP: &str = "qemu:dirty-bitmap:monday";

/// A server with two exports, of which one has the bitmap.
fn server() -> Server {
    Server::builder()
        .export("", Export::new(1 << 20))
        .export("kept", Export::new(1 << 20).context(BITMAP, [(4096, 1)]))
        .build()
}

#[track_caller]
fn missing(result: Result<()>) -> MissingContext {
    match result.unwrap_err() {
        Error::MissingContext(missing) => missing,
        other => panic!("{other}"),
    }
}

both_runtimes!(an_export_without_a_required_context_is_not_entered);
async fn an_export_without_a_required_context_is_not_entered() {
    for (name, is_there) in [("", false), ("kept", true)] {
        let conn = Connection::builder()
            .export_name(name)
            .require_meta_context("base:allocation")
            .require_meta_context(BITMAP)
            .build();
        let result = conn.connect_stream(server().connect()).await;
        if is_there {
            result.unwrap();
            assert!(conn.export().unwrap().has_context(BITMAP));
            continue;
        }
        let error = result.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Refused, Some(2)));
        assert!(error.is_fatal() && conn.is_dead());
        let missing = missing(result);
        assert_eq!(missing.name(), BITMAP);
        assert_eq!(missing.available(), ["base:allocation"]);
    }
}

both_runtimes!(the_server_is_left_politely_before_the_export_is_entered);
async fn the_server_is_left_politely_before_the_export_is_entered() {
    let conn = Connection::builder().require_meta_context("a:b").build();
    let (mut peer, ours) = Peer::pair();
    let connecting = conn.aio_connect_stream(ours).unwrap();
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let mut options = Vec::new();
        while let Ok(request) = peer.expect_option().await {
            options.push(request.option);
            let reply = match request.option {
                // This one lists contexts, and will not select them.
                OptionType::LIST_META_CONTEXT => {
                    let context = OptionReply::meta_context(request.option, 0, "c:d");
                    peer.send_option_reply(context).await.unwrap();
                    OptionReply::ack(request.option)
                }
                OptionType::STRUCTURED_REPLY | OptionType::SET_META_CONTEXT => {
                    OptionReply::ack(request.option)
                }
                option => OptionReply::error(option, OptionReplyType::ERR_UNSUP, ""),
            };
            peer.send_option_reply(reply).await.unwrap();
        }
        options
    };
    let script = timeout(WATCHDOG, script);
    let (result, options) = tokio::join!(connecting, script);
    assert_eq!(missing(result).available(), ["c:d"]);
    assert_eq!(
        options.unwrap(),
        [
            OptionType::EXTENDED_HEADERS,
            OptionType::STRUCTURED_REPLY,
            OptionType::SET_META_CONTEXT,
            OptionType::LIST_META_CONTEXT,
            OptionType::ABORT
        ]
    );
}

both_runtimes!(required_contexts_need_structured_replies);
async fn required_contexts_need_structured_replies() {
    for builder in [
        Connection::builder().structured_replies(false),
        Connection::builder().handshake_flags(HandshakeFlags::empty()),
    ] {
        let conn = builder.require_meta_context("base:allocation").build();
        let result = conn.connect_stream(server().connect()).await;
        let text = result.as_ref().unwrap_err().to_string();
        assert!(text.contains("structured replies"), "{text}");
        assert!(missing(result).available().is_empty());
        assert!(conn.is_dead());
    }
}

both_runtimes!(in_option_mode_another_export_can_be_tried);
async fn in_option_mode_another_export_can_be_tried() {
    let builder = Connection::builder().require_meta_context(BITMAP);
    let conn = builder.opt_mode(true).build();
    conn.connect_stream(server().connect()).await.unwrap();
    let error = conn.opt_go().await.unwrap_err();
    assert!(!error.is_fatal() && conn.is_negotiating());
    missing(Err(error));
    conn.set_export_name("kept").unwrap();
    conn.opt_go().await.unwrap();
    assert!(conn.export().unwrap().has_context(BITMAP));

    let conn = Connection::builder().require_meta_context(BITMAP);
    let conn = conn.opt_mode(true).build();
    conn.connect_stream(server().connect()).await.unwrap();
    conn.clear_meta_contexts().unwrap();
    conn.opt_go().await.unwrap();
}
