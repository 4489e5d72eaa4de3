//! Metadata contexts of an export: how they are found by a query, and their extents.

use super::pages::{Allocation, Pages};

const ALLOCATION: &str = "base:allocation";
/// Bits of `base:allocation`: not allocated; reads as zeroes.
const HOLE: u64 = 1;
const ZERO: u64 = 2;

/// A metadata context.
#[derive(Clone, Debug)]
pub(super) struct ExportContext {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Computed from the pages.
    Allocation,
    /// End of each extent and its flags, in order.
    Given(Vec<(u64, u64)>),
}

/// What part of an export the status of is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusRange {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Where the last extent ends at the latest.
    pub(super) limit: u64,
    /// How many extents at most.
    pub(super) most: usize,
}

impl ExportContext {
    pub(super) fn allocation() -> Self {
        Self {
            name: ALLOCATION.to_owned(),
            kind: Kind::Allocation,
        }
    }

    pub(super) fn given(name: String, extents: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let ends = extents.into_iter().scan(0u64, |end, (length, flags)| {
            *end = end.saturating_add(length);
            Some((*end, flags))
        });
        Self {
            name,
            kind: Kind::Given(ends.collect()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn is_allocation(&self) -> bool {
        matches!(self.kind, Kind::Allocation)
    }

    /// Whether its flags need 64 bits.
    pub(super) fn is_wide(&self) -> bool {
        match &self.kind {
            Kind::Allocation => false,
            Kind::Given(ends) => ends.iter().any(|(_, flags)| u32::try_from(*flags).is_err()),
        }
    }

    /// Whether a query selects it. An empty leaf is a wildcard, in a list only.
    pub(super) fn matches(&self, query: &str, list: bool) -> bool {
        // P-079: an empty leaf matches in a list only.
        if list && query.ends_with(':') {
            self.name.starts_with(query)
        } else {
            self.name == query
        }
    }

    /// Consecutive extents of the range as (length, flags); at least one for a non-empty range.
    pub(super) fn extents(&self, pages: &Pages, range: StatusRange) -> Vec<(u64, u64)> {
        let StatusRange {
            offset,
            length,
            limit,
            most,
        } = range;
        match &self.kind {
            Kind::Allocation => pages
                .extents(offset, length, limit, most)
                .into_iter()
                .map(|(length, allocation)| match allocation {
                    Allocation::Data => (length, 0),
                    Allocation::Zero => (length, ZERO),
                    Allocation::Hole => (length, HOLE | ZERO),
                })
                .collect(),
            Kind::Given(ends) => {
                let mut cursor = offset;
                let first = ends.partition_point(|(end, _)| *end <= offset);
                ends[first..]
                    .iter()
                    .copied()
                    .chain([(u64::MAX, 0)])
                    .map_while(|(end, flags)| {
                        let end = end.min(limit);
                        let start = std::mem::replace(&mut cursor, end);
                        (start < offset + length).then(|| (end - start, flags))
                    })
                    .filter(|(length, _)| *length > 0)
                    .take(most)
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u64, limit: u64) -> StatusRange {
        StatusRange {
            offset,
            length,
            limit,
            most: 100,
        }
    }

    #[test]
    fn given_extents_are_cut_to_the_range_and_zero_after_the_last() {
        let context = ExportContext::given("x:dirty".into(), [(10, 1), (20, 0), (5, 7)]);
        let pages = Pages::default();
        let of = |range| context.extents(&pages, range);
        assert_eq!(of(range(5, 10, 15)), [(5, 1), (5, 0)]);
        assert_eq!(of(range(5, 10, 100)), [(5, 1), (20, 0)]);
        assert_eq!(of(range(10, 30, 100)), [(20, 0), (5, 7), (65, 0)]);
        assert_eq!(of(range(50, 1, 51)), [(1, 0)]);
        let one = StatusRange {
            most: 1,
            ..range(5, 10, 15)
        };
        assert_eq!(of(one), [(5, 1)]);
    }

    #[test]
    fn empty_given_extents_are_left_out() {
        let context = ExportContext::given("x:dirty".into(), [(0, 1), (10, 2), (0, 3)]);
        let got = context.extents(&Pages::default(), range(0, 20, 20));
        assert_eq!(got, [(10, 2), (10, 0)]);
    }

    // P-079: an empty leaf matches in a list only.
    #[test]
    fn an_empty_leaf_matches_in_a_list_only() {
        let context = ExportContext::allocation();
        assert!(context.matches("base:", true));
        assert!(!context.matches("base:", false));
        assert!(context.matches("base:allocation", false));
        assert!(!context.matches("base:alloc", true));
    }

    #[test]
    fn flags_over_32_bits_make_a_context_wide() {
        assert!(ExportContext::given("x:y".into(), [(1, 1 << 32)]).is_wide());
        assert!(!ExportContext::given("x:y".into(), [(1, u64::from(u32::MAX))]).is_wide());
    }
}
