//! From text to [`Uri`].

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::decode::{decode, number, text_of};
use super::query::Query;
use super::{DEFAULT_PORT, Endpoint, SshRemote, Uri, UriError, short};

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

        // U-09: without exactly one slash.
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
        uri.tls_certificates = query.path("tls-certificates");
        uri.tls_psk_file = query.path("tls-psk-file");
        if let Some(name) = query.leftover() {
            return Err(misplaced(name, scheme));
        }
        uri.experimental = query.experimental;
        builder.build()
    }
}

impl TryFrom<&str> for Uri {
    type Error = UriError;

    fn try_from(text: &str) -> Result<Self, UriError> {
        text.parse()
    }
}

impl TryFrom<String> for Uri {
    type Error = UriError;

    fn try_from(text: String) -> Result<Self, UriError> {
        text.parse()
    }
}

#[derive(Debug)]
pub(super) struct Scheme {
    name: &'static str,
    transport: Transport,
    tls: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
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

/// `[USER@][HOST][:PORT]`, not yet decoded. No user is an empty one.
struct Authority<'a> {
    user: &'a str,
    host: &'a str,
    port: Option<u64>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Result<Self, UriError> {
        // The last one, so that what others could take for the host is never silently the user.
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (user, rest),
            None => ("", text),
        };
        if user.contains(':') {
            return Err(UriError::Password);
        }
        if user.contains(['@', '[', ']']) {
            let why = "an @ or a bracket in it must be percent-encoded";
            return Err(UriError::part("user name", why));
        }
        let (host, port) = match rest.find(']') {
            Some(end) => rest.split_at(end + 1),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            // RFC 3986, 3.2.3: a port may be empty.
            Some("") => None,
            Some(digits) => Some(number("port", digits)?),
            None if port.is_empty() => None,
            None => return Err(UriError::part("host", "something follows the bracket")),
        };
        Ok(Self { user, host, port })
    }

    /// The host as a name or address without brackets; empty if there is none.
    fn host(&self) -> Result<String, UriError> {
        let no_address = || {
            let why = format!("{:?} is no IPv6 address in brackets", short(self.host));
            UriError::part("host", why)
        };
        let Some(literal) = self.host.strip_prefix('[') else {
            let host = text_of("host", decode(self.host))?;
            // U-06. Past this point a colon makes it an address.
            return if host.contains([':', '[', ']']) {
                Err(no_address())
            } else {
                Ok(host)
            };
        };
        let literal = literal.strip_suffix(']').ok_or_else(no_address)?;
        // RFC 6874: the percent sign before the zone is itself encoded.
        let (address, zone) = match literal.split_once("%25") {
            Some((address, zone)) => (address, Some(zone)),
            None => (literal, None),
        };
        let address: Ipv6Addr = address.parse().map_err(|_| no_address())?;
        match zone {
            Some(zone) => Ok(format!("{address}%{}", text_of("host", decode(zone))?)),
            None => Ok(address.to_string()),
        }
    }
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
    // U-05 leaves it to us. Ignored, it would hide a misunderstanding: most often the path.
    if !authority.host.is_empty() || authority.port.is_some() {
        return Err(UriError::Misplaced {
            name: "a host or port",
            scheme: scheme.name,
            hint: " (the path goes into a parameter: nbd+unix:///?socket=/path)",
        });
    }
    match query.path("socket") {
        Some(path) => Ok(Endpoint::Unix { path }),
        // U-04.
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
    let remote = match (query.path("socket"), query.number("nbd-port")?) {
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    use super::*;
    use crate::uri::TlsType;

    fn parse(text: &str) -> Uri {
        match text.parse() {
            Ok(uri) => uri,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    fn error(text: &str) -> UriError {
        match text.parse::<Uri>() {
            Ok(uri) => panic!("{text}: accepted as {uri}"),
            Err(error) => error,
        }
    }

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    fn unix(path: impl Into<PathBuf>) -> Endpoint {
        Endpoint::Unix { path: path.into() }
    }

    #[test]
    fn examples_of_the_specification_give_its_export_names() {
        // uri.md, "NBD URI export name".
        for (text, name) in [
            ("nbd://example.com/disk", "disk"),
            ("nbd+unix:///disk?socket=sock", "disk"),
            ("nbd://example.com/", ""),
            ("nbd://example.com", ""),
            ("nbd://example.com//disk", "/disk"),
            ("nbd://example.com/hello%20world", "hello world"),
        ] {
            assert_eq!(parse(text).export_name(), name, "{text}");
        }
    }

    #[test]
    fn export_name_is_decoded_once_and_never_simplified() {
        for (path, name) in [
            ("/a/../b", "a/../b"),
            ("/a/b//c/./d", "a/b//c/./d"),
            ("/..", ".."),
            ("/a+b", "a+b"),
            ("/a%2Fb%20c", "a/b c"),
            ("/%2525", "%25"),
            ("/%2Fa", "/a"),
            ("/a;b=c,d:e@f&g", "a;b=c,d:e@f&g"),
            ("/%C3%A4%E2%82%AC", "ä€"),
            ("/%0a", "\n"),
        ] {
            assert_eq!(parse(&format!("nbd://h{path}")).export_name(), name);
        }
        let longest = "a".repeat(4096);
        let uri = parse(&format!("nbd://h/{longest}"));
        assert_eq!(uri.export_name(), longest);
    }

    #[test]
    fn schemes_choose_transport_and_tls_in_any_case() {
        for (text, scheme, tls) in [
            ("nbd://h", "nbd", false),
            ("NBD://h", "nbd", false),
            ("nbds://h", "nbds", true),
            ("Nbd+Unix://?socket=s", "nbd+unix", false),
            ("nbds+unix://?socket=s", "nbds+unix", true),
            ("nbd+vsock://", "nbd+vsock", false),
            ("nbdS+vsock://", "nbds+vsock", true),
            ("nbd+ssh://h", "nbd+ssh", false),
            ("nbds+SSH://h", "nbds+ssh", true),
        ] {
            let uri = parse(text);
            assert_eq!((uri.scheme(), uri.is_tls()), (scheme, tls), "{text}");
        }
    }

    #[test]
    fn authority_is_read_for_each_transport() {
        let vsock = |cid, port| Endpoint::Vsock { cid, port };
        for (text, endpoint) in [
            ("nbd://h", tcp("h", 10809)),
            ("nbd://h:1/", tcp("h", 1)),
            ("nbd://h:065535/", tcp("h", 65535)),
            ("nbd://h:/", tcp("h", 10809)),
            ("nbd://", tcp("localhost", 10809)),
            ("nbd:///x", tcp("localhost", 10809)),
            ("nbd://:7/", tcp("localhost", 7)),
            ("nbd://?x-a=b", tcp("localhost", 10809)),
            ("nbd://@h", tcp("h", 10809)),
            ("nbd://127.0.0.1:7", tcp("127.0.0.1", 7)),
            ("nbd://[::1]", tcp("::1", 10809)),
            ("nbd://[::1]:7/x", tcp("::1", 7)),
            ("nbd://[0:0::0:1]:/x", tcp("::1", 10809)),
            ("nbd://[fe80::1%25eth0]/x", tcp("fe80::1%eth0", 10809)),
            ("nbd://[fe80::1%25a%2Eb]/x", tcp("fe80::1%a.b", 10809)),
            ("nbd://loc%61lhost", tcp("localhost", 10809)),
            ("nbd://Example.COM.", tcp("Example.COM.", 10809)),
            ("nbd://m%C3%A4", tcp("mä", 10809)),
            ("nbd+unix:///?socket=/a/../b", unix("/a/../b")),
            ("nbd+unix://?socket=rel", unix("rel")),
            ("nbds+unix://alice@/exp?socket=/s", unix("/s")),
            ("nbd+unix:///?socket=%2Fa%20b", unix("/a b")),
            ("nbd+unix:///?socket=/a=b?c", unix("/a=b?c")),
            (
                "nbd+unix:///?socket=/%FF",
                unix(OsString::from_vec(b"/\xff".to_vec())),
            ),
            ("nbd+unix:///?socket=%00/abstract", unix("\0/abstract")),
            ("nbd+vsock://", vsock(2, 10809)),
            ("nbd+vsock://:4294967295/", vsock(2, 4_294_967_295)),
            ("nbd+vsock://4294967295:1/", vsock(4_294_967_295, 1)),
            ("nbd+vsock://3?nbd-port=4294967295", vsock(3, 4_294_967_295)),
        ] {
            assert_eq!(parse(text).endpoint(), &endpoint, "{text}");
        }
    }

    #[test]
    fn ssh_keeps_its_own_user_and_port_apart_from_those_of_nbd() {
        let uri = parse("nbds+ssh://bob@h:22/x?nbd-port=7&tls-username=alice&compress=1");
        let endpoint = Endpoint::Ssh {
            user: Some("bob".to_owned()),
            host: "h".to_owned(),
            port: Some(22),
            compress: true,
            remote: SshRemote::Tcp { port: 7 },
        };
        assert_eq!(uri.endpoint(), &endpoint);
        assert_eq!(uri.tls_user(), Some("alice"));
        assert_eq!(parse("nbd+ssh://bob@h/").tls_user(), None);
    }

    #[test]
    fn tls_parameters_are_read_with_and_without_tls() {
        for scheme in ["nbd", "nbds"] {
            let uri = parse(&format!(
                "{scheme}://a%3Ab%40c@h/?tls-type=psk&tls-hostname=other;tls-verify-peer=0\
                 &tls-certificates=/etc/a%26b&tls-psk-file=k%FF"
            ));
            assert_eq!(uri.tls_user(), Some("a:b@c"));
            assert_eq!(uri.tls_type(), Some(TlsType::Psk));
            assert_eq!(uri.tls_hostname(), Some("other"));
            assert_eq!(uri.tls_verify_peer(), Some(false));
            assert_eq!(uri.tls_certificates(), Some("/etc/a&b".as_ref()));
            let file = PathBuf::from(OsString::from_vec(b"k\xff".to_vec()));
            assert_eq!(uri.tls_psk_file(), Some(&*file));
        }
        let uri = parse("nbds://h/?tls-username=alice&tls-type=anon&tls-verify-peer=true");
        assert_eq!(uri.tls_user(), Some("alice"));
        assert_eq!(uri.tls_type(), Some(TlsType::Anon));
        assert_eq!(uri.tls_verify_peer(), Some(true));
        assert_eq!(parse("nbds://h/").tls_verify_peer(), None);
    }

    #[test]
    fn canonical_form_is_the_shortest_with_a_slash() {
        for (text, canonical) in [
            ("NBD://h:10809", "nbd://h/"),
            ("nbd://", "nbd://localhost/"),
            ("nbd://@h:/?&;", "nbd://h/"),
            ("nbd://[0::1]:7//a%2fb?", "nbd://[::1]:7//a/b"),
            ("nbd://[fe80::1%25eth0]/", "nbd://[fe80::1%25eth0]/"),
            ("nbd://h/a+b;c%3F", "nbd://h/a%2Bb%3Bc%3F"),
            ("nbd+vsock://", "nbd+vsock://2/"),
            ("nbd+vsock://3?nbd-port=7", "nbd+vsock://3:7/"),
            ("nbd+unix://?socket=%00a", "nbd+unix:///?socket=%00a"),
            (
                "nbd+ssh://h?compress=0&nbd-port=10809&tls-username=a",
                "nbd+ssh://h/?tls-username=a",
            ),
            (
                "nbds://h?x-b&tls-username=a&x-a=1;tls-verify-peer=false&x-b=2",
                "nbds://a@h/?tls-verify-peer=0&x-b=&x-a=1&x-b=2",
            ),
        ] {
            let uri = parse(text);
            assert_eq!(uri.to_string(), canonical, "{text}");
            assert_eq!(parse(canonical), uri, "{text}");
        }
    }

    // libnbd's side is 1.14.2 as observed; "all" means that later ones are known to do the same.
    #[test]
    fn differences_from_libnbd_are_deliberate() {
        const ACCEPTED: bool = true;
        const REFUSED: bool = false;
        for (text, libnbd, ours) in [
            // Case-sensitive up to 1.18. RFC 3986, 3.1: schemes are not.
            ("NBD://localhost", REFUSED, ACCEPTED),
            // RFC 3986, 3.2.3: a port may be empty.
            ("nbd://localhost:/x", REFUSED, ACCEPTED),
            // libxml2 stops at 31 bits.
            ("nbd+vsock://2:4294967295/", REFUSED, ACCEPTED),
            // 0 becomes 10809; a number no port can have is left to getaddrinfo.
            ("nbd://localhost:0/x", ACCEPTED, REFUSED),
            ("nbd://localhost:65536/x", ACCEPTED, REFUSED),
            // What follows the digits is ignored, and so is overflow.
            ("nbd+vsock://2x/", ACCEPTED, REFUSED),
            ("nbd+vsock://4294967298/", ACCEPTED, REFUSED),
            // All: unknown parameters are ignored, and with them a typing error in one that
            // protects. uri.md, "Other NBD URI query parameters", wants them diagnosed.
            ("nbds://localhost/?tls-verifypeer=1", ACCEPTED, REFUSED),
            ("nbd://localhost/?=value", ACCEPTED, REFUSED),
            // All: the last one wins.
            ("nbd+unix:///?socket=/a&socket=/b", ACCEPTED, REFUSED),
            // Fails only when it connects.
            ("nbd+unix:///?socket=", ACCEPTED, REFUSED),
            // A host for a local socket is ignored (qemu refuses it too).
            ("nbd+unix://host:5/x?socket=/a", ACCEPTED, REFUSED),
            // The fragment is ignored, although it looks like a part of the name.
            ("nbd://localhost/x#1", ACCEPTED, REFUSED),
            // The password becomes a part of the user name.
            ("nbd://user:secret@localhost/x", ACCEPTED, REFUSED),
            // The name ends at the NUL; bytes that are not UTF-8 go to the server.
            ("nbd://localhost/a%00b", ACCEPTED, REFUSED),
            ("nbd://localhost/%FF", ACCEPTED, REFUSED),
            // Accepted by both, but there the socket's name ends at the NUL, too.
            ("nbd+unix:///?socket=%00/abstract", ACCEPTED, ACCEPTED),
            // The same in both.
            ("nbd://localhost/%zz", REFUSED, REFUSED),
            ("nbd://localhost/a b", REFUSED, REFUSED),
            ("nbd://localhost/\u{e4}", REFUSED, REFUSED),
            ("nbd://::1/", REFUSED, REFUSED),
            ("nbd:unix:/tmp/s:exportname=x", REFUSED, REFUSED),
            ("nbd://localhost?socket=/p", REFUSED, REFUSED),
            ("nbd+unix:///x", REFUSED, REFUSED),
            ("nbd+vsock://abc/x", REFUSED, REFUSED),
            ("nbd+unix://?socket=/p", ACCEPTED, ACCEPTED),
            ("nbds+unix://alice@/exp?socket=/p", ACCEPTED, ACCEPTED),
            ("nbd://[fe80::1%25eth0]/", ACCEPTED, ACCEPTED),
            ("nbd://loc%61lhost/", ACCEPTED, ACCEPTED),
        ] {
            let result = text.parse::<Uri>();
            assert_eq!(
                result.is_ok(),
                ours,
                "{text}: {result:?} ({libnbd} in libnbd)"
            );
        }
    }

    #[test]
    fn text_without_a_scheme_gets_a_hint() {
        for (text, hint) in [
            ("", "it is empty"),
            ("/run/nbd.sock", "nbd+unix:///?socket=/path"),
            ("./nbd.sock", "nbd+unix:///?socket=/path"),
            ("localhost", "nbd://localhost or"),
            ("LocalHost:10809", "nbd://localhost or"),
            ("example.com:10809", "nbd://, nbds:// or nbd+unix://"),
            (" nbd://h", "nbd://, nbds:// or nbd+unix://"),
            ("//h/x", "nbd://, nbds:// or nbd+unix://"),
            ("://h/x", "nbd://, nbds:// or nbd+unix://"),
            ("nbd:unix:/p:exportname=x", "nbd+unix:///NAME?socket=PATH"),
            ("nbd:h:10809:exportname=x", "nbd://HOST:PORT/NAME"),
            ("nbd:", "must begin with nbd://"),
            ("nbd:/x", "must begin with nbd://"),
            ("nbds+unix:/x", "must begin with nbds+unix://"),
            ("nbd", "nbd://, nbds:// or nbd+unix://"),
            ("file:///x", "\"file\" is not one of"),
            ("nbd+tcp://h", "for TCP write nbd://"),
            ("unix:///p", "nbd+unix:///?socket=/path"),
        ] {
            let error = error(text).to_string();
            assert!(error.contains(hint), "{text}: {error}");
            assert!(!Uri::is_uri(text), "{text}");
        }
    }

    #[test]
    fn errors_say_which_part_is_wrong() {
        for (text, message) in [
            // Host and port.
            ("nbd://h:0/", "port: it must be 1 to 65535"),
            ("nbd://h:65536/", "port: it must be 1 to 65535"),
            (
                "nbd://h:99999999999999999999999/",
                "port: it must be 1 to 65535",
            ),
            ("nbd://h:x/", "port: it is not a number"),
            ("nbd://h:+1/", "port: it is not a number"),
            (
                "nbd://::1/",
                "port: it is not a number (an IPv6 address must be in brackets)",
            ),
            (
                "nbd://[::1/",
                "port: it is not a number (an IPv6 address must be in brackets)",
            ),
            (
                "nbd://%3A%3A1/",
                "host: \"%3A%3A1\" is no IPv6 address in brackets",
            ),
            (
                "nbd://[::g]/",
                "host: \"[::g]\" is no IPv6 address in brackets",
            ),
            (
                "nbd://[v1.x]/",
                "host: \"[v1.x]\" is no IPv6 address in brackets",
            ),
            (
                "nbd://[127.0.0.1]/",
                "host: \"[127.0.0.1]\" is no IPv6 address in brackets",
            ),
            (
                "nbd://[%3A%3A1]/",
                "host: \"[%3A%3A1]\" is no IPv6 address in brackets",
            ),
            ("nbd://[::1]x/", "host: something follows the bracket"),
            (
                "nbd://[fe80::1%25]/",
                "host: \"\" is no zone of an IPv6 address",
            ),
            (
                "nbd://[fe80::1%eth0]/",
                "the percent sign at byte 14 is not followed by two hexadecimal digits \
                 (write %25 for a percent sign)",
            ),
            ("nbd://a%2Fb/", "host: no host name has a '/'"),
            ("nbd://a%40b/", "host: no host name has a '@'"),
            ("nbd://a%0Ab/", "host: no host name has a '\\n'"),
            ("nbd://%FF/", "host: it is not UTF-8"),
            ("nbd+ssh:///x", "host: it is empty"),
            ("nbd+vsock://2:0", "port: it must be 1 to 4294967295"),
            (
                "nbd+vsock://2:4294967296",
                "port: it must be 1 to 4294967295",
            ),
            (
                "nbd+vsock://4294967296",
                "host: a vsock CID is at most 4294967295",
            ),
            ("nbd+vsock://-1", "host: it is not a number"),
            (
                "nbd+unix://run/nbd.sock",
                "a host or port does not go with nbd+unix:// \
                 (the path goes into a parameter: nbd+unix:///?socket=/path)",
            ),
            // User.
            (
                "nbd://a@b@c/",
                "user name: an @ or a bracket in it must be percent-encoded",
            ),
            (
                "nbds://%0a@h",
                "TLS user name: it contains a control character",
            ),
            (
                "nbds://a:b@h",
                "NBD has no passwords: the user name must not be followed by a colon \
                 (write %3A if it is part of the name)",
            ),
            // Characters and the name.
            ("nbd://h/%00", "export name: it contains a NUL"),
            ("nbd://h/%C3", "export name: it is not UTF-8"),
            ("nbd://h/a[b]", "'[' at byte 9 must be percent-encoded"),
            ("nbd://h/a\\b", "'\\\\' at byte 9 must be percent-encoded"),
            ("nbd://h/\n", "'\\n' at byte 8 must be percent-encoded"),
            (
                "nbd://h/x#y",
                "an NBD URI has no fragment: write %23 for the # at byte 9",
            ),
            // Parameters.
            (
                "nbd+unix:///x",
                "nbd+unix needs the parameter socket (as in nbd+unix:///?socket=/path)",
            ),
            (
                "nbds://h/?socket=/s",
                "socket does not go with nbds:// (did you mean nbds+unix:///?socket=...?)",
            ),
            (
                "nbd+vsock://2/?socket=/s",
                "socket does not go with nbd+vsock:// (did you mean nbd+unix:///?socket=...?)",
            ),
            (
                "nbd://h/?nbd-port=1",
                "nbd-port does not go with nbd:// (the port follows the host: nbd://HOST:PORT/)",
            ),
            ("nbd://h/?compress=1", "compress does not go with nbd://"),
            (
                "nbd+unix://?socket=%00",
                "socket: an abstract name is empty",
            ),
            ("nbd+unix://?socket=%00a%00", "socket: it contains a NUL"),
            ("nbd+unix://?socket=/a%00", "socket: it contains a NUL"),
            ("nbd+unix://?socket", "socket: it is empty"),
            (
                "nbd+vsock://2:1?nbd-port=1",
                "nbd-port is given more than once",
            ),
            (
                "nbds://a@h?tls-username=a",
                "tls-username is given more than once",
            ),
            (
                "nbds://h?tls-type=psk&tls-type=psk",
                "tls-type is given more than once",
            ),
            (
                "nbds://h?tls-type=X509",
                "tls-type: it must be anon, x509 or psk",
            ),
            (
                "nbds://h?tls-verify-peer=no",
                "tls-verify-peer: it must be 0 or 1",
            ),
            (
                "nbds://h?tls-hostname=a/b",
                "tls-hostname: no host name has a '/'",
            ),
            (
                "nbds://h?tls-psk-file=%00",
                "tls-psk-file: it contains a NUL",
            ),
            (
                "nbds://h?tls-certificates=",
                "tls-certificates: it is empty",
            ),
            (
                "nbd://h?TLS-type=psk",
                "unknown parameter \"TLS-type\" (experimental ones start with x-)",
            ),
            (
                "nbd://h?=1",
                "unknown parameter \"\" (experimental ones start with x-)",
            ),
            (
                "nbd://h?x-a=%00",
                "experimental parameter: it contains a NUL",
            ),
        ] {
            assert_eq!(error(text).to_string(), message, "{text}");
        }
        let name = "a".repeat(4097);
        assert_eq!(
            error(&format!("nbd://h/{name}")).to_string(),
            "export name: 4097 bytes are more than 4096"
        );
    }

    #[test]
    fn no_error_repeats_the_userinfo() {
        for text in [
            "nbd://canary:canary@h/",
            "nbd://canary:@h/",
            "nbd://canary@x@h/",
            "nbd://canary%FF@h/",
            "nbd://canary%0A@h/",
            "nbd://canary%zz@h/",
            "nbd://canary@h:x/",
            "nbd://alice:canary/@h/",
            "nbd+ssh://canary;@h/",
            "nbds+ssh://h/?tls-username=canary%0A",
        ] {
            let error = error(text);
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn huge_texts_are_refused_and_long_parts_are_not_repeated() {
        let megabyte = "a".repeat(1 << 20);
        let text = format!("nbd://h/?x-a={megabyte}");
        assert_eq!(error(&text), UriError::TooLong { length: text.len() });
        let long = "a".repeat(60_000);
        for text in [
            format!("{long}://h/"),
            format!("nbd://h:{long}"),
            format!("nbd://h?{long}=1"),
            format!("nbd://[{long}]"),
            format!("nbd+vsock://{long}"),
        ] {
            assert!(error(&text).to_string().len() < 300);
        }
        // Three times as long with every exclamation mark encoded: it could not be read back.
        let text = format!("nbd://h/?x-a={}", "!".repeat(60_000));
        assert!(matches!(error(&text), UriError::TooLong { .. }));
    }

    #[test]
    fn every_conversion_gives_the_same() {
        let uri = parse("nbd://h/x");
        assert_eq!(Uri::try_from("nbd://h/x"), Ok(uri.clone()));
        assert_eq!(Uri::try_from("nbd://h/x".to_owned()), Ok(uri));
    }
}
