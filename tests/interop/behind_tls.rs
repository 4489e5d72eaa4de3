//! nbdkit behind TLS: both sides prove who they are.

use nbd_client::{Connection, TlsMode};

use crate::pki;
use crate::server::Server;

/// nbdkit on a Unix socket, for clients with a certificate.
pub(crate) fn nbdkit(args: &[&str]) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let tls = ["--tls=require", "--tls-verify-peer", &certificates];
    let config = pki::mutual().build().unwrap().server_name("localhost");
    let client = Connection::builder().tls(TlsMode::Require, config);
    Server::nbdkit(&[&tls, args].concat()).with_client(client)
}
