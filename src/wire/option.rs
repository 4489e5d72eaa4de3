//! Messages of the handshake: greeting, option requests, option replies, export information.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::{Excerpt, ProtocolError};
use super::num::{
    ClientFlags, HandshakeFlags, InfoType, NBD_MAGIC, OLDSTYLE_MAGIC, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, OptionReplyType, OptionType, TransmissionFlags,
};
use super::text::{self, MAX_STRING, Text};

/// Largest payload of an option reply that is kept: an export's name and description.
pub const MAX_OPTION_REPLY: u32 = 4 + 4 + 2 * 4096;
/// Largest payload of an information reply of unknown type, which is read and dropped.
pub const MAX_UNKNOWN_INFO: u32 = 64 * 1024;
/// Largest payload of an option request: 64 KiB of metadata queries and an export name.
pub const MAX_OPTION_REQUEST: u32 = 64 * 1024 + 8192;
/// Zero bytes that follow the export information unless `NO_ZEROES` was agreed.
pub const EXPORT_PADDING: usize = 124;

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
        // A peer that speaks something else is told from its first wrong byte.
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
            // P-010: 8+8+8+4+124 bytes.
            OLDSTYLE_MAGIC => {
                let (Ok(size), Ok(flags)) = (rest.try_get_u64(), rest.try_get_u32()) else {
                    return Ok(None);
                };
                if rest.len() < EXPORT_PADDING {
                    return Ok(None);
                }
                rest.advance(EXPORT_PADDING);
                // Servers put garbage into the upper half at their own risk: it is ignored.
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
        // P-054: 4 + name + 2 + 2n.
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
            OptionReplyType::INFO => MAX_UNKNOWN_INFO,
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
    fn encode(&self, out: &mut BytesMut) {
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

/// Writes a length and the string.
fn put_string(out: &mut BytesMut, string: &str) {
    out.put_u32(u32::try_from(string.len()).unwrap_or(u32::MAX));
    out.put_slice(string.as_bytes());
}

/// Reads a length and the string.
fn take_string(data: &mut &[u8], what: &'static str) -> Result<String, ProtocolError> {
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
const fn ends(what: &'static str, rest: &[u8]) -> Result<(), ProtocolError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ProtocolError::length(what, rest.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_survive_a_round_trip_and_any_truncation() {
        let export = ExportInfo {
            size: 1 << 20,
            flags: TransmissionFlags::HAS_FLAGS,
        };
        for greeting in [
            Greeting::Oldstyle(export),
            Greeting::Newstyle(HandshakeFlags::from_bits_retain(0xfffc)),
        ] {
            let mut whole = BytesMut::new();
            greeting.encode(&mut whole);
            for cut in 0..whole.len() {
                let mut part = BytesMut::from(&whole[..cut]);
                assert_eq!(Greeting::decode(&mut part), Ok(None), "cut at {cut}");
                assert_eq!(part.len(), cut, "an incomplete greeting is left alone");
            }
            assert_eq!(Greeting::decode(&mut whole), Ok(Some(greeting)));
            assert!(whole.is_empty());
        }
    }

    // P-010
    #[test]
    fn an_oldstyle_greeting_has_152_bytes() {
        let mut bytes = BytesMut::new();
        let export = ExportInfo {
            size: 0,
            flags: TransmissionFlags::HAS_FLAGS,
        };
        Greeting::Oldstyle(export).encode(&mut bytes);
        assert_eq!(bytes.len(), 152);
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        let error = Greeting::decode(&mut BytesMut::from("SSH-2.0-x\r\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"the peer does not speak NBD: it began with "SSH-2.0-x\r\n""#
        );
    }

    #[test]
    fn option_requests_survive_a_round_trip() {
        let asked = [InfoType::BLOCK_SIZE, InfoType(77)];
        let request = OptionRequest::info(OptionType::GO, "disk", &asked);
        assert_eq!(request.data.len(), 4 + 4 + 2 + 4, "P-054");
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes);
        let back = OptionRequest::decode(&mut bytes).unwrap().unwrap();
        assert_eq!(
            back.parse_info().unwrap(),
            ("disk".to_owned(), asked.to_vec())
        );

        let queries = ["base:allocation", "qemu:"];
        let request = OptionRequest::meta_context(OptionType::SET_META_CONTEXT, "", &queries);
        let (name, back) = request.parse_meta_context().unwrap();
        assert_eq!((name.as_str(), back.len()), ("", 2));
    }

    #[test]
    fn a_reply_too_long_is_refused_before_its_payload_is_there() {
        for (reply, limit) in [
            (OptionReplyType::ACK, 0),
            (OptionReplyType::ERR_POLICY, 4096),
            (OptionReplyType::INFO, MAX_UNKNOWN_INFO),
            (OptionReplyType::SERVER, MAX_OPTION_REPLY),
            (OptionReplyType(77), MAX_OPTION_REPLY),
        ] {
            let head = |length: u32| {
                let mut bytes = BytesMut::new();
                bytes.put_u64(OPTION_REPLY_MAGIC);
                bytes.put_u32(OptionType::GO.0);
                bytes.put_u32(reply.0);
                bytes.put_u32(length);
                bytes
            };
            let over = OptionReply::decode(&mut head(limit + 1));
            assert_eq!(
                over,
                Err(ProtocolError::length("option reply", u64::from(limit) + 1))
            );
            assert!(OptionReply::decode(&mut head(limit)).is_ok());
        }
    }

    // P-042
    #[test]
    fn a_list_entry_is_a_name_and_a_description() {
        let reply = OptionReply::server("disk", "of mine");
        let (name, description) = reply.parse_server().unwrap();
        assert_eq!((name.as_str(), description.as_str()), ("disk", "of mine"));
        let long = OptionReply {
            payload: Bytes::from_static(b"\0\0\0\x05disk"),
            ..reply
        };
        assert_eq!(
            long.parse_server(),
            Err(ProtocolError::length("export name", 5))
        );
    }

    // P-049
    #[test]
    fn information_has_the_length_of_its_type() {
        for length in [2, 10, 11, 13] {
            assert_eq!(
                Info::decode(&vec![0; length]),
                Err(ProtocolError::Info(InfoType::EXPORT))
            );
        }
        let block = Info::BlockSize {
            minimum: 1,
            preferred: 4096,
            maximum: 1 << 25,
        };
        let reply = OptionReply::info(OptionType::GO, &block);
        assert_eq!(Info::decode(&reply.payload), Ok(block));
        assert_eq!(
            Info::decode(&[0]),
            Err(ProtocolError::length("information reply", 1))
        );
        assert_eq!(
            Info::decode(&[0, 77, 1, 2]),
            Ok(Info::Unknown(InfoType(77)))
        );
    }

    // P-072, P-081
    #[test]
    fn context_names_have_a_namespace() {
        let reply = OptionReply::meta_context(OptionType::SET_META_CONTEXT, 0, "base:allocation");
        assert_eq!(
            reply.parse_meta_context(),
            Ok((0, "base:allocation".to_owned()))
        );
        let bare = OptionReply::meta_context(OptionType::SET_META_CONTEXT, 0, "base");
        assert_eq!(
            bare.parse_meta_context(),
            Err(ProtocolError::Text("metadata context"))
        );
    }
}
