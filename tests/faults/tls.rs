//! Scripted servers behind TLS.

use nbd_client::testing::Peer;
use nbd_client::wire::option::{ExportInfo, OptionReply};
use nbd_client::wire::{OptionReplyType, OptionType, ReplyStyle};
use nbd_client::{Builder, Connection};

use crate::harness::CONTEXTS;
use crate::shared::loopback::loopback;
use crate::shared::upgrade::{behind_tls, upgrade};

/// Connects, and plays the handshake.
pub(crate) async fn ready(
    style: ReplyStyle,
    builder: Builder,
    info: ExportInfo,
) -> (Connection, Peer) {
    let conn = behind_tls(builder).build();
    let (client, server) = loopback();
    let connecting = conn.aio_connect_socket(client).unwrap();
    let mut peer = Peer::new(upgrade(server).await);
    while !agree(&mut peer, style, info).await {}
    peer.speak(style);
    connecting.await.unwrap();
    assert!(conn.is_tls());
    (conn, peer)
}

/// Answers one option as [`Peer::handshake`] does, whose greeting has been said in clear; whether
/// it was the last.
async fn agree(peer: &mut Peer, style: ReplyStyle, info: ExportInfo) -> bool {
    let request = peer.expect_option().await.unwrap();
    let option = request.option;
    let reply = match option {
        OptionType::GO => {
            peer.send_export(option, info).await.unwrap();
            return true;
        }
        OptionType::SET_META_CONTEXT => {
            let (_, queries) = request.parse_meta_context().unwrap();
            for (id, name) in CONTEXTS {
                if queries.iter().any(|query| query == name) {
                    let context = OptionReply::meta_context(option, id, name);
                    peer.send_option_reply(context).await.unwrap();
                }
            }
            OptionReply::ack(option)
        }
        OptionType::STRUCTURED_REPLY if style == ReplyStyle::Structured => OptionReply::ack(option),
        OptionType::EXTENDED_HEADERS if style == ReplyStyle::Extended => OptionReply::ack(option),
        _ => OptionReply::error(option, OptionReplyType::ERR_UNSUP, ""),
    };
    peer.send_option_reply(reply).await.unwrap();
    false
}
