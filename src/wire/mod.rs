//! The NBD wire protocol: numbers, messages and codecs, for client and server alike.
//!
//! Pure: no runtime, no I/O, no clock. Every length a peer sends is checked before anything is
//! allocated, and nothing here can panic on what a peer sends. The normative text is
//! [`proto.md`](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
//!
//! Users of the client need none of this; authors of servers and of tests do.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

pub mod codec;
mod command;
mod error;
mod num;
pub mod option;
pub mod reply;
pub mod request;
mod text;

pub use error::{Excerpt, ProtocolError};
pub use num::*;
pub use reply::ReplyStyle;
pub use text::{MAX_STRING, Text};
