//! What a server says about an export.

use bytes::{Buf, BufMut, BytesMut};

use super::ExportInfo;
use crate::wire::error::ProtocolError;
use crate::wire::num::{InfoType, TransmissionFlags};
use crate::wire::text::{self, MAX_STRING, Text};

/// A piece of information about an export ("Option reply types", `NBD_REP_INFO`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Info {
    /// Size and flags.
    Export(ExportInfo),
    /// The canonical name; `None` if it is not a valid string.
    Name(Option<String>),
    /// A description for humans.
    Description(Text),
    /// Block size constraints, in bytes.
    BlockSize {
        /// Smallest unit of a request.
        minimum: u32,
        /// Unit that avoids read-modify-write.
        preferred: u32,
        /// Largest payload; `u32::MAX` means no limit.
        maximum: u32,
    },
    /// A type this crate does not know.
    Unknown(InfoType),
}

impl Info {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Export(export) => {
                out.put_u16(InfoType::EXPORT.0);
                export.encode(false, out);
            }
            Self::Name(name) => {
                out.put_u16(InfoType::NAME.0);
                out.put_slice(name.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Description(text) => {
                out.put_u16(InfoType::DESCRIPTION.0);
                out.put_slice(text.as_str().as_bytes());
            }
            Self::BlockSize {
                minimum,
                preferred,
                maximum,
            } => {
                out.put_u16(InfoType::BLOCK_SIZE.0);
                out.put_u32(*minimum);
                out.put_u32(*preferred);
                out.put_u32(*maximum);
            }
            Self::Unknown(info) => out.put_u16(info.0),
        }
    }

    /// Reads the payload of an information reply.
    ///
    /// # Errors
    /// If the payload does not have the form of its type.
    pub fn decode(mut payload: &[u8]) -> Result<Self, ProtocolError> {
        let length = payload.len();
        let info = payload
            .try_get_u16()
            .map_err(|_| ProtocolError::length("information reply", length as u64))?;
        let info = InfoType(info);
        let malformed = |_| ProtocolError::Info(info);
        match info {
            // P-049: EXPORT exactly 12 bytes, BLOCK_SIZE exactly 14.
            InfoType::EXPORT if length == 12 => Ok(Self::Export(ExportInfo {
                size: payload.try_get_u64().map_err(malformed)?,
                flags: TransmissionFlags::from_bits_retain(
                    payload.try_get_u16().map_err(malformed)?,
                ),
            })),
            InfoType::BLOCK_SIZE if length == 14 => Ok(Self::BlockSize {
                minimum: payload.try_get_u32().map_err(malformed)?,
                preferred: payload.try_get_u32().map_err(malformed)?,
                maximum: payload.try_get_u32().map_err(malformed)?,
            }),
            InfoType::EXPORT | InfoType::BLOCK_SIZE => Err(ProtocolError::Info(info)),
            InfoType::NAME | InfoType::DESCRIPTION if payload.len() > MAX_STRING => Err(
                ProtocolError::length("export information", payload.len() as u64),
            ),
            InfoType::NAME => Ok(Self::Name(text::name("export name", payload).ok())),
            InfoType::DESCRIPTION => Ok(Self::Description(Text::from_bytes(payload))),
            // P-046: types not understood are ignored.
            _ => Ok(Self::Unknown(info)),
        }
    }
}
