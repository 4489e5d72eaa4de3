//! What a client sends during the handshake.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::MAX_OPTION_REQUEST;
use super::string::{ends, put_string, take_string};
use crate::wire::error::ProtocolError;
use crate::wire::num::{ClientFlags, InfoType, OPTION_MAGIC, OptionType};

/// What a client sends during the handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientMessage {
    /// The flags that answer the greeting; sent once, first.
    Flags(ClientFlags),
    /// An option.
    Option(OptionRequest),
}

impl ClientMessage {
    /// How many bytes the message has.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::Flags(_) => 4,
            Self::Option(request) => request.data.len().saturating_add(16),
        }
    }
}

/// One option with its data, as it stands on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptionRequest {
    /// The option.
    pub option: OptionType,
    /// Its data.
    pub data: Bytes,
}

impl OptionRequest {
    /// An option without data.
    #[must_use]
    pub const fn bare(option: OptionType) -> Self {
        Self {
            option,
            data: Bytes::new(),
        }
    }

    /// `EXPORT_NAME`: its data is the name alone.
    #[must_use]
    pub fn export_name(name: &str) -> Self {
        Self {
            option: OptionType::EXPORT_NAME,
            data: Bytes::copy_from_slice(name.as_bytes()),
        }
    }

    /// `INFO` or `GO`.
    #[must_use]
    pub fn info(option: OptionType, name: &str, asked: &[InfoType]) -> Self {
        // P-054: the length is 4 + name + 2 + 2n.
        let mut data = BytesMut::with_capacity(4 + name.len() + 2 + 2 * asked.len());
        put_string(&mut data, name);
        data.put_u16(u16::try_from(asked.len()).unwrap_or(u16::MAX));
        for info in asked {
            data.put_u16(info.0);
        }
        Self {
            option,
            data: data.freeze(),
        }
    }

    /// `LIST_META_CONTEXT` or `SET_META_CONTEXT`.
    #[must_use]
    pub fn meta_context<S: AsRef<str>>(option: OptionType, name: &str, queries: &[S]) -> Self {
        let mut data = BytesMut::new();
        put_string(&mut data, name);
        data.put_u32(u32::try_from(queries.len()).unwrap_or(u32::MAX));
        for query in queries {
            put_string(&mut data, query.as_ref());
        }
        Self {
            option,
            data: data.freeze(),
        }
    }

    /// Writes the request.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(16 + self.data.len());
        out.put_u64(OPTION_MAGIC);
        out.put_u32(self.option.0);
        out.put_u32(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.data);
    }

    /// Takes a request off the front of `src`.
    ///
    /// # Errors
    /// If the magic is wrong or the data too long.
    pub fn decode(src: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let mut head = &src[..];
        let Ok(magic) = head.try_get_u64() else {
            return Ok(None);
        };
        if magic != OPTION_MAGIC {
            return Err(ProtocolError::OptionMagic(magic));
        }
        let (Ok(option), Ok(length)) = (head.try_get_u32(), head.try_get_u32()) else {
            return Ok(None);
        };
        if length > MAX_OPTION_REQUEST {
            return Err(ProtocolError::length("option request", length.into()));
        }
        if head.len() < length as usize {
            return Ok(None);
        }
        src.advance(16);
        let data = src.split_to(length as usize).freeze();
        Ok(Some(Self {
            option: OptionType(option),
            data,
        }))
    }

    /// Reads the data of `INFO` or `GO`: name and information asked for.
    ///
    /// # Errors
    /// If the data is malformed.
    pub fn parse_info(&self) -> Result<(String, Vec<InfoType>), ProtocolError> {
        let mut data = &self.data[..];
        let name = take_string(&mut data, "export name")?;
        let short = |_| ProtocolError::length("information request", self.data.len() as u64);
        let count = data.try_get_u16().map_err(short)?;
        let mut asked = Vec::new();
        for _ in 0..count {
            asked.push(InfoType(data.try_get_u16().map_err(short)?));
        }
        ends("information request", data)?;
        Ok((name, asked))
    }

    /// Reads the data of `LIST_META_CONTEXT` or `SET_META_CONTEXT`: name and queries.
    ///
    /// # Errors
    /// If the data is malformed.
    pub fn parse_meta_context(&self) -> Result<(String, Vec<String>), ProtocolError> {
        let mut data = &self.data[..];
        let name = take_string(&mut data, "export name")?;
        let short = |_| ProtocolError::length("metadata query", self.data.len() as u64);
        let count = data.try_get_u32().map_err(short)?;
        let mut queries = Vec::new();
        for _ in 0..count {
            queries.push(take_string(&mut data, "metadata query")?);
        }
        ends("metadata query", data)?;
        Ok((name, queries))
    }
}
