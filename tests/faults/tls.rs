//! Scripted servers behind TLS.

use std::sync::Arc;

use nbd_client::testing::Peer;
use nbd_client::wire::option::{ExportInfo, OptionReply};
use nbd_client::wire::{OptionReplyType, OptionType, ReplyStyle};
use nbd_client::{Builder, Connection, TlsConfig, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::CONTEXTS;
use crate::loopback::loopback;

/// The server's certificate, which is its own authority, and its key.
const PEM: &[u8] = include_bytes!("localhost.pem");

/// Connects, and plays the handshake.
pub(crate) async fn ready(
    style: ReplyStyle,
    builder: Builder,
    info: ExportInfo,
) -> (Connection, Peer) {
    let config = TlsConfig::builder().ca_pem(PEM).build().unwrap();
    let config = config.server_name("localhost");
    let conn = builder.tls(TlsMode::Require, config).build();
    let (client, server) = loopback();
    let connecting = conn.aio_connect_socket(client).unwrap();
    let mut peer = upgrade(server).await;
    while !agree(&mut peer, style, info).await {}
    peer.speak(style);
    connecting.await.unwrap();
    assert!(conn.is_tls());
    (conn, peer)
}

/// Greets, agrees to TLS, and goes on inside it.
async fn upgrade(mut stream: TcpStream) -> Peer {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await.unwrap();
    let mut heard = [0; 20];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, *b"\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0");
    let agreed = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x05\0\0\0\x01\0\0\0\0";
    stream.write_all(agreed).await.unwrap();
    let chain = CertificateDer::pem_slice_iter(PEM).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(PEM).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Peer::new(acceptor.accept(stream).await.unwrap())
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
