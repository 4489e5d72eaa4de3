//! The numbers of the protocol as open newtypes, and its flag fields as bit sets.
//!
//! Every number a peer may send keeps its value, known or not: a newer server never becomes a
//! parse error. Section titles are those of `proto.md`.

use std::fmt;

use bitflags::bitflags;

/// First eight bytes of every server ("NBDMAGIC").
pub const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second magic of an oldstyle server.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Second magic of a newstyle server, and first of every option request ("IHAVEOPT").
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First magic of every option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Magic of a compact request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Magic of an extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// Magic of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Magic of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// Magic of an extended reply chunk.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Declares a number of the protocol: an open newtype with named constants. Where it has no name
/// it is printed in the given format.
macro_rules! open_number {
    ($(#[$meta:meta])* $name:ident($int:ty, $format:literal) {
        $($(#[$doc:meta])* $konst:ident = $value:expr,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$doc])* pub const $konst: Self = Self($value);)*

            /// The name of the number in the protocol, if it is a known one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$konst => Some(stringify!($konst)),)*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "(", $format, ")"), self.0),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, $format, self.0),
                }
            }
        }
    };
}

open_number! {
    /// An option of the handshake ("Option types").
    OptionType(u32, "{:#x}") {
        /// Choose an export and enter transmission, without any error reply.
        EXPORT_NAME = 1,
        /// End the session.
        ABORT = 2,
        /// List the exports.
        LIST = 3,
        /// Upgrade to TLS.
        STARTTLS = 5,
        /// Ask for information about an export.
        INFO = 6,
        /// Choose an export and enter transmission.
        GO = 7,
        /// Ask for structured replies.
        STRUCTURED_REPLY = 8,
        /// List the metadata contexts of an export.
        LIST_META_CONTEXT = 9,
        /// Select metadata contexts of an export.
        SET_META_CONTEXT = 10,
        /// Ask for extended headers.
        EXTENDED_HEADERS = 11,
    }
}

open_number! {
    /// What an option reply says ("Option reply types").
    OptionReplyType(u32, "{:#x}") {
        /// The option is done.
        ACK = 1,
        /// An export of a list.
        SERVER = 2,
        /// A piece of information about an export.
        INFO = 3,
        /// A metadata context.
        META_CONTEXT = 4,
        /// The server does not know the option.
        ERR_UNSUP = 0x8000_0001,
        /// The server's policy forbids it.
        ERR_POLICY = 0x8000_0002,
        /// The request was malformed.
        ERR_INVALID = 0x8000_0003,
        /// The server's platform cannot do it.
        ERR_PLATFORM = 0x8000_0004,
        /// TLS must be on first.
        ERR_TLS_REQD = 0x8000_0005,
        /// There is no such export.
        ERR_UNKNOWN = 0x8000_0006,
        /// The server is shutting down.
        ERR_SHUTDOWN = 0x8000_0007,
        /// The client must ask for the block sizes first.
        ERR_BLOCK_SIZE_REQD = 0x8000_0008,
        /// The request or its answer is too large.
        ERR_TOO_BIG = 0x8000_0009,
        /// Extended headers are needed (or already agreed).
        ERR_EXT_HEADER_REQD = 0x8000_000a,
    }
}

impl OptionReplyType {
    /// Whether this reply refuses the option (bit 31).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

open_number! {
    /// A kind of information about an export ("Option reply types", `NBD_REP_INFO`).
    InfoType(u16, "{:#x}") {
        /// Size and transmission flags.
        EXPORT = 0,
        /// Canonical name.
        NAME = 1,
        /// Description for humans.
        DESCRIPTION = 2,
        /// Block size constraints.
        BLOCK_SIZE = 3,
    }
}

open_number! {
    /// A command of the transmission phase ("Request types").
    Command(u16, "{:#x}") {
        /// Read data.
        READ = 0,
        /// Write data.
        WRITE = 1,
        /// End the session.
        DISC = 2,
        /// Make completed writes durable.
        FLUSH = 3,
        /// Discard data.
        TRIM = 4,
        /// Prefetch data.
        CACHE = 5,
        /// Write zeroes without sending them.
        WRITE_ZEROES = 6,
        /// Query metadata contexts.
        BLOCK_STATUS = 7,
        /// Resize the export (experimental).
        RESIZE = 8,
    }
}

open_number! {
    /// A kind of reply chunk ("Structured reply types").
    ChunkType(u16, "{:#x}") {
        /// No content; the last chunk of a reply.
        NONE = 0,
        /// Data at an offset.
        OFFSET_DATA = 1,
        /// Zeroes at an offset.
        OFFSET_HOLE = 2,
        /// Extents of one metadata context, 32 bits wide.
        BLOCK_STATUS = 5,
        /// Extents of one metadata context, 64 bits wide.
        BLOCK_STATUS_EXT = 6,
        /// The request failed.
        ERROR = 0x8001,
        /// The request failed at an offset.
        ERROR_OFFSET = 0x8002,
    }
}

impl ChunkType {
    /// Whether chunks of this type report an error, known or not (bit 15).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

open_number! {
    /// An error number as it stands on the wire ("Error values"); Linux numbering.
    Errno(u32, "{}") {
        /// No error.
        OK = 0,
        /// Operation not permitted.
        EPERM = 1,
        /// Input or output error.
        EIO = 5,
        /// The server ran out of memory.
        ENOMEM = 12,
        /// Invalid argument.
        EINVAL = 22,
        /// No space left, or past the end of the export.
        ENOSPC = 28,
        /// Value too large.
        EOVERFLOW = 75,
        /// Operation not supported.
        ENOTSUP = 95,
        /// The server is shutting down.
        ESHUTDOWN = 108,
    }
}

impl Errno {
    /// The number as a caller should see it: one the protocol defines, anything else `EINVAL`.
    #[must_use]
    pub const fn known(self) -> Self {
        // P-176: an unknown error number means EINVAL and does not end the connection.
        if self.name().is_some() {
            self
        } else {
            Self::EINVAL
        }
    }
}

bitflags! {
    /// What the server offers in its greeting ("Handshake flags").
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct HandshakeFlags: u16 {
        /// Options are answered ("fixed newstyle").
        #[doc(alias = "LIBNBD_HANDSHAKE_FLAG_FIXED_NEWSTYLE")]
        const FIXED_NEWSTYLE = 1 << 0;
        /// The 124 zero bytes after an export can be left out.
        #[doc(alias = "LIBNBD_HANDSHAKE_FLAG_NO_ZEROES")]
        const NO_ZEROES = 1 << 1;
    }

    /// What the client accepts of it ("Client flags").
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct ClientFlags: u32 {
        /// Options are answered.
        const FIXED_NEWSTYLE = 1 << 0;
        /// The 124 zero bytes are left out.
        const NO_ZEROES = 1 << 1;
    }

    /// What an export supports ("Transmission flags").
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct TransmissionFlags: u16 {
        /// The field is valid; always set.
        const HAS_FLAGS = 1 << 0;
        /// The export cannot be written.
        const READ_ONLY = 1 << 1;
        /// `FLUSH` is supported.
        const SEND_FLUSH = 1 << 2;
        /// The `FUA` flag is supported.
        const SEND_FUA = 1 << 3;
        /// The export behaves like a rotating disk.
        const ROTATIONAL = 1 << 4;
        /// `TRIM` is supported.
        const SEND_TRIM = 1 << 5;
        /// `WRITE_ZEROES` and its `NO_HOLE` flag are supported.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// The `DF` flag is supported.
        const SEND_DF = 1 << 7;
        /// Several connections see one consistent export.
        const CAN_MULTI_CONN = 1 << 8;
        /// `RESIZE` is supported (experimental).
        const SEND_RESIZE = 1 << 9;
        /// `CACHE` is supported.
        const SEND_CACHE = 1 << 10;
        /// The `FAST_ZERO` flag is supported.
        const SEND_FAST_ZERO = 1 << 11;
        /// `BLOCK_STATUS` takes a list of contexts.
        const BLOCK_STATUS_PAYLOAD = 1 << 12;
    }

    /// Flags of one request ("Command flags").
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct CommandFlags: u16 {
        /// Reply only when the data is durable.
        const FUA = 1 << 0;
        /// Zeroes must be allocated.
        const NO_HOLE = 1 << 1;
        /// Reply with one chunk of content.
        const DF = 1 << 2;
        /// Reply with one extent per context.
        const REQ_ONE = 1 << 3;
        /// Fail rather than zero slowly.
        const FAST_ZERO = 1 << 4;
        /// The length is that of a payload that follows (extended headers).
        #[doc(alias = "LIBNBD_CMD_FLAG_PAYLOAD_LEN")]
        const PAYLOAD_LEN = 1 << 5;
    }

    /// Flags of one reply chunk ("Structured reply flags").
    #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
    pub struct ReplyFlags: u16 {
        /// The last chunk of its reply.
        const DONE = 1 << 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_keep_their_value_and_print_in_hex_except_errors() {
        assert_eq!(format!("{:?}", InfoType(0x4d)), "InfoType(0x4d)");
        assert_eq!(format!("{}", InfoType(0x4d)), "0x4d");
        assert_eq!(format!("{:?}", Errno(117)), "Errno(117)");
        assert_eq!(format!("{}", Errno(117)), "117");
        assert_eq!(format!("{:?}", OptionType::GO), "GO");
        assert_eq!(TransmissionFlags::from_bits_retain(0xf001).bits(), 0xf001);
    }

    // P-176: an unknown error number means EINVAL.
    #[test]
    fn unknown_errno_means_einval() {
        assert_eq!(Errno(99_999).known(), Errno::EINVAL);
        assert_eq!(Errno::ENOSPC.known(), Errno::ENOSPC);
    }

    // P-024: the top bit marks an error.
    #[test]
    fn error_replies_are_told_by_their_top_bit() {
        assert!(OptionReplyType(0x8000_ffff).is_error());
        assert!(!OptionReplyType(77).is_error());
        assert!(ChunkType(0x8077).is_error());
    }
}
