//! Sparse memory: the bytes of an export, in pages that exist only where something was written.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::{Bytes, BytesMut};

/// Bytes of a page.
pub(super) const PAGE: usize = 64 * 1024;
const PAGE_U64: u64 = PAGE as u64;

static ZEROES: [u8; PAGE] = [0; PAGE];

/// A page of zeroes that takes no memory of its own.
const fn zero_page() -> Bytes {
    Bytes::from_static(&ZEROES)
}

/// `length` zero bytes, in pieces of at most a page, without a copy.
pub(super) fn zeroes(length: u64) -> impl Iterator<Item = Bytes> {
    let mut rest = length;
    std::iter::from_fn(move || {
        let now = usize::try_from(rest).unwrap_or(PAGE).min(PAGE);
        rest -= now as u64;
        (now > 0).then(|| zero_page().slice(..now))
    })
}

/// A part of what is read.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of one page.
    Data(Bytes),
    /// So many bytes that were never written.
    Hole(u64),
}

/// What the pages say of a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Allocation {
    Data,
    /// Allocated, and known to be zero.
    Zero,
    Hole,
}

/// The pages of an export by their number.
///
/// Offsets and lengths must lie inside the export: the caller checks them. The lock is held for
/// the copy of one request at most and never across an await.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: RwLock<BTreeMap<u64, Bytes>>,
}

impl Pages {
    /// Passes the range to `visit` piece by piece, in order. Pages are shared, not copied.
    pub(super) fn read(&self, offset: u64, length: u64, mut visit: impl FnMut(u64, Piece)) {
        let end = offset + length;
        let mut cursor = offset;
        let pages = self.read_lock();
        for (number, page) in pages.range(offset / PAGE_U64..end.div_ceil(PAGE_U64)) {
            let start = number * PAGE_U64;
            if start > cursor {
                visit(cursor, Piece::Hole(start - cursor));
                cursor = start;
            }
            let stop = end.min(start + PAGE_U64);
            visit(
                cursor,
                Piece::Data(page.slice(index(cursor - start)..index(stop - start))),
            );
            cursor = stop;
        }
        if cursor < end {
            visit(cursor, Piece::Hole(end - cursor));
        }
    }

    /// Stores `data` at `offset`.
    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        let mut rest = data;
        let mut cursor = offset;
        let mut pages = self.write_lock();
        while !rest.is_empty() {
            let at = index(cursor % PAGE_U64);
            let (now, later) = rest.split_at(rest.len().min(PAGE - at));
            let page = pages.entry(cursor / PAGE_U64).or_insert_with(zero_page);
            if now.len() == PAGE && !page.is_unique() {
                *page = Bytes::copy_from_slice(now);
            } else {
                change(page, |page| {
                    page[at..at + now.len()].copy_from_slice(now);
                });
            }
            cursor += now.len() as u64;
            rest = later;
        }
    }

    /// Makes the range read as zeroes; whole pages are given back if `punch`, else all of the
    /// range is allocated.
    pub(super) fn zero(&self, offset: u64, length: u64, punch: bool) {
        if length == 0 {
            return;
        }
        let end = offset + length;
        let whole = offset.div_ceil(PAGE_U64)..end / PAGE_U64;
        let touched = offset / PAGE_U64..end.div_ceil(PAGE_U64);
        let mut pages = self.write_lock();
        for number in [touched.start, touched.end - 1] {
            if whole.contains(&number) {
                continue;
            }
            let start = number * PAGE_U64;
            let (from, to) = (offset.max(start) - start, end.min(start + PAGE_U64) - start);
            match pages.get_mut(&number) {
                Some(page) => change(page, |page| page[index(from)..index(to)].fill(0)),
                None if punch => {}
                None => drop(pages.insert(number, zero_page())),
            }
        }
        if punch {
            // A range can be much longer than the pages in it, so only existing pages are visited.
            let present: Vec<u64> = match whole.is_empty() {
                true => Vec::new(),
                false => pages.range(whole).map(|(number, _)| *number).collect(),
            };
            for number in present {
                pages.remove(&number);
            }
        } else {
            pages.extend(whole.map(|number| (number, zero_page())));
        }
    }

    /// The extents from `offset` on until `length` bytes are covered, or `most` extents listed.
    ///
    /// The last extent goes on as far as it is uniform, up to `limit`.
    pub(super) fn extents(
        &self,
        offset: u64,
        length: u64,
        limit: u64,
        most: usize,
    ) -> Vec<(u64, Allocation)> {
        let mut extents = Vec::new();
        let mut cursor = offset;
        let end = offset + length;
        let pages = self.read_lock();
        let mut present = pages
            .range(offset / PAGE_U64..limit.div_ceil(PAGE_U64))
            .map(|(number, page)| (number * PAGE_U64, allocation(page)))
            .peekable();
        while cursor < end && extents.len() < most {
            let (stop, kind) = match present.peek().copied() {
                Some((start, kind)) if start <= cursor => {
                    let mut stop = start;
                    while present.next_if_eq(&(stop, kind)).is_some() {
                        stop += PAGE_U64;
                    }
                    (stop, kind)
                }
                Some((start, _)) => (start, Allocation::Hole),
                None => (limit, Allocation::Hole),
            };
            let stop = stop.min(limit);
            extents.push((stop - cursor, kind));
            cursor = stop;
        }
        extents
    }

    // A panic under the lock leaves the pages usable, because each step above leaves them
    // consistent.
    fn read_lock(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Bytes>> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Bytes>> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes a page in place, or a copy of it if replies still hold the old bytes.
fn change(page: &mut Bytes, change: impl FnOnce(&mut BytesMut)) {
    let mut bytes = std::mem::take(page)
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    change(&mut bytes);
    *page = bytes.freeze();
}

fn allocation(page: &Bytes) -> Allocation {
    if std::ptr::eq(page.as_ptr(), ZEROES.as_ptr()) {
        Allocation::Zero
    } else {
        Allocation::Data
    }
}

/// Converts an offset inside a page.
#[expect(clippy::cast_possible_truncation, reason = "at most 64 KiB")]
const fn index(offset: u64) -> usize {
    offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(pages: &Pages, offset: u64, length: u64) -> Vec<u8> {
        let mut out = Vec::new();
        pages.read(offset, length, |at, piece| {
            assert_eq!(at, offset + out.len() as u64);
            match piece {
                Piece::Data(data) => out.extend_from_slice(&data),
                Piece::Hole(length) => out.resize(out.len() + usize::try_from(length).unwrap(), 0),
            }
        });
        out
    }

    #[test]
    fn a_write_across_pages_reads_back_between_zeroes() {
        let pages = Pages::default();
        let data: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8 + 1).collect();
        pages.write(PAGE_U64 - 10, &data);
        let got = contents(&pages, PAGE_U64 - 11, 200_002);
        assert_eq!((got[0], got[200_001]), (0, 0));
        assert_eq!(got[1..200_001], data);
    }

    #[test]
    fn what_was_read_does_not_change_with_a_later_write() {
        let pages = Pages::default();
        pages.write(0, b"old");
        let mut kept = Vec::new();
        pages.read(0, 3, |_, piece| kept.push(piece));
        pages.write(0, b"new");
        assert!(matches!(&kept[0], Piece::Data(data) if data == "old"));
        assert_eq!(contents(&pages, 0, 3), b"new");
    }

    #[test]
    fn zeroing_gives_back_whole_pages_only_when_asked() {
        let pages = Pages::default();
        pages.write(0, &vec![7; 4 * PAGE]);
        pages.zero(100, 2 * PAGE_U64, true);
        let all = contents(&pages, 0, 4 * PAGE_U64);
        assert!(all[..100].iter().all(|byte| *byte == 7));
        assert!(all[100..100 + 2 * PAGE].iter().all(|byte| *byte == 0));
        assert!(all[100 + 2 * PAGE..].iter().all(|byte| *byte == 7));
        let extents = pages.extents(0, 4 * PAGE_U64, 4 * PAGE_U64, 9);
        assert_eq!(
            extents,
            [
                (PAGE_U64, Allocation::Data),
                (PAGE_U64, Allocation::Hole),
                (2 * PAGE_U64, Allocation::Data)
            ]
        );
        pages.zero(PAGE_U64, PAGE_U64, false);
        let extents = pages.extents(PAGE_U64, 1, 4 * PAGE_U64, 9);
        assert_eq!(extents, [(PAGE_U64, Allocation::Zero)]);
        pages.zero(PAGE_U64 + 5, 10, true);
        pages.zero(PAGE_U64 * 3, 10, true);
        assert_eq!(contents(&pages, PAGE_U64 * 3, 11)[9..], [0, 7]);
    }

    #[test]
    fn extents_of_a_huge_export_cost_only_its_pages() {
        let pages = Pages::default();
        let size = i64::MAX as u64;
        pages.write(size - 1, b"x");
        let last = (size - 1) / PAGE_U64 * PAGE_U64;
        assert_eq!(
            pages.extents(5, size - 5, size, 9),
            [
                (last - 5, Allocation::Hole),
                (size - last, Allocation::Data)
            ]
        );
        assert_eq!(
            pages.extents(5, size - 5, size, 1),
            [(last - 5, Allocation::Hole)]
        );
        pages.zero(0, size, true);
        assert_eq!(
            pages.extents(0, 1, 4096, 1),
            [(4096, Allocation::Hole)],
            "the limit ends the last extent"
        );
    }
}
