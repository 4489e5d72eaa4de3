//! Which checks are made on this side, and that a server has its say without them.

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, CommandFlags, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Error, InvalidRequest, Strict};

use crate::support::*;

/// An export that refuses all that can be refused, with blocks of 4 KiB.
fn picky() -> Export {
    use TransmissionFlags as F;
    Export::new(1 << 20)
        .block_sizes(4096, 4096, 1 << 20)
        .flags(F::HAS_FLAGS | F::SEND_WRITE_ZEROES)
        .log_requests(100)
}

async fn connect(export: &Export) -> Connection {
    let server = Server::new(export.clone());
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    conn
}

/// Asks twice: with all checks nothing is sent, without this one the server answers.
async fn twice<F>(export: &Export, bit: Strict, errno: i32, ask: F)
where
    F: AsyncFn(&Connection) -> Error,
{
    let conn = connect(export).await;
    let ours = ask(&conn).await;
    assert_matches!(&ours, Error::Invalid(_));
    assert_eq!(ours.errno(), Some(errno), "{bit:?}: {ours}");
    assert_eq!(export.counters().requests(), 0, "{bit:?}");
    conn.set_strict(Strict::all() - bit);
    assert_eq!(conn.strict(), Strict::all() - bit);
    let theirs = ask(&conn).await;
    assert_matches!(&theirs, Error::Request(_));
    assert_eq!(export.counters().requests(), 1, "{bit:?}");
    // Neither costs the connection.
    assert!(conn.is_ready());
    conn.read(0, 4096).await.unwrap();
}

#[tokio::test]
async fn k34_what_cannot_be_done_is_refused_before_any_byte_is_sent() {
    use CommandFlags as F;
    let all = Export::new(1 << 20).block_sizes(512, 4096, 1 << 20);
    let poor = picky();
    let read_only = Export::new(1 << 20).read_only(true);
    for (export, name) in [(&all, "all"), (&poor, "poor"), (&read_only, "read-only")] {
        let conn = connect(export).await;
        let sent = conn.stats().bytes_sent;
        let end = 1 << 20;
        let unknown = F::from_bits_retain(1 << 15);
        let mut refused = vec![
            // Nothing at all: no extent could answer that.
            conn.block_status(0, 0).await.map(drop),
            // Beyond the end, and beyond all numbers.
            conn.read(end - 4096, 8192).await.map(drop),
            conn.read(u64::MAX, 1).await.map(drop),
            conn.read(u64::MAX - 4095, 4096).await.map(drop),
            conn.write(end, vec![0; 4096]).await,
            conn.trim(0, end + 4096).await,
            conn.write_zeroes(u64::MAX - 4095, u64::MAX).await,
            conn.cache(end, 4096).await,
            conn.block_status(0, u64::MAX).await.map(drop),
            // Flags of other commands, and of none.
            conn.read(0, 4096).flags(F::REQ_ONE).await.map(drop),
            conn.read(0, 4096).flags(unknown).await.map(drop),
            conn.write(0, vec![0; 4096]).flags(F::DF).await,
            conn.flush().flags(F::FUA | F::NO_HOLE).await,
            conn.trim(0, 4096).flags(F::FAST_ZERO).await,
            conn.cache(0, 4096).flags(F::REQ_ONE).await,
            // No context was negotiated.
            conn.block_status(0, 4096).await.map(drop),
        ];
        if name != "read-only" {
            // Not in blocks.
            refused.push(conn.read(1, 4096).await.map(drop));
            refused.push(conn.write(0, vec![0; 511]).await);
            refused.push(conn.trim(256, 4096).await);
        }
        if name == "poor" {
            // Not offered.
            refused.push(conn.flush().await);
            refused.push(conn.trim(0, 4096).await);
            refused.push(conn.cache(0, 4096).await);
            refused.push(conn.write(0, vec![0; 4096]).fua().await);
            refused.push(conn.write_zeroes(0, 4096).fast_zero().await);
            refused.push(conn.read(0, 4096).dont_fragment().await.map(drop));
        }
        if name == "read-only" {
            refused.push(conn.write(0, vec![0; 4096]).await);
            refused.push(conn.trim(0, 4096).await);
            refused.push(conn.write_zeroes(0, 4096).await);
        }
        for (index, result) in refused.into_iter().enumerate() {
            let is_ours = matches!(result, Err(Error::Invalid(_)));
            assert!(is_ours, "{name}, {index}: {result:?}");
        }
        assert_eq!(conn.stats().bytes_sent, sent, "{name}");
        conn.read(0, 4096).await.unwrap();
    }
}

#[tokio::test]
async fn commands_that_are_not_offered_reach_the_server_on_demand() {
    let ask = async |conn: &Connection| conn.trim(0, 4096).await.unwrap_err();
    twice(&picky(), Strict::COMMANDS, 22, ask).await;
    let ask = async |conn: &Connection| conn.flush().await.unwrap_err();
    twice(&picky(), Strict::COMMANDS, 22, ask).await;
    let ask = async |conn: &Connection| conn.block_status(0, 4096).await.unwrap_err();
    twice(&picky(), Strict::COMMANDS, 22, ask).await;
    let ask = async |conn: &Connection| conn.write_zeroes(0, 4096).fua().await.unwrap_err();
    twice(&picky(), Strict::COMMANDS, 22, ask).await;
}

#[tokio::test]
async fn writes_to_a_read_only_export_reach_the_server_on_demand() {
    let export = Export::new(1 << 20).read_only(true);
    let ask = async |conn: &Connection| conn.write(0, vec![1; 512]).await.unwrap_err();
    twice(&export, Strict::COMMANDS, 1, ask).await;
}

#[tokio::test]
async fn flags_of_other_commands_reach_the_server_on_demand() {
    let export = Export::new(1 << 20);
    let flags = CommandFlags::REQ_ONE | CommandFlags::from_bits_retain(1 << 15);
    let ask = async |conn: &Connection| conn.trim(0, 512).flags(flags).await.unwrap_err();
    twice(&export, Strict::FLAGS, 22, ask).await;
}

#[tokio::test]
async fn ranges_beyond_the_end_reach_the_server_on_demand() {
    let export = || Export::new(1 << 20);
    let ask = async |conn: &Connection| conn.read(1 << 20, 512).await.unwrap_err();
    twice(&export(), Strict::BOUNDS, 22, ask).await;
    let ask = async |conn: &Connection| conn.write(1 << 20, vec![0; 9]).await.unwrap_err();
    twice(&export(), Strict::BOUNDS, 28, ask).await;
    let ask = async |conn: &Connection| conn.cache(u64::MAX, 1).await.unwrap_err();
    twice(&export(), Strict::BOUNDS, 22, ask).await;
}

#[tokio::test]
async fn unaligned_requests_reach_the_server_on_demand() {
    let ask = async |conn: &Connection| conn.read(1, 4096).await.unwrap_err();
    twice(&picky(), Strict::ALIGN, 22, ask).await;
}

#[tokio::test]
async fn large_messages_reach_the_server_on_demand() {
    let export = Export::new(4 << 20)
        .block_sizes(1, 4096, 1 << 20)
        .log_requests(9);
    let conn = connect(&export).await;
    conn.read(0, 2 << 20).await.unwrap();
    let lengths: Vec<_> = export.log().iter().map(|head| head.length).collect();
    assert_eq!(lengths, [1 << 20, 1 << 20]);
    conn.set_strict(Strict::all() - Strict::PAYLOAD);
    let error = conn.read(0, 2 << 20).await.unwrap_err();
    assert_matches!(error, Error::Request(_));
    assert_eq!(export.log().last().unwrap().length, 2 << 20);
}

#[tokio::test]
async fn no_message_is_longer_than_64_mib_whatever_is_switched_off() {
    let export = Export::new(1 << 30)
        .block_sizes(1, 4096, u32::MAX)
        .log_requests(9);
    let conn = connect(&export).await;
    conn.set_strict(Strict::empty());
    conn.read(0, 65 << 20).await.unwrap();
    let mut lengths: Vec<_> = export.log().iter().map(|head| head.length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1 << 20, 64 << 20]);
}

#[tokio::test]
async fn k36_no_length_is_cut_off_whatever_is_switched_off() {
    let export = Export::new(1 << 40).log_requests(10);
    let server = Server::builder()
        .export("", export.clone())
        .extended_headers(false)
        .build();
    let conn = Connection::builder().strict(Strict::empty()).build();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.trim(0, 1 << 32).await.unwrap();
    let sent: u64 = export.log().iter().map(|head| head.length).sum();
    assert_eq!(sent, 1 << 32);
}

#[tokio::test]
async fn contexts_are_chosen_from_those_negotiated_whatever_is_switched_off() {
    let export = Export::new(1 << 20);
    let server = Server::new(export.clone());
    let conn = Connection::builder().strict(Strict::empty()).build();
    conn.connect_stream(server.connect()).await.unwrap();
    let ask = conn.block_status(0, 512).contexts(["x:y"]);
    assert_matches!(
        ask.await,
        Err(Error::Invalid(InvalidRequest::UnknownContext { name, negotiated }))
            if name == "x:y" && negotiated.is_empty()
    );
    assert_eq!(export.counters().requests(), 0);
}

// PAYLOAD_LEN announces a payload.
#[tokio::test]
async fn payload_flag_of_a_write_follows_the_headers() {
    for style in STYLES {
        for asked in [CommandFlags::empty(), CommandFlags::PAYLOAD_LEN] {
            let (conn, mut peer) = ready(style).await;
            let write = conn.write(0, &b"x"[..]).flags(asked);
            let write = tokio::spawn(write.into_future());
            let request = peer.expect_command(Command::WRITE).await.unwrap();
            let is_set = request.head.flags.contains(CommandFlags::PAYLOAD_LEN);
            assert_eq!(is_set, style == ReplyStyle::Extended);
            peer.acknowledge(&request.head).await.unwrap();
            write.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn payload_flag_is_the_callers_business_on_demand() {
    let (conn, mut peer) = ready(ReplyStyle::Structured).await;
    conn.set_strict(Strict::all() - Strict::AUTO_FLAG);
    // Checked as long as commands are: P-134.
    let wrong = || conn.write(0, &b"x"[..]).flags(CommandFlags::PAYLOAD_LEN);
    assert_matches!(
        wrong().await,
        Err(Error::Invalid(InvalidRequest::UnsupportedFlag(
            "PAYLOAD_LEN"
        )))
    );
    conn.set_strict(Strict::empty());
    let write = tokio::spawn(wrong().into_future());
    let request = peer.expect_command(Command::WRITE).await.unwrap();
    assert_eq!(request.head.flags, CommandFlags::PAYLOAD_LEN);
    peer.acknowledge(&request.head).await.unwrap();
    write.await.unwrap().unwrap();
}
