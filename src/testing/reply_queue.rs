//! Replies on their way out: small ones gathered in one buffer, large pages passed on as they
//! are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::wire::reply::{EXTENDED_REPLY, ReplyHead};

/// From this size on a piece is cheaper to pass on than to copy.
const COPY_LIMIT: usize = 16 * 1024;
/// How many slices go into one write.
const SLICES: usize = 64;

/// A simple reply or a chunk, before it is encoded.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The head; a chunk's length is set from the body.
    pub(super) head: ReplyHead,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Empty,
    Bytes(Bytes),
    /// What was read, in consecutive pieces; the offset belongs to a data chunk.
    Data {
        offset: Option<u64>,
        pieces: Vec<Bytes>,
    },
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Data { offset, pieces } => {
                let data: usize = pieces.iter().map(Bytes::len).sum();
                data + offset.map_or(0, |_| 8)
            }
        }
    }
}

/// Bytes to write, in order: `segments`, then `tail`.
#[derive(Debug, Default)]
pub(super) struct ReplyQueue {
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    unflushed: bool,
}

impl ReplyQueue {
    pub(super) fn push(&mut self, message: Message) {
        let Message { mut head, body } = message;
        if let ReplyHead::Chunk(chunk) = &mut head {
            chunk.length = body.len() as u64;
        }
        // One slice is appended, not six fields: this runs for every reply.
        let mut fixed = [0; EXTENDED_REPLY + 8];
        let mut rest = &mut fixed[..];
        head.encode(&mut rest);
        if let Body::Data {
            offset: Some(offset),
            ..
        } = body
        {
            rest.put_u64(offset);
        }
        let used = EXTENDED_REPLY + 8 - rest.len();
        self.tail.extend_from_slice(&fixed[..used]);
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => self.push_bytes(bytes),
            Body::Data { pieces, .. } => pieces.into_iter().for_each(|piece| {
                self.push_bytes(piece);
            }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tail.is_empty() && !self.unflushed
    }

    /// Writes until everything is written and flushed.
    pub(super) fn poll_write<W>(
        &mut self,
        cx: &mut Context<'_>,
        mut io: Pin<&mut W>,
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + ?Sized,
    {
        while !self.segments.is_empty() || !self.tail.is_empty() {
            let written = if self.segments.is_empty() {
                ready!(io.as_mut().poll_write(cx, &self.tail))?
            } else if io.is_write_vectored() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let parts = self.segments.iter().map(|segment| &segment[..]);
                let parts = parts.chain([&self.tail[..]]);
                let count = slices.iter_mut().zip(parts).fold(0, |count, (slot, part)| {
                    *slot = IoSlice::new(part);
                    count + 1
                });
                ready!(io.as_mut().poll_write_vectored(cx, &slices[..count]))?
            } else {
                ready!(io.as_mut().poll_write(cx, &self.segments[0]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(io.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_LIMIT {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.segments.push_back(self.tail.split().freeze());
            self.segments.push_back(bytes);
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.segments.pop_front();
        }
        self.tail.advance(written);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use futures::task::noop_waker_ref;
    use tokio::io::AsyncReadExt;

    use crate::wire::Errno;

    use super::*;

    #[tokio::test]
    async fn large_and_small_pieces_leave_in_order_through_a_narrow_stream() {
        let mut queue = ReplyQueue::default();
        let mut expected = BytesMut::new();
        for cookie in 0..200 {
            let size = if cookie % 3 == 0 { COPY_LIMIT } else { 10 };
            let piece = Bytes::from(vec![u8::try_from(cookie).unwrap(); size]);
            let head = ReplyHead::Simple {
                cookie,
                error: Errno::OK,
            };
            head.encode(&mut expected);
            expected.extend_from_slice(&piece);
            let pieces = vec![piece];
            queue.push(Message {
                head,
                body: Body::Data {
                    offset: None,
                    pieces,
                },
            });
        }
        let (mut far, mut near) = tokio::io::duplex(1000);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.map(|_| got)
        });
        poll_fn(|cx| queue.poll_write(cx, Pin::new(&mut near)))
            .await
            .unwrap();
        assert!(queue.is_empty());
        drop(near);
        assert!(reading.await.unwrap().unwrap() == expected);
    }

    #[test]
    fn a_full_stream_leaves_the_rest_in_the_outbox() {
        let mut queue = ReplyQueue::default();
        queue.push(Message {
            head: ReplyHead::Simple {
                cookie: 0,
                error: Errno::OK,
            },
            body: Body::Empty,
        });
        let (_far, mut near) = tokio::io::duplex(10);
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(queue.poll_write(&mut cx, Pin::new(&mut near)).is_pending());
        assert_eq!(queue.tail.len(), 6);
    }
}
