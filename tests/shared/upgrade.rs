//! What a scripted server needs for TLS, and its client.

use std::sync::Arc;

use nbd_client::{Builder, TlsConfig, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// The server's certificate, which is its own authority, and its key.
const PEM: &[u8] = include_bytes!("localhost.pem");

/// A client that goes on only inside TLS, and knows the server.
pub(crate) fn behind_tls(builder: Builder) -> Builder {
    let config = TlsConfig::builder().ca_pem(PEM).build().unwrap();
    builder.tls(TlsMode::Require, config.server_name("localhost"))
}

/// Greets, agrees to TLS, and goes on inside it: with the first option.
pub(crate) async fn upgrade(mut stream: TcpStream) -> TlsStream<TcpStream> {
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
    acceptor.accept(stream).await.unwrap()
}
