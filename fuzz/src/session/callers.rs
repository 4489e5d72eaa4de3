//! The callers: futures that are polled by hand.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use nbd_client::session::{
    Answer as Given, Assembly, Chunks, Claims, Context, Cookie, Sink, StatusAssembly, Submission,
};
use nbd_client::wire::{Command, CommandFlags, ReplyStyle};
use nbd_client::{Chunk, Error};

use super::super::answers::{Asked, CONTEXTS, Trust, data};
use super::super::assert_printable;
use super::{SIZE, Verb, World, join, pick};

/// Counts how often it is woken.
#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future of a caller, polled by hand.
pub(super) struct Caller {
    pub(super) submission: Option<Submission>,
    pub(super) ticket: Option<u64>,
    pub(super) cookie: Option<Cookie>,
    pub(super) wakes: Arc<Wakes>,
    /// How often it had been woken when it began to wait.
    pub(super) waits_since: Option<usize>,
    pub(super) is_structured: bool,
    pub(super) command: Command,
    pub(super) range: Range<u64>,
    /// How many had been dropped before it came.
    pub(super) dropped_before: usize,
    pub(super) chunks: Vec<Chunk>,
    pub(super) is_over: bool,
}

impl Caller {
    pub(super) fn changes(&self) -> bool {
        matches!(
            self.command,
            Command::WRITE | Command::TRIM | Command::WRITE_ZEROES
        )
    }
}

impl World {
    pub(super) fn caller(&self, verb: Verb, offset: u64, length: u64) -> Caller {
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
    pub(super) fn waiting(&self, which: u8) -> Option<usize> {
        let waiting = |i: &usize| !self.callers[*i].is_over;
        let waiting: Vec<_> = (0..self.callers.len()).filter(waiting).collect();
        pick(&waiting, which).copied()
    }

    /// Polls a caller once; says whether anything came of it.
    pub(super) fn poll(&mut self, which: usize) -> bool {
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
    pub(super) fn check_blocked(&self, which: usize) {
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
            Error::Closed(_) => assert!(self.is_closing || self.has_dropped_unsent),
            error => panic!("the server was honest: {error}"),
        }
    }

    pub(super) fn asked(&self, which: usize) -> Option<&(usize, Asked)> {
        self.asked.iter().find(|(caller, _)| *caller == which)
    }
}
