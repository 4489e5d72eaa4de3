//! The commands as types: the parameter of [`Request`](crate::Request) and
//! [`Pending`](crate::Pending).
//!
//! They are needed only to name the type of a request, for instance to keep a `Pending<op::Read>`
//! in a struct.

use bytes::{Bytes, BytesMut};

use crate::extent::BlockStatus;
use crate::session::Context;

/// A command of the protocol. The trait is sealed: the types in this module are all there are.
pub trait Operation: sealed::Sealed + Send + Unpin + 'static {
    /// The result of a successful command.
    type Output: Send + Unpin + 'static;
}

mod sealed {
    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}
}

/// Sets the result of each command.
macro_rules! operations {
    ($($name:ident => $output:ty),*) => {$(
        impl sealed::Sealed for $name {}

        impl Operation for $name {
            type Output = $output;
        }
    )*};
}

operations!(
    Read => Bytes,
    ReadInto => BytesMut,
    Write => (),
    Flush => (),
    Trim => (),
    WriteZeroes => (),
    Cache => (),
    Status => BlockStatus,
    Modify => ()
);

/// `NBD_CMD_READ` into a new buffer, see [`Connection::read`](crate::Connection::read).
#[derive(Debug)]
pub struct Read;

/// `NBD_CMD_READ` into a given buffer, see
/// [`Connection::read_into`](crate::Connection::read_into).
#[derive(Debug)]
pub struct ReadInto(pub(super) BytesMut);

/// `NBD_CMD_WRITE`, see [`Connection::write`](crate::Connection::write).
#[derive(Debug)]
pub struct Write(pub(crate) Bytes);

/// `NBD_CMD_FLUSH`, see [`Connection::flush`](crate::Connection::flush).
#[derive(Clone, Debug)]
pub struct Flush;

/// `NBD_CMD_TRIM`, see [`Connection::trim`](crate::Connection::trim).
#[derive(Clone, Debug)]
pub struct Trim;

/// `NBD_CMD_WRITE_ZEROES`, see [`Connection::write_zeroes`](crate::Connection::write_zeroes).
#[derive(Clone, Debug)]
pub struct WriteZeroes {
    /// Whether zeroes are written where the server does not offer the command.
    pub(super) or_write: bool,
}

/// `NBD_CMD_CACHE`, see [`Connection::cache`](crate::Connection::cache).
#[derive(Clone, Debug)]
pub struct Cache;

/// A write of a part of a block, see [`unaligned`](crate::Request::unaligned).
#[derive(Debug)]
pub(super) struct Modify {
    /// The position of the data in the block.
    pub(super) position: usize,
    pub(super) data: Bytes,
    pub(super) read_flags: crate::wire::CommandFlags,
}

/// `NBD_CMD_BLOCK_STATUS`, of all contexts or of some, see
/// [`Connection::block_status`](crate::Connection::block_status).
#[derive(Debug)]
pub struct Status {
    pub(super) filter: Option<Vec<String>>,
    pub(super) contexts: Vec<Context>,
}
