//! From text to [`Uri`].

use std::fmt::Display;
use std::str::FromStr;

use super::authority::Authority;
use super::decode::{decode, number, text_of};
use super::query::Query;
use super::scheme::{Scheme, Transport, split_scheme};
use super::{DEFAULT_PORT, Endpoint, SshRemote, Uri, UriError};

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(UriError::TooLong { length: text.len() });
        }
        let (scheme, rest) = split_scheme(text)?;
        // RFC 3986, 3.2: the authority ends at the first of these, or at a fragment.
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        check_characters(text, text.len() - rest.len())?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = Authority::parse(authority)?;
        let mut query = Query::parse(query)?;

        let user = match authority.user {
            "" => None,
            user => Some(text_of("user name", decode(user))?),
        };
        let (ssh_user, tls_user) = match scheme.transport {
            Transport::Ssh => (user, None),
            _ => (None, user),
        };
        let endpoint = match scheme.transport {
            Transport::Tcp => tcp(&authority)?,
            Transport::Unix => unix(scheme, &authority, &mut query)?,
            Transport::Vsock => vsock(&authority, &mut query)?,
            Transport::Ssh => ssh(&authority, ssh_user, &mut query)?,
        };

        // U-09: the name is the path without exactly one leading slash.
        let name = decode(path.strip_prefix('/').unwrap_or(path));
        let mut builder = Self::builder(endpoint)
            .tls(scheme.tls)
            .export_name(text_of("export name", name)?);
        let uri = &mut builder.0;
        uri.tls_user = match (tls_user, query.text("tls-username")?) {
            (Some(_), Some(_)) => {
                return Err(UriError::DuplicateParameter {
                    name: "tls-username",
                });
            }
            (user, parameter) => user.or(parameter),
        };
        uri.tls_type = query.tls_type()?;
        uri.tls_hostname = query.text("tls-hostname")?;
        uri.tls_verify_peer = query.boolean("tls-verify-peer")?;
        uri.tls_certificates = query.path("tls-certificates")?;
        uri.tls_psk_file = query.path("tls-psk-file")?;
        if let Some(name) = query.leftover() {
            return Err(misplaced(name, scheme));
        }
        uri.experimental = query.experimental;
        builder.build()
    }
}

/// Refuses what is not a character of a URI (U-01; RFC 3986, 2), broken escapes, and fragments.
fn check_characters(text: &str, authority_end: usize) -> Result<(), UriError> {
    for (at, character) in text.char_indices() {
        match character {
            '#' => return Err(UriError::Fragment { at }),
            '%' => match text.as_bytes().get(at + 1..at + 3) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
                _ => return Err(UriError::Escape { at }),
            },
            // RFC 3986, 3.2.2: brackets stand around an address and nowhere else.
            '[' | ']' if at < authority_end => {}
            c if c.is_ascii_alphanumeric() || "-._~:/?@!$&'()*+,;=".contains(c) => {}
            _ => return Err(UriError::Character { at, character }),
        }
    }
    Ok(())
}

fn port<T>(part: &'static str, value: u64, max: T) -> Result<T, UriError>
where
    T: Default + Display + PartialEq + TryFrom<u64>,
{
    match T::try_from(value) {
        Ok(port) if port != T::default() => Ok(port),
        _ => Err(UriError::part(part, format!("it must be 1 to {max}"))),
    }
}

fn tcp(authority: &Authority<'_>) -> Result<Endpoint, UriError> {
    Ok(Endpoint::Tcp {
        host: authority.host()?,
        port: match authority.port {
            Some(value) => port("port", value, u16::MAX)?,
            None => DEFAULT_PORT,
        },
    })
}

fn unix(
    scheme: &Scheme,
    authority: &Authority<'_>,
    query: &mut Query,
) -> Result<Endpoint, UriError> {
    // U-05 leaves this to the client. If the host were ignored, a mistake would stay hidden: most
    // often the host was meant as the path.
    if !authority.host.is_empty() || authority.port.is_some() {
        return Err(UriError::Misplaced {
            name: "a host or port",
            scheme: scheme.name,
            hint: " (the path goes into a parameter: nbd+unix:///?socket=/path)",
        });
    }
    match query.path("socket")? {
        Some(path) => Ok(Endpoint::Unix { path }),
        // U-04: a Unix socket needs its parameter.
        None => Err(UriError::MissingParameter {
            name: "socket",
            scheme: scheme.name,
        }),
    }
}

fn vsock(authority: &Authority<'_>, query: &mut Query) -> Result<Endpoint, UriError> {
    let cid = match authority.host {
        "" => 2,
        digits => {
            let cid = number("host", digits)?;
            u32::try_from(cid).map_err(|_| {
                UriError::part("host", format!("a vsock CID is at most {}", u32::MAX))
            })?
        }
    };
    let value = match (authority.port, query.number("nbd-port")?) {
        (Some(_), Some(_)) => return Err(UriError::DuplicateParameter { name: "nbd-port" }),
        (port, parameter) => port.or(parameter),
    };
    Ok(Endpoint::Vsock {
        cid,
        port: match value {
            Some(value) => port("port", value, u32::MAX)?,
            None => DEFAULT_PORT.into(),
        },
    })
}

fn ssh(
    authority: &Authority<'_>,
    user: Option<String>,
    query: &mut Query,
) -> Result<Endpoint, UriError> {
    let remote = match (query.path("socket")?, query.number("nbd-port")?) {
        (Some(_), Some(_)) => {
            let why = "socket already says where the server listens";
            return Err(UriError::part("nbd-port", why));
        }
        (Some(path), None) => SshRemote::Unix { path },
        (None, Some(value)) => SshRemote::Tcp {
            port: port("nbd-port", value, u16::MAX)?,
        },
        (None, None) => SshRemote::Tcp { port: DEFAULT_PORT },
    };
    Ok(Endpoint::Ssh {
        user,
        host: authority.host()?,
        port: match authority.port {
            Some(value) => Some(port("port", value, u16::MAX)?),
            None => None,
        },
        compress: query.boolean("compress")?.unwrap_or(false),
        remote,
    })
}

fn misplaced(name: &'static str, scheme: &Scheme) -> UriError {
    UriError::Misplaced {
        name,
        scheme: scheme.name,
        hint: match (name, scheme.tls) {
            ("socket", false) => " (did you mean nbd+unix:///?socket=...?)",
            ("socket", true) => " (did you mean nbds+unix:///?socket=...?)",
            ("nbd-port", _) if scheme.transport == Transport::Tcp => {
                " (the port follows the host: nbd://HOST:PORT/)"
            }
            _ => "",
        },
    }
}
