//! Strings with their length in front.

use bytes::{Buf, BufMut, BytesMut};

use crate::wire::error::ProtocolError;
use crate::wire::text::{self};

/// Writes a length and the string.
pub(super) fn put_string(out: &mut BytesMut, string: &str) {
    out.put_u32(u32::try_from(string.len()).unwrap_or(u32::MAX));
    out.put_slice(string.as_bytes());
}

/// Reads a length and the string.
pub(super) fn take_string(data: &mut &[u8], what: &'static str) -> Result<String, ProtocolError> {
    let short = data.len() as u64;
    let length = data
        .try_get_u32()
        .map_err(|_| ProtocolError::length(what, short))?;
    let Some((string, rest)) = data.split_at_checked(length as usize) else {
        return Err(ProtocolError::length(what, length.into()));
    };
    *data = rest;
    text::name(what, string)
}

/// Checks that nothing is left.
pub(super) const fn ends(what: &'static str, rest: &[u8]) -> Result<(), ProtocolError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ProtocolError::length(what, rest.len() as u64))
    }
}
