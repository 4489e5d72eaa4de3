//! The session fed by hand with bytes, whole and one at a time.

mod abandoned;
mod chunks;
mod errors;
mod extended;
mod flow;
mod flush;
#[cfg(target_pointer_width = "64")]
mod memory;
mod modify;
mod neighbours;
mod pieces;
mod random;
mod replies;
mod several;
mod share;
mod simple;
mod status;
mod unsent;

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use replies::*;

use super::*;
use crate::wire::codec::{Request, RequestCodec};
use crate::wire::{ChunkType, Command, CommandFlags, Errno, ProtocolError, ReplyFlags};

const SIMPLE: ReplyStyle = ReplyStyle::Simple;
const STRUCTURED: ReplyStyle = ReplyStyle::Structured;
const EXTENDED: ReplyStyle = ReplyStyle::Extended;
const STYLES: [ReplyStyle; 3] = [SIMPLE, STRUCTURED, EXTENDED];
/// The styles whose replies are chunks.
const CHUNKED: [ReplyStyle; 2] = [STRUCTURED, EXTENDED];
const DONE: ReplyFlags = ReplyFlags::DONE;
const MORE: ReplyFlags = ReplyFlags::empty();
/// Every command that is answered without content.
const BARE: [Command; 5] = [
    Command::WRITE,
    Command::FLUSH,
    Command::TRIM,
    Command::CACHE,
    Command::WRITE_ZEROES,
];

/// A session, the driver's part played by hand, and the server's by [`feed`](Self::feed).
struct Wire {
    session: Session,
    style: ReplyStyle,
    input: BytesMut,
    bulk: Option<Bulk>,
    /// How many bytes arrive at a time.
    step: usize,
    /// What was taken from the session to be written, and is not written yet.
    taken: Outbox,
    /// What was written, until it is decoded.
    sent: BytesMut,
    written: u64,
}

impl Wire {
    fn new(style: ReplyStyle) -> Self {
        Self::bounded(style, 1024, 128 << 20)
    }

    fn bounded(style: ReplyStyle, requests: usize, bytes: u64) -> Self {
        Self {
            session: Session::new(style, Bounds { requests, bytes }, u64::MAX - 3),
            style,
            input: BytesMut::new(),
            bulk: None,
            step: usize::MAX,
            taken: Outbox::default(),
            sent: BytesMut::new(),
            written: 0,
        }
    }

    /// Submits, which must be possible at once.
    fn submit(&mut self, submission: Submission) -> Cookie {
        match self.try_submit(submission, &mut None) {
            Poll::Ready(Ok(cookie)) => cookie,
            other => panic!("not submitted: {other:?}"),
        }
    }

    fn try_submit(
        &mut self,
        submission: Submission,
        ticket: &mut Option<u64>,
    ) -> Poll<Result<Cookie, Error>> {
        let mut submission = Some(submission);
        self.session
            .poll_submit(&mut submission, ticket, Waker::noop())
    }

    /// Drops a waiting request, as its caller does.
    fn give_up(&mut self, ticket: Option<u64>) {
        let cookie = ticket.and_then(|ticket| self.session.cancel(ticket));
        cookie.into_iter().for_each(|t| self.session.abandon(t));
    }

    fn read(&mut self, offset: u64, length: u64) -> Cookie {
        self.submit(read(offset, length))
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Cookie {
        let submission = write(self.style, offset, data);
        self.submit(submission)
    }

    fn command(&mut self, command: Command) -> Cookie {
        match command {
            Command::WRITE => self.write(0, &[7; 512]),
            Command::READ => self.read(0, 512),
            _ => self.submit(bare(command, 0, 512)),
        }
    }

    /// Writes everything that is queued, and says what it was.
    fn send(&mut self) -> Vec<Request> {
        self.write_out(usize::MAX);
        let mut codec = RequestCodec::new(self.style, u64::MAX);
        let mut requests = Vec::new();
        while let Some(request) = codec.decode(&mut self.sent).unwrap() {
            requests.push(request);
        }
        requests
    }

    /// Writes at most so many bytes of what is queued.
    fn write_out(&mut self, most: usize) {
        let mut left = most;
        while left > 0 {
            if self.taken.is_empty() {
                self.session.take_outbox(&mut self.taken);
            }
            if self.taken.is_empty() {
                break;
            }
            let mut slices = [std::io::IoSlice::new(&[]); SLICES];
            let used = self.taken.slices(&mut slices);
            let bytes: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .take(left)
                .collect();
            left -= bytes.len();
            self.written += bytes.len() as u64;
            self.sent.extend_from_slice(&bytes);
            self.taken.advance(bytes.len());
        }
        self.session.set_written(self.written);
    }

    /// Submits one request of the command and sends it.
    fn ask(&mut self, command: Command) -> (Cookie, RequestHead) {
        let cookie = self.command(command);
        let head = self.send().pop().unwrap().head;
        (cookie, head)
    }

    fn ask_read(&mut self, offset: u64, length: u64) -> (Cookie, RequestHead) {
        let cookie = self.read(offset, length);
        let head = self.send().pop().unwrap().head;
        (cookie, head)
    }

    /// Receives bytes as the driver does; a violation ends the session.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        for piece in bytes.chunks(self.step) {
            if let Err(error) = self.receive(piece) {
                self.session.fail(&error.clone().into());
                return Err(error);
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut piece: &[u8]) -> Result<(), ProtocolError> {
        if let Some(mut bulk) = self.bulk.take() {
            let count = bulk.left().min(piece.len());
            bulk.buffer().extend_from_slice(&piece[..count]);
            bulk.filled(count);
            piece = &piece[count..];
            if bulk.left() > 0 {
                self.bulk = Some(bulk);
                return Ok(());
            }
            self.session.received(bulk)?;
        }
        self.input.extend_from_slice(piece);
        loop {
            match self.session.receive(&mut self.input)? {
                Intake::Bytes(_) => return Ok(()),
                Intake::Bulk(bulk) => {
                    self.bulk = Some(bulk);
                    return Ok(());
                }
                Intake::Caller => {}
            }
        }
    }

    fn poll(&mut self, cookie: Cookie) -> Poll<Result<Answer, Error>> {
        self.session.poll_answer(cookie, Waker::noop())
    }

    /// The answer, which must be there.
    fn answer(&mut self, cookie: Cookie) -> Result<Answer, Error> {
        match self.poll(cookie) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("no answer yet"),
        }
    }

    fn data(&mut self, cookie: Cookie) -> Vec<u8> {
        match self.answer(cookie) {
            Ok(Answer::Data(data)) => data.to_vec(),
            other => panic!("no data: {other:?}"),
        }
    }

    /// The error of a request that failed on the server.
    fn request_error(&mut self, cookie: Cookie) -> RequestError {
        match self.answer(cookie) {
            Err(Error::Request(error)) => error,
            other => panic!("not failed on the server: {other:?}"),
        }
    }

    /// The session is in sync: the next request is answered correctly.
    fn assert_usable(&mut self) {
        let (cookie, head) = self.ask_read(1 << 30, 4);
        let reply = data(self.style, &head, head.offset, b"sync", DONE);
        self.feed(&reply).unwrap();
        assert_eq!(self.data(cookie), b"sync");
        assert_eq!(self.session.in_flight(), 0);
    }
}

fn read(offset: u64, length: u64) -> Submission {
    Submission {
        sink: Sink::Read(Assembly::new(offset, length, BytesMut::new())),
        ..bare(Command::READ, offset, length)
    }
}

fn read_chunks(offset: u64, length: u64) -> Submission {
    Submission {
        sink: Sink::Chunks(Box::new(Chunks {
            claims: Claims::new(offset, length),
            queue: VecDeque::new(),
        })),
        ..bare(Command::READ, offset, length)
    }
}

fn write(style: ReplyStyle, offset: u64, data: &[u8]) -> Submission {
    let flags = match style {
        ReplyStyle::Extended => CommandFlags::PAYLOAD_LEN,
        _ => CommandFlags::empty(),
    };
    Submission {
        flags,
        payload: Bytes::copy_from_slice(data),
        ..bare(Command::WRITE, offset, data.len() as u64)
    }
}

fn bare(command: Command, offset: u64, length: u64) -> Submission {
    Submission {
        command,
        flags: CommandFlags::empty(),
        offset,
        length,
        payload: Bytes::new(),
        sink: Sink::None,
    }
}

/// Says that these bytes, sent in answer to this request, end the session: at once and once, the
/// same for everybody in flight and everybody who comes later. Gives the cause.
fn fatal(
    style: ReplyStyle,
    submission: impl Fn() -> Submission,
    bytes: impl Fn(&RequestHead) -> Vec<u8>,
) -> ProtocolError {
    let causes = [usize::MAX, 1].map(|step| {
        let mut wire = Wire::new(style);
        wire.step = step;
        let bystander = wire.read(1 << 40, 64);
        wire.send();
        let cookie = wire.submit(submission());
        let head = wire.send().pop().unwrap().head;
        let bytes = bytes(&head);
        let cause = wire.feed(&bytes).expect_err("not a violation");
        let is_cause = |result: Result<Answer, Error>| {
            let Err(error @ Error::Protocol(..)) = &result else {
                panic!("{result:?}");
            };
            assert!(matches!(error, Error::Protocol(got, _) if *got == cause));
            error.delivery()
        };
        assert_eq!(is_cause(wire.answer(cookie)), Delivery::MaybeSent);
        assert_eq!(is_cause(wire.answer(bystander)), Delivery::MaybeSent);
        let late = match wire.try_submit(read(0, 1), &mut None) {
            Poll::Ready(late) => late.map(|_| Answer::Done),
            Poll::Pending => panic!("waits on a dead session"),
        };
        assert_eq!(is_cause(late), Delivery::NotSent);
        assert_eq!(wire.session.in_flight(), 0);
        assert!(!wire.session.has_output());
        cause
    });
    assert_eq!(causes[0], causes[1], "found by drips and by the whole");
    let [cause, _] = causes;
    cause
}

/// The same for an answer to a read of 512 bytes at 4096.
fn fatal_read(style: ReplyStyle, bytes: impl Fn(&RequestHead) -> Vec<u8>) -> ProtocolError {
    fatal(style, || read(4096, 512), bytes)
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!("{other:?}"),
        }
    };
}
use assert_matches;
