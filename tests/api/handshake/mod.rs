//! FAULTS of greetings, options and exports, one by one.

mod context;
mod export;
mod greeting;
mod list;
mod old;
mod options;
mod required;

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::option::{ExportInfo, Greeting, Info, OptionReply};
use nbd_client::wire::{
    Command, HandshakeFlags, InfoType, OptionReplyType, OptionType, ProtocolError, ReplyStyle,
    TransmissionFlags,
};
use nbd_client::{Builder, Connection, Error, Phase, Result, State};
use tokio::time::Instant;

use crate::support::*;

fn greeting(greeting: Greeting) -> BytesMut {
    let mut bytes = BytesMut::new();
    greeting.encode(&mut bytes);
    bytes
}

#[track_caller]
fn assert_eof(result: Result<()>, expected: Phase) {
    match result {
        Err(Error::Disconnected(lost, _)) => {
            assert_eq!(lost.phase(), expected);
            assert_eq!(lost.io().kind(), std::io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
}

/// Connects to a server that answers `GO` with these replies, by each way; gives what else it
/// received.
async fn gone(replies: Vec<OptionReply>) -> (Connection, Result<()>, Option<OptionType>) {
    gone_with(&builder(ReplyStyle::Simple), &encode(&replies)).await
}

async fn gone_with(
    builder: &Builder,
    bytes: &[u8],
) -> (Connection, Result<()>, Option<OptionType>) {
    let mut ways = option_ways();
    let first = gone_by(ways.next().unwrap(), builder, bytes).await;
    for way in ways {
        let again = gone_by(way, builder, bytes).await;
        assert_eq!(
            format!("{:?}", first.1),
            format!("{:?}", again.1),
            "{way:?}"
        );
        assert_eq!(first.2, again.2, "{way:?}");
    }
    first
}

async fn gone_by(
    way: Way,
    builder: &Builder,
    bytes: &[u8],
) -> (Connection, Result<()>, Option<OptionType>) {
    let (conn, mut peer, connecting) = way.connect(builder.clone());
    let script = async {
        peer.greet(HandshakeFlags::all()).await.unwrap();
        let go = peer.expect_option().await.unwrap();
        assert_eq!(go.option, OptionType::GO);
        // The client may be gone before all of it is sent.
        let _ = peer.send_bytes(bytes).await;
        // What the client says next, or that it leaves.
        let next = peer.expect_option().await.ok().map(|next| next.option);
        if next == Some(OptionType::ABORT) {
            peer.half_close().await.unwrap();
        }
        next
    };
    let mut script = pin!(script);
    let mut connecting = pin!(connecting);
    let (result, next) = tokio::select! {
        next = &mut script => (connecting.await, next),
        result = &mut connecting => match result {
            // It has nothing more to say.
            Ok(()) => (Ok(()), None),
            Err(error) => (Err(error), script.await),
        },
    };
    (conn, result, next)
}

fn encode(replies: &[OptionReply]) -> BytesMut {
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    bytes
}

fn export() -> OptionReply {
    OptionReply::info(OptionType::GO, &Info::Export(INFO))
}

fn reply(kind: OptionReplyType, payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        option: OptionType::GO,
        reply: kind,
        payload: payload.into(),
    }
}

fn info(kind: InfoType, rest: &[u8]) -> OptionReply {
    let mut payload = BytesMut::new();
    payload.put_u16(kind.0);
    payload.put_slice(rest);
    reply(OptionReplyType::INFO, payload)
}

fn sizes(minimum: u32, preferred: u32, maximum: u32) -> OptionReply {
    let sizes = Info::BlockSize {
        minimum,
        preferred,
        maximum,
    };
    OptionReply::info(OptionType::GO, &sizes)
}

fn ack() -> OptionReply {
    OptionReply::ack(OptionType::GO)
}

/// Says that these replies to `GO` are a violation, after which nothing is sent.
async fn fatal(replies: Vec<OptionReply>) -> ProtocolError {
    let (conn, result, next) = gone(replies).await;
    assert_eq!(next, None, "nothing is said to such a server");
    assert_eq!(conn.state(), State::Dead);
    let cause = violation(result);
    assert_eq!(violation(conn.read(0, 1).await), cause);
    cause
}

/// Connects to a server that sends these bytes, then stops sending.
async fn greeted_with(bytes: &[u8]) -> Result<()> {
    let mut results = Vec::new();
    for way in ways() {
        let (conn, mut peer, connecting) = way.connect(Connection::builder());
        let script = async {
            // The client may be gone before all of it is sent.
            let _ = peer.send_bytes(bytes).await;
            let _ = peer.half_close().await;
        };
        let (result, ()) = tokio::join!(connecting, script);
        assert_matches!(conn.state(), State::Dead | State::Ready);
        results.push(result);
    }
    let first = results.remove(0);
    for again in results {
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
    }
    first
}
