//! The directory layout of libnbd, QEMU and libvirt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::TlsConfigBuilder;
use crate::error::{Error, Reason, Result};

/// The file that makes a directory one with certificates.
const CA: &str = "ca-cert.pem";

/// Returns the first of these directories that has certificates. One that cannot be looked into is
/// none.
pub(super) fn first(directories: Vec<PathBuf>) -> Option<PathBuf> {
    let has_ca = |directory: &PathBuf| directory.join(CA).is_file();
    directories.into_iter().find(has_ca)
}

/// Adds what is in the directory.
pub(super) fn load(mut config: TlsConfigBuilder, directory: &Path) -> Result<TlsConfigBuilder> {
    let Some(ca) = read(directory, CA)? else {
        let missing = directory.join(CA);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_directory_with_an_authority_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let all = || {
            ["none", "empty", "wrong", "first", "second"]
                .map(path)
                .to_vec()
        };
        assert_eq!(first(all()), None);
        for name in ["empty", "wrong", "first", "second"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::create_dir(path("wrong").join(CA)).unwrap();
        fs::write(path("empty").join("client-cert.pem"), "").unwrap();
        assert_eq!(first(all()), None);
        fs::write(path("second").join(CA), "").unwrap();
        assert_eq!(first(all()), Some(path("second")));
        fs::write(path("first").join(CA), "").unwrap();
        assert_eq!(first(all()), Some(path("first")));
    }
}
