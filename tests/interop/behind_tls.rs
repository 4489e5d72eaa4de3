//! Servers behind TLS, on Unix sockets: both sides prove who they are.

use nbd_client::{Builder, Connection, TlsMode};

use crate::shared::pki;
use crate::shared::server::Server;

/// nbdkit, for clients with a certificate.
pub(crate) fn nbdkit(args: &[&str]) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let tls = ["--tls=require", "--tls-verify-peer", &certificates];
    Server::nbdkit(&[&tls, args].concat()).with_client(client())
}

/// qemu-nbd, for clients with a certificate.
pub(crate) fn qemu(args: &[&str]) -> Server {
    let certificates = format!(
        "tls-creds-x509,id=tls0,endpoint=server,verify-peer=yes,dir={}",
        pki::path("good").display()
    );
    let tls = ["--tls-creds", "tls0", "--object", &certificates];
    Server::qemu(&[&tls, args].concat()).with_client(client())
}

fn client() -> Builder {
    let config = pki::mutual().build().unwrap().server_name("localhost");
    Connection::builder().tls(TlsMode::Require, config)
}
