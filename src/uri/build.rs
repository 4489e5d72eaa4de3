//! From parts to [`Uri`]: what every part may be.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use super::{Endpoint, SshRemote, TlsType, Uri, UriError, short, ssh, write};
use crate::wire::MAX_STRING;

/// Puts a [`Uri`] together, see [`Uri::tcp`], [`Uri::unix`], [`Uri::vsock`] and [`Uri::builder`].
///
/// Values are given as they are, not percent-encoded. They are checked by [`build`](Self::build).
///
/// ```
/// use nbd_client::{TlsType, Uri};
///
/// let uri = Uri::unix("/run/nbd.sock")
///     .export_name("50% done")
///     .tls(true)
///     .tls_type(TlsType::Psk)
///     .tls_user("alice")
///     .tls_psk_file("/etc/nbd/keys.psk")
///     .build()?;
/// assert_eq!(
///     uri.to_string(),
///     "nbds+unix://alice@/50%25%20done?socket=/run/nbd.sock&tls-type=psk&tls-psk-file=/etc/nbd/keys.psk",
/// );
/// # Ok::<(), nbd_client::UriError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a URI comes from `build`"]
pub struct UriBuilder(pub(super) Uri);

impl UriBuilder {
    /// The name of the export. Default: empty.
    pub fn export_name(mut self, name: impl Into<String>) -> Self {
        self.0.export_name = name.into();
        self
    }

    /// Whether the scheme is one that insists on TLS. Default: no.
    pub const fn tls(mut self, insist: bool) -> Self {
        self.0.tls = insist;
        self
    }

    /// The user name for TLS with pre-shared keys.
    pub fn tls_user(mut self, user: impl Into<String>) -> Self {
        self.0.tls_user = Some(user.into());
        self
    }

    /// The kind of authentication TLS must use.
    pub const fn tls_type(mut self, kind: TlsType) -> Self {
        self.0.tls_type = Some(kind);
        self
    }

    /// The name to check the server's certificate against, instead of the host.
    pub fn tls_hostname(mut self, name: impl Into<String>) -> Self {
        self.0.tls_hostname = Some(name.into());
        self
    }

    /// Whether to verify who the server is.
    pub const fn tls_verify_peer(mut self, verify: bool) -> Self {
        self.0.tls_verify_peer = Some(verify);
        self
    }

    /// The directory with certificates and keys.
    pub fn tls_certificates(mut self, directory: impl Into<PathBuf>) -> Self {
        self.0.tls_certificates = Some(directory.into());
        self
    }

    /// The file with pre-shared keys.
    pub fn tls_psk_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.tls_psk_file = Some(file.into());
        self
    }

    /// Checks everything and hands out the URI.
    ///
    /// # Errors
    ///
    /// If a part has a value it cannot have, like a name with a NUL byte, a port 0, or a host that
    /// `ssh` would take for an option.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// assert!(Uri::tcp("two words", 10809).build().is_err());
    /// ```
    pub fn build(self) -> Result<Uri, UriError> {
        let Self(mut uri) = self;
        uri.endpoint = endpoint(uri.endpoint)?;
        export_name(&uri.export_name)?;
        if let Some(user) = &uri.tls_user {
            tls_user(user)?;
        }
        if let Some(name) = uri.tls_hostname {
            uri.tls_hostname = Some(host("tls-hostname", &name)?);
        }
        if let Some(path) = &uri.tls_certificates {
            file("tls-certificates", path)?;
        }
        if let Some(path) = &uri.tls_psk_file {
            file("tls-psk-file", path)?;
        }
        // The canonical form can be longer than the text that was parsed, and must parse too.
        let length = uri.to_string().len();
        if length > Uri::MAX_LENGTH {
            return Err(UriError::TooLong { length });
        }
        Ok(uri)
    }
}

/// A URI to be changed.
impl From<Uri> for UriBuilder {
    fn from(uri: Uri) -> Self {
        Self(uri)
    }
}

fn endpoint(endpoint: Endpoint) -> Result<Endpoint, UriError> {
    match endpoint {
        Endpoint::Tcp { host: name, port } => Ok(Endpoint::Tcp {
            // uri.md, "NBD URI authority": the client decides what a missing host means.
            host: match name.as_str() {
                "" => "localhost".to_owned(),
                name => host("host", name)?,
            },
            port: not_zero("port", port)?,
        }),
        Endpoint::Unix { path } => {
            match path.as_os_str().as_encoded_bytes() {
                [0] => return Err(UriError::part("socket", "an abstract name is empty")),
                [0, name @ ..] if name.contains(&0) => return Err(UriError::part("socket", NUL)),
                [0, ..] => {}
                _ => file("socket", &path)?,
            }
            Ok(Endpoint::Unix { path })
        }
        Endpoint::Vsock { cid, port } => Ok(Endpoint::Vsock {
            cid,
            port: not_zero("port", port)?,
        }),
        Endpoint::Ssh {
            user,
            host,
            port,
            compress,
            remote,
        } => {
            if let Some(user) = &user {
                ssh::user(user)?;
            }
            if let Some(port) = port {
                not_zero("port", port)?;
            }
            match &remote {
                SshRemote::Tcp { port } => {
                    not_zero("nbd-port", *port)?;
                }
                SshRemote::Unix { path } => ssh::path(path)?,
            }
            Ok(Endpoint::Ssh {
                user,
                host: ssh::host(&host)?,
                port,
                compress,
                remote,
            })
        }
    }
}

pub(super) const NUL: &str = "it contains a NUL";

/// Checks a host name or address; addresses of IPv6 come back in their canonical form.
pub(super) fn host(part: &'static str, text: &str) -> Result<String, UriError> {
    if text.is_empty() {
        return Err(UriError::part(part, "it is empty"));
    }
    if text.contains(':') {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (text, None),
        };
        let address: Ipv6Addr = address
            .parse()
            .map_err(|_| UriError::part(part, format!("{:?} is no IPv6 address", short(text))))?;
        return match zone {
            None => Ok(address.to_string()),
            Some(zone) if !zone.is_empty() && zone.bytes().all(write::is_unreserved) => {
                Ok(format!("{address}%{zone}"))
            }
            Some(zone) => Err(UriError::part(
                part,
                format!("{:?} is no zone of an IPv6 address", short(zone)),
            )),
        };
    }
    // These are the forbidden host code points of the URL standard: no resolver could find such a
    // name, and another parser could take the character for the end of the host.
    let forbidden =
        |c: char| c.is_control() || c.is_whitespace() || "\"#%/<>?@[\\]^`{|}".contains(c);
    match text.chars().find(|&c| forbidden(c)) {
        Some(c) => Err(UriError::part(part, format!("no host name has a {c:?}"))),
        None => Ok(text.to_owned()),
    }
}

fn export_name(name: &str) -> Result<(), UriError> {
    // U-10; P-003 for the length.
    if name.contains('\0') {
        Err(UriError::part("export name", NUL))
    } else if name.len() > MAX_STRING {
        let why = format!("{} bytes are more than {MAX_STRING}", name.len());
        Err(UriError::part("export name", why))
    } else {
        Ok(())
    }
}

fn tls_user(user: &str) -> Result<(), UriError> {
    if user.is_empty() {
        Err(UriError::part("TLS user name", "it is empty"))
    } else if user.chars().any(char::is_control) {
        let why = "it contains a control character";
        Err(UriError::part("TLS user name", why))
    } else {
        Ok(())
    }
}

fn file(part: &'static str, path: &Path) -> Result<(), UriError> {
    match path.as_os_str().as_encoded_bytes() {
        [] => Err(UriError::part(part, "it is empty")),
        bytes if bytes.contains(&0) => Err(UriError::part(part, NUL)),
        _ => Ok(()),
    }
}

fn not_zero<T: Default + PartialEq>(part: &'static str, port: T) -> Result<T, UriError> {
    if port == T::default() {
        Err(UriError::part(part, "0 is not a port"))
    } else {
        Ok(port)
    }
}
