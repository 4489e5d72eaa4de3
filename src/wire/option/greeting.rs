//! The first message of a server, and size and flags of an export.

use bytes::{Buf, BufMut, BytesMut};

use super::EXPORT_PADDING;
use crate::wire::error::{Excerpt, ProtocolError};
use crate::wire::num::{
    HandshakeFlags, NBD_MAGIC, OLDSTYLE_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, TransmissionFlags,
};

/// The first message of a server ("Handshake").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Greeting {
    /// The whole handshake of an oldstyle server; transmission follows.
    Oldstyle(ExportInfo),
    /// A newstyle server: options follow.
    Newstyle(HandshakeFlags),
}

impl Greeting {
    /// Writes the greeting.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64(NBD_MAGIC);
        match self {
            Self::Oldstyle(export) => {
                out.put_u64(OLDSTYLE_MAGIC);
                out.put_u64(export.size);
                // The flags are 32 bits wide here; the upper half was never used.
                out.put_u16(0);
                out.put_u16(export.flags.bits());
                out.put_bytes(0, EXPORT_PADDING);
            }
            Self::Newstyle(flags) => {
                out.put_u64(OPTION_MAGIC);
                out.put_u16(flags.bits());
            }
        }
    }

    /// Takes a greeting off the front of `src`, or says with `None` that more bytes are needed.
    ///
    /// # Errors
    /// If the peer does not speak NBD.
    pub fn decode(src: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let mut rest = &src[..];
        let expected = NBD_MAGIC.to_be_bytes();
        // A peer of another protocol is recognised by the first wrong byte.
        if !expected.starts_with(rest.get(..8).unwrap_or(rest)) {
            return Err(ProtocolError::NotNbd {
                start: Excerpt::new(rest),
            });
        }
        let (Ok(_), Ok(magic)) = (rest.try_get_u64(), rest.try_get_u64()) else {
            return Ok(None);
        };
        let greeting = match magic {
            OPTION_MAGIC => match rest.try_get_u16() {
                // P-012: unknown flags are kept and never answered.
                Ok(flags) => Self::Newstyle(HandshakeFlags::from_bits_retain(flags)),
                Err(_) => return Ok(None),
            },
            // P-010: an oldstyle greeting has 8+8+8+4+124 bytes.
            OLDSTYLE_MAGIC => {
                let (Ok(size), Ok(flags)) = (rest.try_get_u64(), rest.try_get_u32()) else {
                    return Ok(None);
                };
                if rest.len() < EXPORT_PADDING {
                    return Ok(None);
                }
                rest.advance(EXPORT_PADDING);
                // The upper half has no meaning, so what a server puts there is ignored.
                let flags = u16::try_from(flags & 0xffff).unwrap_or_default();
                Self::Oldstyle(ExportInfo {
                    size,
                    flags: TransmissionFlags::from_bits_retain(flags),
                })
            }
            other => return Err(ProtocolError::UnknownHandshake(other)),
        };
        let used = src.len() - rest.len();
        src.advance(used);
        Ok(Some(greeting))
    }
}

/// Size and flags of an export, as every way of choosing one reports them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportInfo {
    /// The size, in bytes.
    pub size: u64,
    /// What the export supports.
    pub flags: TransmissionFlags,
}

impl ExportInfo {
    /// Whether these are the first bytes of an option reply, with which no server should answer
    /// `EXPORT_NAME`: its magic, and half the number of an option.
    pub(crate) const fn is_option_reply(&self) -> bool {
        self.size == OPTION_REPLY_MAGIC && self.flags.is_empty()
    }

    /// Writes the answer to `EXPORT_NAME`.
    pub fn encode(&self, padding: bool, out: &mut BytesMut) {
        out.put_u64(self.size);
        out.put_u16(self.flags.bits());
        if padding {
            out.put_bytes(0, EXPORT_PADDING);
        }
    }

    /// Takes the answer to `EXPORT_NAME` off the front of `src`.
    pub fn decode(padding: bool, src: &mut BytesMut) -> Option<Self> {
        // P-017: 8+2 bytes, and 124 zeroes unless NO_ZEROES was agreed.
        let length = 10 + if padding { EXPORT_PADDING } else { 0 };
        if src.len() < length {
            return None;
        }
        let mut message = src.split_to(length);
        let size = message.try_get_u64().ok()?;
        let flags = TransmissionFlags::from_bits_retain(message.try_get_u16().ok()?);
        Some(Self { size, flags })
    }
}
