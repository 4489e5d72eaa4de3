//! Joins neighbours that are alike.

use std::task::{Poll, ready};

use crate::error::Result;

/// A piece of a range.
pub(super) trait Piece {
    /// Returns whether the next piece can become a part of this one.
    fn is_like(&self, next: &Self) -> bool;

    /// Extends this piece by the next one.
    fn grow(&mut self, next: &Self);
}

/// The last step of a stream of pieces, which joins them on demand.
#[derive(Debug)]
pub(super) struct Merge<T> {
    /// Which pieces are joined with those after them. They are returned only when the next one is known.
    pub(super) joins: fn(&T) -> bool,
    /// The piece that the next one may extend.
    held: Option<T>,
    /// The piece or the error that follows `held`.
    next: Option<Result<T>>,
    is_over: bool,
}

impl<T> Merge<T> {
    pub(super) const fn new() -> Self {
        Self {
            joins: |_| false,
            held: None,
            next: None,
            is_over: false,
        }
    }
}

impl<T: Piece> Merge<T> {
    /// Returns the next item of the stream whose pieces come from `next`. Nothing follows an error or
    /// the end.
    pub(super) fn poll(
        &mut self,
        mut next: impl FnMut() -> Poll<Option<Result<T>>>,
    ) -> Poll<Option<Result<T>>> {
        while !self.is_over && self.next.is_none() {
            match ready!(next()) {
                Some(Ok(piece)) => match &mut self.held {
                    Some(held) if (self.joins)(held) && held.is_like(&piece) => held.grow(&piece),
                    None if (self.joins)(&piece) => self.held = Some(piece),
                    _ => self.next = Some(Ok(piece)),
                },
                Some(Err(error)) => {
                    self.is_over = true;
                    self.next = Some(Err(error));
                }
                None => self.is_over = true,
            }
        }
        let item = self.held.take().map(Ok);
        let item = item.or_else(|| self.next.take());
        // What follows a piece that was held may be held in turn.
        if let Some(Ok(piece)) = self
            .next
            .take_if(|next| matches!(next, Ok(piece) if (self.joins)(piece)))
        {
            self.held = Some(piece);
        }
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;
    use crate::extent::Extent;

    /// Offset, length and flags of what comes out, -1 for an error.
    fn merged(merges: bool, pieces: &[Option<u64>]) -> Vec<(u64, i64)> {
        joined(if merges { |_| true } else { |_| false }, pieces)
    }

    fn joined(joins: fn(&Extent) -> bool, pieces: &[Option<u64>]) -> Vec<(u64, i64)> {
        let mut merge = Merge::new();
        merge.joins = joins;
        let mut at = 0;
        let mut pieces = pieces.iter();
        let mut next = || {
            let piece = pieces.next().map(|flags| {
                at += 1;
                let piece = flags.map(|flags| Extent::new(at - 1, 1, flags));
                piece.ok_or_else(Error::closed)
            });
            Poll::Ready(piece)
        };
        let mut out = Vec::new();
        loop {
            match merge.poll(&mut next) {
                Poll::Ready(Some(Ok(piece))) => {
                    out.push((piece.length, i64::try_from(piece.flags).unwrap()));
                }
                Poll::Ready(Some(Err(_))) => out.push((0, -1)),
                _ => break,
            }
        }
        assert!(matches!(merge.poll(next), Poll::Ready(None)));
        out
    }

    #[test]
    fn only_like_neighbours_are_joined() {
        let pieces = [Some(1), Some(1), Some(2), Some(1), Some(1), Some(1)];
        assert_eq!(merged(true, &pieces), [(2, 1), (1, 2), (3, 1)]);
        assert_eq!(merged(false, &pieces).len(), 6);
        assert_eq!(merged(true, &[]), []);
    }

    #[test]
    fn others_do_not_wait_for_the_next_one() {
        let pieces = [1, 2, 2, 1, 1, 2, 2].map(Some);
        let twos = joined(|extent| extent.flags == 2, &pieces);
        assert_eq!(twos, [(1, 1), (2, 2), (1, 1), (1, 1), (2, 2)]);
        let mut merge = Merge::new();
        merge.joins = |extent: &Extent| extent.flags == 2;
        let mut first = Some(Extent::new(0, 1, 1));
        let item = merge.poll(|| match first.take() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => Poll::Pending,
        });
        assert!(item.is_ready());
    }

    #[test]
    fn what_is_known_comes_before_the_error() {
        let pieces = [Some(1), Some(1), None];
        assert_eq!(merged(true, &pieces), [(2, 1), (0, -1)]);
        assert_eq!(merged(false, &pieces), [(1, 1), (1, 1), (0, -1)]);
    }

    #[test]
    fn nothing_comes_after_an_error() {
        assert_eq!(merged(true, &[None, Some(1), None]), [(0, -1)]);
        assert_eq!(merged(false, &[None, Some(1)]), [(0, -1)]);
    }

    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn joined_pieces_say_the_same(
            pieces in prop::collection::vec(prop_oneof![9 => (0u64..3).prop_map(Some), 1 => Just(None)], 0..30),
        ) {
            let (apart, joined) = (merged(false, &pieces), merged(true, &pieces));
            let spread = |pieces: &[(u64, i64)]| -> Vec<i64> {
                let each = |&(length, flags): &(u64, i64)| vec![flags; length.max(1) as usize];
                pieces.iter().flat_map(each).collect()
            };
            prop_assert_eq!(spread(&apart), spread(&joined));
            prop_assert!(joined.windows(2).all(|pair| pair[0].1 != pair[1].1));
        }
    }
}
