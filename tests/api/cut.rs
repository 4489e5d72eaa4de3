//! Requests that are dropped after every single byte of them, or of their replies.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::ReplyStyle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::support::*;

/// Lets a number of bytes through, and holds back what follows until it is opened.
#[derive(Clone, Default)]
struct Valve(Arc<Mutex<Flow>>);

#[derive(Default)]
struct Flow {
    /// `None`: any number.
    left: Option<usize>,
    /// Somebody waits for it to be opened.
    waiting: Option<Waker>,
}

impl Valve {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap()
    }

    fn close_after(&self, bytes: usize) {
        self.flow().left = Some(bytes);
    }

    fn open(&self) {
        let mut flow = self.flow();
        flow.left = None;
        if let Some(waker) = flow.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until all that may pass has passed, and more wants to.
    async fn stuck(&self) {
        while self.flow().waiting.is_none() {
            tokio::task::yield_now().await;
        }
    }

    /// How much of `wanted` may pass now.
    fn poll_room(&self, cx: &Context<'_>, wanted: usize) -> Poll<usize> {
        let mut flow = self.flow();
        match flow.left {
            Some(0) => {
                flow.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(left) => Poll::Ready(left.min(wanted)),
            None => Poll::Ready(wanted),
        }
    }

    fn passed(&self, count: usize) {
        if let Some(left) = &mut self.flow().left {
            *left -= count;
        }
    }
}

/// A stream with a valve in each direction.
struct Valved<S> {
    inner: S,
    reads: Valve,
    writes: Valve,
}

impl<S: AsyncRead + Unpin> AsyncRead for Valved<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Never more than is promised, so that nothing has to be put back.
        let room = std::task::ready!(self.reads.poll_room(cx, buf.remaining()));
        let mut bytes = vec![0; room];
        let mut part = ReadBuf::new(&mut bytes);
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        self.reads.passed(part.filled().len());
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Valved<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = std::task::ready!(self.writes.poll_room(cx, bytes.len()));
        let count = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[..room]))?;
        self.writes.passed(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

const LENGTH: usize = 4096;

struct Setting {
    conn: Connection,
    export: Export,
    reads: Valve,
    writes: Valve,
}

async fn connect(style: ReplyStyle) -> Setting {
    let export = Export::new(1 << 20);
    export.fill(0, 1 << 20, 1);
    let (reads, writes) = (Valve::default(), Valve::default());
    let stream = Valved {
        inner: Server::new(export.clone()).connect(),
        reads: reads.clone(),
        writes: writes.clone(),
    };
    let conn = builder(style).build();
    conn.connect_stream(stream).await.unwrap();
    Setting {
        conn,
        export,
        reads,
        writes,
    }
}

#[tokio::test(start_paused = true)]
async fn k02_a_write_dropped_after_any_of_its_bytes_is_written_to_its_end() {
    for style in STYLES {
        let Setting {
            conn,
            export,
            writes,
            ..
        } = connect(style).await;
        let head = if style == ReplyStyle::Extended {
            32
        } else {
            28
        };
        for cut in 0..head + LENGTH {
            let fill = 2 + (cut % 200) as u8;
            writes.close_after(cut);
            let mut write = Box::pin(conn.write(0, vec![fill; LENGTH]).into_future());
            assert!(drop_after(1, &mut write).await.is_none());
            writes.stuck().await;
            drop(write);
            assert_eq!(conn.in_flight(), 1, "{style:?}, {cut}");
            writes.open();
            // What follows is understood, and comes after it where they overlap.
            conn.write(8, vec![1; 8]).await.unwrap();
            let data = conn.read(0, LENGTH).await.unwrap();
            assert_eq!(data[..8], [fill; 8], "{style:?}, {cut}");
            assert_eq!(data[8..16], [1; 8], "{style:?}, {cut}");
            assert!(data[16..].iter().all(|&byte| byte == fill));
            assert_eq!(conn.in_flight(), 0);
        }
        assert_eq!(export.counters().writes, 2 * (head + LENGTH) as u64);
        conn.disconnect().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn k03_a_read_dropped_after_any_byte_of_its_reply_leaves_the_stream_in_sync() {
    for style in STYLES {
        let Setting {
            conn,
            export,
            reads,
            ..
        } = connect(style).await;
        let head = match style {
            ReplyStyle::Simple => 16,
            ReplyStyle::Structured => 20 + 8,
            _ => 32 + 8,
        };
        for cut in 0..head + LENGTH {
            reads.close_after(cut);
            let mut read = Box::pin(conn.read(0, LENGTH).into_future());
            assert!(drop_after(1, &mut read).await.is_none());
            reads.stuck().await;
            drop(read);
            assert_eq!(conn.in_flight(), 1, "{style:?}, {cut}");
            reads.open();
            let data = conn.read(4096, 8).await.unwrap();
            assert_eq!(data[..], [1; 8], "{style:?}, {cut}");
            assert_eq!(conn.in_flight(), 0);
        }
        assert_eq!(export.counters().reads, 2 * (head + LENGTH) as u64);
        conn.disconnect().await.unwrap();
    }
}
