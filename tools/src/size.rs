//! Sizes on the command line.

use std::str::FromStr;

/// Reads a number of bytes, which may end in K, M, G or T.
pub(crate) fn size<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number = u64::from_str(digits);
    let number = number.map_err(|_| "expected a size such as 512, 64K or 1M")?;
    let bytes = number.checked_mul(1 << shift).map(T::try_from);
    bytes.and_then(Result::ok).ok_or("too large")
}
