//! The driver and the server.

use std::io::IoSlice;

use nbd_client::session::{Intake, SLICES};
use nbd_client::wire::codec::RequestCodec;
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, ProtocolError};
use tokio_util::codec::Decoder;

use super::super::answers::{Answer, Asked, Lie, Trust, lie};
use super::super::assert_printable;
use super::callers::Caller;
use super::{World, pick};

impl World {
    /// Writes at most so many bytes.
    pub(super) fn write(&mut self, most: usize) {
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

    pub(super) fn take_requests(&mut self) {
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
    pub(super) fn ask(&mut self, head: RequestHead) {
        let is_here = |caller: &Caller| caller.range.start == head.offset;
        let caller = self.callers.iter().position(is_here);
        let caller = caller.expect("somebody has asked this");
        assert!(self.asked(caller).is_none(), "it comes twice");
        if self.trust == Trust::Honest && !self.has_ended {
            self.check_blocked(caller);
        }
        self.asked.push((caller, Asked::new(self.style, head)));
    }

    pub(super) fn answer(&mut self, which: u8, answer: &Answer, falsehood: Option<&Lie>) {
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
    pub(super) fn deliver(&mut self, most: usize) {
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

    pub(super) fn receive(&mut self, mut piece: &[u8]) -> Result<(), ProtocolError> {
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
            let before = self.input.len();
            match self.session.receive(&mut self.input)? {
                Intake::Bytes(needed) => {
                    assert!(needed > self.input.len() && self.input.len() <= before);
                    return Ok(());
                }
                Intake::Bulk(bulk) => {
                    assert!(bulk.left() > 0 && self.input.is_empty());
                    self.bulk = Some(bulk);
                    return Ok(());
                }
                Intake::Caller => assert!((1..before).contains(&self.input.len())),
            }
        }
    }

    pub(super) fn fail(&mut self, error: &ProtocolError) {
        assert_printable(&error.to_string());
        self.has_ended = true;
        self.session.set_written(self.written);
        self.session.fail(&error.clone().into());
        assert_eq!(self.session.in_flight(), 0);
    }
}
