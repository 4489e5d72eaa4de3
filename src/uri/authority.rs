//! Who and where: what stands between scheme and path.

use std::net::Ipv6Addr;

use super::decode::{decode, number, text_of};
use super::{UriError, short};

/// `[USER@][HOST][:PORT]`, not yet decoded. No user is an empty one.
pub(super) struct Authority<'a> {
    pub(super) user: &'a str,
    pub(super) host: &'a str,
    pub(super) port: Option<u64>,
}

impl<'a> Authority<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, UriError> {
        // The last @ counts, so that a text that other parsers take for the host is not taken for a
        // user.
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
    pub(super) fn host(&self) -> Result<String, UriError> {
        let no_address = || {
            let why = format!("{:?} is no IPv6 address in brackets", short(self.host));
            UriError::part("host", why)
        };
        let Some(literal) = self.host.strip_prefix('[') else {
            let host = text_of("host", decode(self.host))?;
            // U-06: IPv6 addresses stand in brackets. After this check, a colon means such an
            // address.
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
