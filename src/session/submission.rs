//! What a caller hands to the session, and what it gets back.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::assembly::Assembly;
use super::claims::Claims;
use super::modify::{Block, Modify};
use super::status::StatusAssembly;
use crate::chunk::Chunk;
use crate::extent::BlockStatus;
use crate::wire::{Command, CommandFlags};

/// A request as a caller submits it: checked, and not longer than one message can be.
#[derive(Debug)]
pub struct Submission {
    /// The command of the request.
    pub command: Command,
    /// The flags in its header.
    pub flags: CommandFlags,
    /// The start of its range, in bytes from the start of the export.
    pub offset: u64,
    /// The length in its header, in bytes.
    pub length: u64,
    /// The bytes that follow the header.
    pub payload: Bytes,
    /// The destination of the content of the reply.
    pub sink: Sink,
}

/// The destination of the content of a reply.
#[derive(Debug)]
pub enum Sink {
    /// The reply has no content.
    None,
    /// One buffer.
    Read(Assembly),
    /// A queue of pieces.
    Chunks(Box<Chunks>),
    /// Lists of extents.
    Status(Box<StatusAssembly>),
    /// A block that is changed and written when it has been read.
    Modify(Box<Modify>),
}

impl Sink {
    /// Returns the read that is put together in one buffer, if it is one.
    #[inline]
    pub(super) fn buffered(&mut self) -> Option<&mut Assembly> {
        match self {
            Self::Read(read) => Some(read),
            Self::Modify(modify) => Some(&mut modify.read),
            Self::None | Self::Chunks(_) | Self::Status(_) => None,
        }
    }
}

/// The pieces of a structured read that wait to be taken.
#[derive(Debug)]
pub struct Chunks {
    /// The pieces that have come.
    pub claims: Claims,
    /// The pieces, in the order of their arrival.
    pub queue: VecDeque<Chunk>,
}

/// The result of a successful request.
#[derive(Debug)]
pub enum Answer {
    /// The request is carried out, and has no content.
    Done,
    /// The data of a read.
    Data(BytesMut),
    /// The extents of a block status.
    Status(BlockStatus),
    /// A block that is to be written. Callers never see this.
    Block(Box<Block>),
}
