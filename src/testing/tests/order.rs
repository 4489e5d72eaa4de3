//! When replies leave, and in which order.

use std::time::Duration;

use super::*;
use crate::testing::{Export, ReplyOrder};

const NONE: CommandFlags = CommandFlags::empty();

/// Sends `count` reads of one byte each.
async fn send_reads(client: &mut Client, count: u64) -> Vec<RequestHead> {
    let mut sent = Vec::new();
    for offset in 0..count {
        sent.push(client.send(Command::READ, NONE, offset, 1).await);
    }
    sent
}

/// Receives `count` pieces; returns their cookies in order.
async fn cookies(client: &mut Client, sent: &[RequestHead], count: usize) -> Vec<u64> {
    let mut cookies = Vec::new();
    for _ in 0..count {
        cookies.push(client.piece(sent, &mut Answer::default()).await.0);
    }
    cookies
}

#[tokio::test]
async fn a_batch_is_answered_in_order() {
    for style in [
        ReplyStyle::Simple,
        ReplyStyle::Structured,
        ReplyStyle::Extended,
    ] {
        let server = Server::new(Export::from_contents([1; 100]));
        let mut client = Client::ready(&server, style, &[]).await;
        let sent = send_reads(&mut client, 100).await;
        let got = cookies(&mut client, &sent, 100).await;
        assert_eq!(got, (1..=100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn paused_replies_are_held_back_and_released_by_number() {
    let disk = Export::new(100);
    let server = Server::new(disk.clone());
    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    server.pause();
    let mut sent = send_reads(&mut client, 3).await;
    let write = client.send_with(Command::WRITE, NONE, 7, 1, b"w").await;
    sent.push(write);
    server.held(4).await;
    // Carried out, but not answered.
    assert_eq!(disk.contents(7, 1), b"w");
    assert!(futures::FutureExt::now_or_never(client.more()).is_none());
    server.release(2);
    assert_eq!(cookies(&mut client, &sent, 2).await, [1, 2]);
    assert!(futures::FutureExt::now_or_never(client.more()).is_none());
    server.resume();
    assert_eq!(cookies(&mut client, &sent, 2).await, [3, 4]);
    assert_eq!(client.read(7, 1).await.data(), b"w");
}

#[tokio::test]
async fn replies_that_are_ready_together_leave_in_the_chosen_order() {
    let shuffled = async |order| {
        let server = Server::builder()
            .export("", Export::new(100))
            .reply_order(order)
            .build();
        let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
        server.pause();
        let sent = send_reads(&mut client, 20).await;
        server.held(20).await;
        server.resume();
        cookies(&mut client, &sent, 20).await
    };
    let in_order: Vec<_> = (1..=20).collect();
    assert_eq!(shuffled(ReplyOrder::InOrder).await, in_order);
    let mut reversed = shuffled(ReplyOrder::Reversed).await;
    reversed.reverse();
    assert_eq!(reversed, in_order);
    let mut random = shuffled(ReplyOrder::Random(1)).await;
    assert_eq!(random, shuffled(ReplyOrder::Random(1)).await);
    assert_ne!(random, shuffled(ReplyOrder::Random(2)).await);
    assert_ne!(random, in_order);
    random.sort_unstable();
    assert_eq!(random, in_order);
}

// P-131: replies and chunks come in any order.
#[tokio::test]
async fn chunks_of_several_replies_are_mixed_on_demand() {
    let server = Server::builder()
        .export("", Export::from_contents([1; 100]))
        .read_chunk(10)
        .interleave_chunks(true)
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    server.pause();
    let a = client.send(Command::READ, NONE, 0, 30).await;
    let b = client.send(Command::READ, NONE, 50, 20).await;
    server.held(2).await;
    server.resume();
    assert_eq!(cookies(&mut client, &[a, b], 5).await, [1, 2, 1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn latency_delays_all_requests_at_the_same_time() {
    let server = Server::builder()
        .export("", Export::new(100))
        .latency(Duration::from_secs(10))
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    let start = tokio::time::Instant::now();
    let sent = send_reads(&mut client, 50).await;
    cookies(&mut client, &sent, 50).await;
    let took = start.elapsed().as_secs();
    assert!((10..12).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_concurrency_makes_requests_wait_their_turn() {
    let server = Server::builder()
        .export("", Export::new(100))
        .latency_with(|head| Duration::from_secs(10 + head.offset))
        .max_concurrent(2)
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    let start = tokio::time::Instant::now();
    let sent = send_reads(&mut client, 4).await;
    assert_eq!(cookies(&mut client, &sent, 4).await, [1, 2, 3, 4]);
    let took = start.elapsed().as_secs();
    // 0 → 10 → 22 and 0 → 11 → 24.
    assert!((24..26).contains(&took), "{took}");
}

#[tokio::test]
async fn a_client_that_writes_everything_before_it_reads_is_served() {
    let disk = Export::new(64 << 20);
    disk.fill(0, 64 << 20, 5);
    let server = Server::new(disk.clone());
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    // Far more than the stream holds, in both directions.
    let data = vec![9; 1 << 20];
    let mut sent = Vec::new();
    let sending = async {
        for i in 0..20 {
            sent.push(client.send(Command::READ, NONE, i << 20, 1 << 20).await);
            let (at, length) = ((32 + i) << 20, 1 << 20);
            let write = client.send_with(Command::WRITE, NONE, at, length, &data);
            sent.push(write.await);
        }
    };
    let sent_all = tokio::time::timeout(Duration::from_secs(60), sending).await;
    assert!(sent_all.is_ok(), "the server stopped reading");
    let mut answer = Answer::default();
    for _ in 0..sent.len() {
        client.piece(&sent, &mut answer).await;
    }
    assert!(answer.data() == vec![5; 20 << 20]);
    assert!(disk.contents(32 << 20, 20 << 20).iter().all(|b| *b == 9));
}

#[tokio::test]
async fn a_goodbye_is_honoured_after_the_replies_before_it() {
    let server = Server::new(Export::new(100));
    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    server.pause();
    let sent = send_reads(&mut client, 2).await;
    client.send(Command::DISC, NONE, 0, 0).await;
    server.held(2).await;
    server.resume();
    assert_eq!(cookies(&mut client, &sent, 2).await, [1, 2]);
    assert!(client.is_closed().await);
    server.connected(0).await;
}

#[tokio::test]
async fn hanging_up_loses_replies_and_closes() {
    let server = Server::builder()
        .export("", Export::new(100))
        .hang_up_on(|head| head.offset == 66)
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    client.read(0, 1).await;
    client.send(Command::READ, NONE, 66, 1).await;
    assert!(client.is_closed().await);

    let mut client = Client::ready(&server, ReplyStyle::Simple, &[]).await;
    server.pause();
    client.send(Command::READ, NONE, 0, 1).await;
    server.held(1).await;
    server.hang_up();
    assert!(client.is_closed().await);
    server.connected(0).await;
    server.resume();
    // New connections are served.
    Client::ready(&server, ReplyStyle::Simple, &[])
        .await
        .read(0, 1)
        .await;
}

#[tokio::test]
async fn broken_and_cut_requests_end_the_service_with_an_error() {
    for (bytes, broken) in [(&[0u8; 28][..], true), (&[0x25, 0x60], true), (&[], false)] {
        let server = Server::builder()
            .export("", Export::new(9))
            .oldstyle(true)
            .build();
        let (mut client, far) = tokio::io::duplex(1000);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(far).await }
        });
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let ended = serving.await.unwrap();
        assert_eq!(ended.is_err(), broken, "{bytes:?}");
    }
}
