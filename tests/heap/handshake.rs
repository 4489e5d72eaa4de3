//! Floods of answers to options.

use bytes::{BufMut, BytesMut};
use nbd_client::wire::option::OptionReply;
use nbd_client::wire::{OptionReplyType, OptionType, ProtocolError, ReplyStyle};
use nbd_client::{Connection, Error, Limits, Result};

use crate::meter::*;
use crate::server::*;

/// The most that answers can come to which an honest server might give.
const LISTS: usize = 16 * MIB;

/// Asks for an option, which is answered with these again and again, and never ends; says which
/// violation that is, with at most so many bytes kept.
fn flood<T: std::fmt::Debug>(
    limits: Limits,
    replies: &[OptionReply],
    most: usize,
    option: impl AsyncFnOnce(&Connection) -> Result<T>,
) -> ProtocolError {
    let (server, stream) = Server::new(ReplyStyle::Simple);
    let replies = encode(replies);
    let conn = Connection::builder()
        .structured_replies(false)
        .opt_mode(true)
        .limits(limits)
        .build();
    let meter = Meter::start();
    let thread = server.spawn(move |mut server| {
        server.greet();
        server.option();
        server.flood(&replies);
    });
    let result = run(async {
        conn.connect_socket(stream).await.unwrap();
        option(&conn).await
    });
    meter.assert_peak(most);
    drop(conn);
    thread.join().unwrap();
    match result {
        Err(Error::Protocol(violation, _)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

fn list(limits: Limits, name: usize, most: usize) {
    let export = OptionReply::server(&"n".repeat(name), &"d".repeat(name));
    let flooded = flood(limits, &[export], most, async |conn| conn.opt_list().await);
    assert_eq!(flooded, ProtocolError::TooManyReplies(OptionType::LIST));
}

#[test]
fn o12_endless_lists_take_no_more_than_long_ones() {
    let _turn = turn();
    for name in [0, 10, 400, 4096] {
        list(Limits::default(), name, LISTS);
    }
}

#[test]
fn o12_endless_lists_take_as_much_as_they_are_let() {
    let _turn = turn();
    let mut limits = Limits::default();
    (limits.listed_exports, limits.listed_bytes) = (1000, 64 << 10);
    for name in [0, 10, 400, 4096] {
        list(limits, name, SLACK);
    }
}

fn contexts(limits: Limits, leaf: usize, most: usize) {
    let option = OptionType::LIST_META_CONTEXT;
    let name = format!("x:{}", "y".repeat(leaf));
    let context = OptionReply::meta_context(option, 1, &name);
    let list = async |conn: &Connection| conn.opt_list_meta_context(["x:"]).await;
    let flooded = flood(limits, &[context], most, list);
    assert_eq!(flooded, ProtocolError::TooManyReplies(option));
}

#[test]
fn m07_endless_contexts_take_no_more_than_many() {
    let _turn = turn();
    contexts(Limits::default(), 10, SLACK);
    contexts(Limits::default(), 4094, LISTS);
    let mut limits = Limits::default();
    limits.contexts = 16;
    contexts(limits, 4094, SLACK);
}

/// A piece of information of a kind that nobody knows.
fn unknown(length: usize) -> OptionReply {
    let mut payload = BytesMut::new();
    payload.put_u16(77);
    payload.resize(length, 0);
    OptionReply {
        option: OptionType::GO,
        reply: OptionReplyType::INFO,
        payload: payload.freeze(),
    }
}

#[test]
fn o12_endless_information_is_not_kept() {
    let _turn = turn();
    for length in [2, 100, 4098, 64 << 10] {
        let limits = Limits::default();
        let flooded = flood(limits, &[unknown(length)], SLACK, async |conn| {
            conn.opt_go().await
        });
        assert_eq!(flooded, ProtocolError::TooManyReplies(OptionType::GO));
    }
}

#[test]
fn o07_an_answer_that_is_said_to_be_huge_takes_nothing() {
    let _turn = turn();
    for reply in [0, 1, 2, 3, 4, 77, 1 << 31 | 1].map(OptionReplyType) {
        let mut lie = OptionReply::ack(OptionType::GO);
        lie.reply = reply;
        let mut bytes = encode(&[lie]);
        bytes[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        let (server, stream) = Server::new(ReplyStyle::Simple);
        let conn = Connection::builder().structured_replies(false).build();
        let meter = Meter::start();
        let thread = server.spawn(move |mut server| {
            server.greet();
            server.option();
            server.send(&bytes);
            server.wait();
        });
        let result = run(conn.connect_socket(stream));
        meter.assert_peak(64 * KIB);
        thread.join().unwrap();
        assert!(matches!(result, Err(Error::Protocol(..))), "{result:?}");
    }
}
