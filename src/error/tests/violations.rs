//! A sample of every violation of the protocol.

use crate::wire::{
    ChunkType, Command, Excerpt, InfoType, OptionReplyType, OptionType, ProtocolError,
};

pub(super) fn violations() -> Vec<ProtocolError> {
    use ProtocolError as P;
    let (option, command) = (OptionType::GO, Command::READ);
    let (offset, length) = (512, 1024);
    vec![
        P::NotNbd {
            start: Excerpt::new(b"SSH-2.0-OpenSSH_9"),
        },
        P::UnknownHandshake(7),
        P::ClientFlags(7),
        P::OptionMagic(7),
        P::OptionReplyMagic(7),
        P::WrongOption {
            sent: option,
            echoed: OptionType::LIST,
        },
        P::UnexpectedOptionReply {
            option,
            reply: OptionReplyType::SERVER,
        },
        P::length("export name", 5000),
        P::Text("export name"),
        P::TooManyReplies(option),
        P::NoExportInfo(option),
        P::TransmissionFlags(2),
        P::ExportSize(u64::MAX),
        P::BlockSizes {
            minimum: 3,
            preferred: 4,
            maximum: 5,
        },
        P::Info(InfoType::BLOCK_SIZE),
        P::ContradictoryInfo {
            option,
            info: InfoType::EXPORT,
        },
        P::DuplicateContext(1),
        P::DuplicateContextName("base:allocation".into()),
        P::ClearBytesBeforeTls(9),
        P::Magic(7),
        P::UnknownCookie(7),
        P::WrongOffset { sent: 0, got: 512 },
        P::SimpleReply(command),
        P::UnexpectedChunk {
            command,
            chunk: ChunkType::BLOCK_STATUS,
        },
        P::NotDone,
        P::NoError,
        P::TooManyErrors,
        P::OutOfRange {
            offset,
            length,
            start: 0,
            size: 512,
        },
        P::Overlap { offset, length },
        P::TooFragmented,
        P::IncompleteRead {
            missing: 512,
            length,
        },
        P::Fragmented,
        P::UnknownContext(7),
        P::DuplicateStatus(7),
        P::MissingStatus(1),
        P::Extents("an extent of 0 bytes"),
    ]
}
