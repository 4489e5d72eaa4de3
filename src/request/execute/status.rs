//! Block statuses.

use bytes::{BufMut, BytesMut};

use super::{Execute, bare};
use crate::driver::Transmission;
use crate::error::{InvalidRequest, Result};
use crate::extent::BlockStatus;
use crate::request::op::Status;
use crate::request::range::Range;
use crate::session::{Answer, Sink, StatusAssembly, Submission};
use crate::wire::{Command, CommandFlags, ReplyStyle};

/// The longest block status in a compact header: some servers overflow close to 4 GiB.
const MAX_COMPACT_STATUS: u64 = (1 << 32) - (64 << 10);

impl Execute for Status {
    const COMMAND: Command = Command::BLOCK_STATUS;

    fn again(&self) -> Self {
        Self {
            filter: self.filter.clone(),
            contexts: self.contexts.clone(),
        }
    }

    fn check(&mut self, transmission: &Transmission) -> Result<CommandFlags, InvalidRequest> {
        let export = transmission.export();
        let Some(filter) = &self.filter else {
            self.contexts.clone_from(&export.contexts);
            return Ok(CommandFlags::empty());
        };
        // a choice of contexts is a payload, which only extended headers can announce.
        if transmission.style() != ReplyStyle::Extended {
            let why = "a choice of contexts needs extended headers";
            return Err(InvalidRequest::NotNegotiated(why));
        }
        let find = |name: &String| {
            export
                .find_context(name)
                .ok_or_else(|| InvalidRequest::unknown_context(name, export.contexts()))
        };
        self.contexts.clear();
        for name in filter {
            let context = find(name)?;
            // each id is sent once, since a server refuses repeated ids.
            if !self.contexts.contains(&context) {
                self.contexts.push(context);
            }
        }
        if self.contexts.is_empty() {
            let why = "a choice of contexts needs at least one".to_owned();
            return Err(InvalidRequest::Argument {
                what: "contexts",
                why,
            });
        }
        Ok(CommandFlags::PAYLOAD_LEN)
    }

    fn submission(
        &mut self,
        transmission: &Transmission,
        range: Range,
        flags: CommandFlags,
    ) -> Submission {
        let Range { offset, mut length } = range;
        if transmission.style() != ReplyStyle::Extended {
            length = length.min(MAX_COMPACT_STATUS);
        }
        let one = flags.contains(CommandFlags::REQ_ONE);
        let wanted = std::mem::take(&mut self.contexts);
        let mut payload = BytesMut::new();
        if flags.contains(CommandFlags::PAYLOAD_LEN) {
            payload.put_u64(length);
            wanted
                .iter()
                .for_each(|context| payload.put_u32(context.id));
        }
        // If the check of the range is off, the server may describe what lies beyond the export.
        let size = transmission
            .export()
            .size()
            .max(offset.saturating_add(length));
        let mut status = StatusAssembly::new(offset, length, size, one, wanted);
        if payload.is_empty() {
            // M03: the status of a context that nobody asked for is checked and left out.
            status = status.with_strays(&transmission.export().strays);
        }
        Submission {
            length: if payload.is_empty() {
                length
            } else {
                payload.len() as u64
            },
            payload: payload.freeze(),
            sink: Sink::Status(Box::new(status)),
            ..bare::<Self>(range, flags)
        }
    }

    fn output(&mut self, _transmission: &Transmission, answer: Answer) -> BlockStatus {
        match answer {
            Answer::Status(status) => status,
            Answer::Done | Answer::Data(_) | Answer::Block(_) => BlockStatus::default(),
        }
    }
}
