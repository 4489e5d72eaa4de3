//! Requests of several messages that have begun when the connection is to end.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Delivery, Error, Phase, State};
use tokio::time::Instant;

use crate::support::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The length of a request that has messages to come when it has begun.
const LONG: usize = 5 << 20;

/// What a server offers that has no `FUA`, no fast zeroes, and small messages.
fn poor() -> Export {
    Export::new(1 << 40)
        .flags(all_flags() - TransmissionFlags::SEND_FUA)
        .block_sizes(512, 4096, 64 << 10)
        .fast_zero(false)
        .log_requests(1000)
}

type Act = fn(&Connection) -> BoxFuture<'static, nbd_client::Result<()>>;

/// Every way to make a request of several messages, and how many it has at least.
const ACTS: [(usize, Act); 9] = [
    (80, |conn| long_write(conn).into_future().boxed()),
    (80, |conn| {
        let read = conn.read(0, LONG).into_future();
        read.map(|read| read.map(drop)).boxed()
    }),
    (80, |conn| conn.cache(0, LONG as u64).into_future().boxed()),
    (10, |conn| conn.trim(0, 40 * GIB).into_future().boxed()),
    (2, |conn| {
        conn.write(0, vec![1; 512]).fua().into_future().boxed()
    }),
    (81, |conn| long_write(conn).fua().into_future().boxed()),
    (82, |conn| {
        let write = conn.write(1, vec![1; LONG]).unaligned();
        write.fua().into_future().boxed()
    }),
    (5, |conn| {
        let zeroes = conn.write_zeroes(0, MIB).fast_zero().or_write();
        zeroes.into_future().boxed()
    }),
    (9, |conn| {
        let zeroes = conn.write_zeroes(1, MIB).fast_zero().or_write();
        zeroes.unaligned().into_future().boxed()
    }),
];

fn long_write(conn: &Connection) -> nbd_client::Request<nbd_client::op::Write> {
    conn.write(0, vec![1; LONG])
}

async fn connect(requests: usize) -> (Connection, Server, Export) {
    let export = poor();
    let server = Server::new(export.clone());
    let conn = builder(ReplyStyle::Simple)
        .emulate_fua(true)
        .max_in_flight(requests)
        .build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, server, export)
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: nbd_client::Result<T>) {
    let error = result.unwrap_err();
    assert_matches!(&error, Error::Closed(_));
    assert_eq!(error.delivery(), Delivery::NotSent);
}

both_runtimes!(w12_a_request_that_has_begun_is_sent_to_its_end);
async fn w12_a_request_that_has_begun_is_sent_to_its_end() {
    for requests in [2, 64] {
        for (messages, act) in ACTS {
            let (conn, server, export) = connect(requests).await;
            server.pause();
            let begun = tokio::spawn(act(&conn));
            within(server.held(1)).await;
            // It may wait in line before messages of the request.
            let mut other = conn.read(0, 512).into_future();
            assert!(drop_after(1, &mut other).await.is_none());
            let mut ends = conn.disconnect().into_future();
            assert!(drop_after(1, &mut ends).await.is_none());
            is_refused(conn.flush().await);
            is_refused(act(&conn).await);
            server.resume();
            within(begun).await.unwrap().unwrap();
            match within(other).await {
                Ok(data) => assert_eq!(data.len(), 512),
                refused => is_refused(refused),
            }
            within(ends).await.unwrap();
            assert_eq!(conn.state(), State::Closed);
            assert!(export.log().len() >= messages, "{}", export.log().len());
            assert_eq!(export.counters().disconnects, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_does_not_go_on_is_waited_for_as_long_as_a_server() {
    let (conn, server, _) = connect(64).await;
    let start = Instant::now();
    let write = long_write(&conn).submit();
    within(conn.disconnect().into_future()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let error = write.await.unwrap_err();
    assert_matches!(&error, Error::Closed(_));
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    within(server.connected(0)).await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_caller_begins_anew_with_each_message() {
    let (conn, server, _) = connect(64).await;
    let start = Instant::now();
    // Each poll sends 4 MiB.
    let mut write = conn.write(0, vec![1; 8 * LONG]).into_future();
    assert!(drop_after(1, &mut write).await.is_none());
    let mut ends = Box::pin(conn.disconnect().into_future());
    assert!(drop_after(1, &mut ends).await.is_none());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(drop_after(1, &mut write).await.is_none());
    }
    assert!(conn.is_ready());
    within(ends).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3 + 3 + 3 + 5));
    within(server.connected(0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_whoever_does_not_go_on() {
    let (conn, server, _) = connect(64).await;
    let start = Instant::now();
    let write = long_write(&conn).submit();
    let limit = Duration::from_secs(2);
    let ended = within(conn.disconnect().timeout(limit).into_future()).await;
    assert_matches!(ended, Err(Error::Timeout(Phase::Shutdown, _)));
    assert_eq!(start.elapsed(), limit);
    assert_matches!(write.await, Err(Error::Timeout(Phase::Shutdown, _)));
    within(server.connected(0)).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_no_more_to_send_is_not_waited_for() {
    for is_dropped in [false, true] {
        let (conn, server, _) = connect(64).await;
        let start = Instant::now();
        // All messages of the one are under way; of the other, there are more to come.
        let length = if is_dropped { LONG } else { LONG / 5 };
        let write = conn.write(0, vec![1; length]).submit();
        let ends = tokio::spawn(conn.disconnect().into_future());
        settle().await;
        let write = (!is_dropped).then_some(write);
        within(ends).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        if let Some(write) = write {
            write.await.unwrap();
        }
        within(server.connected(0)).await;
    }
}

#[tokio::test]
async fn abandoning_gives_up_the_messages_to_come() {
    let (conn, server, export) = connect(64).await;
    server.pause();
    let write = tokio::spawn(long_write(&conn).into_future());
    within(server.held(1)).await;
    let mut ends = conn.disconnect().abandon().into_future();
    assert!(drop_after(1, &mut ends).await.is_none());
    server.resume();
    let error = within(write).await.unwrap().unwrap_err();
    assert_matches!(&error, Error::Closed(_));
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    within(ends).await.unwrap();
    assert!(export.log().len() < 80);
}
