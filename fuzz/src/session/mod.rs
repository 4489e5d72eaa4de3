//! The state machine without a runtime: callers, a driver and a server, in any order.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use nbd_client::session::{
    Answer as Given, Assembly, Bounds, Bulk, Chunks, Claims, Context, Cookie, Intake, Outbox,
    SLICES, Session, Sink, StatusAssembly, Submission,
};
use nbd_client::wire::codec::RequestCodec;
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, CommandFlags, ProtocolError, ReplyStyle};
use nbd_client::{Chunk, Error};
use tokio_util::codec::Decoder;

use super::answers::{Answer, Asked, CONTEXTS, Ledger, Lie, Trust, data, lie};
use super::assert_printable;
use super::wire::style_of;

/// The size of the export, in bytes.
const SIZE: u64 = 1 << 20;
/// Most steps of a script.
const STEPS: usize = 200;
const SPACING: u64 = STEPS as u64;

/// A session and what happens to it.
#[derive(Arbitrary, Debug)]
struct Script {
    style: u8,
    max_requests: u8,
    max_bytes: u16,
    first_cookie: u64,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Submit {
        verb: Verb,
        offset: u16,
        length: u16,
    },
    Poll(u8),
    Drop(u8),
    Write(u16),
    Answer {
        which: u8,
        answer: Answer,
        lie: Option<Lie>,
    },
    Bytes(Vec<u8>),
    Deliver(u16),
    Close,
    Fail,
    DropUnsent,
    Release,
    /// The server looks at a request whose payload is still on its way.
    Early,
    Forgive,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Verb {
    Read,
    ReadChunks,
    Write,
    Flush,
    Trim,
    Zeroes,
    Cache,
    Status,
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future of a caller, polled by hand.
struct Caller {
    submission: Option<Submission>,
    ticket: Option<u64>,
    cookie: Option<Cookie>,
    wakes: Arc<Wakes>,
    /// How often it had been woken when it began to wait.
    waits_since: Option<usize>,
    is_structured: bool,
    command: Command,
    range: Range<u64>,
    /// How many had been dropped before it came.
    dropped_before: usize,
    chunks: Vec<Chunk>,
    is_over: bool,
}

impl Caller {
    fn changes(&self) -> bool {
        matches!(
            self.command,
            Command::WRITE | Command::TRIM | Command::WRITE_ZEROES
        )
    }
}

struct World {
    session: Session,
    style: ReplyStyle,
    max_requests: usize,
    callers: Vec<Caller>,
    /// Those that were dropped, in this order.
    dropped: Vec<usize>,
    // The driver.
    outbox: Outbox,
    written: u64,
    woken: Vec<Waker>,
    input: BytesMut,
    bulk: Option<Bulk>,
    // The server.
    arrived: BytesMut,
    asked: Vec<(usize, Asked)>,
    /// The cookie of the request whose header was looked at before the rest came.
    early: Option<u64>,
    replies: BytesMut,
    ledger: Ledger,
    trust: Trust,
    is_closing: bool,
    has_ended: bool,
}

/// Plays a script. Then everybody is answered if the server was honest, or else the session
/// fails: either way nobody waits for ever, and what succeeded is what was sent.
pub fn session(data: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut world = World::new(&script);
    for step in script.steps.iter().take(STEPS) {
        world.step(step);
        world.wake();
        let in_flight = world.session.in_flight();
        assert!(in_flight <= world.max_requests, "{in_flight} in flight");
    }
    world.finish();
}

impl World {
    fn new(script: &Script) -> Self {
        let style = style_of(script.style);
        let max_requests = 1 + usize::from(script.max_requests % 8);
        let bounds = Bounds {
            requests: max_requests,
            bytes: script.max_bytes.into(),
        };
        Self {
            session: Session::new(style, bounds, script.first_cookie),
            style,
            max_requests,
            callers: Vec::new(),
            dropped: Vec::new(),
            outbox: Outbox::default(),
            written: 0,
            woken: Vec::new(),
            input: BytesMut::new(),
            bulk: None,
            arrived: BytesMut::new(),
            asked: Vec::new(),
            early: None,
            replies: BytesMut::new(),
            ledger: Ledger::default(),
            trust: Trust::Honest,
            is_closing: false,
            has_ended: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Submit {
                verb,
                offset,
                length,
            } => {
                // No two begin at the same offset, so that the server can tell them apart.
                let start = u64::from(offset % 64) * SPACING + self.callers.len() as u64;
                let caller = self.caller(*verb, start, length_of(*length));
                self.callers.push(caller);
                self.poll(self.callers.len() - 1);
            }
            Step::Poll(which) => {
                if let Some(which) = self.waiting(*which) {
                    self.poll(which);
                }
            }
            Step::Drop(which) => {
                if let Some(which) = self.waiting(*which) {
                    let caller = &mut self.callers[which];
                    caller.is_over = true;
                    self.dropped.push(which);
                    // Its turn may have come, unseen.
                    let ticket = caller.ticket.take();
                    let granted = ticket.and_then(|ticket| self.session.cancel(ticket));
                    if let Some(cookie) = caller.cookie.or(granted) {
                        self.session.abandon(cookie);
                    }
                }
            }
            Step::Write(most) => self.write((*most).into()),
            Step::Answer { which, answer, lie } => self.answer(*which, answer, lie.as_ref()),
            Step::Bytes(bytes) => {
                self.trust = Trust::Garbled;
                self.replies.extend_from_slice(bytes);
            }
            Step::Deliver(most) => self.deliver((*most).into()),
            Step::Close => {
                self.is_closing = true;
                self.session.close();
            }
            Step::Fail => self.fail(&ProtocolError::NotDone),
            Step::DropUnsent => self.discard_unsent(),
            Step::Release => {
                self.outbox.shrink();
                self.session.shrink();
            }
            Step::Early => {
                let extended = self.style == ReplyStyle::Extended;
                let head = RequestHead::decode(extended, &self.arrived);
                if let Some(head) = head.expect("a client keeps the rules") {
                    if self.early.replace(head.cookie) != Some(head.cookie) {
                        self.ask(head);
                    }
                }
            }
            Step::Forgive => self.session.clear_flush_error(),
        }
    }

    fn caller(&self, verb: Verb, offset: u64, length: u64) -> Caller {
        let mut payload = Bytes::new();
        let mut flags = CommandFlags::empty();
        let mut sink = Sink::None;
        let (command, length) = match verb {
            Verb::Read => {
                sink = Sink::Read(Assembly::new(offset, length, BytesMut::new()));
                (Command::READ, length)
            }
            Verb::ReadChunks => {
                let (claims, queue) = (Claims::new(offset, length), VecDeque::new());
                sink = Sink::Chunks(Box::new(Chunks { claims, queue }));
                (Command::READ, length)
            }
            Verb::Write => {
                payload = data(offset, length).into();
                flags.set(
                    CommandFlags::PAYLOAD_LEN,
                    self.style == ReplyStyle::Extended,
                );
                (Command::WRITE, length)
            }
            // Where it is means nothing.
            Verb::Flush => (Command::FLUSH, 0),
            Verb::Trim => (Command::TRIM, length),
            Verb::Zeroes => (Command::WRITE_ZEROES, length),
            Verb::Cache => (Command::CACHE, length),
            // Status needs chunks.
            Verb::Status if self.style == ReplyStyle::Simple => (Command::CACHE, length),
            Verb::Status => {
                let contexts = CONTEXTS.map(|(id, name)| Context {
                    id,
                    name: name.into(),
                });
                let status = StatusAssembly::new(offset, length, SIZE, false, contexts.into());
                sink = Sink::Status(Box::new(status));
                (Command::BLOCK_STATUS, length)
            }
        };
        Caller {
            submission: Some(Submission {
                command,
                flags,
                offset,
                length,
                payload,
                sink,
            }),
            ticket: None,
            cookie: None,
            wakes: Arc::default(),
            waits_since: None,
            is_structured: matches!(verb, Verb::ReadChunks),
            command,
            range: offset..offset + length,
            dropped_before: self.dropped.len(),
            chunks: Vec::new(),
            is_over: false,
        }
    }

    /// One of those who are not over.
    fn waiting(&self, which: u8) -> Option<usize> {
        let waiting = |i: &usize| !self.callers[*i].is_over;
        let waiting: Vec<_> = (0..self.callers.len()).filter(waiting).collect();
        pick(&waiting, which).copied()
    }

    /// Polls a caller once; says whether anything came of it.
    fn poll(&mut self, which: usize) -> bool {
        let caller = &mut self.callers[which];
        let session = &mut self.session;
        let waker = Waker::from(caller.wakes.clone());
        let count = caller.wakes.count();
        let waited = caller.waits_since.replace(count);
        let is_ready = match caller.cookie {
            None => {
                let had_ticket = caller.ticket.is_some();
                match session.poll_submit(&mut caller.submission, &mut caller.ticket, &waker) {
                    Poll::Pending => false,
                    Poll::Ready(Ok(cookie)) => {
                        caller.cookie = Some(cookie);
                        // After a wait, the answer may be there already.
                        if had_ticket {
                            caller.waits_since = None;
                        }
                        true
                    }
                    Poll::Ready(Err(error)) => {
                        (caller.is_over, caller.ticket) = (true, None);
                        self.check_error(which, &error);
                        true
                    }
                }
            }
            Some(cookie) if caller.is_structured => match session.poll_chunk(cookie, &waker) {
                Poll::Pending => false,
                Poll::Ready(Some(Ok(chunk))) => {
                    caller.chunks.push(chunk);
                    // The next may be there already.
                    caller.waits_since = None;
                    true
                }
                Poll::Ready(Some(Err(error))) => {
                    caller.is_over = true;
                    self.check_error(which, &error);
                    true
                }
                Poll::Ready(None) => {
                    caller.is_over = true;
                    let chunks = std::mem::take(&mut caller.chunks);
                    self.check_data(which, &join(chunks));
                    true
                }
            },
            Some(cookie) => match session.poll_answer(cookie, &waker) {
                Poll::Pending => false,
                Poll::Ready(result) => {
                    caller.is_over = true;
                    match result {
                        Ok(Given::Data(data)) => self.check_data(which, &data),
                        Ok(Given::Done) => assert_ne!(caller.command, Command::READ),
                        Ok(Given::Status(status)) => assert_eq!(status.len(), CONTEXTS.len()),
                        Ok(Given::Block(_)) => panic!("no caller sees this"),
                        Err(error) => self.check_error(which, &error),
                    }
                    true
                }
            },
        };
        if let Some(waited) = waited.filter(|_| is_ready) {
            assert!(waited < count, "{which} waits for what is there");
        }
        is_ready
    }

    /// A request has come: no change that overlaps it and was abandoned before it is unanswered.
    fn check_blocked(&self, which: usize) {
        let new = &self.callers[which];
        for &which in &self.dropped[..new.dropped_before] {
            let old = &self.callers[which];
            let overlaps = old.range.start < new.range.end && new.range.start < old.range.end;
            let is_open = self.asked(which).is_none_or(|(_, asked)| asked.is_done());
            assert!(is_open || !overlaps || !old.changes() || !new.changes());
        }
    }

    fn check_data(&self, which: usize, data: &[u8]) {
        if self.trust < Trust::Garbled {
            let (_, asked) = self.asked(which).expect("an answer to no question");
            self.ledger.check(&asked.head, data);
            assert_eq!(asked.failed().filter(|_| self.trust == Trust::Honest), None);
        }
    }

    fn check_error(&self, which: usize, error: &Error) {
        assert_printable(&error.to_string());
        if self.trust > Trust::Honest || self.has_ended {
            return;
        }
        match error {
            Error::Request(error) => {
                let (_, asked) = self.asked(which).expect("an answer to no question");
                assert_eq!(asked.failed(), Some(error.errno()));
            }
            Error::DurabilityUnknown(lost) => {
                let failure = lost.failure().expect("a flush has failed");
                let is_cause = |(_, asked): &(_, Asked)| asked.has_failed_to_flush(failure);
                assert!(self.asked.iter().any(is_cause));
            }
            Error::Closed(_) => assert!(self.is_closing),
            error => panic!("the server was honest: {error}"),
        }
    }

    fn asked(&self, which: usize) -> Option<&(usize, Asked)> {
        self.asked.iter().find(|(caller, _)| *caller == which)
    }

    /// Writes at most so many bytes.
    fn write(&mut self, most: usize) {
        let mut left = most;
        while left > 0 {
            if self.outbox.is_empty() {
                self.session.take_outbox(&mut self.outbox);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.outbox.slices(&mut slices);
            let bytes = slices[..used].iter().flat_map(|slice| slice.iter());
            let before = self.arrived.len();
            self.arrived.extend(bytes.take(left));
            let count = self.arrived.len() - before;
            if count == 0 {
                break;
            }
            self.outbox.advance(count);
            self.written += count as u64;
            left -= count;
        }
        self.session.set_written(self.written);
        self.take_requests();
    }

    fn take_requests(&mut self) {
        let mut codec = RequestCodec::new(self.style, u64::MAX);
        while let Some(request) = codec
            .decode(&mut self.arrived)
            .expect("a client keeps the rules")
        {
            if request.head.command == Command::DISC {
                assert!(self.arrived.is_empty(), "nothing follows DISC");
                break;
            }
            if self.early.take() != Some(request.head.cookie) {
                self.ask(request.head);
            }
        }
    }

    /// A request has come, or at least its header.
    fn ask(&mut self, head: RequestHead) {
        let is_here = |caller: &Caller| caller.range.start == head.offset;
        let caller = self.callers.iter().position(is_here);
        let caller = caller.expect("somebody has asked this");
        assert!(self.asked(caller).is_none(), "it comes twice");
        if self.trust == Trust::Honest && !self.has_ended {
            self.check_blocked(caller);
        }
        self.asked.push((caller, Asked::new(self.style, head)));
    }

    fn answer(&mut self, which: u8, answer: &Answer, falsehood: Option<&Lie>) {
        let open = |i: &usize| !self.asked[*i].1.is_done();
        let open: Vec<_> = (0..self.asked.len()).filter(open).collect();
        let Some(&at) = pick(&open, which) else {
            return;
        };
        let other =
            pick(&self.asked, which.wrapping_add(1)).map_or(0, |(_, other)| other.head.cookie);
        let asked = &mut self.asked[at].1;
        for mut reply in asked.answer(answer) {
            if let Some(falsehood) = falsehood {
                self.trust = self.trust.max(lie(falsehood, &mut reply, other));
            }
            for _ in 0..falsehood.map_or(1, Lie::times) {
                self.ledger.note(&reply, &asked.head);
                reply.encode(&mut self.replies);
            }
        }
    }

    /// Lets at most so many bytes of what the server said arrive.
    fn deliver(&mut self, most: usize) {
        let most = most.min(self.replies.len());
        let piece = self.replies.split_to(most);
        // What comes after DISC is ignored by the driver.
        if self.session.try_disconnect() || self.has_ended {
            return;
        }
        if let Err(error) = self.receive(&piece) {
            assert_ne!(self.trust, Trust::Honest, "{error}");
            self.fail(&error);
        }
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
        let before = self.input.len();
        match self.session.receive(&mut self.input)? {
            Intake::Bytes(needed) => assert!(needed > self.input.len()),
            Intake::Bulk(bulk) => {
                assert!(bulk.left() > 0 && self.input.is_empty());
                self.bulk = Some(bulk);
            }
        }
        assert!(self.input.len() <= before);
        Ok(())
    }

    fn fail(&mut self, error: &ProtocolError) {
        assert_printable(&error.to_string());
        self.has_ended = true;
        self.session.set_written(self.written);
        self.session.fail(&error.clone().into());
        assert_eq!(self.session.in_flight(), 0);
    }

    /// As the driver does it: what is partly written goes on.
    fn discard_unsent(&mut self) {
        self.session.set_written(self.written);
        if self.has_ended || self.session.is_disconnecting() {
            return;
        }
        // It is done by who has closed.
        self.is_closing = true;
        self.session.close();
        let keep = self.session.discard_unsent() - self.written;
        let taken = self.outbox.remaining();
        self.outbox.truncate(keep);
        self.session.truncate_outbox(keep.saturating_sub(taken));
    }

    fn wake(&mut self) {
        self.session.take_woken(&mut self.woken);
        self.woken.drain(..).for_each(Waker::wake);
    }

    fn finish(&mut self) {
        if self.trust > Trust::Honest && !self.has_ended {
            self.fail(&ProtocolError::NotDone);
        }
        loop {
            let mut progress = false;
            if !self.has_ended {
                self.write(usize::MAX);
                while self.asked.iter().any(|(_, asked)| !asked.is_done()) {
                    self.answer(0, &Answer::Rest, None);
                }
                self.deliver(usize::MAX);
            }
            self.wake();
            for which in 0..self.callers.len() {
                while !self.callers[which].is_over && self.poll(which) {
                    progress = true;
                }
            }
            self.wake();
            if !progress {
                break;
            }
        }
        let forgotten = self.callers.iter().position(|caller| !caller.is_over);
        assert_eq!(forgotten, None, "somebody waits for ever");
        assert_eq!(self.session.in_flight(), 0);
        if self.is_closing && !self.has_ended {
            assert!(self.session.try_disconnect());
            self.write(usize::MAX);
            assert!(self.arrived.is_empty(), "half a request was sent");
        }
    }
}

/// Most are short, some are long enough to be received straight into their buffer.
pub fn length_of(raw: u16) -> u64 {
    if raw >= 0xfe00 {
        33_000 + u64::from(raw & 0xff)
    } else {
        1 + u64::from(raw % 700)
    }
}

pub fn pick<T>(of: &[T], which: u8) -> Option<&T> {
    of.get(usize::from(which).checked_rem(of.len())?)
}

/// The pieces of a read in their order.
pub fn join(mut chunks: Vec<Chunk>) -> Vec<u8> {
    chunks.sort_by_key(Chunk::offset);
    let mut whole = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Data { data, .. } => whole.extend_from_slice(&data),
            chunk => whole.resize(whole.len() + chunk.length() as usize, 0),
        }
    }
    whole
}
