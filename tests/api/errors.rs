//! What an error says.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno};
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
