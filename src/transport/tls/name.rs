//! Names of servers.

#[cfg(feature = "tls-psk")]
use std::net::IpAddr;

/// Returns an address without the brackets and the zone that certificates do not have.
pub(super) fn without_zone(name: &str) -> &str {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    match bare.split_once('%') {
        Some((address, _)) if address.contains(':') => address,
        _ => bare,
    }
}

/// Returns the host name to send to a server that has no certificate to choose by it; `None` if a
/// server could refuse the name. GnuTLS refuses all with other characters, and an address is no name
/// (RFC 6066, section 3).
#[cfg(feature = "tls-psk")]
pub(super) fn to_send(name: &str) -> Option<&str> {
    let name = without_zone(name);
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let is_host = name.bytes().all(is_usual) && name.parse::<IpAddr>().is_err();
    (is_host && !name.is_empty()).then_some(name)
}

#[cfg(all(test, feature = "tls-psk"))]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_are_sent() {
        for name in ["localhost", "server-1.example", "A", "1.2.3.example."] {
            assert_eq!(to_send(name), Some(name));
        }
        for other in [
            "",
            "nbd_server",
            "mä",
            "two words",
            "127.0.0.1",
            "::1",
            "[::1]",
            "fe80::1%eth0",
            "[fe80::1%eth0]",
        ] {
            assert_eq!(to_send(other), None, "{other}");
        }
    }
}
