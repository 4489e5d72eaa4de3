//! Strings on the wire: bounded, and safe to print.

use std::fmt;
use std::sync::Arc;

use super::error::ProtocolError;

/// Longest string of the protocol, in bytes ("Conventions").
pub const MAX_STRING: usize = 4096;

/// Text chosen by the peer for a human: an error message or a description.
///
/// The text is kept as it came (invalid UTF-8 replaced); printing it with `{}` escapes control
/// and direction-changing characters, so that a hostile peer cannot forge log lines or drive a
/// terminal.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Text(Arc<str>);

impl Text {
    /// Takes over the bytes of a message, whatever they are.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into())
    }

    /// The text as it came. Do not print it to a terminal or a log: use `Display`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || redirects(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a character changes the direction of the text after it, or hides.
const fn redirects(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Reads a name: valid UTF-8 without NUL, at most [`MAX_STRING`] bytes.
pub(super) fn name(what: &'static str, bytes: &[u8]) -> Result<String, ProtocolError> {
    // P-003: more than 4096 bytes is a violation.
    if bytes.len() > MAX_STRING {
        return Err(ProtocolError::length(what, bytes.len() as u64));
    }
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.contains('\0') => Ok(name.to_owned()),
        _ => Err(ProtocolError::Text(what)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_escaped_when_printed() {
        let text = Text::from_bytes(b"a\x1b[31m\r\nb\xff\xe2\x80\xae");
        assert_eq!(
            text.to_string(),
            "a\\u{1b}[31m\\u{d}\\u{a}b\u{fffd}\\u{202e}"
        );
        assert_eq!(format!("{text:?}"), format!("\"{text}\""));
    }

    // P-003: strings have at most 4096 bytes.
    #[test]
    fn names_are_bounded_utf8_without_nul() {
        assert_eq!(name("name", b"disk").unwrap(), "disk");
        assert!(name("name", &[b'a'; 4096]).is_ok());
        assert!(name("name", &[b'a'; 4097]).is_err());
        assert!(name("name", b"a\0b").is_err());
        assert!(name("name", b"\xff").is_err());
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn no_text_drives_a_terminal(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                ".{0,30}".prop_map(String::into_bytes),
                r"[\x00-\x1f\x7f-\x9f\u{200b}-\u{202e}\u{2060}-\u{206f}a]{0,30}".prop_map(String::into_bytes),
            ],
        ) {
            let text = Text::from_bytes(&bytes);
            for shown in [text.to_string(), format!("{text:?}")] {
                prop_assert!(!shown.contains(|c: char| c.is_control() || redirects(c)), "{:?}", shown);
            }
        }
    }
}
