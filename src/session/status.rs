//! Assembles the reply to a block status.

use crate::extent::{BlockStatus, Context, Extent};
use crate::wire::ProtocolError;

/// The largest number of extents for which room is reserved at the gate, for each context, before
/// a block status is sent.
const EXPECTED: u64 = 1024;
/// The memory of an extent, in bytes.
const EXTENT: u64 = size_of::<Extent>() as u64;

/// A block status, whose chunks arrive in any order, one for each context.
#[derive(Debug)]
pub struct StatusAssembly {
    offset: u64,
    length: u64,
    /// The size of the export, in bytes.
    size: u64,
    one: bool,
    answers: Vec<Answer>,
}

/// The answer of one context.
#[derive(Debug)]
struct Answer {
    context: Context,
    /// Whether the caller asked for the context. If not, the answer is checked and not kept.
    wanted: bool,
    extents: Option<Vec<Extent>>,
}

impl Answer {
    fn is_missing(&self) -> bool {
        self.wanted && self.extents.is_none()
    }
}

impl StatusAssembly {
    /// Creates the assembly of a query for the contexts `wanted`, over a range of an export of
    /// `size` bytes; with `one`, the query is for a single extent.
    pub fn new(offset: u64, length: u64, size: u64, one: bool, wanted: Vec<Context>) -> Self {
        let mut query = Self {
            offset,
            length,
            size,
            one,
            answers: Vec::with_capacity(wanted.len()),
        };
        query.extend(wanted, true);
        query
    }

    /// Adds contexts for which the server answers although nobody asked for them.
    pub fn with_strays(mut self, strays: &[Context]) -> Self {
        self.extend(strays.iter().cloned(), false);
        self
    }

    fn extend(&mut self, contexts: impl IntoIterator<Item = Context>, wanted: bool) {
        self.answers
            .extend(contexts.into_iter().map(|context| Answer {
                context,
                wanted,
                extents: None,
            }));
    }

    /// Returns the length of the range, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns the memory that the answer usually takes, in bytes.
    pub fn expected(&self) -> u64 {
        let extents = match self.one {
            true => 1,
            // A server describes at most every sector by itself.
            false => (self.length / 512).saturating_add(1).min(EXPECTED),
        };
        let wanted = self.answers.iter().filter(|answer| answer.wanted);
        extents
            .saturating_mul(EXTENT)
            .saturating_mul(wanted.count() as u64)
    }

    /// Returns the memory of the extents that have come so far, in bytes.
    pub fn held(&self) -> u64 {
        let extents = self
            .answers
            .iter()
            .filter_map(|answer| answer.extents.as_ref());
        let count = extents.map(|extents| extents.len() as u64).sum::<u64>();
        count.saturating_mul(EXTENT)
    }

    /// Adds the status of one context. All contexts together keep about `most` bytes of extents,
    /// but at least one extent each; the rest is cut off, as if the server had described less.
    /// With `None`, the status is only checked.
    ///
    /// # Errors
    /// If the context is unknown or has answered before, or the extents break the rules.
    pub fn add(
        &mut self,
        id: u32,
        extents: impl ExactSizeIterator<Item = Result<(u64, u64), ProtocolError>>,
        most: Option<u64>,
    ) -> Result<(), ProtocolError> {
        let find = |answer: &Answer| answer.context.id == id;
        let Some(at) = self.answers.iter().position(find) else {
            return Err(ProtocolError::UnknownContext(id));
        };
        // P-169: each context answers with exactly one chunk.
        let Some(answer) = self
            .answers
            .get(at)
            .filter(|answer| answer.extents.is_none())
        else {
            return Err(ProtocolError::DuplicateStatus(id));
        };
        let most = match most.filter(|_| answer.wanted) {
            Some(most) => self.share(most),
            None => 0,
        };
        let extents = self.extents(extents, most)?;
        if let Some(answer) = self.answers.get_mut(at) {
            answer.extents = Some(extents);
        }
        Ok(())
    }

    /// Returns how many extents the next context may keep if all together may keep `most` bytes.
    fn share(&self, most: u64) -> usize {
        let left = most.saturating_sub(self.held()) / EXTENT;
        let missing = self.answers.iter().filter(|answer| answer.is_missing());
        let share = left.checked_div(missing.count() as u64).unwrap_or(0);
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// Converts lengths and flags to extents, and keeps at most `most` of them.
    fn extents(
        &self,
        descriptors: impl ExactSizeIterator<Item = Result<(u64, u64), ProtocolError>>,
        most: usize,
    ) -> Result<Vec<Extent>, ProtocolError> {
        // There are at most as many extents as bytes, since extents past the range are not kept.
        // P-170: REQ_ONE gives one extent inside the range; what a server sends beyond is cut off.
        let useful = match self.one {
            true => 1,
            false => usize::try_from(self.length).unwrap_or(usize::MAX),
        };
        let most = most.min(useful);
        let mut extents = Vec::with_capacity(descriptors.len().min(most));
        let mut at = self.offset;
        let limit = self.offset.saturating_add(self.length);
        for descriptor in descriptors {
            let (length, flags) = descriptor?;
            // P-171: every extent but the last ends before the range does; the others are dropped.
            if at >= limit || self.one && at > self.offset {
                continue;
            }
            let end = at
                .checked_add(length)
                .ok_or(ProtocolError::Extents("extent past the end of 64 bits"))?;
            // Some servers round the last extent up, past the end of the export.
            let end = end.min(self.size);
            let end = if self.one { end.min(limit) } else { end };
            if extents.len() < most {
                let length = end.saturating_sub(at);
                extents.push(Extent::new(at, length, flags));
            }
            at = end;
        }
        Ok(extents)
    }

    /// Returns the extents of every context that the caller asked for.
    ///
    /// # Errors
    /// If a context has not answered.
    pub fn finish(&mut self) -> Result<BlockStatus, ProtocolError> {
        let answers = std::mem::take(&mut self.answers).into_iter();
        let mut contexts = Vec::with_capacity(answers.len());
        let mut missing = 0_usize;
        for answer in answers {
            match answer.extents {
                Some(extents) if answer.wanted => contexts.push((answer.context.name, extents)),
                Some(_) => {}
                None => missing = missing.saturating_add(1),
            }
        }
        // P-169: one status chunk for each context.
        match missing {
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
            self.add(id, extents.iter().map(|&extent| Ok(extent)), Some(1 << 20))
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

    // P-169: one status chunk for each context.
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

    // P-170: REQ_ONE gives one extent.
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

    // P-171: only the last extent passes the range.
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
    fn what_nobody_asked_for_is_checked_and_not_kept() {
        let stray = |status: StatusAssembly| status.with_strays(&[context(9, "z:z")]);
        let mut status = stray(query(false));
        let expected = query(false).expected();
        assert_eq!(status.expected(), expected, "strays take nothing");
        status.take(9, &[(50, 0), (50, 1)]).unwrap();
        assert_eq!(status.held(), 0);
        let twice = status.take(9, &[(1, 0)]);
        assert_eq!(twice, Err(ProtocolError::DuplicateStatus(9)));
        status.take(0, &[(100, 0)]).unwrap();
        status.take(7, &[(100, 0)]).unwrap();
        let status = status.finish().unwrap();
        assert_eq!((status.len(), status.get("z:z")), (2, None));
        let mut status = stray(query(false));
        let bad = [Ok((1, 0)), Err(ProtocolError::NoError)];
        assert!(status.add(9, bad.into_iter(), Some(1 << 20)).is_err());
        let mut status = stray(query(false));
        status.take(0, &[(1, 0)]).unwrap();
        status.take(7, &[(1, 0)]).unwrap();
        assert_eq!(status.finish(), Err(ProtocolError::MissingStatus(1)));
    }

    #[test]
    fn extents_beyond_what_may_be_kept_are_cut_off() {
        let many: Vec<_> = (0..100).map(|flags| (1, flags)).collect();
        let add = |status: &mut StatusAssembly, id, most| {
            status.add(id, many.iter().map(|&extent| Ok(extent)), most)
        };
        for (most, first, second) in [(0, 1, 1), (20, 10, 10), (1000, 100, 100), (150, 75, 75)] {
            let mut status = query(false);
            add(&mut status, 7, Some(most * EXTENT)).unwrap();
            add(&mut status, 0, Some(most * EXTENT)).unwrap();
            assert_eq!(status.held(), (first + second) as u64 * EXTENT);
            let status = status.finish().unwrap();
            let got = |name| status.get(name).unwrap();
            assert_eq!(
                (got("x:y").len(), got("base:allocation").len()),
                (first, second)
            );
            let last = Extent::new(1000 + first as u64 - 1, 1, first as u64 - 1);
            assert_eq!(got("x:y").last(), Some(&last));
        }
        // What one context leaves is there for the others.
        let mut status = query(false);
        status.take(7, &[(100, 0)]).unwrap();
        add(&mut status, 0, Some(20 * EXTENT)).unwrap();
        assert_eq!(status.held(), 20 * EXTENT);
        // What is cut off is checked.
        let mut status = query(false);
        let bad = [Ok((1, 0)), Err(ProtocolError::NoError)];
        assert!(status.add(7, bad.into_iter(), Some(0)).is_err());
        // Nobody wants it any more.
        let mut status = query(false);
        add(&mut status, 7, None).unwrap();
        assert_eq!(status.held(), 0);
    }

    #[test]
    fn sums_that_overflow_are_a_violation() {
        let wanted = vec![context(0, "a:b")];
        let mut status = StatusAssembly::new(u64::MAX - 9, 5, u64::MAX, false, wanted);
        assert!(status.take(0, &[(11, 0)]).is_err());
    }

    // P-170: REQ_ONE gives one extent; P-171: only the last extent passes the range.
    proptest! {
        #![proptest_config(crate::tests::properties::config())]

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
