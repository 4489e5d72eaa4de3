//! The changes that a flush must wait for.

use std::collections::BTreeMap;

/// Counts the unanswered changes, by span. A span is the changes between two flushes.
///
/// As long as no flush waits, a change costs one addition, and its answer one subtraction.
#[derive(Debug, Default)]
pub struct Barrier {
    /// The current span, and the number of its unanswered changes.
    span: u64,
    open: usize,
    /// The earlier spans that have unanswered changes, with their number.
    earlier: BTreeMap<u64, usize>,
}

impl Barrier {
    /// Counts a new change, and returns its span.
    pub const fn begin(&mut self) -> u64 {
        self.open = self.open.saturating_add(1);
        self.span
    }

    /// Counts a change of `span` as answered, or as not to be sent. Returns whether this was the
    /// last one of an earlier span, which a flush may wait for.
    pub fn end(&mut self, span: u64) -> bool {
        if span == self.span {
            self.open = self.open.saturating_sub(1);
            return false;
        }
        let Some(count) = self.earlier.get_mut(&span) else {
            return false;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return false;
        }
        self.earlier.remove(&span);
        true
    }

    /// Begins a new span for a flush, and returns it: the changes of all spans before it must be
    /// answered first.
    pub fn cut(&mut self) -> u64 {
        if self.open > 0 {
            self.earlier.insert(self.span, self.open);
            self.open = 0;
            self.span = self.span.wrapping_add(1);
        }
        self.span
    }

    /// Returns whether all changes are answered.
    pub fn is_empty(&self) -> bool {
        self.open == 0 && self.earlier.is_empty()
    }

    /// Returns whether all changes of the spans before `span` are answered.
    pub fn is_past(&self, span: u64) -> bool {
        let first = self.earlier.keys().next();
        first.is_none_or(|&first| first >= span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_the_changes_before_it_and_no_others() {
        let mut barrier = Barrier::default();
        let (a, b) = (barrier.begin(), barrier.begin());
        let flush = barrier.cut();
        let later = barrier.begin();
        assert!(!barrier.is_past(flush));
        assert!(!barrier.end(b));
        assert!(!barrier.is_past(flush));
        assert!(barrier.end(a));
        assert!(barrier.is_past(flush), "although {later} is not answered");
    }

    #[test]
    fn a_flush_waits_for_what_earlier_ones_wait_for() {
        let mut barrier = Barrier::default();
        let a = barrier.begin();
        let first = barrier.cut();
        assert_eq!(barrier.cut(), first, "nothing has come between them");
        let b = barrier.begin();
        let second = barrier.cut();
        assert!(barrier.end(b));
        assert!(!barrier.is_past(second));
        assert!(barrier.end(a));
        assert!(barrier.is_past(first) && barrier.is_past(second));
    }

    #[test]
    fn a_flush_with_nothing_before_it_waits_for_nothing() {
        let mut barrier = Barrier::default();
        for _ in 0..3 {
            let change = barrier.begin();
            barrier.end(change);
            let flush = barrier.cut();
            assert!(barrier.is_past(flush));
        }
        assert!(barrier.earlier.is_empty());
    }

    #[test]
    fn no_more_spans_are_kept_than_have_unanswered_changes() {
        let mut barrier = Barrier::default();
        let stuck = barrier.begin();
        for _ in 0..1000 {
            let change = barrier.begin();
            barrier.cut();
            barrier.end(change);
        }
        assert_eq!(barrier.earlier.len(), 1);
        assert!(barrier.end(stuck));
    }
}
