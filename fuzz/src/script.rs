//! A whole client, and a server that follows a script: it knows what was asked, and answers, lies,
//! or leaves.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use futures::StreamExt;
use futures::future::join_all;
use nbd_client::testing::Peer;
use nbd_client::wire::option::ExportInfo;
use nbd_client::wire::request::RequestHead;
use nbd_client::wire::{Command, ReplyStyle, TransmissionFlags};
use nbd_client::{Connection, Error, Result};
use tokio::io::duplex;

use super::answers::{Answer, Asked, CONTEXTS, Ledger, Lie, Trust, data, lie};
use super::assert_printable;
use super::connection::{self, DEADLINE, builder};
use super::session::{Verb, join, length_of, pick};
use super::wire::style_of;

/// Calls start at offsets that are so far apart, which tells them apart.
const PAGE: u64 = 4096;
const INFO: ExportInfo = ExportInfo {
    size: 1 << 20,
    flags: TransmissionFlags::all()
        .difference(TransmissionFlags::READ_ONLY)
        .difference(TransmissionFlags::SEND_RESIZE),
};
/// How long a server waits for a request that may not come.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Arbitrary, Debug)]
struct Script {
    style: u8,
    capacity: u16,
    max_in_flight: u8,
    calls: Vec<Call>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Call {
    verb: Verb,
    offset: u16,
    length: u16,
    /// It is dropped after so many polls.
    polls: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Take,
    Answer {
        which: u8,
        answer: Answer,
        lie: Option<Lie>,
    },
    Bytes(Vec<u8>),
    HalfClose,
    Close,
}

/// Plays a script, then answers what is left. Every call ends, once; a read that succeeds is
/// covered by what was sent for it, exactly; and after a server that was honest the next request
/// succeeds, too.
pub fn server_script(data: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    connection::run(play(&script));
}

async fn play(script: &Script) {
    let style = style_of(script.style);
    let (stream, server) = duplex(usize::from(script.capacity).max(64));
    let conn = builder(style)
        .max_in_flight(1 + usize::from(script.max_in_flight % 8))
        .build();
    let mut peer = Peer::new(server);
    let (connected, greeted) = tokio::join!(
        conn.connect_stream(stream),
        peer.handshake(style, INFO, &CONTEXTS)
    );
    greeted.expect("the client keeps the rules");
    connected.expect("so does the server, so far");

    let mut server = Server {
        peer: Some(peer),
        style,
        asked: Vec::new(),
        ledger: Ledger::default(),
        trust: Trust::Honest,
    };
    let calls = script.calls.iter().take(16).enumerate();
    let calls = join_all(calls.map(|(i, call)| run(&conn, i as u64, call)));
    let client = async {
        let outcomes = calls.await;
        let probe = conn.read(1 << 19, 512).timeout(DEADLINE).await;
        let parted = conn.disconnect().timeout(DEADLINE).await;
        (outcomes, probe, parted)
    };
    let ((outcomes, probe, parted), ()) = tokio::join!(client, server.play(&script.steps));

    assert_eq!(conn.in_flight(), 0);
    assert!(conn.is_closed() || conn.is_dead());
    for (at, outcome) in outcomes {
        server.check(at, outcome);
    }
    server.check(
        1 << 19,
        probe.map(|data| Given::Data(data.to_vec())).map(Some),
    );
    if server.trust == Trust::Honest {
        parted.expect("an orderly end");
        assert!(conn.is_closed());
    }
}

/// What a call gave.
enum Given {
    Done,
    Data(Vec<u8>),
}

/// The offset of a call and its outcome: nothing if it was dropped.
async fn run(conn: &Connection, i: u64, call: &Call) -> (u64, Result<Option<Given>>) {
    let offset = i * PAGE + u64::from(call.offset) % PAGE;
    let length = length_of(call.length);
    let simple = !conn.protocol().expect("ready").structured_replies;
    let outcome = async {
        Ok(match call.verb {
            Verb::Read => {
                let data = conn.read(offset, length as usize).timeout(DEADLINE).await?;
                Given::Data(data.to_vec())
            }
            Verb::ReadChunks => {
                let read = conn.read_structured(offset, length as usize);
                let mut stream = read.timeout(DEADLINE);
                let mut chunks = Vec::new();
                while let Some(chunk) = stream.next().await {
                    chunks.push(chunk?);
                }
                Given::Data(join(chunks))
            }
            Verb::Write => {
                let write = conn.write(offset, data(offset, length));
                write.timeout(DEADLINE).await?;
                Given::Done
            }
            Verb::Flush => {
                conn.flush().timeout(DEADLINE).await?;
                Given::Done
            }
            Verb::Trim => {
                conn.trim(offset, length).timeout(DEADLINE).await?;
                Given::Done
            }
            Verb::Zeroes => {
                conn.write_zeroes(offset, length).timeout(DEADLINE).await?;
                Given::Done
            }
            Verb::Status if !simple => {
                let status = conn.block_status(offset, length).timeout(DEADLINE).await?;
                assert_eq!(status.len(), CONTEXTS.len());
                Given::Done
            }
            Verb::Cache | Verb::Status => {
                conn.cache(offset, length).timeout(DEADLINE).await?;
                Given::Done
            }
        })
    };
    let place = if matches!(call.verb, Verb::Flush) {
        0
    } else {
        offset
    };
    (place, limit(call.polls, outcome).await.transpose())
}

/// Drops a future after so many polls.
async fn limit<F: Future>(polls: Option<u8>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = polls;
    poll_fn(|cx| {
        match &mut polls {
            Some(0) => return Poll::Ready(None),
            Some(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
            }
            None => {}
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

struct Server {
    /// Nobody once it has left.
    peer: Option<Peer>,
    style: ReplyStyle,
    asked: Vec<Asked>,
    ledger: Ledger,
    trust: Trust,
}

impl Server {
    async fn play(&mut self, steps: &[Step]) {
        for step in steps.iter().take(64) {
            match step {
                Step::Take => {
                    // It comes, or nothing ever will.
                    let _ = tokio::time::timeout(PATIENCE, self.take()).await;
                }
                Step::Answer { which, answer, lie } => {
                    self.answer(*which, answer, lie.as_ref()).await;
                }
                Step::Bytes(bytes) => {
                    self.trust = Trust::Garbled;
                    if let Some(peer) = &mut self.peer {
                        let _ = peer.send_bytes(bytes).await;
                    }
                }
                Step::HalfClose => {
                    self.trust = self.trust.max(Trust::Lies);
                    if let Some(peer) = &mut self.peer {
                        let _ = peer.half_close().await;
                    }
                }
                Step::Close => {
                    self.trust = self.trust.max(Trust::Lies);
                    self.peer = None;
                }
            }
        }
        while self.peer.is_some() {
            while self.asked.iter().any(|asked| !asked.is_done()) {
                self.answer(0, &Answer::Rest, None).await;
            }
            self.take().await;
        }
    }

    /// Takes the next request.
    async fn take(&mut self) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        match peer.expect_request().await {
            Ok(request) if request.head.command == Command::DISC => self.peer = None,
            Ok(request) => {
                let RequestHead {
                    command,
                    offset,
                    length,
                    ..
                } = request.head;
                if command == Command::WRITE {
                    assert_eq!(request.payload, data(offset, length));
                }
                self.asked.push(Asked::new(self.style, request.head));
            }
            Err(error) => {
                assert_ne!(self.trust, Trust::Honest, "the client left: {error}");
                self.peer = None;
            }
        }
    }

    async fn answer(&mut self, which: u8, answer: &Answer, falsehood: Option<&Lie>) {
        let other = pick(&self.asked, which.wrapping_add(1)).map_or(0, |other| other.head.cookie);
        let open = |asked: &&mut Asked| !asked.is_done();
        let mut open: Vec<_> = self.asked.iter_mut().filter(open).collect();
        let count = open.len();
        if count == 0 {
            return;
        }
        let asked = open.swap_remove(usize::from(which) % count);
        let head = asked.head;
        for mut reply in asked.answer(answer) {
            if let Some(falsehood) = falsehood {
                self.trust = self.trust.max(lie(falsehood, &mut reply, other));
            }
            for _ in 0..falsehood.map_or(1, Lie::times) {
                self.ledger.note(&reply, &head);
                if let Some(peer) = &mut self.peer {
                    // The client may have had enough.
                    let _ = peer.send_reply(reply.clone()).await;
                }
            }
        }
    }

    fn check(&self, offset: u64, outcome: Result<Option<Given>>) {
        let mut asked = self
            .asked
            .iter()
            .filter(|asked| asked.head.offset == offset);
        let honest = self.trust == Trust::Honest;
        match outcome {
            Ok(None) => {}
            Ok(Some(Given::Done)) => {}
            Ok(Some(Given::Data(data))) if self.trust < Trust::Garbled => {
                let asked = asked.next().expect("an answer to no question");
                self.ledger.check(&asked.head, &data);
                assert!(!honest || asked.failed().is_none(), "it has failed");
            }
            Ok(Some(Given::Data(_))) => {}
            Err(error) => {
                assert_printable(&format!("{error} {error:?}"));
                match &error {
                    _ if !honest => {}
                    Error::Request(error) => {
                        // All flushes are at the same place.
                        assert!(asked.any(|asked| asked.failed() == Some(error.errno())));
                    }
                    Error::DurabilityUnknown(lost) => {
                        let failure = lost.failure().expect("a flush has failed");
                        assert!(asked.any(|asked| asked.has_failed_to_flush(failure)));
                    }
                    error => panic!("the server was honest: {error}"),
                }
            }
        }
    }
}
