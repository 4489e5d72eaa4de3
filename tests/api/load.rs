//! Many requests at a time.

use futures::future::{join_all, try_join_all};
use nbd_client::testing::{Export, ReplyOrder, Server};
use nbd_client::wire::{Command, ReplyStyle};
use nbd_client::{Connection, Error};

use crate::support::*;

/// As many requests as this wait at once.
const THOUSANDS: u64 = 10_000;

/// All are sent in the order in which they were asked for, and never more than `bound` at once.
async fn send_thousands(style: ReplyStyle, bound: usize) {
    let (conn, mut peer) = ready_with(builder(style).max_in_flight(bound), style).await;
    let reads = (0..THOUSANDS).map(|i| conn.read(i * 64, 8).into_future());
    let all = tokio::spawn(try_join_all(reads.collect::<Vec<_>>()));
    let mut waiting = std::collections::VecDeque::new();
    for i in 0..THOUSANDS {
        let due = bound.min((THOUSANDS - i) as usize);
        while waiting.len() < due {
            waiting.push_back(peer.expect_command(Command::READ).await.unwrap().head);
        }
        if i % 500 == 0 {
            settle().await;
            assert_eq!(conn.in_flight(), due);
        }
        assert!(conn.in_flight() <= bound);
        let head = waiting.pop_front().unwrap();
        // First come, first served.
        assert_eq!(head.offset, i * 64);
        peer.send_data(&head, &i.to_be_bytes()).await.unwrap();
    }
    let answers = all.await.unwrap().unwrap();
    let mut answers = (0u64..).zip(answers);
    assert!(answers.all(|(i, data)| data[..] == i.to_be_bytes()));
    assert_eq!(conn.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn k31_w01_ten_thousand_requests_are_sent_within_the_bounds() {
    for style in STYLES {
        for bound in [16, 1024] {
            send_thousands(style, bound).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn w01_writes_to_a_server_that_does_not_read_wait_on_this_side() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder().max_in_flight_bytes(1 << 20).build();
    conn.connect_stream(server.connect_with_capacity(1000))
        .await
        .unwrap();
    server.pause();
    let writes: Vec<_> = (0..100)
        .map(|_| tokio::spawn(conn.write(0, vec![1; 64 << 10]).into_future()))
        .collect();
    server.held(16).await;
    settle().await;
    assert_eq!(conn.in_flight(), 16);
    server.resume();
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn w02_large_requests_and_replies_at_the_same_time_do_not_deadlock() {
    for style in STYLES {
        for capacity in [1000, 64 << 10] {
            let server = Server::new(Export::new(64 << 20));
            let conn = builder(style).build();
            conn.connect_stream(server.connect_with_capacity(capacity))
                .await
                .unwrap();
            let data = bytes::Bytes::from(vec![7; 256 << 10]);
            let writes = (0..32).map(|i| conn.write(i << 18, data.clone()).into_future());
            let reads = (0..32).map(|i| conn.read((32 + i) << 18, 256 << 10).into_future());
            let (writes, reads) = tokio::join!(join_all(writes), join_all(reads));
            assert!(writes.into_iter().all(|write| write.is_ok()));
            assert!(
                reads
                    .into_iter()
                    .all(|read| read.unwrap().len() == 256 << 10)
            );
        }
    }
}

#[tokio::test]
async fn r13_c44_w14_replies_in_any_order_and_mixture_are_told_apart() {
    for style in STYLES {
        for seed in 0..8 {
            let export = Export::new(1 << 20);
            for i in 0..256u64 {
                export.fill(i * 4096, 4096, i as u8);
            }
            let server = Server::builder()
                .export("", export)
                .reply_order(ReplyOrder::Random(seed))
                .read_chunk(1000)
                .reverse_chunks(seed % 2 == 0)
                .interleave_chunks(true)
                .trailing_done(seed % 3 == 0)
                .build();
            let conn = builder(style).build();
            conn.connect_stream(server.connect()).await.unwrap();
            let reads = (0..256).map(|i| conn.read(i * 4096, 4096).into_future());
            for (i, data) in join_all(reads).await.into_iter().enumerate() {
                assert!(data.unwrap().iter().all(|&byte| byte == i as u8));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn w04_requests_that_were_answered_stand_when_the_rest_never_is() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    let reads: Vec<_> = (0..10)
        .map(|i| {
            let read = conn
                .read(i * 8, 8)
                .timeout(std::time::Duration::from_secs(1));
            tokio::spawn(read.into_future())
        })
        .collect();
    for i in 0..10 {
        let request = peer.expect_command(Command::READ).await.unwrap();
        if i < 4 {
            peer.send_data(&request.head, &[1; 8]).await.unwrap();
        }
    }
    let (mut good, mut late) = (0, 0);
    for read in reads {
        match read.await.unwrap() {
            Ok(_) => good += 1,
            Err(Error::Timeout(..)) => late += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((good, late), (4, 6));
    assert!(conn.is_dead());
    assert_matches!(conn.closed().await, Error::Timeout(..));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_with_one_request_each_lose_no_wakeup() {
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::builder().max_in_flight(3).build();
    conn.connect_stream(server.connect()).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let conn = conn.clone();
            tokio::spawn(async move {
                for i in 0..2000u64 {
                    let data = (task * 10_000 + i).to_be_bytes();
                    conn.write(task * 512, data.to_vec()).await.unwrap();
                    assert_eq!(conn.read(task * 512, 8).await.unwrap()[..], data);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_request_at_a_time_loses_no_wakeup() {
    // With one in flight the caller writes by itself, side by side with the driver.
    for capacity in [20, 100, 64 << 10] {
        let server = Server::new(Export::new(1 << 20));
        let conn = Connection::new();
        conn.connect_stream(server.connect_with_capacity(capacity))
            .await
            .unwrap();
        for i in 0..3000u64 {
            if i % 3 == 0 {
                conn.write(0, vec![i as u8; 300]).await.unwrap();
            } else {
                conn.read(0, 64).await.unwrap();
            }
        }
    }
}
