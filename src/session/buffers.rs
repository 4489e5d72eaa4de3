//! Buffers of reads, which are used again.
//!
//! New memory costs a page fault for every page, and an allocator returns memory to the system as
//! soon as much of it is free. Reading into the same few buffers is several times as fast.

use std::collections::TryReserveError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Reads of at least this many bytes use a kept buffer; for fewer bytes, every allocator is fast.
const SMALLEST: usize = 1 << SMALLEST_LOG;
const SMALLEST_LOG: usize = 10;
/// From this many bytes on, a failed allocation is an error of one read. Below, it aborts the
/// program as every other allocation does.
const LARGE: usize = 1 << 20;
/// The most memory that is kept for later reads, in bytes.
const KEPT: usize = 16 << 20;

/// The free buffers of one connection.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    /// The free buffers, by the class of their capacity.
    free: Vec<Vec<BytesMut>>,
    bytes: usize,
    /// Whether no buffer was taken since all were freed: then none that comes back is kept.
    is_idle: bool,
}

impl Buffers {
    /// Returns an empty buffer with room for `length` bytes.
    ///
    /// # Errors
    /// If there is no memory for `length` bytes.
    pub fn take(&self, length: usize) -> Result<BytesMut, TryReserveError> {
        if length < SMALLEST {
            return Ok(BytesMut::with_capacity(length));
        }
        let size = rounded(length);
        let mut shelf = self.shelf();
        shelf.is_idle = false;
        // The buffer that came back last is the most likely one to be in a cache.
        match shelf.free.get_mut(class(size)).and_then(Vec::pop) {
            Some(buffer) => {
                shelf.bytes = shelf.bytes.saturating_sub(buffer.capacity());
                Ok(buffer)
            }
            None => {
                drop(shelf);
                reserve(size)
            }
        }
    }

    /// Returns read data as `Bytes`. Its memory comes back here when the last clone is dropped.
    pub fn freeze(&self, data: BytesMut) -> Bytes {
        if data.capacity() < SMALLEST {
            return data.freeze();
        }
        Bytes::from_owner(Pooled {
            data,
            home: self.clone(),
        })
    }

    /// Frees all buffers that are not in use, and later those that are, until one is taken.
    pub fn shrink(&self) {
        *self.shelf() = Shelf {
            is_idle: true,
            ..Shelf::default()
        };
    }

    fn put(&self, mut buffer: BytesMut) {
        buffer.clear();
        let capacity = buffer.capacity();
        let class = class(capacity);
        let mut shelf = self.shelf();
        let bytes = shelf.bytes.saturating_add(capacity);
        if bytes > KEPT || shelf.is_idle {
            drop(shelf);
            return;
        }
        if shelf.free.len() <= class {
            shelf.free.resize_with(class.saturating_add(1), Vec::new);
        }
        if let Some(free) = shelf.free.get_mut(class) {
            free.push(buffer);
            shelf.bytes = bytes;
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns an empty buffer with room for `length` bytes, which takes memory only as it is filled.
///
/// # Errors
/// If there is no memory for `length` bytes.
pub fn reserve(length: usize) -> Result<BytesMut, TryReserveError> {
    if length < LARGE {
        return Ok(BytesMut::with_capacity(length));
    }
    let mut memory = Vec::new();
    memory.try_reserve_exact(length)?;
    // The conversion copies nothing, since the memory has one owner.
    Ok(BytesMut::from(Bytes::from(memory)))
}

/// Returns the size of a buffer for `length` bytes: at most a quarter more than `length`, and the
/// same for similar lengths.
fn rounded(length: usize) -> usize {
    // A power of two, which the compiler does not know: a division would take longer than all else.
    let below = quarter(length).wrapping_sub(1);
    length
        .checked_add(below)
        .map_or(length, |longer| longer & !below)
}

/// Returns the class of a buffer of `size` bytes. Each doubling of the size has four classes.
fn class(size: usize) -> usize {
    let log = size.max(SMALLEST).ilog2();
    let doublings = (log as usize).saturating_sub(SMALLEST_LOG);
    let quarters = size >> log.saturating_sub(2);
    doublings.saturating_mul(4).saturating_add(quarters % 4)
}

fn quarter(size: usize) -> usize {
    1 << size.max(SMALLEST).ilog2().saturating_sub(2)
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

/// Read data whose buffer returns to `home` when it is dropped.
struct Pooled {
    data: BytesMut,
    home: Buffers,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(buffers: &Buffers, length: usize) -> Bytes {
        let mut buffer = buffers.take(length).unwrap();
        buffer.resize(length, 1);
        buffers.freeze(buffer)
    }

    #[test]
    fn a_buffer_is_used_again_when_its_data_is_dropped() {
        let buffers = Buffers::default();
        let data = lend(&buffers, 4096);
        let half = data.slice(..10);
        let address = data.as_ptr();
        drop(data);
        assert_eq!(buffers.shelf().bytes, 0, "half of it is in use");
        drop(half);
        assert_eq!(buffers.shelf().bytes, 4096);
        assert_eq!(buffers.take(4096).unwrap().as_ptr(), address);
        assert_eq!(buffers.shelf().bytes, 0);
    }

    #[test]
    fn a_buffer_is_used_for_similar_lengths_only() {
        let buffers = Buffers::default();
        for length in (SMALLEST..100_000).step_by(37).chain([64 << 20, 1 << 31]) {
            let size = rounded(length);
            assert!(size >= length && size - length <= length / 4, "{length}");
            assert_eq!(rounded(size), size);
            assert_eq!(class(size + quarter(size) - 1), class(size), "{length}");
            assert_eq!(class(size + quarter(size)), class(size) + 1, "{length}");
        }
        drop(lend(&buffers, 5000));
        let kept = buffers.shelf().bytes;
        assert!(buffers.take(64 << 10).unwrap().capacity() >= 64 << 10);
        assert!(buffers.take(2048).unwrap().capacity() < 5000);
        assert_eq!(buffers.shelf().bytes, kept);
        assert!(buffers.take(4900).unwrap().capacity() >= 5000);
        assert_eq!(buffers.shelf().bytes, 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow there")]
    fn no_more_is_kept_than_the_limit() {
        let buffers = Buffers::default();
        let lent: Vec<_> = (0..20).map(|_| lend(&buffers, 1 << 20)).collect();
        drop(lent);
        assert_eq!(buffers.shelf().bytes, KEPT);
        buffers.shrink();
        assert_eq!(buffers.shelf().bytes, 0);
        drop(lend(&buffers, KEPT + 1));
        assert_eq!(buffers.shelf().bytes, 0, "too large alone");
    }

    #[test]
    fn what_comes_back_to_an_idle_connection_is_not_kept() {
        let buffers = Buffers::default();
        let data = lend(&buffers, 4096);
        buffers.shrink();
        drop(data);
        assert_eq!(buffers.shelf().bytes, 0);
        let [first, second] = [(); 2].map(|()| lend(&buffers, 4096));
        drop((first, second));
        assert_eq!(buffers.shelf().bytes, 8192);
    }

    #[test]
    fn tiny_reads_neither_take_nor_give() {
        let buffers = Buffers::default();
        drop(lend(&buffers, SMALLEST - 1));
        assert_eq!(buffers.shelf().bytes, 0);
    }
}
