//! shutdown-flags, errors-multiple-disconnects.

use std::future::IntoFuture;
use std::time::Duration;

use nbd_client::{Connection, Delivery, Error};

use super::connect;

const STOP: i32 = 19;
const CONTINUE: i32 = 18;

both_runtimes!(requests_that_a_stopped_server_was_not_sent_can_be_given_up);
async fn requests_that_a_stopped_server_was_not_sent_can_be_given_up() {
    let conn = connect(Connection::builder(), &["memory", "64M"]).await;
    conn.kill_child(STOP).unwrap();
    let sent_before = conn.stats().bytes_sent;
    let write = |offset| {
        let write = conn.write(offset, vec![1; 8 << 20]);
        tokio::spawn(write.into_future())
    };
    let first = write(0);
    // More than the socket takes: the first is sent in part, and the second waits behind it.
    let is_sent = async {
        while conn.stats().bytes_sent == sent_before {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, is_sent).await.unwrap();
    let second = write(16 << 20);
    while conn.in_flight() < 2 {
        tokio::task::yield_now().await;
    }
    let ends = tokio::spawn(conn.disconnect().abandon().into_future());
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(error.delivery(), Delivery::NotSent);
    conn.kill_child(CONTINUE).unwrap();
    first.await.unwrap().unwrap();
    ends.await.unwrap().unwrap();
    assert_eq!(conn.in_flight(), 0);
    assert!(conn.is_closed());
}

// P-144. libnbd makes the second an error; here the connection is over as it should be.
both_runtimes!(disconnecting_twice_is_no_error_and_nothing_follows);
async fn disconnecting_twice_is_no_error_and_nothing_follows() {
    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    let (first, second) = tokio::join!(
        conn.disconnect().into_future(),
        conn.disconnect().into_future()
    );
    first.unwrap();
    second.unwrap();
    let error = conn.read(0, 512).await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(error.delivery(), Delivery::NotSent);
}
