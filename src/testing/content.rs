//! The content of a structured read: which stretches of data and holes it is sent in.

use bytes::Bytes;

use crate::wire::reply::Hole;

/// What one chunk carries.
#[derive(Debug)]
pub(super) enum Content {
    Data {
        offset: u64,
        length: usize,
        pieces: Vec<Bytes>,
    },
    Hole(Hole),
}

/// The chunks of one read, as they are put together.
#[derive(Debug)]
pub(super) struct Contents {
    /// Most bytes of data in one chunk.
    limit: usize,
    chunks: Vec<Content>,
}

impl Contents {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            chunks: Vec::with_capacity(1),
        }
    }

    /// Appends data to the last chunk, or to new ones where that is full or a hole.
    pub(super) fn add(&mut self, mut offset: u64, mut data: Bytes) {
        while !data.is_empty() {
            match self.chunks.last_mut() {
                Some(Content::Data { length, pieces, .. }) if *length < self.limit => {
                    let now = data.split_to(data.len().min(self.limit - *length));
                    *length += now.len();
                    offset += now.len() as u64;
                    pieces.push(now);
                }
                _ => self.chunks.push(Content::Data {
                    offset,
                    length: 0,
                    pieces: Vec::with_capacity(1),
                }),
            }
        }
    }

    pub(super) fn add_hole(&mut self, offset: u64, length: u64) {
        // a read, and with it its holes, fits 32 bits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.chunks.push(Content::Hole(Hole { offset, length }));
    }

    pub(super) fn into_inner(self) -> Vec<Content> {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_chunks_to_the_limit_and_holes_end_them() {
        let mut contents = Contents::new(5);
        contents.add(0, Bytes::from_static(b"abc"));
        contents.add(3, Bytes::from_static(b"defghijk"));
        contents.add_hole(11, 4);
        contents.add(15, Bytes::from_static(b"l"));
        let chunks: Vec<_> = contents
            .into_inner()
            .into_iter()
            .map(|content| match content {
                Content::Data { offset, pieces, .. } => (offset, pieces.concat().len()),
                Content::Hole(hole) => (hole.offset, 0),
            })
            .collect();
        assert_eq!(chunks, [(0, 5), (5, 5), (10, 1), (11, 0), (15, 1)]);
    }
}
