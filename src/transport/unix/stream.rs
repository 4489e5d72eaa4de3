//! A connected Unix socket, which wakes its task for nothing but what the task waits for.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::platform;
use crate::transport::{Rouse, Transport};

/// The duplicates that rouse threads are numbered lower, and lower than half of what the process may
/// open: a program that has so many descriptors open needs them for something better.
const SPARE: RawFd = 256;

/// A connected Unix socket, or one of another family for which the same calls do.
///
/// Tokio's `UnixStream` is watched for room all the time, and a Unix socket reports room whenever
/// its peer has taken something out. With one request in flight, that wakes the thread once for each
/// request, before the reply comes. This socket is watched for room only while it is full, or while
/// its [`Rouse`] asks for just that.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The socket, watched for bytes to read. Tokio's name for it says how it is used most; it
    /// reads with read(2), which is the same for a socket as for a pipe.
    socket: pipe::Receiver,
    /// A duplicate of the descriptor, watched for room, from when the socket was full until a
    /// write finds room for everything.
    room: Option<UnixStream>,
    rouse: Rouse,
    /// Another duplicate, while the thread is to be roused, which wakes it whenever the peer has taken
    /// something out.
    rousing: Option<pipe::Sender>,
}

impl Stream {
    /// Has Tokio watch a connected socket. Must be called inside a Tokio runtime.
    pub(crate) fn new(socket: net::UnixStream) -> io::Result<Self> {
        platform::silence(&socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: pipe::Receiver::from_owned_fd_unchecked(socket.into())?,
            room: None,
            rouse: Rouse::default(),
            rousing: None,
        })
    }

    /// Has Tokio watch for room from now on.
    fn watch_for_room(&mut self) -> io::Result<()> {
        let duplicate = self.socket.as_fd().try_clone_to_owned()?;
        self.room = Some(UnixStream::from_std(duplicate.into())?);
        Ok(())
    }

    /// Has its thread roused from now on, or no longer, as is asked for.
    fn follow_rouse(&mut self) {
        if self.rouse.is_wanted() == self.rousing.is_some() {
            return;
        }
        self.rousing = if self.rouse.is_wanted() {
            self.duplicate_to_spare().ok().flatten()
        } else {
            None
        };
        if self.rouse.is_wanted() && self.rousing.is_none() {
            self.rouse.refuse();
        }
    }

    fn duplicate_to_spare(&self) -> io::Result<Option<pipe::Sender>> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let duplicate = self.socket.as_fd().try_clone_to_owned()?;
        let number = duplicate.as_raw_fd();
        if number >= SPARE || u64::try_from(number).is_ok_and(|number| number >= limit / 2) {
            return Ok(None);
        }
        pipe::Sender::from_owned_fd_unchecked(duplicate).map(Some)
    }
}

impl From<Stream> for Transport {
    fn from(stream: Stream) -> Self {
        let rouse = Some(stream.rouse.clone());
        let (read, write) = tokio::io::split(stream);
        Self {
            read: Box::new(read),
            write: Box::new(write),
            ends: None,
            rouse,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.follow_rouse();
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.follow_rouse();
        loop {
            let Some(room) = &this.room else {
                match platform::send(&this.socket, bufs) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if this.watch_for_room().is_err() {
                            // A descriptor that rouses is of more use here.
                            if this.rousing.take().is_some() {
                                this.rouse.refuse();
                                continue;
                            }
                            // There is no descriptor left for that: look again and again.
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    sent => return Poll::Ready(sent),
                }
            };
            ready!(room.poll_write_ready(cx))?;
            match room.try_io(Interest::WRITABLE, || platform::send(room, bufs)) {
                // The socket is now known to be full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    let length: usize = bufs.iter().map(|buf| buf.len()).sum();
                    if sent.as_ref().is_ok_and(|&sent| sent == length) {
                        this.room = None;
                    }
                    return Poll::Ready(sent);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match shutdown(&self.socket, Shutdown::Write) {
            // The peer has gone.
            Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            result => Poll::Ready(Ok(result?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};

    use rustix::process::{Rlimit, setrlimit};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::testing::alone;

    const EPOLLOUT: u32 = 4;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    fn pair() -> (Stream, net::UnixStream) {
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        (Stream::new(ours).unwrap(), theirs)
    }

    /// How many descriptors of this process are watched for room.
    fn watched_for_room() -> usize {
        let of = |info: &str| {
            let masks = info.lines().filter(|line| line.starts_with("tfd:"));
            let masks = masks.map(|line| line.split_whitespace().nth(3).unwrap().to_owned());
            let masks = masks.map(|mask| u32::from_str_radix(&mask, 16).unwrap());
            masks.filter(|mask| mask & EPOLLOUT != 0).count()
        };
        let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
        // Tokio's own descriptor is counted several times: it has duplicates.
        infos.map(|info| of(&info)).max().unwrap()
    }

    /// Writes until the socket is full, and returns how much it took.
    async fn fill(stream: &mut Stream) -> usize {
        let block = [7; 4096];
        let mut written = 0;
        while let Some(result) = futures::FutureExt::now_or_never(stream.write(&block)) {
            written += result.unwrap();
        }
        written
    }

    #[test]
    fn room_is_watched_for_only_while_the_socket_is_full() {
        let name =
            "transport::unix::stream::tests::room_is_watched_for_only_while_the_socket_is_full";
        if !alone(name, &[]) {
            return;
        }
        runtime().block_on(async {
            let (mut ours, mut theirs) = pair();
            let always = watched_for_room();
            ours.write_all(b"request").await.unwrap();
            theirs.read_exact(&mut [0; 7]).unwrap();
            theirs.write_all(b"reply").unwrap();
            ours.read_exact(&mut [0; 5]).await.unwrap();
            assert_eq!(watched_for_room(), always);

            for _ in 0..2 {
                let written = fill(&mut ours).await;
                assert_eq!(watched_for_room(), always + 1);
                theirs.read_exact(&mut vec![0; written]).unwrap();
                ours.write_all(b"more").await.unwrap();
                assert_eq!(watched_for_room(), always);
                theirs.read_exact(&mut [0; 4]).unwrap();
            }
        });
    }

    #[test]
    fn its_thread_is_roused_while_that_is_asked_for() {
        let name = "transport::unix::stream::tests::its_thread_is_roused_while_that_is_asked_for";
        if !alone(name, &[]) {
            return;
        }
        runtime().block_on(async {
            let (mut ours, _theirs) = pair();
            let rouse = ours.rouse.clone();
            let always = watched_for_room();
            for is_wanted in [true, true, false, true] {
                rouse.set(is_wanted);
                ours.write_all(b"request").await.unwrap();
                assert_eq!(watched_for_room(), always + usize::from(is_wanted));
            }
            fill(&mut ours).await;
            assert_eq!(watched_for_room(), always + 2);
            drop(ours);
            assert_eq!(watched_for_room(), always);

            let (mut ours, _theirs) = pair();
            let _many: Vec<_> = (0..SPARE).map(|_| fs::File::open("/dev/null")).collect();
            ours.rouse.set(true);
            ours.write_all(b"request").await.unwrap();
            assert_eq!(watched_for_room(), always);
            assert!(!ours.rouse.is_possible(), "not tried again");
        });
    }

    #[test]
    fn a_full_socket_needs_the_descriptor_more() {
        let name = "transport::unix::stream::tests::a_full_socket_needs_the_descriptor_more";
        if !alone(name, &[]) {
            return;
        }
        runtime().block_on(async {
            let (mut ours, _theirs) = pair();
            let always = watched_for_room();
            ours.rouse.set(true);
            ours.write_all(b"request").await.unwrap();
            let number = ours.rousing.as_ref().unwrap().as_raw_fd();
            let limit = Rlimit {
                current: Some(u64::try_from(number).unwrap() + 1),
                ..getrlimit(Resource::Nofile)
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let _last: Vec<_> =
                std::iter::from_fn(|| ours.socket.as_fd().try_clone_to_owned().ok()).collect();
            fill(&mut ours).await;
            assert!(ours.room.is_some() && ours.rousing.is_none());
            setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: limit.maximum,
                    ..limit
                },
            )
            .unwrap();
            assert_eq!(watched_for_room(), always + 1);
        });
    }

    #[test]
    fn full_socket_is_waited_for_without_a_descriptor_to_spare() {
        let name = "transport::unix::stream::tests::full_socket_is_waited_for_without_a_descriptor_to_spare";
        if !alone(name, &[]) {
            return;
        }
        runtime().block_on(async {
            let (mut ours, mut theirs) = pair();
            let limit = Rlimit {
                current: Some(0),
                ..getrlimit(Resource::Nofile)
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            ours.rouse.set(true);
            let written = fill(&mut ours).await;
            assert!(!ours.rouse.is_possible());
            let reading = std::thread::spawn(move || {
                theirs.read_exact(&mut vec![0; written]).unwrap();
                theirs
            });
            ours.write_all(b"x").await.unwrap();
            reading.join().unwrap().read_exact(&mut [0; 1]).unwrap();
        });
    }
}
