//! TLS with a server whose address is known late: the certificate is checked against it.

use std::path::PathBuf;

use nbd_client::{Connection, Connector, Endpoint, Error, InvalidUse, TlsFailure, TlsMode};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;
use crate::tls::wire::failure;

/// nbdkit with the certificate in this directory of the PKI.
fn nbdkit(directory: &str) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path(directory).display());
    servers::nbdkit(Over::Tcp, &["--tls=require", &certificates, "memory", "1M"])
}

/// Connects to what a closure finds, after it has waited.
async fn connect(found: Endpoint) -> nbd_client::Result<Connection> {
    let connector = Connector::address(move || {
        let found = found.clone();
        async move {
            tokio::task::yield_now().await;
            Ok(found)
        }
    });
    let builder = Connection::builder().tls(TlsMode::Require, pki::trusting().build()?);
    builder.connect(&connector).await
}

fn tcp(server: &Server, host: &str) -> Endpoint {
    let (host, port) = (host.to_owned(), server.port());
    Endpoint::Tcp { host, port }
}

both_runtimes!(t02_the_name_that_a_closure_finds_is_checked);
async fn t02_the_name_that_a_closure_finds_is_checked() {
    let server = nbdkit("good");
    for host in ["localhost", "127.0.0.1"] {
        let conn = connect(tcp(&server, host)).await.unwrap();
        assert!(conn.is_tls());
        let info = conn.tls_info().unwrap();
        assert_eq!(info.server_name(), Some(host));
        assert_eq!(conn.read(0, 512).await.unwrap().len(), 512);
    }
    let server = nbdkit("elsewhere");
    let result = connect(tcp(&server, "localhost")).await;
    assert_eq!(failure(result), TlsFailure::WrongName);
}

// Before anything is connected: the socket does not exist.
both_runtimes!(a_socket_that_a_closure_finds_has_no_name_to_check);
async fn a_socket_that_a_closure_finds_has_no_name_to_check() {
    let path = PathBuf::from("/nonexistent/socket");
    let error = connect(Endpoint::Unix { path }).await.unwrap_err();
    assert!(
        matches!(error, Error::InvalidUse(InvalidUse::NoServerName)),
        "{error}"
    );
}
