//! Replies to options.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Info;
use super::string::{put_string, take_string};
use super::{MAX_INFO, MAX_OPTION_REPLY};
use crate::wire::error::ProtocolError;
use crate::wire::num::{OPTION_REPLY_MAGIC, OptionReplyType, OptionType};
use crate::wire::text::{self, MAX_STRING, Text};

/// One reply to an option, as it stands on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptionReply {
    /// The option it answers.
    pub option: OptionType,
    /// What it says.
    pub reply: OptionReplyType,
    /// Its payload.
    pub payload: Bytes,
}

impl OptionReply {
    /// An acknowledgement.
    #[must_use]
    pub const fn ack(option: OptionType) -> Self {
        Self {
            option,
            reply: OptionReplyType::ACK,
            payload: Bytes::new(),
        }
    }

    /// A refusal with a message for the user.
    #[must_use]
    pub fn error(option: OptionType, reply: OptionReplyType, message: &str) -> Self {
        Self {
            option,
            reply,
            payload: Bytes::copy_from_slice(message.as_bytes()),
        }
    }

    /// An export of a list.
    #[must_use]
    pub fn server(name: &str, description: &str) -> Self {
        let mut payload = BytesMut::new();
        put_string(&mut payload, name);
        payload.put_slice(description.as_bytes());
        Self {
            option: OptionType::LIST,
            reply: OptionReplyType::SERVER,
            payload: payload.freeze(),
        }
    }

    /// A piece of information about an export.
    #[must_use]
    pub fn info(option: OptionType, info: &Info) -> Self {
        let mut payload = BytesMut::new();
        info.encode(&mut payload);
        Self {
            option,
            reply: OptionReplyType::INFO,
            payload: payload.freeze(),
        }
    }

    /// A metadata context.
    #[must_use]
    pub fn meta_context(option: OptionType, id: u32, name: &str) -> Self {
        let mut payload = BytesMut::new();
        payload.put_u32(id);
        payload.put_slice(name.as_bytes());
        Self {
            option,
            reply: OptionReplyType::META_CONTEXT,
            payload: payload.freeze(),
        }
    }

    /// Writes the reply.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(20 + self.payload.len());
        out.put_u64(OPTION_REPLY_MAGIC);
        out.put_u32(self.option.0);
        out.put_u32(self.reply.0);
        out.put_u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.payload);
    }

    /// Takes a reply off the front of `src`, or says with `None` that more bytes are needed.
    ///
    /// # Errors
    /// If the magic is wrong or the length more than such a reply can have.
    pub fn decode(src: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let mut head = &src[..];
        // P-022: the magic is checked as soon as it is there.
        let Ok(magic) = head.try_get_u64() else {
            return Ok(None);
        };
        if magic != OPTION_REPLY_MAGIC {
            return Err(ProtocolError::OptionReplyMagic(magic));
        }
        let (Ok(option), Ok(reply), Ok(length)) =
            (head.try_get_u32(), head.try_get_u32(), head.try_get_u32())
        else {
            return Ok(None);
        };
        let reply = OptionReplyType(reply);
        let limit = match reply {
            // P-026: ACK carries no data.
            OptionReplyType::ACK => 0,
            OptionReplyType::INFO => MAX_INFO,
            // P-159, P-023: a message is a string.
            _ if reply.is_error() => 4096,
            _ => MAX_OPTION_REPLY,
        };
        if length > limit {
            return Err(ProtocolError::length("option reply", length.into()));
        }
        if head.len() < length as usize {
            return Ok(None);
        }
        src.advance(20);
        let payload = src.split_to(length as usize).freeze();
        Ok(Some(Self {
            option: OptionType(option),
            reply,
            payload,
        }))
    }

    /// The message of a refusal.
    #[must_use]
    pub fn message(&self) -> Text {
        Text::from_bytes(&self.payload)
    }

    /// Reads an export of a list: name and description.
    ///
    /// # Errors
    /// If the payload is malformed.
    pub fn parse_server(&self) -> Result<(String, Text), ProtocolError> {
        let mut payload = &self.payload[..];
        // P-042: the name's length fits; what is left is the description.
        let name = take_string(&mut payload, "export name")?;
        if payload.len() > MAX_STRING {
            return Err(ProtocolError::length(
                "export description",
                payload.len() as u64,
            ));
        }
        Ok((name, Text::from_bytes(payload)))
    }

    /// Reads a metadata context: id and name.
    ///
    /// # Errors
    /// If the payload is malformed.
    pub fn parse_meta_context(&self) -> Result<(u32, String), ProtocolError> {
        let mut payload = &self.payload[..];
        let what = "metadata context";
        let length = |_| ProtocolError::length(what, self.payload.len() as u64);
        let id = payload.try_get_u32().map_err(length)?;
        // P-081: a valid string; P-072: namespace, colon, leaf.
        let name = text::name(what, payload)?;
        if !name.contains(':') {
            return Err(ProtocolError::Text(what));
        }
        Ok((id, name))
    }
}
