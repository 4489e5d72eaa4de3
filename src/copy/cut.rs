//! How a copy is cut, so that both sides can take it.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use super::Settings;
use super::feed::{Input, Scan};
use super::nbd::Nbd;
use super::open::NO_CONTEXTS;
use super::plan::Plan;
use super::side::{Reader, Writer, facts};
use super::survey;
use super::width::{self, Load, Width};
use crate::error::{CopyFault, Side};
use crate::spans::Spans;

/// The block of files, and of destinations that need no blocks, in bytes.
const BLOCK: u64 = 4096;

/// The longest preferred block that units are cut at, in bytes.
const LONGEST_BLOCK: u64 = 64 << 10;

/// How a copy is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// The size of the source in bytes, if it is known.
    pub(super) size: Option<u64>,
    /// Units begin and end at multiples of it, in bytes.
    block: u64,
    /// How much is asked for at a time where answers come at once, and where they take long.
    narrow: Load,
    wide: Load,
}

impl Cut {
    pub(super) fn new(
        reader: Option<&Reader>,
        writer: &Writer,
        settings: &Settings,
    ) -> Result<Self, CopyFault> {
        let mut block = minimum(reader)?;
        let source = reader.and_then(Reader::nbd);
        let sides = [(source, Side::Source), (writer.nbd(), Side::Destination)];
        let (mut least, mut most, mut links) = (1, u64::MAX, 1);
        for (nbd, side) in sides {
            let Some(nbd) = nbd else { continue };
            let export = facts(nbd, side)?;
            let minimum = export.block_size().map_or(1, |sizes| sizes.minimum);
            block = block.max(minimum.into());
            least = least.max(export.preferred().into());
            most = most.min(export.max_payload().into());
            if side == Side::Destination {
                block = block.max(u64::from(export.preferred()).min(LONGEST_BLOCK));
            }
            if matches!(nbd, Nbd::Disk(_)) {
                links = settings.connections;
            }
        }
        if writer.file().is_some() {
            block = block.max(BLOCK);
        }
        if let Some(hash) = &settings.hash {
            // Units then consist of whole blocks of the hash.
            block = block.max(hash.block());
        }
        let load = |length: u64, links: usize| {
            let step = settings.request_size.unwrap_or(length);
            let step = step.max(least).min(most);
            let step = (step - step % block).max(block);
            let memory = usize::try_from(settings.memory / step).unwrap_or(usize::MAX);
            let most = settings.requests.saturating_mul(links).min(memory).max(1);
            Load { step, most }
        };
        // More links than processors are of no use if the processors are what limits.
        let processors = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            size: reader.map(Reader::size).transpose()?,
            block,
            narrow: load(width::SHORT, links.min(processors)),
            wide: load(width::LONG, links),
        })
    }

    /// Returns how much is asked for at a time, to begin with.
    pub(super) fn width(&self) -> Arc<Width> {
        Arc::new(Width::new(self.narrow, self.wide))
    }

    /// Returns all that is to be copied, but for what is kept.
    pub(super) fn scan(
        &self,
        reader: Option<&Reader>,
        settings: &Settings,
        kept: Spans<()>,
    ) -> Result<Input, CopyFault> {
        let reader = reader.ok_or(CopyFault::Impossible("a stream is read once"))?;
        let size = self.size.unwrap_or_default();
        let survey = match (&settings.only, reader.nbd()) {
            (None, _) => reader.survey(size, settings.asks_extents),
            (Some(context), Some(nbd)) => survey::dirty(nbd, context, size, settings.asks_extents),
            (Some(_), None) => return Err(CopyFault::Impossible(NO_CONTEXTS)),
        };
        let plan = Plan::new(size, self.block);
        Ok(Input::Disk(Box::new(Scan::new(plan, survey, kept, size))))
    }
}

/// The smallest block that the source can be read in, in bytes.
pub(super) fn minimum(reader: Option<&Reader>) -> Result<u64, CopyFault> {
    let Some(nbd) = reader.and_then(Reader::nbd) else {
        return Ok(1);
    };
    let sizes = facts(nbd, Side::Source)?.block_size();
    Ok(sizes.map_or(1, |sizes| sizes.minimum.into()))
}

/// The length of the blocks that are looked at whether they are zero.
pub(super) fn sparse(writer: &Writer, settings: &Settings) -> Result<Option<u64>, CopyFault> {
    let Some(block) = settings.sparse.filter(|_| !settings.is_allocated) else {
        return Ok(None);
    };
    Ok(match writer.nbd() {
        Some(nbd) => {
            let export = facts(nbd, Side::Destination)?;
            let block = block.max(export.preferred().into());
            // Writing zeroes where there is no command for it gains nothing.
            let gains = export.can_zero() || writer.is_zero_up_to > 0;
            gains.then_some(block)
        }
        None => writer.file().map(|_| block),
    })
}
