//! X: extended headers.

use nbd_client::testing::Peer;
use nbd_client::wire::option::OptionReply;
use nbd_client::wire::reply::status_body;
use nbd_client::wire::{
    ChunkType as Kind, EXTENDED_REPLY_MAGIC, Errno, HandshakeFlags, OptionReplyType, OptionType,
    ProtocolError, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use nbd_client::{Connection, Error};

use crate::answer::*;
use crate::harness::*;

const ID: u32 = CONTEXTS[0].0;

#[test]
fn x01_a_compact_reply_is_told_from_its_magic() {
    for (styles, number) in [
        (EXTENDED, SIMPLE_REPLY_MAGIC),
        (EXTENDED, STRUCTURED_REPLY_MAGIC),
        (STRUCTURED, EXTENDED_REPLY_MAGIC),
    ] {
        let is_cause = |cause: &ProtocolError| *cause == ProtocolError::Magic(number);
        let says = |_: &To| number.to_be_bytes().to_vec();
        row(&styles, Ask::Read, &says, Outcome::Fatal(&is_cause));
    }
}

#[test]
fn x03_an_impossible_length_kills_the_connection_at_its_head() {
    for length in [1 << 63, u64::MAX, (1 << 32) + 520, (1 << 32) + 12] {
        for kind in [0, 1, 2, 6, 0x8001, 0x8002, 0x8077].map(Kind) {
            for ask in [Ask::Read, Ask::Status] {
                let says = |to: &To| to.chunk_head(kind, length);
                let told = Outcome::Fatal(is!(
                    ProtocolError::Length { .. } | ProtocolError::UnexpectedChunk { .. }
                ));
                row(&EXTENDED, ask, &says, told);
            }
        }
    }
}

#[test]
fn x04_a_count_that_contradicts_the_length_kills_the_connection() {
    for count in [0, 1, 3, u32::MAX] {
        let mut body = status_body(true, ID, &[(512, 0), (512, 1)]).to_vec();
        body[4..8].copy_from_slice(&count.to_be_bytes());
        let says = |to: &To| to.chunk(Kind::BLOCK_STATUS_EXT, body.clone(), DONE);
        let contradicts = Outcome::Fatal(is!(ProtocolError::Extents(_)));
        row(&EXTENDED, Ask::Status, &says, contradicts);
    }
}

#[test]
fn x05_status_of_the_other_width_kills_the_connection() {
    for (styles, kind) in [
        (EXTENDED, Kind::BLOCK_STATUS),
        (STRUCTURED, Kind::BLOCK_STATUS_EXT),
    ] {
        let wide = kind == Kind::BLOCK_STATUS_EXT;
        let says = |to: &To| to.chunk(kind, status_body(wide, ID, &[(512, 0)]), DONE);
        let other = Outcome::Fatal(is!(ProtocolError::UnexpectedChunk { .. }));
        row(&styles, Ask::Status, &says, other);
    }
}

#[test]
fn x07_huge_extents_are_cut_off_or_kill_the_connection() {
    let cut =
        Outcome::Tolerated(&|got| got.extents() == [(4096, 512, 0), (4608, SIZE - 4608, u64::MAX)]);
    let says = |to: &To| to.status(ID, &[(512, 0), (1 << 63, u64::MAX)], DONE);
    row(&EXTENDED, Ask::Status, &says, cut);
    let overflow = Outcome::Fatal(is!(ProtocolError::Extents(_)));
    let says = |to: &To| to.status(ID, &[(512, 0), (u64::MAX, 1)], DONE);
    row(&EXTENDED, Ask::Status, &says, overflow);
}

#[test]
fn x08_more_than_a_million_wide_extents_kill_the_connection_at_the_head() {
    for count in [(1 << 20) + 1, 1 << 21, 1 << 28, 1 << 59] {
        let says = |to: &To| to.chunk_head(Kind::BLOCK_STATUS_EXT, 8 + 16 * count);
        let too_many = Outcome::Fatal(is!(ProtocolError::Length { .. }));
        row(&EXTENDED, Ask::Status, &says, too_many);
    }
}

#[test]
fn x09_a_zero_of_more_than_4_gib_fails_alone() {
    let long = Ask::ZeroOf((1 << 32) + 512);
    let failed = Outcome::Failed(&|error| error.errno() == Errno::EINVAL);
    row(
        &EXTENDED,
        long,
        &|to| to.error(Errno::EINVAL, "", DONE),
        failed,
    );
}

#[test]
fn x10_structured_replies_are_not_asked_for_once_extended_headers_are_agreed() {
    paused(&EXTENDED, async |_| {
        let (mut peer, stream) = Peer::pair();
        let conn = Connection::new();
        let script = async move {
            peer.greet(HandshakeFlags::all()).await.unwrap();
            let first = peer.expect_option().await.unwrap().option;
            assert_eq!(first, OptionType::EXTENDED_HEADERS);
            peer.send_option_reply(OptionReply::ack(first))
                .await
                .unwrap();
            // A server would refuse structured replies here.
            let second = peer.expect_option().await.unwrap().option;
            assert_eq!(second, OptionType::GO);
            let refusal = OptionReply::error(second, OptionReplyType::ERR_UNKNOWN, "");
            peer.send_option_reply(refusal).await.unwrap();
            let last = peer.expect_option().await.unwrap().option;
            assert_eq!(last, OptionType::ABORT);
        };
        let (connected, ()) = tokio::join!(conn.connect_stream(stream), script);
        assert!(matches!(connected, Err(Error::Refused(_))));
    });
}

#[test]
fn x11_status_of_a_context_that_was_not_chosen_kills_the_connection() {
    let (other, _) = CONTEXTS[1];
    let not_chosen = Outcome::Fatal(is!(ProtocolError::UnknownContext(_)));
    let says = |to: &To| to.status(other, &[(512, 0)], DONE);
    row(&EXTENDED, Ask::StatusChosen, &says, not_chosen);
    let chosen = Outcome::Tolerated(&|got| got.extents() == [(4096, 512, 0)]);
    let says = |to: &To| to.status(ID, &[(512, 0)], DONE);
    row(&EXTENDED, Ask::StatusChosen, &says, chosen);
}
