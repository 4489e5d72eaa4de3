//! What a URI begins with.

use super::{UriError, short};

#[derive(Debug)]
pub(super) struct Scheme {
    pub(super) name: &'static str,
    pub(super) transport: Transport,
    pub(super) tls: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transport {
    Tcp,
    Unix,
    Vsock,
    Ssh,
}

const fn scheme(name: &'static str, transport: Transport, tls: bool) -> Scheme {
    Scheme {
        name,
        transport,
        tls,
    }
}

static SCHEMES: [Scheme; 8] = [
    scheme("nbd", Transport::Tcp, false),
    scheme("nbds", Transport::Tcp, true),
    scheme("nbd+unix", Transport::Unix, false),
    scheme("nbds+unix", Transport::Unix, true),
    scheme("nbd+vsock", Transport::Vsock, false),
    scheme("nbds+vsock", Transport::Vsock, true),
    scheme("nbd+ssh", Transport::Ssh, false),
    scheme("nbds+ssh", Transport::Ssh, true),
];

/// Takes scheme and `://` off.
pub(super) fn split_scheme(text: &str) -> Result<(&'static Scheme, &str), UriError> {
    let (name, rest) = text.split_once(':').unwrap_or(("", text));
    // U-15: schemes are case-insensitive.
    let known = SCHEMES
        .iter()
        .find(|scheme| scheme.name.eq_ignore_ascii_case(name));
    match (known, rest.strip_prefix("//")) {
        (Some(scheme), Some(rest)) => Ok((scheme, rest)),
        (Some(scheme), None) => Err(UriError::NoAuthority {
            scheme: scheme.name,
            hint: if scheme.transport != Transport::Tcp {
                ""
            } else if rest.starts_with("unix:") {
                " (qemu's old form nbd:unix:PATH:exportname=NAME is nbd+unix:///NAME?socket=PATH)"
            } else {
                " (qemu's old form nbd:HOST:PORT:exportname=NAME is nbd://HOST:PORT/NAME)"
            },
        }),
        (None, Some(_)) if is_scheme(name) => Err(UriError::UnknownScheme {
            scheme: short(name),
            hint: match name.to_ascii_lowercase().as_str() {
                "nbd+tcp" | "tcp" => " (for TCP write nbd://)",
                "unix" => " (for a local socket write nbd+unix:///?socket=/path)",
                _ => "",
            },
        }),
        (None, _) => Err(UriError::NoScheme {
            hint: if text.is_empty() {
                ": it is empty"
            } else if text.starts_with(['/', '.']) && !text.starts_with("//") {
                "; for a local socket write nbd+unix:///?socket=/path"
            } else if starts_with_ignoring_case(text, "localhost") {
                "; for a local port write nbd://localhost or nbd://localhost:PORT"
            } else {
                ""
            },
        }),
    }
}

/// RFC 3986, 3.1.
fn is_scheme(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
