//! Servers in this process: up to the TLS handshake by hand, so that every byte is known.

use std::io;
use std::sync::Arc;

use nbd_client::testing::Peer;
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::{OptionType, TransmissionFlags};
use nbd_client::{Builder, Connection, Error, TlsMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::server::TlsStream;

use crate::shared::pki;

/// The name that must not be heard.
pub(crate) const SECRET: &str = "canary-export";

/// A connection that wants [`SECRET`], from a server with the good certificate.
pub(crate) fn builder(mode: TlsMode) -> Builder {
    let config = pki::trusting().build().unwrap().server_name("localhost");
    Connection::builder().export_name(SECRET).tls(mode, config)
}

pub(crate) fn requiring() -> Connection {
    builder(TlsMode::Require).build()
}

/// The client's flags and an option without data for each of these: all that may have been sent.
pub(crate) fn only(options: &[OptionType]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 3];
    for option in options {
        bytes.extend_from_slice(b"IHAVEOPT");
        bytes.extend_from_slice(&option.0.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes
}

/// Greets, agrees to TLS, and leaves the rest to the caller.
pub(crate) async fn agree(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    try_agree(stream).await.unwrap();
}

/// The same with a client that may leave, or has not been told what this server says.
pub(crate) async fn try_agree(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await?;
    let mut heard = [0; 20];
    stream.read_exact(&mut heard).await?;
    if heard[..] != only(&[OptionType::STARTTLS]) {
        return Err(io::Error::other(format!("the client said {heard:?}")));
    }
    let reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x05\0\0\0\x01\0\0\0\0";
    stream.write_all(reply).await
}

/// The configuration of the server with the good certificate.
pub(crate) fn config() -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(&pki::read("good/server-cert.pem"))
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pki::read("good/server-key.pem")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

/// The same with TLS 1.2 and nothing newer.
pub(crate) fn tls12() -> ServerConfig {
    let newest = config();
    let builder = ServerConfig::builder_with_provider(newest.crypto_provider().clone());
    builder
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(newest.cert_resolver)
}

/// Greets and upgrades to TLS.
pub(crate) async fn upgrade<S>(mut stream: S, config: ServerConfig) -> TlsStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    agree(&mut stream).await;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    acceptor.accept(stream).await.unwrap()
}

/// Refuses features and lets the client enter an export of 1 MiB.
pub(crate) async fn enter(peer: &mut Peer) {
    loop {
        let request = peer.expect_option().await.unwrap();
        if request.option == OptionType::GO {
            assert_eq!(request.parse_info().unwrap().0, SECRET);
            let flags = TransmissionFlags::HAS_FLAGS;
            let info = ExportInfo {
                size: 1 << 20,
                flags,
            };
            return peer.send_export(OptionType::GO, info).await.unwrap();
        }
        refuse(peer, request.option).await;
    }
}

pub(crate) async fn refuse(peer: &mut Peer, option: OptionType) {
    use nbd_client::wire::OptionReplyType;
    use nbd_client::wire::option::OptionReply;
    let refusal = OptionReply::error(option, OptionReplyType::ERR_UNSUP, "");
    peer.send_option_reply(refusal).await.unwrap();
}

/// The cause of a failure of TLS.
#[track_caller]
pub(crate) fn failure<T: std::fmt::Debug>(result: nbd_client::Result<T>) -> nbd_client::TlsFailure {
    match result {
        Err(Error::Tls(error, _)) => error.failure(),
        other => panic!("no failure of TLS: {other:?}"),
    }
}

/// What went over a line, to the server and from it.
pub(crate) type Tap = JoinHandle<(Vec<u8>, Vec<u8>)>;

/// A line that keeps all that goes over it: the client's end, the server's, and the tap, which
/// ends when either end is closed.
pub(crate) fn tapped() -> (DuplexStream, DuplexStream, Tap) {
    let (client, mut near) = tokio::io::duplex(1 << 16);
    let (mut far, server) = tokio::io::duplex(1 << 16);
    let tap = tokio::spawn(async move {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let (mut one, mut two) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                count = near.read(&mut one) => {
                    let count = count.unwrap();
                    there.extend_from_slice(&one[..count]);
                    if count == 0 || far.write_all(&one[..count]).await.is_err() {
                        return (there, back);
                    }
                }
                count = far.read(&mut two) => {
                    let count = count.unwrap();
                    back.extend_from_slice(&two[..count]);
                    if count == 0 || near.write_all(&two[..count]).await.is_err() {
                        return (there, back);
                    }
                }
            }
        }
    });
    (client, server, tap)
}

/// How many TLS records with data there are in what a client has said.
pub(crate) fn records(said: &[u8]) -> usize {
    let mut left = &said[only(&[OptionType::STARTTLS]).len()..];
    let mut count = 0;
    while let [kind, _, _, high, low, rest @ ..] = left {
        count += usize::from(*kind == 0x17);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        left = rest.get(length..).unwrap_or_default();
    }
    count
}
