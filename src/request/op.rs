//! The commands as types: the parameter of [`Request`](crate::Request) and
//! [`Pending`](crate::Pending).

use bytes::{Bytes, BytesMut};

use crate::extent::BlockStatus;
use crate::session::Context;

/// A command of the protocol. Sealed: these are all.
pub trait Operation: sealed::Sealed + Send + Unpin + 'static {
    /// What the command gives when it succeeds.
    type Output: Send + 'static;
}

mod sealed {
    #[allow(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}
}

/// Ties each command to what it gives.
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
    Status => BlockStatus
);

/// `READ` into a new buffer.
#[derive(Debug)]
pub struct Read;

/// `READ` into a given buffer.
#[derive(Debug)]
pub struct ReadInto(pub(super) BytesMut);

/// `WRITE`.
#[derive(Debug)]
pub struct Write(pub(super) Bytes);

/// `FLUSH`.
#[derive(Debug)]
pub struct Flush;

/// `TRIM`.
#[derive(Debug)]
pub struct Trim;

/// `WRITE_ZEROES`.
#[derive(Debug)]
pub struct WriteZeroes;

/// `CACHE`.
#[derive(Debug)]
pub struct Cache;

/// `BLOCK_STATUS`, of all contexts or of some.
#[derive(Debug)]
pub struct Status {
    pub(super) filter: Option<Vec<String>>,
    pub(super) contexts: Vec<Context>,
}
