//! Carries out one request on an export and says what to reply ("Request types").

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Buf;

use crate::wire::codec::Request;
use crate::wire::reply::{ChunkHead, ReplyHead, error_body, hole_body, status_body};
use crate::wire::request::RequestHead;
use crate::wire::{
    ChunkType, Command, CommandFlags, Errno, MAX_STRING, ReplyFlags, ReplyStyle, TransmissionFlags,
};

use super::content::{Content, Contents};
use super::context::{ExportContext, StatusRange};
use super::export::Export;
use super::pages::{Piece, zeroes};
use super::reply_queue::{Body, Message};
use super::server::ServerState;

/// Most data in one chunk, so that its length fits 32 bits.
const MAX_CHUNK: usize = 1 << 30;
/// Most bytes that can be allocated without data: the book-keeping takes memory, too.
const MAX_PROVISION: u64 = 64 << 30;

/// The transmission phase of one connection, as far as it does not change.
pub(super) struct ServerSession<'a> {
    pub(super) server: &'a ServerState,
    pub(super) export: Export,
    pub(super) flags: TransmissionFlags,
    pub(super) style: ReplyStyle,
    pub(super) contexts: Vec<(u32, Arc<ExportContext>)>,
}

/// Why a request is refused.
struct Failure {
    error: Errno,
    message: Cow<'static, str>,
}

const fn fail<T>(error: Errno, message: &'static str) -> Result<T, Failure> {
    Err(Failure {
        error,
        message: Cow::Borrowed(message),
    })
}

impl ServerSession<'_> {
    /// Carries a request out and passes each message of the reply to `emit`.
    pub(super) fn execute(&self, request: &Request, emit: &mut impl FnMut(Message)) {
        if let Err(failure) = self.perform(request, emit) {
            emit(self.failure(&request.head, &failure));
        }
    }

    fn perform(&self, request: &Request, emit: &mut impl FnMut(Message)) -> Result<(), Failure> {
        let head = &request.head;
        let fault = self.server.knobs.fault.as_ref();
        if let Some((error, message)) = fault.and_then(|fault| fault(head)) {
            let message = Cow::Owned(message);
            return Err(Failure { error, message });
        }
        if self.server.is_shutting_down() {
            return fail(Errno::ESHUTDOWN, "the server is going down");
        }
        let length = self.check(request)?;
        let pages = self.export.pages();
        match head.command {
            Command::READ => {
                self.read(head, emit);
                return Ok(());
            }
            Command::BLOCK_STATUS => return self.status(request, length, emit),
            Command::WRITE => pages.write(head.offset, &request.payload),
            Command::TRIM => pages.zero(head.offset, length, true),
            Command::WRITE_ZEROES => {
                let punch = !head.flags.contains(CommandFlags::NO_HOLE);
                if !punch && length > MAX_PROVISION {
                    return fail(Errno::ENOSPC, "too much to allocate");
                }
                pages.zero(head.offset, length, punch);
            }
            // The content is in memory, so there is nothing to flush and nothing to cache.
            _ => {}
        }
        emit(self.acknowledgement(head));
        Ok(())
    }

    /// Checks a request; returns the length of what it is about.
    fn check(&self, request: &Request) -> Result<u64, Failure> {
        let head = &request.head;
        self.check_flags(head)?;
        let settings = self.export.settings();
        // P-149: a read-only export is not written.
        if head.command.changes()
            && (settings.read_only || self.flags.contains(TransmissionFlags::READ_ONLY))
        {
            return fail(Errno::EPERM, "the export is read-only");
        }
        let Some(spec) = head.command.spec() else {
            return fail(Errno::EINVAL, "unknown command");
        };
        // The flag of CACHE is but a hint.
        let is_offered = head.command == Command::CACHE || self.flags.contains(spec.offer);
        // P-132: only what the server offers.
        if !is_offered {
            return fail(Errno::EINVAL, "the command was not offered");
        }
        if !spec.has_range {
            // P-136: FLUSH has no range.
            if head.offset != 0 || head.length != 0 {
                return fail(Errno::EINVAL, "flush of a range");
            }
            return Ok(0);
        }
        let filtered = head.flags.contains(CommandFlags::PAYLOAD_LEN);
        let length = match head.command {
            // the effect length leads the payload.
            Command::BLOCK_STATUS if filtered => match (&request.payload[..]).try_get_u64() {
                Ok(length) => length,
                Err(_) => return fail(Errno::EINVAL, "payload too short"),
            },
            _ => head.length,
        };
        self.check_range(head, length)?;
        if head.flags.contains(CommandFlags::FAST_ZERO) && !settings.fast_zero {
            // P-142: FAST_ZERO may fail with ENOTSUP.
            return fail(Errno::ENOTSUP, "zeroing is not fast");
        }
        Ok(length)
    }

    /// P-134: only the flags that are documented for the command, and were offered.
    fn check_flags(&self, head: &RequestHead) -> Result<(), Failure> {
        let offered = |flag, offer| match self.flags.contains(offer) {
            true => flag,
            false => CommandFlags::empty(),
        };
        let mut allowed = offered(CommandFlags::FUA, TransmissionFlags::SEND_FUA);
        allowed |= match head.command {
            Command::READ => offered(CommandFlags::DF, TransmissionFlags::SEND_DF),
            Command::WRITE if self.style == ReplyStyle::Extended => {
                // PAYLOAD_LEN announces a payload.
                if !head.flags.contains(CommandFlags::PAYLOAD_LEN) {
                    return fail(Errno::EINVAL, "write without payload");
                }
                CommandFlags::PAYLOAD_LEN
            }
            Command::WRITE_ZEROES => {
                let fast = TransmissionFlags::SEND_FAST_ZERO;
                CommandFlags::NO_HOLE | offered(CommandFlags::FAST_ZERO, fast)
            }
            Command::BLOCK_STATUS => {
                let filter = TransmissionFlags::BLOCK_STATUS_PAYLOAD;
                CommandFlags::REQ_ONE | offered(CommandFlags::PAYLOAD_LEN, filter)
            }
            _ => CommandFlags::empty(),
        };
        if !head.flags.difference(allowed).is_empty() {
            return fail(Errno::EINVAL, "unknown flag");
        }
        Ok(())
    }

    fn check_range(&self, head: &RequestHead, length: u64) -> Result<(), Failure> {
        let settings = self.export.settings();
        // P-139: unspecified by the protocol; here it is an error.
        if length == 0 {
            return fail(Errno::EINVAL, "empty range");
        }
        // P-115: the range lies inside the export; P-177: a write past the end is ENOSPC.
        let end = head.offset.checked_add(length);
        if end.is_none_or(|end| end > settings.size) {
            return match head.command {
                Command::WRITE | Command::WRITE_ZEROES => {
                    fail(Errno::ENOSPC, "past the end of the export")
                }
                _ => fail(Errno::EINVAL, "past the end of the export"),
            };
        }
        // P-114: offset and length are whole blocks. P-121: the export may end inside a block.
        let minimum = u64::from(settings.blocks.minimum.max(1));
        let is_tail = end == Some(settings.size);
        if head.offset % minimum != 0 || (length % minimum != 0 && !is_tail) {
            return fail(Errno::EINVAL, "not aligned to the minimum block size");
        }
        // P-116: a payload is at most the maximum; P-166: DF means one chunk of content; X-11: a
        // read fits 32 bits.
        let maximum = u64::from(settings.blocks.maximum);
        match head.command {
            Command::WRITE if length > maximum => {
                fail(Errno::EINVAL, "larger than the maximum payload")
            }
            Command::READ if length > maximum => {
                fail(Errno::EOVERFLOW, "larger than the maximum payload")
            }
            Command::READ
                if head.flags.contains(CommandFlags::DF)
                    && length > settings.max_unfragmented.into() =>
            {
                fail(Errno::EOVERFLOW, "too long for one chunk")
            }
            _ => Ok(()),
        }
    }

    fn read(&self, head: &RequestHead, emit: &mut impl FnMut(Message)) {
        let pages = self.export.pages();
        if self.style == ReplyStyle::Simple {
            let mut pieces = Vec::with_capacity(1);
            pages.read(head.offset, head.length, |_, piece| match piece {
                Piece::Data(data) => pieces.push(data),
                Piece::Hole(length) => pieces.extend(zeroes(length)),
            });
            let offset = None;
            let body = Body::Data { offset, pieces };
            emit(simple(head, Errno::OK, body));
            return;
        }
        let knobs = &self.server.knobs;
        let one_chunk = head.flags.contains(CommandFlags::DF);
        let limit = match knobs.read_chunk {
            Some(bytes) if !one_chunk => (bytes as usize).min(MAX_CHUNK),
            _ => MAX_CHUNK,
        };
        let mut contents = Contents::new(limit);
        pages.read(head.offset, head.length, |offset, piece| match piece {
            Piece::Data(data) => contents.add(offset, data),
            // One hole can be the one chunk of an unfragmented read.
            Piece::Hole(length) if knobs.report_holes && (!one_chunk || length == head.length) => {
                contents.add_hole(offset, length);
            }
            Piece::Hole(length) => {
                let mut at = offset;
                for piece in zeroes(length) {
                    let next = at + piece.len() as u64;
                    contents.add(at, piece);
                    at = next;
                }
            }
        });
        let mut contents = contents.into_inner();
        if knobs.reverse_chunks {
            contents.reverse();
        }
        let last = contents.len() - usize::from(!knobs.trailing_done).min(contents.len());
        for (index, content) in contents.into_iter().enumerate() {
            let (kind, body) = match content {
                Content::Data { offset, pieces, .. } => {
                    let offset = Some(offset);
                    (ChunkType::OFFSET_DATA, Body::Data { offset, pieces })
                }
                Content::Hole(hole) => (ChunkType::OFFSET_HOLE, Body::Bytes(hole_body(hole))),
            };
            emit(self.chunk(head, kind, index == last, body));
        }
        if knobs.trailing_done {
            emit(self.chunk(head, ChunkType::NONE, true, Body::Empty));
        }
    }

    fn status(
        &self,
        request: &Request,
        length: u64,
        emit: &mut impl FnMut(Message),
    ) -> Result<(), Failure> {
        let head = &request.head;
        let contexts = self.status_contexts(request)?;
        let knobs = &self.server.knobs;
        let one = head.flags.contains(CommandFlags::REQ_ONE);
        let end = head.offset + length;
        let extended = self.style == ReplyStyle::Extended;
        // P-170, P-171: only without REQ_ONE may the last extent go on past the end.
        let limit = match (knobs.overshoot_extents && !one, extended) {
            (false, _) => end,
            (true, true) => self.export.size(),
            // An extent of the compact form is at most 32 bits long.
            (true, false) => end.max(self.export.size().min(head.offset + 0xffff_0000)),
        };
        let range = StatusRange {
            offset: head.offset,
            length,
            limit,
            most: if one { 1 } else { knobs.max_extents },
        };
        let kind = match extended {
            true => ChunkType::BLOCK_STATUS_EXT,
            false => ChunkType::BLOCK_STATUS,
        };
        // P-169: one chunk per context.
        for (index, (id, context)) in contexts.iter().enumerate() {
            let extents = context.extents(self.export.pages(), range);
            let body = Body::Bytes(status_body(extended, *id, &extents));
            emit(self.chunk(head, kind, index + 1 == contexts.len(), body));
        }
        Ok(())
    }

    /// The contexts a block status is about.
    fn status_contexts(
        &self,
        request: &Request,
    ) -> Result<Vec<(u32, Arc<ExportContext>)>, Failure> {
        // P-085: block status needs selected contexts.
        if self.contexts.is_empty() {
            return fail(Errno::EINVAL, "no metadata context was selected");
        }
        if !request.head.flags.contains(CommandFlags::PAYLOAD_LEN) {
            return Ok(self.contexts.clone());
        }
        // 8 + 4n bytes; ids are known and not repeated.
        let ids = request.payload.get(8..).unwrap_or_default();
        if ids.is_empty() || ids.len() % 4 != 0 {
            return fail(Errno::EINVAL, "payload is not a list of contexts");
        }
        let mut wanted: Vec<(u32, Arc<ExportContext>)> = Vec::with_capacity(ids.len() / 4);
        for mut id in ids.chunks_exact(4) {
            let id = id.get_u32();
            let known = self.contexts.iter().find(|(known, _)| *known == id);
            let repeated = wanted.iter().any(|(earlier, _)| *earlier == id);
            match known {
                Some(context) if !repeated => wanted.push(context.clone()),
                _ => return fail(Errno::EINVAL, "unknown or repeated context"),
            }
        }
        Ok(wanted)
    }

    fn acknowledgement(&self, head: &RequestHead) -> Message {
        match self.style {
            ReplyStyle::Simple => simple(head, Errno::OK, Body::Empty),
            ReplyStyle::Structured if self.server.knobs.simple_acks => {
                simple(head, Errno::OK, Body::Empty)
            }
            _ => self.chunk(head, ChunkType::NONE, true, Body::Empty),
        }
    }

    fn failure(&self, head: &RequestHead, failure: &Failure) -> Message {
        if self.style == ReplyStyle::Simple {
            return simple(head, failure.error, Body::Empty);
        }
        // P-159: a message is a string, and those have a limit.
        let mut message = &failure.message[..];
        while message.len() > MAX_STRING {
            let mut shorter = message.chars();
            shorter.next_back();
            message = shorter.as_str();
        }
        let body = Body::Bytes(error_body(failure.error, message, None));
        self.chunk(head, ChunkType::ERROR, true, body)
    }

    fn chunk(&self, head: &RequestHead, chunk: ChunkType, done: bool, body: Body) -> Message {
        let flags = match done {
            true => ReplyFlags::DONE,
            false => ReplyFlags::empty(),
        };
        let head = ReplyHead::Chunk(ChunkHead {
            flags,
            chunk,
            cookie: head.cookie,
            // extended replies carry the request's offset.
            offset: (self.style == ReplyStyle::Extended).then_some(head.offset),
            length: 0,
        });
        Message { head, body }
    }
}

const fn simple(head: &RequestHead, error: Errno, body: Body) -> Message {
    let cookie = head.cookie;
    Message {
        head: ReplyHead::Simple { cookie, error },
        body,
    }
}
