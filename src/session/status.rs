//! Putting the reply to a block status together.

use std::sync::Arc;

use crate::extent::{BlockStatus, Extent};
use crate::wire::ProtocolError;

/// A metadata context that was negotiated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context {
    /// How the server refers to it in status chunks.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
}

/// A block status whose chunks, one for each context, arrive in any order.
#[derive(Debug)]
pub struct StatusAssembly {
    offset: u64,
    length: u64,
    /// The size of the export, in bytes.
    size: u64,
    one: bool,
    wanted: Vec<(Context, Option<Vec<Extent>>)>,
}

impl StatusAssembly {
    /// A query of `wanted` over a range of an export of `size` bytes; `one` asks for a single
    /// extent.
    pub fn new(offset: u64, length: u64, size: u64, one: bool, wanted: Vec<Context>) -> Self {
        let wanted = wanted.into_iter().map(|context| (context, None)).collect();
        Self {
            offset,
            length,
            size,
            one,
            wanted,
        }
    }

    /// How many bytes of the export the query is about.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Adds the status of one context.
    ///
    /// # Errors
    /// If the context was not asked for or has answered, or the extents break the rules.
    pub fn add(
        &mut self,
        id: u32,
        extents: impl ExactSizeIterator<Item = Result<(u64, u64), ProtocolError>>,
    ) -> Result<(), ProtocolError> {
        let Some(at) = self.wanted.iter().position(|(context, _)| context.id == id) else {
            return Err(ProtocolError::UnknownContext(id));
        };
        let extents = self.place(extents)?;
        let slot = self.wanted.get_mut(at).map(|(_, slot)| slot);
        match slot {
            Some(slot) if slot.is_none() => *slot = Some(extents),
            // P-169: exactly one chunk for each context.
            _ => return Err(ProtocolError::DuplicateStatus(id)),
        }
        Ok(())
    }

    fn place(
        &self,
        descriptors: impl ExactSizeIterator<Item = Result<(u64, u64), ProtocolError>>,
    ) -> Result<Vec<Extent>, ProtocolError> {
        // No more than bytes: what lies past the range is not kept. P-170: REQ_ONE gives one extent,
        // no longer than what was asked for. Servers that send more are cut off here instead.
        let most = match self.one {
            true => 1,
            false => usize::try_from(self.length).unwrap_or(usize::MAX),
        };
        let mut extents = Vec::with_capacity(descriptors.len().min(most));
        let mut at = self.offset;
        let limit = self.offset.saturating_add(self.length);
        for descriptor in descriptors {
            let (length, flags) = descriptor?;
            // P-171: every extent but the last ends before the range does; as above.
            if at >= limit || extents.len() >= most {
                continue;
            }
            let end = at
                .checked_add(length)
                .ok_or(ProtocolError::Extents("extent past the end of 64 bits"))?;
            // Some servers round the last extent up: nothing lies past the end of the export.
            let end = end.min(self.size);
            let end = if self.one { end.min(limit) } else { end };
            let length = end.saturating_sub(at);
            extents.push(Extent {
                offset: at,
                length,
                flags,
            });
            at = end;
        }
        Ok(extents)
    }

    /// The extents of every context.
    ///
    /// # Errors
    /// If one has not answered.
    pub fn finish(self) -> Result<BlockStatus, ProtocolError> {
        let asked = self.wanted.len();
        let contexts: Vec<_> = self
            .wanted
            .into_iter()
            .filter_map(|(context, extents)| Some((context.name, extents?)))
            .collect();
        // P-169
        match asked.saturating_sub(contexts.len()) {
            0 => Ok(BlockStatus { contexts }),
            missing => Err(ProtocolError::MissingStatus(missing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(id: u32, name: &str) -> Context {
        Context {
            id,
            name: name.into(),
        }
    }

    fn query(one: bool) -> StatusAssembly {
        let wanted = vec![context(0, "base:allocation"), context(7, "x:y")];
        StatusAssembly::new(1000, 100, 1200, one, wanted)
    }

    impl StatusAssembly {
        fn take(&mut self, id: u32, extents: &[(u64, u64)]) -> Result<(), ProtocolError> {
            self.add(id, extents.iter().map(|&extent| Ok(extent)))
        }
    }

    #[test]
    fn extents_get_their_offsets_and_stay_inside_the_export() {
        let mut status = query(false);
        status.take(7, &[(1, 5)]).unwrap();
        status.take(0, &[(50, 0), (4096, 3)]).unwrap();
        let status = status.finish().unwrap();
        let base = [Extent::new(1000, 50, 0), Extent::new(1050, 150, 3)];
        assert_eq!(status.get("base:allocation"), Some(&base[..]));
        assert_eq!(status.get("x:y"), Some(&[Extent::new(1000, 1, 5)][..]));
        assert_eq!(status.get("z"), None);
    }

    // P-169
    #[test]
    fn every_context_answers_exactly_once() {
        let mut status = query(false);
        let unknown = status.take(1, &[(1, 0)]);
        assert_eq!(unknown, Err(ProtocolError::UnknownContext(1)));
        status.take(0, &[(1, 0)]).unwrap();
        let twice = status.take(0, &[(1, 0)]);
        assert_eq!(twice, Err(ProtocolError::DuplicateStatus(0)));
        assert_eq!(status.finish(), Err(ProtocolError::MissingStatus(1)));
    }

    // P-170
    #[test]
    fn req_one_gives_one_extent() {
        let mut status = query(true);
        status.take(0, &[(150, 0)]).unwrap();
        // The first of several is the one.
        status.take(7, &[(20, 0), (50, 1), (30, 0)]).unwrap();
        let status = status.finish().unwrap();
        assert_eq!(
            status.get("base:allocation"),
            Some(&[Extent::new(1000, 100, 0)][..])
        );
        assert_eq!(status.get("x:y"), Some(&[Extent::new(1000, 20, 0)][..]));
    }

    // P-171
    #[test]
    fn extents_past_the_range_are_cut_off() {
        let mut status = query(false);
        status.take(0, &[(100, 0), (10, 1)]).unwrap();
        status.take(7, &[(90, 0), (20, 1)]).unwrap();
        let status = status.finish().unwrap();
        assert_eq!(
            status.get("base:allocation"),
            Some(&[Extent::new(1000, 100, 0)][..])
        );
        let overshoot = [Extent::new(1000, 90, 0), Extent::new(1090, 20, 1)];
        assert_eq!(status.get("x:y"), Some(&overshoot[..]));
    }

    #[test]
    fn sums_that_overflow_are_a_violation() {
        let wanted = vec![context(0, "a:b")];
        let mut status = StatusAssembly::new(u64::MAX - 9, 5, u64::MAX, false, wanted);
        assert!(status.take(0, &[(11, 0)]).is_err());
    }

    // P-170, P-171
    proptest! {
        #![proptest_config(crate::properties::config())]

        #[test]
        fn extents_follow_each_other_inside_the_export(
            (size, offset, length) in (1u64..5000)
                .prop_flat_map(|size| (Just(size), 0..size))
                .prop_flat_map(|(size, offset)| (Just(size), Just(offset), 1..=size - offset)),
            lengths in prop::collection::vec(prop_oneof![1u64..600, Just(u64::from(u32::MAX))], 1..20),
            one: bool,
        ) {
            let descriptors: Vec<_> = lengths.iter().zip(0..).map(|(&l, flags)| (l, flags)).collect();
            let wanted = vec![context(7, "x:y")];
            let mut status = StatusAssembly::new(offset, length, size, one, wanted);
            status.take(7, &descriptors).unwrap();
            let status = status.finish().unwrap();
            let extents = status.get("x:y").unwrap();
            prop_assert!(!extents.is_empty() && (!one || extents.len() == 1));
            let mut at = offset;
            for (extent, &(length, flags)) in extents.iter().zip(&descriptors) {
                prop_assert_eq!((extent.offset, extent.flags), (at, flags));
                prop_assert!(extent.length > 0 && extent.length <= length);
                at = extent.end();
                prop_assert!(at <= size);
            }
            let end = offset + length;
            let last = extents.last().unwrap();
            prop_assert!(last.offset < end && (!one || at <= end));
            // What was cut off lies past the range or the export, or was not asked for.
            let told = lengths.iter().take(extents.len()).sum::<u64>();
            prop_assert!(one || extents.len() == lengths.len() || at >= end);
            prop_assert!(at == offset + told || at == size || one && at == end);
        }
    }
}
