//! Option mode.

use nbd_client::testing::Peer;
use nbd_client::wire::{HandshakeFlags, OptionReplyType, OptionType, option::OptionReply};
use nbd_client::{Connection, Error, State};
use std::time::Duration;
use tokio::time::Instant;

use crate::support::*;

/// A connection in option mode without any options sent, and its peer.
pub(crate) async fn negotiating() -> (Connection, Peer) {
    negotiating_by(Way::Memory).await
}

pub(crate) async fn negotiating_by(way: Way) -> (Connection, Peer) {
    let builder = Connection::builder().opt_mode(true);
    let (conn, mut peer, connecting) = way.connect(builder.structured_replies(false));
    let (connected, greeted) = tokio::join!(connecting, peer.greet(HandshakeFlags::all()));
    greeted.unwrap();
    connected.unwrap();
    assert_eq!(conn.state(), State::Negotiating);
    (conn, peer)
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_disconnect_holds_although_the_server_does_not_answer_abort() {
    let limit = Duration::from_millis(10);
    for aborts in [false, true] {
        let (conn, mut peer) = negotiating().await;
        let aborting = aborts.then(|| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.opt_abort().await })
        });
        if aborts {
            let option = peer.expect_option().await.unwrap().option;
            assert_eq!(option, OptionType::ABORT);
        }
        let start = Instant::now();
        let _ = conn.disconnect().timeout(limit).await;
        assert_eq!(start.elapsed(), limit);
        if let Some(aborting) = aborting {
            aborting.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_option_that_waits_while_an_export_is_entered_fails() {
    let (conn, mut peer) = negotiating().await;
    let script = async {
        let go = peer.expect_option().await.unwrap();
        settle().await;
        peer.send_export(go.option, INFO).await.unwrap();
    };
    let (go, list, info, ()) =
        tokio::join!(conn.opt_go(), conn.opt_list(), conn.opt_info(), script);
    go.unwrap();
    assert_matches!(list, Err(Error::Invalid(_)));
    assert_matches!(info, Err(Error::Invalid(_)));
}

#[tokio::test(start_paused = true)]
async fn an_option_that_waits_while_the_connection_dies_gets_the_cause() {
    let (conn, mut peer) = negotiating().await;
    let script = async {
        peer.expect_option().await.unwrap();
        settle().await;
        peer.send_bytes(&[0; 20]).await.unwrap();
    };
    let (list, info, ()) = tokio::join!(conn.opt_list(), conn.opt_info(), script);
    violation(list);
    violation(info);
    assert_eq!(conn.state(), State::Dead);
}

#[tokio::test(start_paused = true)]
async fn o15_a_server_that_does_not_answer_abort_is_left_at_the_shutdown_deadline() {
    for disconnects in [false, true] {
        let (conn, peer) = negotiating().await;
        let start = Instant::now();
        if disconnects {
            conn.disconnect().await.unwrap();
        } else {
            conn.opt_abort().await.unwrap();
        }
        assert!(start.elapsed() <= Duration::from_secs(5));
        assert_eq!(conn.state(), State::Closed);
        drop(peer);
    }
}

#[tokio::test(start_paused = true)]
async fn o15_a_refusal_is_told_even_if_abort_is_not_answered() {
    let (mut peer, stream) = Peer::pair();
    let conn = Connection::builder().structured_replies(false).build();
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let go = peer.expect_option().await.unwrap();
        let refusal = OptionReply::error(go.option, OptionReplyType::ERR_UNKNOWN, "who?");
        peer.send_option_reply(refusal).await.unwrap();
        let abort = peer.expect_option().await.unwrap();
        assert_eq!(abort.option, OptionType::ABORT);
    };
    let (connected, ()) = tokio::join!(conn.connect_stream(stream), script);
    assert_matches!(connected, Err(Error::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn k06_dropping_the_last_handle_ends_an_option_that_is_not_answered() {
    let (conn, mut peer) = negotiating().await;
    let list = tokio::spawn(async move { conn.opt_list().await });
    peer.expect_option().await.unwrap();
    list.abort();
    let start = Instant::now();
    peer.expect_end().await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_ends_an_option_that_is_not_answered() {
    let (conn, mut peer) = negotiating().await;
    let list = tokio::spawn({
        let conn = conn.clone();
        async move { conn.opt_list().await }
    });
    peer.expect_option().await.unwrap();
    let start = Instant::now();
    conn.disconnect().await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 0);
    assert_eq!(conn.state(), State::Closed);
    assert_matches!(list.await.unwrap(), Err(Error::Closed(_)));
}
