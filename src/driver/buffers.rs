//! Buffers for large reads, used again.
//!
//! Fresh memory costs a page fault for every page, and an allocator gives large blocks back to
//! the system as soon as they are free: reading into the same few buffers is several times as
//! fast.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// Reads of at least this many bytes use a buffer again.
const SMALLEST: usize = 32 << 10;
/// Memory kept for later, in bytes.
const KEPT: usize = 16 << 20;

/// Buffers that were used and wait for the next read.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    free: Vec<BytesMut>,
    bytes: usize,
}

impl Buffers {
    /// A buffer for a read of `length` bytes; without memory of its own if there is none to be
    /// used again.
    pub(crate) fn take(&self, length: usize) -> BytesMut {
        if length < SMALLEST {
            return BytesMut::new();
        }
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one put back is the one most likely to be in a cache.
        let fits = |buffer: &BytesMut| (length..=length * 2).contains(&buffer.capacity());
        let Some(at) = shelf.free.iter().rposition(fits) else {
            return BytesMut::new();
        };
        let buffer = shelf.free.swap_remove(at);
        shelf.bytes -= buffer.capacity();
        buffer
    }

    /// Hands out what was read; its memory comes back when the last of it is dropped.
    pub(crate) fn lend(&self, data: BytesMut) -> Bytes {
        if data.capacity() < SMALLEST {
            return data.freeze();
        }
        Bytes::from_owner(Lent {
            data,
            home: self.clone(),
        })
    }

    /// Gives all memory back that is not in use.
    pub(super) fn release(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Shelf::default();
    }

    fn put(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.bytes + buffer.capacity() <= KEPT {
            shelf.bytes += buffer.capacity();
            shelf.free.push(buffer);
        }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

/// Data in a buffer that goes home when it is not needed any more.
struct Lent {
    data: BytesMut,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_data_is_dropped() {
        let buffers = Buffers::default();
        let data = buffers.lend(BytesMut::zeroed(SMALLEST));
        let half = data.slice(..10);
        let place = data.as_ptr();
        drop(data);
        assert_eq!(buffers.take(SMALLEST).capacity(), 0, "half of it is in use");
        drop(half);
        assert_eq!(buffers.take(SMALLEST).as_ptr(), place);
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let buffers = Buffers::default();
        let lent: Vec<_> = (0..20)
            .map(|_| buffers.lend(BytesMut::zeroed(1 << 20)))
            .collect();
        drop(lent);
        assert_eq!(buffers.0.lock().unwrap().bytes, KEPT);
        buffers.release();
        assert_eq!(buffers.take(1 << 20).capacity(), 0);
    }

    #[test]
    fn small_reads_neither_take_nor_give() {
        let buffers = Buffers::default();
        drop(buffers.lend(BytesMut::zeroed(4096)));
        drop(buffers.lend(BytesMut::zeroed(1 << 20)));
        assert_eq!(buffers.take(4096).capacity(), 0);
        assert_eq!(
            buffers.take(64 << 10).capacity(),
            0,
            "far too large a buffer is left alone"
        );
    }
}
