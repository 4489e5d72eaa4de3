//! Messages of the handshake: greeting, option requests, option replies, export information.

mod greeting;
mod info;
mod reply;
mod request;
mod string;
#[cfg(test)]
mod tests;

pub use greeting::{ExportInfo, Greeting};
pub use info::Info;
pub use reply::OptionReply;
pub use request::{ClientMessage, OptionRequest};

/// Largest payload of an option reply that is kept: an export's name and description.
pub const MAX_OPTION_REPLY: u32 = 4 + 4 + 2 * 4096;
/// Largest payload of an information reply. Known types have at most 4098 bytes; unknown types are
/// read and dropped.
pub const MAX_INFO: u32 = 64 * 1024;
/// Largest payload of an option request: 64 KiB of metadata queries and an export name.
pub const MAX_OPTION_REQUEST: u32 = 64 * 1024 + 8192;
/// Zero bytes that follow the export information unless `NO_ZEROES` was agreed.
pub const EXPORT_PADDING: usize = 124;
