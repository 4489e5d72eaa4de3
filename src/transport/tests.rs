//! What streams of both kinds have in common.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::transport::testing::alone;

/// Our end of a new Unix socket, and the other one.
fn unix_pair() -> (Transport, Transport) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    [ours, theirs]
        .map(|end| Transport::from(unix::Stream::new(end).unwrap()))
        .into()
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap());
    let (ours, theirs) = tokio::join!(ours, listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

/// Writes until it fails: TCP takes some before it knows that the peer is gone.
async fn last_error(writer: &mut (impl AsyncWrite + Unpin), slices: usize) -> io::Error {
    loop {
        let bufs = vec![IoSlice::new(b"x"); slices];
        let written = match slices {
            1 => writer.write(b"x").await,
            _ => writer.write_vectored(&bufs).await,
        };
        match written {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return error,
        }
    }
}

/// Whether SIGPIPE waits for this thread.
fn signalled() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = u64::from_str_radix(pending.unwrap().trim(), 16).unwrap();
    pending & 1 << 12 != 0
}

#[test]
fn k47_lost_peer_is_an_error_and_no_signal() {
    let name = "transport::tests::k47_lost_peer_is_an_error_and_no_signal";
    // Signals that are blocked are kept even though the runtime of Rust ignores this one.
    if !alone(name, &["--block-signal=PIPE"]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for slices in [1, 2] {
            let (tcp, unix) = (tcp::Stream::new(tcp_pair().await.0), unix_pair().0);
            for error in [
                last_error(&mut Transport::from(tcp).write, slices).await,
                last_error(&mut { unix }.write, slices).await,
            ] {
                assert_eq!(error.raw_os_error(), Some(32));
            }
        }
        assert!(!signalled());

        // So it does not go without saying.
        let mut plain = tokio::net::UnixStream::pair().unwrap().0;
        last_error(&mut plain, 2).await;
        assert!(signalled());
    });
}

#[tokio::test]
async fn slices_beyond_the_limit_are_left_for_later() {
    let (ours, theirs) = unix_pair();
    let (mut ours, mut theirs) = (ours.join(), theirs.read);
    assert!(ours.is_write_vectored());
    let bufs = vec![IoSlice::new(b"abc"); 1025];
    let sent = ours.write_vectored(&bufs).await.unwrap();
    assert_eq!(sent, 1024 * 3);
    drop(ours);
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"abc".repeat(1024));
}

#[tokio::test]
async fn full_socket_is_waited_for_and_closed_by_halves() {
    let data = (0..=255).cycle().take(4_000_000).collect::<Vec<u8>>();
    let (tcp, tcp_peer) = tcp_pair().await;
    let tcp = [tcp, tcp_peer].map(|end| Transport::from(tcp::Stream::new(end)));
    let pairs = [tcp.into(), unix_pair()];
    for (ours, theirs) in pairs {
        let mut theirs = theirs.join();
        let Transport {
            read: mut reader,
            write: mut writer,
            ..
        } = ours;
        let mut received = Vec::new();
        let writing = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let reading = theirs.read_to_end(&mut received);
        tokio::join!(writing, reading).1.unwrap();
        assert!(received == data);

        theirs.write_all(b"late").await.unwrap();
        drop(theirs);
        let mut late = String::new();
        reader.read_to_string(&mut late).await.unwrap();
        assert_eq!(late, "late");
    }
}
