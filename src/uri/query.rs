//! The parameters of a URI.

use std::path::PathBuf;

use super::decode::{decode, number, text_of};
use super::{TlsType, UriError, short};
use crate::platform::os_string;

static PARAMETERS: [&str; 9] = [
    "socket",
    "nbd-port",
    "compress",
    "tls-type",
    "tls-hostname",
    "tls-verify-peer",
    "tls-certificates",
    "tls-psk-file",
    "tls-username",
];

/// Returns the text of a query without the values that may be secret, as `Debug` of a URI has it.
pub(super) fn without_secrets(query: &str) -> String {
    let shown = query.split_inclusive(['&', ';']).map(|piece| {
        let Some((name, value)) = piece.split_once('=') else {
            return piece.to_owned();
        };
        if name != "tls-username" && PARAMETERS.contains(&name) {
            return piece.to_owned();
        }
        let end = value.find(['&', ';']).unwrap_or(value.len());
        format!("{name}=***{}", value.get(end..).unwrap_or_default())
    });
    shown.collect()
}

/// The parameters that were not taken yet. None of them has an empty value.
pub(super) struct Query {
    known: Vec<(&'static str, Vec<u8>)>,
    /// Those that start with `x-`.
    pub(super) experimental: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, UriError> {
        let mut query = Self {
            known: Vec::new(),
            experimental: Vec::new(),
        };
        // Empty pieces mean nothing, as in libnbd.
        for piece in text.split(['&', ';']).filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            query.push(&decode(name), decode(value))?;
        }
        Ok(query)
    }

    fn push(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), UriError> {
        let known = PARAMETERS.iter().find(|known| known.as_bytes() == name);
        if let Some(&name) = known {
            // libnbd takes the last value. An attacker who can add a parameter to a URI should not
            // be able to replace a value.
            if self.known.iter().any(|(other, _)| *other == name) {
                return Err(UriError::DuplicateParameter { name });
            }
            if value.is_empty() {
                return Err(UriError::part(name, "it is empty"));
            }
            self.known.push((name, value));
        } else if name.starts_with(b"x-") {
            // U-13: experimental parameters begin with x-.
            let what = "experimental parameter";
            let name = text_of(what, name.to_vec())?;
            self.experimental.push((name, text_of(what, value)?));
        } else if name == b"tls-priority" {
            return Err(UriError::UnsupportedParameter {
                name: "tls-priority",
                hint: " (it is for GnuTLS: choose TLS versions with `TlsConfigBuilder::min_version` \
                       and `max_version`, or leave the parameter out)",
            });
        } else {
            let name = short(&String::from_utf8_lossy(name));
            return Err(UriError::UnknownParameter { name });
        }
        Ok(())
    }

    /// A parameter that is left over: it does not go with the scheme.
    pub(super) fn leftover(&self) -> Option<&'static str> {
        self.known.first().map(|&(name, _)| name)
    }

    fn take(&mut self, name: &'static str) -> Option<Vec<u8>> {
        let at = self.known.iter().position(|(other, _)| *other == name)?;
        Some(self.known.swap_remove(at).1)
    }

    pub(super) fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, UriError> {
        let path = |bytes| {
            let path = os_string(bytes).map(PathBuf::from);
            path.ok_or_else(|| UriError::part(name, "it is not UTF-8"))
        };
        self.take(name).map(path).transpose()
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, UriError> {
        self.take(name)
            .map(|value| text_of(name, value))
            .transpose()
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<u64>, UriError> {
        let text = self.text(name)?;
        text.map(|digits| number(name, &digits)).transpose()
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, UriError> {
        match self.take(name).as_deref() {
            None => Ok(None),
            // uri.md defines 0 and 1; libnbd takes the words, too.
            Some(b"0" | b"false") => Ok(Some(false)),
            Some(b"1" | b"true") => Ok(Some(true)),
            Some(_) => Err(UriError::part(name, "it must be 0 or 1")),
        }
    }

    pub(super) fn tls_type(&mut self) -> Result<Option<TlsType>, UriError> {
        let name = "tls-type";
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        [TlsType::Anon, TlsType::X509, TlsType::Psk]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == value)
            .map(Some)
            .ok_or_else(|| UriError::part(name, "it must be anon, x509 or psk"))
    }
}
