//! The certificates that `mkpki.sh` makes.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nbd_client::{TlsConfig, TlsConfigBuilder};

use super::server::run;

/// The path of a file, made when it is first asked for and kept for later runs.
pub(crate) fn path(name: &str) -> PathBuf {
    static PKI: OnceLock<PathBuf> = OnceLock::new();
    PKI.get_or_init(make).join(name)
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

/// Trusts the authority that certified the good servers.
pub(crate) fn trusting() -> TlsConfigBuilder {
    TlsConfig::builder().ca_pem(read("ca/ca-cert.pem"))
}

/// The same, with a certificate for the client.
pub(crate) fn mutual() -> TlsConfigBuilder {
    trusting().client_pem(read("client-cert.pem"), read("client-key.pem"))
}

fn make() -> PathBuf {
    let script = include_str!("mkpki.sh");
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = scratch.join(format!("tls-pki-{:016x}", hasher.finish()));
    if !made.exists() {
        let dir = tempfile::tempdir_in(scratch).unwrap();
        run("sh", &["-c", script, "mkpki", dir.path().to_str().unwrap()]);
        // Another process may have been faster.
        let renamed = fs::rename(dir.path(), &made);
        assert!(renamed.is_ok() || made.exists(), "{renamed:?}");
    }
    made
}
