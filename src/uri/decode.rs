//! From pieces of a URI to values.

use super::UriError;

/// Replaces escapes. A percent sign that begins no escape stays as it is, and so does a plus.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let mut byte = *byte;
        if let (b'%', [high, low, after @ ..]) = (byte, rest) {
            if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                byte = high << 4 | low;
                rest = after;
            }
        }
        decoded.push(byte);
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Takes bytes for text. The error does not repeat them: they may be userinfo.
pub(super) fn text_of(part: &'static str, bytes: Vec<u8>) -> Result<String, UriError> {
    let text = String::from_utf8(bytes).map_err(|_| UriError::part(part, "it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(UriError::part(part, super::build::NUL));
    }
    Ok(text)
}

/// Reads a number. One that is too big for any use is kept, for the message; a text that is none
/// is not repeated: with a slash in it, a password ends up here.
pub(super) fn number(part: &'static str, digits: &str) -> Result<u64, UriError> {
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(digits.parse().unwrap_or(u64::MAX))
    } else if digits.contains(':') {
        let why = "it is not a number (an IPv6 address must be in brackets)";
        Err(UriError::part(part, why))
    } else {
        Err(UriError::part(part, "it is not a number"))
    }
}
