//! Pre-shared keys with servers that have no proper host name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nbd_client::{ByteStream, Connection, TlsMode, TlsPsk, TlsUpgrade, Upgrading};

use crate::shared::server::Over;
use crate::tls::servers;

/// Tells the upgrade that the server has this name.
#[derive(Debug)]
struct Named(TlsPsk, &'static str);

impl TlsUpgrade for Named {
    fn upgrade<'a>(&'a self, stream: Box<dyn ByteStream>, _: Option<&'a str>) -> Upgrading<'a> {
        self.0.upgrade(stream, Some(self.1))
    }
}

both_runtimes!(a_name_that_gnutls_refuses_is_not_sent_with_a_key);
async fn a_name_that_gnutls_refuses_is_not_sent_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.psk");
    fs::write(&keys, format!("alice:{}\n", "5a".repeat(32))).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let psk = format!("--tls-psk={}", keys.display());
    let server = servers::nbdkit(Over::Unix, &["--tls=require", &psk, "memory", "1M"]);
    let psk = TlsPsk::new("alice", [0x5a; 32]).unwrap();
    let mut failures = Vec::new();
    for name in [
        "nbd_server",
        "[::1]",
        "fe80::1%eth0",
        "mä",
        "127.0.0.1",
        "server-1.example",
    ] {
        let named = Named(psk.clone(), name);
        let conn = Connection::builder().tls(TlsMode::Require, named).build();
        match server.connect(&conn).await {
            Ok(()) => assert!(conn.is_tls()),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
