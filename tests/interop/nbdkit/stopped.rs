//! A client that is stopped for longer than its deadlines, as by a paused container.

use std::future::{IntoFuture, poll_fn};
use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nbd_client::Connection;

use crate::shared::process::{again, is_alone, times};
use crate::shared::server::{Server, run};

const STOPPED: &str = "nbdkit::stopped::what_came_while_the_client_was_stopped_counts";
const LIMIT: Duration = Duration::from_millis(500);

/// Reads, one after the other, each of which takes the server a while. Says when each is sent.
async fn be_stopped() {
    let socket = std::env::var_os("NBD_TEST_SOCKET").unwrap();
    let stalls = std::env::var_os("NBD_TEST_STALLS").is_some();
    let builder = Connection::builder();
    let conn = match stalls {
        true => builder.stall_timeout(LIMIT).build(),
        false => builder.build(),
    };
    conn.connect_unix(socket).await.unwrap();
    for _ in 0..times(10) {
        let read = match stalls {
            true => conn.read(0, 512),
            false => conn.read(0, 512).timeout(LIMIT),
        };
        let mut read = read.into_future();
        let mut said = false;
        let data = poll_fn(|cx| {
            let result = Pin::new(&mut read).poll(cx);
            if !std::mem::replace(&mut said, true) {
                println!("sent");
            }
            result
        });
        data.await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_the_client_was_stopped_counts() {
    if is_alone() {
        return be_stopped().await;
    }
    for stalls in [true, false] {
        let server = Server::nbdkit(&["--filter=delay", "memory", "1M", "rdelay=200ms"]);
        let mut command = again(&[], STOPPED);
        if stalls {
            command.env("NBD_TEST_STALLS", "1");
        }
        let mut client = command
            .env("NBD_TEST_SOCKET", server.socket())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = client.id().to_string();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap) {
            if line.contains("sent") {
                run("kill", &["-STOP", &pid]);
                // How long it is stopped is what this is about.
                thread::sleep(2 * LIMIT);
                run("kill", &["-CONT", &pid]);
            }
        }
        assert!(client.wait().unwrap().success(), "stall deadline: {stalls}");
    }
}
