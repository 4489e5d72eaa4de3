//! The NBD wire protocol: numbers, messages and codecs, for client and server alike.
//!
//! Pure: no runtime, no I/O, no clock. Every length a peer sends is checked before anything is
//! allocated, and nothing here can panic on what a peer sends. The normative text is
//! [`proto.md`](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
//!
//! The numbers, flags and texts are part of what the client gives. The messages and their codecs,
//! in the modules, come with the feature `wire`: authors of servers and of tests need them.
#![cfg_attr(
    not(feature = "wire"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "the other side of the protocol"
    )
)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

#[cfg(feature = "wire")]
pub mod codec;
#[cfg(not(feature = "wire"))]
pub(crate) mod codec;
mod command;
mod error;
mod num;
#[cfg(feature = "wire")]
pub mod option;
#[cfg(not(feature = "wire"))]
pub(crate) mod option;
#[cfg(feature = "wire")]
pub mod reply;
#[cfg(not(feature = "wire"))]
pub(crate) mod reply;
#[cfg(feature = "wire")]
pub mod request;
#[cfg(not(feature = "wire"))]
pub(crate) mod request;
mod text;

pub use error::{Excerpt, ProtocolError};
pub use num::*;
pub use reply::ReplyStyle;
pub use text::{MAX_STRING, Text};
