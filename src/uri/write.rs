//! From [`Uri`] to text.

use std::fmt::{self, Write as _};

use super::{DEFAULT_PORT, Endpoint, SshRemote, Uri};

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self, false, f)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write(self, true, &mut text)?;
        f.debug_tuple("Uri").field(&text).finish()
    }
}

/// Writes the canonical form. With `redacted`, possible secrets are left out: user names, and the
/// values of unknown parameters.
fn write(uri: &Uri, redacted: bool, out: &mut impl fmt::Write) -> fmt::Result {
    let secret = |text: &str, out: &mut dyn fmt::Write| {
        if redacted {
            out.write_str("***")
        } else {
            write!(out, "{}", Encoded(text.as_bytes(), ""))
        }
    };

    write!(out, "{}://", uri.scheme())?;
    let over_ssh = matches!(uri.endpoint, Endpoint::Ssh { .. });
    let user = match &uri.endpoint {
        Endpoint::Ssh { user, .. } => user,
        _ => &uri.tls_user,
    };
    if let Some(user) = user {
        secret(user, out)?;
        out.write_char('@')?;
    }
    match &uri.endpoint {
        Endpoint::Tcp { host, port } => {
            write!(out, "{}", Host(host))?;
            if *port != DEFAULT_PORT {
                write!(out, ":{port}")?;
            }
        }
        Endpoint::Unix { .. } => {}
        Endpoint::Vsock { cid, port } => {
            write!(out, "{cid}")?;
            if *port != u32::from(DEFAULT_PORT) {
                write!(out, ":{port}")?;
            }
        }
        Endpoint::Ssh { host, port, .. } => {
            write!(out, "{}", Host(host))?;
            if let Some(port) = port {
                write!(out, ":{port}")?;
            }
        }
    }
    write!(out, "/{}", Encoded(uri.export_name.as_bytes(), "/:@=,"))?;

    let mut query = Query { out, first: true };
    match &uri.endpoint {
        Endpoint::Unix { path } => query.bytes("socket", path.as_os_str().as_encoded_bytes())?,
        Endpoint::Ssh {
            compress, remote, ..
        } => {
            match remote {
                SshRemote::Unix { path } => {
                    query.bytes("socket", path.as_os_str().as_encoded_bytes())?
                }
                SshRemote::Tcp { port } if *port != DEFAULT_PORT => {
                    write!(query.key("nbd-port")?, "{port}")?
                }
                SshRemote::Tcp { .. } => {}
            }
            if *compress {
                query.bytes("compress", b"true")?;
            }
        }
        Endpoint::Tcp { .. } | Endpoint::Vsock { .. } => {}
    }
    if let Some(kind) = uri.tls_type {
        query.bytes("tls-type", kind.name().as_bytes())?;
    }
    if let Some(name) = &uri.tls_hostname {
        query.bytes("tls-hostname", name.as_bytes())?;
    }
    if let Some(verify) = uri.tls_verify_peer {
        query.bytes("tls-verify-peer", if verify { b"1" } else { b"0" })?;
    }
    if let Some(path) = &uri.tls_certificates {
        query.bytes("tls-certificates", path.as_os_str().as_encoded_bytes())?;
    }
    if let Some(path) = &uri.tls_psk_file {
        query.bytes("tls-psk-file", path.as_os_str().as_encoded_bytes())?;
    }
    if let (true, Some(user)) = (over_ssh, &uri.tls_user) {
        secret(user, query.key("tls-username")?)?;
    }
    for (name, value) in &uri.experimental {
        secret(value, query.key(name)?)?;
    }
    Ok(())
}

struct Query<'a, W> {
    out: &'a mut W,
    first: bool,
}

impl<W: fmt::Write> Query<'_, W> {
    fn key(&mut self, name: &str) -> Result<&mut W, fmt::Error> {
        self.out.write_char(if self.first { '?' } else { '&' })?;
        self.first = false;
        write!(self.out, "{}=", Encoded(name.as_bytes(), ""))?;
        Ok(self.out)
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> fmt::Result {
        write!(self.key(name)?, "{}", Encoded(value, "/:@,"))
    }
}

/// A host as it stands in an authority: addresses of IPv6 in brackets (U-06), their zone after
/// `%25` (RFC 6874).
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", Encoded(self.0.as_bytes(), ":"))
        } else {
            write!(f, "{}", Encoded(self.0.as_bytes(), ""))
        }
    }
}

/// Bytes, percent-encoded but for unreserved characters (RFC 3986, 2.3) and those to keep.
struct Encoded<'a>(&'a [u8], &'static str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if is_unreserved(byte) || self.1.as_bytes().contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// RFC 3986, 2.3.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
