//! What a change writes.

use std::ops::Range;

use bytes::Bytes;

use crate::spans::Cut;

/// The content that a change gives to its range.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// These bytes, as many as the range has.
    Data(Bytes),
    /// Zeroes.
    Zeroes,
    /// Nothing that is known: the range was trimmed.
    Unknown,
}

impl Content {
    /// Returns the part for `kept` of the content of `whole`.
    pub(crate) fn part(&self, whole: &Range<u64>, kept: &Range<u64>) -> Self {
        let mut part = self.clone();
        part.cut(whole, kept);
        part
    }

    /// Returns whether two contents of one range are known to be the same.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => false,
            (Self::Zeroes, Self::Zeroes) => true,
            (Self::Data(one), Self::Data(other)) => one == other,
            (Self::Data(data), Self::Zeroes) | (Self::Zeroes, Self::Data(data)) => {
                data.iter().all(|&byte| byte == 0)
            }
        }
    }

    /// Returns how many bytes of memory the content takes.
    pub(crate) fn memory(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Zeroes | Self::Unknown => 0,
        }
    }
}

impl Cut for Content {
    fn cut(&mut self, whole: &Range<u64>, kept: &Range<u64>) {
        if let Self::Data(data) = self {
            let at = |position: u64| usize::try_from(position - whole.start).unwrap_or(usize::MAX);
            *data = data.slice(at(kept.start)..at(kept.end));
        }
    }
}
