//! Assembles the reply to a read.

use std::collections::TryReserveError;

use bytes::{BufMut, BytesMut};

use super::buffers::Buffers;
use super::claims::Claims;
use crate::wire::ProtocolError;

/// A read whose data arrives in one or more pieces, in any order.
///
/// The buffer is allocated when the first piece arrives and grows in order without being zeroed
/// first; only a gap left by a piece that came early is filled with zeroes.
#[derive(Debug)]
pub struct Assembly {
    /// The pieces that have come.
    pub claims: Claims,
    buffer: BytesMut,
}

impl Assembly {
    /// Creates the assembly of a read of `length` bytes at `offset` into `buffer`, whose contents
    /// are dropped.
    pub fn new(offset: u64, length: u64, mut buffer: BytesMut) -> Self {
        buffer.clear();
        Self {
            claims: Claims::new(offset, length),
            buffer,
        }
    }

    /// Copies a claimed piece to its position.
    ///
    /// # Errors
    /// If there is no memory for the read.
    pub fn put(
        &mut self,
        position: usize,
        data: &[u8],
        buffers: &Buffers,
    ) -> Result<(), TryReserveError> {
        self.reserve(buffers)?;
        self.fill_to(position);
        if position == self.buffer.len() {
            self.buffer.extend_from_slice(data);
        } else {
            let end = position.saturating_add(data.len());
            if let Some(gap) = self.buffer.get_mut(position..end) {
                gap.copy_from_slice(data);
            }
        }
        Ok(())
    }

    /// Writes the zeroes of a claimed hole.
    ///
    /// # Errors
    /// If there is no memory for the read.
    pub fn put_zeroes(
        &mut self,
        position: usize,
        length: usize,
        buffers: &Buffers,
    ) -> Result<(), TryReserveError> {
        self.reserve(buffers)?;
        self.fill_to(position);
        // A gap was filled with zeroes when a later piece came.
        if position == self.buffer.len() {
            self.buffer.put_bytes(0, length);
        }
        Ok(())
    }

    /// Lends the part of the buffer that belongs to a claimed piece, so that data can be received
    /// straight into it.
    ///
    /// # Errors
    /// If there is no memory for the read.
    pub fn lend(
        &mut self,
        position: usize,
        length: usize,
        buffers: &Buffers,
    ) -> Result<Loan, TryReserveError> {
        self.reserve(buffers)?;
        self.fill_to(position);
        let mut part = std::mem::take(&mut self.buffer);
        if position == part.len() {
            return Ok(Loan {
                before: None,
                part,
                after: BytesMut::new(),
            });
        }
        let before = part.split_to(position);
        let after = part.split_off(length.min(part.len()));
        part.clear();
        Ok(Loan {
            before: Some(before),
            part,
            after,
        })
    }

    /// Takes a filled part of the buffer back.
    pub fn give_back(&mut self, loan: Loan) {
        self.buffer = match loan.before {
            None => loan.part,
            Some(mut whole) => {
                // The three are neighbours in memory: joining them moves nothing.
                whole.unsplit(loan.part);
                whole.unsplit(loan.after);
                whole
            }
        };
    }

    /// Returns the data.
    ///
    /// # Errors
    /// If some bytes have not come.
    pub fn finish(&mut self) -> Result<BytesMut, ProtocolError> {
        self.claims.check_complete()?;
        Ok(std::mem::take(&mut self.buffer))
    }

    fn reserve(&mut self, buffers: &Buffers) -> Result<(), TryReserveError> {
        let length = usize::try_from(self.claims.length()).unwrap_or(usize::MAX);
        if self.buffer.capacity() < length {
            self.buffer = buffers.take(length)?;
        }
        Ok(())
    }

    /// Fills the gap before a piece that came out of order with zeroes.
    fn fill_to(&mut self, position: usize) {
        if position > self.buffer.len() {
            self.buffer.resize(position, 0);
        }
    }
}

/// The part of a buffer that belongs to one piece, lent out to be filled.
#[derive(Debug)]
pub struct Loan {
    /// The buffer before `part`; `None` if `part` is the end of the buffer, which grows.
    before: Option<BytesMut>,
    /// The part to append the data to.
    pub part: BytesMut,
    after: BytesMut,
}

impl Loan {
    /// Creates a loan that belongs to no assembly.
    pub fn own(part: BytesMut) -> Self {
        Self {
            before: None,
            part,
            after: BytesMut::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(read: &mut Assembly, offset: u64, length: u64) -> Result<usize, ProtocolError> {
        read.claims.claim(offset, length)
    }

    #[test]
    fn content_outside_the_request_is_refused() {
        let mut read = Assembly::new(1000, 100, BytesMut::new());
        for (offset, length) in [
            (999, 1),
            (1100, 1),
            (1000, 101),
            (1099, 2),
            (u64::MAX - 10, 100),
            (u64::MAX, 1),
        ] {
            let result = claim(&mut read, offset, length);
            assert!(
                matches!(result, Err(ProtocolError::OutOfRange { .. })),
                "{offset}+{length}"
            );
        }
        assert_eq!(claim(&mut read, 1000, 100), Ok(0));
    }

    // P-162: content covers the whole request.
    #[test]
    fn a_read_with_a_gap_never_succeeds() {
        let buffers = Buffers::default();
        let mut read = Assembly::new(0, 10, BytesMut::new());
        let first = claim(&mut read, 0, 4).unwrap();
        read.put(first, b"abcd", &buffers).unwrap();
        let last = claim(&mut read, 5, 5).unwrap();
        read.put(last, b"fghij", &buffers).unwrap();
        let error = read.finish().unwrap_err();
        assert_eq!(
            error,
            ProtocolError::IncompleteRead {
                missing: 1,
                length: 10
            }
        );
    }

    // P-161: content comes in any order.
    proptest! {
        #![proptest_config(crate::tests::properties::config())]

        #[test]
        fn pieces_in_any_order_and_by_any_way_give_the_same_data(
            cuts in prop::collection::btree_set(1usize..200, 0..12),
            order in any::<u64>(),
            ways in prop::collection::vec(0u8..3, 13),
        ) {
            let data: Vec<u8> = (0..200).map(|i| i as u8).collect();
            let mut expected = data.clone();
            let mut edges: Vec<usize> = cuts.into_iter().collect();
            edges.insert(0, 0);
            edges.push(200);
            let mut pieces: Vec<_> = edges.windows(2).map(|w| (w[0], w[1])).collect();
            let count = pieces.len();
            for i in 0..count {
                pieces.swap(i, (order >> i) as usize % count);
            }
            let buffers = Buffers::default();
            let mut read = Assembly::new(1 << 40, 200, BytesMut::zeroed(7));
            for ((start, end), way) in pieces.into_iter().zip(ways) {
                let position = claim(&mut read, (1 << 40) + start as u64, (end - start) as u64).unwrap();
                match way {
                    0 => read.put(position, &data[start..end], &buffers).unwrap(),
                    1 => {
                        let mut loan = read.lend(position, end - start, &buffers).unwrap();
                        loan.part.extend_from_slice(&data[start..end]);
                        read.give_back(loan);
                    }
                    _ => {
                        read.put_zeroes(position, end - start, &buffers).unwrap();
                        expected[start..end].fill(0);
                    }
                }
            }
            prop_assert_eq!(&read.finish().unwrap()[..], &expected[..]);
        }
    }
}
