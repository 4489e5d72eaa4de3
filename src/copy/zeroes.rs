//! Where data is zero.

use std::ops::Range;

/// A part of some data that is zero, or is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Run {
    /// In bytes from the start of the data.
    pub(super) range: Range<usize>,
    pub(super) is_zero: bool,
}

/// Cuts data into runs of blocks that are zero and blocks that are not. The blocks are counted from
/// `offset` bytes after the start of a block.
pub(super) fn runs(data: &[u8], offset: u64, block: u64) -> Vec<Run> {
    let block = usize::try_from(block).unwrap_or(usize::MAX).max(1);
    let before = usize::try_from(offset % block as u64).unwrap_or_default();
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let end = (start + block - (start + before) % block).min(data.len());
        let is_zero = is_zero(&data[start..end]);
        match runs.last_mut() {
            Some(last) if last.is_zero == is_zero => last.range.end = end,
            _ => runs.push(Run {
                range: start..end,
                is_zero,
            }),
        }
        start = end;
    }
    runs
}

/// Returns whether all bytes are zero. Data mostly differs at once; the rest is looked at in pieces
/// that a processor compares as a whole.
pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(256)
        .all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_cover_the_data_and_say_what_is_zero(
            blocks in prop::collection::vec(prop::option::of(0..700_usize), 0..12),
            cut in 0..512_usize,
            offset in 0..2000_u64,
        ) {
            let mut data = vec![0; blocks.len() * 512];
            for (number, place) in blocks.iter().enumerate() {
                if let Some(byte) = data.get_mut(number * 512 + place.unwrap_or(usize::MAX >> 1)) {
                    *byte = 1;
                }
            }
            data.truncate(data.len().saturating_sub(cut));
            let mut at = 0;
            let mut last = None;
            for run in runs(&data, offset, 512) {
                prop_assert_eq!(run.range.start, at);
                prop_assert_ne!(last, Some(run.is_zero), "runs are as long as can be");
                at = run.range.end;
                last = Some(run.is_zero);
                prop_assert!(at == data.len() || (at as u64 + offset) % 512 == 0);
                let bytes = &data[run.range.clone()];
                if run.is_zero {
                    prop_assert!(bytes.iter().all(|byte| *byte == 0));
                } else {
                    let first = 512 - (run.range.start as u64 + offset) as usize % 512;
                    let first = &bytes[..first.min(bytes.len())];
                    prop_assert!(first.iter().any(|byte| *byte != 0));
                }
            }
            prop_assert_eq!(at, data.len());
        }
    }
}
