//! The directory layout of libnbd, QEMU and libvirt.

use std::fs;
use std::io;
use std::path::Path;

use super::config::TlsConfigBuilder;
use crate::error::{Error, Reason, Result};

/// Adds what is in the directory.
pub(super) fn load(mut config: TlsConfigBuilder, directory: &Path) -> Result<TlsConfigBuilder> {
    let Some(ca) = read(directory, "ca-cert.pem")? else {
        let missing = directory.join("ca-cert.pem");
        let why = format!("there is no {}", missing.display());
        return Err(Error::credentials("TLS directory", why));
    };
    config = config.ca_pem(ca);
    if let Some((certificate, key)) = pair(directory, "client-cert.pem", "client-key.pem")? {
        config = config.client_pem(certificate, key);
    }
    for number in 0_u32.. {
        let certificate = format!("client-cert-{number}.pem");
        let key = format!("client-key-{number}.pem");
        let Some((certificate, key)) = pair(directory, &certificate, &key)? else {
            break;
        };
        config = config.client_pem(certificate, key);
    }
    if let Some(list) = read(directory, "ca-crl.pem")? {
        config = config.crl_pem(list);
    }
    Ok(config)
}

/// A certificate and its key: both or neither.
fn pair(directory: &Path, certificate: &str, key: &str) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    match (read(directory, certificate)?, read(directory, key)?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (found, _) => {
            let (there, missing) = match found {
                Some(_) => (certificate, key),
                None => (key, certificate),
            };
            let directory = directory.display();
            let why = format!("{directory} has {there}, but no {missing}");
            Err(Error::credentials("TLS directory", why))
        }
    }
}

/// The content of a file; `None` if there is none.
fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = directory.join(name);
    match fs::read(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let why = format!("cannot read {}: {}", path.display(), Reason(&error));
            Err(Error::credentials("TLS directory", why))
        }
    }
}
