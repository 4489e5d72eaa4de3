//! The state machine without a runtime: callers, a driver and a server, in any order.

mod callers;
mod server;

use std::task::Waker;

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use callers::Caller;
use nbd_client::Chunk;
use nbd_client::session::{Bounds, Bulk, Outbox, Session};
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{ProtocolError, ReplyStyle};

use super::answers::{Answer, Asked, Ledger, Lie, Trust};
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
    has_dropped_unsent: bool,
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
            has_dropped_unsent: false,
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

    /// As the driver does it: what is partly written goes on.
    fn discard_unsent(&mut self) {
        self.session.set_written(self.written);
        if self.has_ended || self.session.is_disconnecting() {
            return;
        }
        self.has_dropped_unsent = true;
        self.session.discard_unsent(&mut self.outbox);
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
