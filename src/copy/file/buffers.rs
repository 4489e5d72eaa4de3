//! Buffers of reads, which are used again: new memory costs a page fault for every page.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The free buffers of one file. There are never more than were in use at the same time.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Has `length` bytes filled, and returns them. Their memory comes back here when the last clone is
    /// dropped.
    pub(super) fn fill(
        &self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        // The buffer that came back last is the most likely one to be in a cache.
        let mut memory = self.free().pop().unwrap_or_default();
        if let Some(more) = length.checked_sub(memory.len()) {
            memory.try_reserve_exact(more)?;
            memory.resize(length, 0);
        }
        let mut lent = Lent {
            memory,
            length,
            home: self.clone(),
        };
        fill(&mut lent.memory[..length])?;
        Ok(Bytes::from_owner(lent))
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to `home` when it is dropped.
struct Lent {
    memory: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.home.free().push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(buffers: &Buffers, length: usize) -> Bytes {
        let fill = |data: &mut [u8]| {
            data.fill(1);
            Ok(())
        };
        buffers.fill(length, fill).unwrap()
    }

    #[test]
    fn a_buffer_is_used_again_when_its_data_is_dropped() {
        let buffers = Buffers::default();
        let data = lend(&buffers, 4096);
        let half = data.slice(..10);
        let address = data.as_ptr();
        drop(data);
        assert_eq!(buffers.free().len(), 0, "half of it is in use");
        drop(half);
        let shorter = lend(&buffers, 1000);
        assert_eq!((shorter.as_ptr(), shorter.len()), (address, 1000));
        drop(shorter);
        let fails = |_: &mut [u8]| Err(io::ErrorKind::UnexpectedEof.into());
        assert!(buffers.fill(5000, fails).is_err());
        assert_eq!(buffers.free().len(), 1, "an error keeps no buffer");
        assert_eq!(lend(&buffers, 5000).len(), 5000);
    }
}
