//! Requests of the transmission phase, compact and extended.

use bytes::{Buf, BufMut};

use super::error::ProtocolError;
use super::num::{Command, CommandFlags, EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC};

/// Bytes of a compact request header.
pub const COMPACT_REQUEST: usize = 28;
/// Bytes of an extended request header.
pub const EXTENDED_REQUEST: usize = 32;

/// The header of a request ("Request message").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestHead {
    /// Flags of the command.
    pub flags: CommandFlags,
    /// What to do.
    pub command: Command,
    /// Chosen by the client, repeated in the reply.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes; the payload's length if the request has one.
    pub length: u64,
}

impl RequestHead {
    /// Writes the header in the compact or the extended form.
    ///
    /// A length over 32 bits does not fit a compact header: it must not come here.
    pub fn encode(&self, extended: bool, out: &mut impl BufMut) {
        // One slice is appended, not six fields: this is the hottest code of the crate.
        if extended {
            let mut head = [0; EXTENDED_REQUEST];
            let mut rest = &mut head[..];
            rest.put_u32(EXTENDED_REQUEST_MAGIC);
            self.encode_common(rest).put_u64(self.length);
            out.put_slice(&head);
        } else {
            let mut head = [0; COMPACT_REQUEST];
            let mut rest = &mut head[..];
            rest.put_u32(REQUEST_MAGIC);
            let length = u32::try_from(self.length);
            debug_assert!(length.is_ok(), "length {} in a compact header", self.length);
            self.encode_common(rest).put_u32(length.unwrap_or(u32::MAX));
            out.put_slice(&head);
        }
    }

    fn encode_common<'a>(&self, mut rest: &'a mut [u8]) -> &'a mut [u8] {
        rest.put_u16(self.flags.bits());
        rest.put_u16(self.command.0);
        rest.put_u64(self.cookie);
        rest.put_u64(self.offset);
        rest
    }

    /// Reads a header from the front of `src`, or says with `None` that more bytes are needed.
    ///
    /// # Errors
    /// If the magic is wrong.
    pub fn decode(extended: bool, src: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let mut src = src;
        let Ok(magic) = src.try_get_u32() else {
            return Ok(None);
        };
        let expected = if extended {
            EXTENDED_REQUEST_MAGIC
        } else {
            REQUEST_MAGIC
        };
        if magic != expected {
            return Err(ProtocolError::Magic(magic));
        }
        let (Ok(flags), Ok(command), Ok(cookie), Ok(offset)) = (
            src.try_get_u16(),
            src.try_get_u16(),
            src.try_get_u64(),
            src.try_get_u64(),
        ) else {
            return Ok(None);
        };
        let length = if extended {
            src.try_get_u64()
        } else {
            src.try_get_u32().map(u64::from)
        };
        let Ok(length) = length else { return Ok(None) };
        Ok(Some(Self {
            flags: CommandFlags::from_bits_retain(flags),
            command: Command(command),
            cookie,
            offset,
            length,
        }))
    }

    /// Bytes of payload that follow the header.
    #[must_use]
    pub fn payload(&self, extended: bool) -> u64 {
        // with extended headers the flag tells; P-150: else only WRITE has one.
        let has_payload = if extended {
            self.flags.contains(CommandFlags::PAYLOAD_LEN)
        } else {
            self.command == Command::WRITE
        };
        if has_payload { self.length } else { 0 }
    }
}

/// Bytes of a header in the form in force.
#[must_use]
pub const fn header_length(extended: bool) -> usize {
    if extended {
        EXTENDED_REQUEST
    } else {
        COMPACT_REQUEST
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use proptest::prelude::*;

    use super::*;

    const HEAD: RequestHead = RequestHead {
        flags: CommandFlags::FUA,
        command: Command::WRITE,
        cookie: 0x1122_3344_5566_7788,
        offset: 0x1000,
        length: 0x200,
    };

    #[test]
    fn k53_a_compact_header_has_the_layout_of_the_document_on_any_machine() {
        let mut out = BytesMut::new();
        HEAD.encode(false, &mut out);
        let expected: &[u8] = &[
            0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0,
            0, 0, 0, 0, 0, 0x10, 0, 0, 0, 2, 0,
        ];
        assert_eq!(&out[..], expected);
    }

    // an extended request has 32 bytes.
    #[test]
    fn an_extended_header_has_32_bytes_and_a_wide_length() {
        let head = RequestHead {
            command: Command::TRIM,
            length: 1 << 40,
            ..HEAD
        };
        let mut out = BytesMut::new();
        head.encode(true, &mut out);
        assert_eq!(out.len(), 32);
        assert_eq!(RequestHead::decode(true, &out), Ok(Some(head)));
        assert_eq!(RequestHead::decode(true, &out[..31]), Ok(None));
        assert!(RequestHead::decode(false, &out).is_err());
    }

    // PAYLOAD_LEN announces a payload; X-06: the length is that of the payload or the effect;
    // P-150: WRITE has its length of payload.
    #[test]
    fn the_payload_is_told_by_command_or_flag() {
        assert_eq!(HEAD.payload(false), 0x200);
        assert_eq!(HEAD.payload(true), 0);
        let flagged = RequestHead {
            flags: CommandFlags::PAYLOAD_LEN,
            ..HEAD
        };
        assert_eq!(flagged.payload(true), 0x200);
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn any_request_reads_back_equal(
            (flags, command, cookie, offset) in any::<(u16, u16, u64, u64)>(),
            length: u64,
            extended: bool,
            cut in 0usize..32,
        ) {
            let head = RequestHead {
                flags: CommandFlags::from_bits_retain(flags),
                command: Command(command),
                cookie,
                offset,
                length: if extended { length } else { length >> 32 },
            };
            let mut out = BytesMut::new();
            head.encode(extended, &mut out);
            prop_assert_eq!(out.len(), header_length(extended));
            prop_assert_eq!(RequestHead::decode(extended, &out), Ok(Some(head)));
            prop_assert_eq!(RequestHead::decode(extended, &out[..cut % out.len()]), Ok(None));
        }
    }
}
