//! What an error says.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, ReplyStyle};
use nbd_client::{Error, RequestError};

use crate::support::*;

const WATCHDOG: Duration = Duration::from_secs(300);

fn request_error<T: std::fmt::Debug>(result: Result<T, Error>) -> RequestError {
    match result {
        Err(Error::Request(error)) => error,
        other => panic!("not failed on the server: {other:?}"),
    }
}

/// A server that takes 256 KiB in one message, and on which the second MiB is broken.
fn broken() -> Server {
    let error = |head: &nbd_client::wire::request::RequestHead| {
        let is_broken = head.offset >= 1 << 20 && head.command != Command::FLUSH;
        is_broken.then(|| (Errno(117), "broken".to_owned()))
    };
    let export = Export::new(2 << 20).block_sizes(512, 4096, 256 << 10);
    let builder = Server::builder().fail_with(error);
    builder.export("", export).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_fail_are_told_apart() {
    for style in STYLES {
        let server = broken();
        let conn = builder(style).build();
        conn.connect_stream(server.connect()).await.unwrap();
        let length = |i: u64| 512 * (1 + i % 3);
        let reads = (0..8).map(|i| {
            conn.read(i << 18, length(i) as usize)
                .timeout(WATCHDOG)
                .into_future()
        });
        let results = join_all(reads).await;
        let mut texts = HashSet::new();
        for (i, result) in (0..8).zip(results) {
            if i < 4 {
                result.unwrap();
                continue;
            }
            let error = request_error(result);
            assert_eq!(error.command(), Command::READ);
            assert_eq!((error.offset(), error.length()), (i << 18, length(i)));
            let text = Error::Request(error).to_string();
            let (offset, length) = (i << 18, length(i));
            assert!(
                text.starts_with(&format!("READ of {length} bytes at offset {offset} ")),
                "{text}"
            );
            assert!(text.contains("error 117"), "{text}");
            texts.insert(text);
        }
        assert_eq!(texts.len(), 4, "{texts:?}");
        let error = request_error(conn.write_zeroes(1 << 20, 4096).await);
        assert_eq!(error.command(), Command::WRITE_ZEROES);
        assert_eq!((error.offset(), error.length()), (1 << 20, 4096));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_request_in_several_messages_the_error_names_the_one_that_failed() {
    for style in STYLES {
        let server = broken();
        let conn = builder(style).build();
        conn.connect_stream(server.connect()).await.unwrap();
        // The last of four messages.
        let whole = conn.read(256 << 10, 1 << 20).timeout(WATCHDOG);
        let error = request_error(whole.await);
        assert_eq!((error.offset(), error.length()), (1 << 20, 256 << 10));
    }
}

both_runtimes!(requests_of_a_lost_connection_are_told_apart);
async fn requests_of_a_lost_connection_are_told_apart() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let reads = (1..4).map(|i| conn.read(512 * i, 512).into_future());
        let write = conn.write(8192, vec![1; 1024]).into_future();
        let script = async {
            for _ in 0..4 {
                peer.expect_request().await.unwrap();
            }
            drop(peer);
        };
        let all = async { tokio::join!(join_all(reads), write, script) };
        let (reads, write, ()) = tokio::time::timeout(WATCHDOG, all).await.unwrap();
        let mut errors: Vec<_> = reads.into_iter().map(Result::unwrap_err).collect();
        errors.push(write.unwrap_err());
        if style != ReplyStyle::Simple {
            let chunk = conn.read_structured(4096, 512).next().await.unwrap();
            errors.push(chunk.unwrap_err());
        }
        let expected = [
            (Command::READ, 512, 512),
            (Command::READ, 1024, 512),
            (Command::READ, 1536, 512),
            (Command::WRITE, 8192, 1024),
            (Command::READ, 4096, 512),
        ];
        for (error, (command, offset, length)) in errors.iter().zip(expected) {
            let request = error.request().unwrap();
            assert_eq!((request.command(), request.offset()), (command, offset));
            assert_eq!(request.length(), length);
            assert_eq!(
                error.to_string(),
                format!(
                    "{command} of {length} bytes at offset {offset} failed: the server closed the \
                     connection"
                )
            );
        }
        assert_eq!(conn.closed().await.request(), None);
    }
}
