//! The transmission phase: read a batch of requests, answer it with one write.

use crate::handshake::Session;
use crate::{Export, MAX_PAYLOAD};
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;

const REQUEST_MAGIC: u32 = 0x25609513;
const SIMPLE_MAGIC: u32 = 0x67446698;
const CHUNK_MAGIC: u32 = 0x668e33ef;

const REQUEST_LEN: usize = 28;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;

const CHUNK_DONE: u16 = 1;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_ERROR: u16 = 0x8001;

const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

/// Bytes asked of one `read`.
const INPUT: usize = 1 << 20;
/// Replies in one `writev`: two slices each, and Linux takes at most 1024.
const BATCH: usize = 256;
/// Payload bytes that end a batch early.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Clone, Copy)]
struct Request {
    command: u16,
    cookie: [u8; 8],
    offset: u64,
    length: u32,
}

impl Request {
    fn parse(bytes: &[u8]) -> io::Result<Request> {
        let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        if field(0) != REQUEST_MAGIC {
            return Err(io::Error::other("bad request magic"));
        }
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&bytes[8..16]);
        Ok(Request {
            command: field(4) as u16,
            cookie,
            offset: u64::from(field(16)) << 32 | u64::from(field(20)),
            length: field(24),
        })
    }

    fn within(&self, size: u64) -> bool {
        self.offset
            .checked_add(self.length.into())
            .is_some_and(|end| end <= size)
    }
}

/// A piece of the output: bytes of `Replies::bytes`, or that many zeros.
enum Piece {
    Bytes(Range<usize>),
    Zeros(usize),
}

/// Replies that are not written yet.
#[derive(Default)]
struct Replies {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    count: usize,
    total: usize,
}

impl Replies {
    fn full(&self) -> bool {
        self.count >= BATCH || self.total >= BATCH_BYTES
    }

    /// Adds a reply: a header made by `write`, then that many `zeros`.
    fn push(&mut self, zeros: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.total += self.bytes.len() - start + zeros;
        self.count += 1;
        // Join it to the piece before it where that is in `bytes` too.
        match self.pieces.last_mut() {
            Some(Piece::Bytes(range)) => range.end = self.bytes.len(),
            _ => self.pieces.push(Piece::Bytes(start..self.bytes.len())),
        }
        if zeros > 0 {
            self.pieces.push(Piece::Zeros(zeros));
        }
    }

    fn simple(&mut self, request: &Request, error: u32) {
        self.push(0, |out| {
            out.extend(SIMPLE_MAGIC.to_be_bytes());
            out.extend(error.to_be_bytes());
            out.extend(request.cookie);
        })
    }

    fn read_error(&mut self, request: &Request, error: u32, session: &Session) {
        if !session.structured {
            return self.simple(request, error);
        }
        self.push(0, |out| {
            chunk(out, CHUNK_ERROR, request, 6);
            out.extend(error.to_be_bytes());
            out.extend([0; 2]);
        })
    }

    fn read_data(&mut self, request: &Request, export: &Export, session: &Session) {
        let length = request.length as usize;
        let zeros = if export.memory.is_some() { 0 } else { length };
        self.push(zeros, |out| {
            if session.structured {
                chunk(out, CHUNK_OFFSET_DATA, request, request.length + 8);
                out.extend(request.offset.to_be_bytes());
            } else {
                out.extend(SIMPLE_MAGIC.to_be_bytes());
                out.extend([0; 4]);
                out.extend(request.cookie);
            }
            if let Some(memory) = &export.memory {
                let start = request.offset as usize;
                out.extend_from_slice(&memory.read().unwrap()[start..start + length]);
            }
        })
    }

    fn write_out(&mut self, stream: &mut impl Write, zeros: &[u8]) -> io::Result<()> {
        let mut slices: Vec<IoSlice> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(range) => IoSlice::new(&self.bytes[range.clone()]),
                Piece::Zeros(length) => IoSlice::new(&zeros[..*length]),
            })
            .collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match stream.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.bytes.clear();
        self.pieces.clear();
        (self.count, self.total) = (0, 0);
        Ok(())
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, request: &Request, length: u32) {
    out.extend(CHUNK_MAGIC.to_be_bytes());
    out.extend(CHUNK_DONE.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(request.cookie);
    out.extend(length.to_be_bytes());
}

/// A WRITE whose payload has not all been seen.
struct Incoming {
    request: Request,
    seen: usize,
    error: u32,
}

pub fn run<S: Read + Write>(stream: &mut S, export: &Export, session: Session) -> io::Result<()> {
    let mut input = vec![0; INPUT];
    let (mut start, mut end) = (0, 0);
    let mut replies = Replies::default();
    let mut incoming: Option<Incoming> = None;
    loop {
        // Everything that is in `input`, as far as it is whole.
        while !replies.full() {
            if let Some(write) = &mut incoming {
                let length = write.request.length as usize;
                let have = (length - write.seen).min(end - start);
                if let (Some(memory), 0) = (&export.memory, write.error) {
                    let at = write.request.offset as usize + write.seen;
                    memory.write().unwrap()[at..at + have]
                        .copy_from_slice(&input[start..start + have]);
                }
                write.seen += have;
                start += have;
                if write.seen < length {
                    break;
                }
                replies.simple(&write.request, write.error);
                incoming = None;
            }
            if end - start < REQUEST_LEN {
                break;
            }
            let request = Request::parse(&input[start..start + REQUEST_LEN])?;
            start += REQUEST_LEN;
            let fits = request.within(export.size) && request.length <= MAX_PAYLOAD;
            match request.command {
                CMD_READ if fits => replies.read_data(&request, export, &session),
                CMD_READ => replies.read_error(&request, EINVAL, &session),
                CMD_WRITE => {
                    let error = if fits { 0 } else { ENOSPC };
                    incoming = Some(Incoming {
                        request,
                        seen: 0,
                        error,
                    });
                }
                CMD_FLUSH => replies.simple(&request, 0),
                CMD_DISC => return replies.write_out(stream, &export.zeros),
                _ => replies.simple(&request, EINVAL),
            }
        }
        if replies.count > 0 {
            let was_full = replies.full();
            replies.write_out(stream, &export.zeros)?;
            if was_full {
                continue;
            }
        }
        // Keep the start of an unfinished request, and read more.
        input.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        match stream.read(&mut input[end..]) {
            Ok(0) => return Ok(()),
            Ok(read) => end += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
