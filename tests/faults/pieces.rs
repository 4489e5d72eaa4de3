//! C: reads that arrive in pieces, however a server cuts, mixes and stalls them.

use bytes::BytesMut;
use futures::{FutureExt, StreamExt, TryStreamExt};
use nbd_client::testing::Peer;
use nbd_client::wire::{Command, Errno, ProtocolError};
use nbd_client::{Chunk, Connection, Error};

use crate::answer::*;
use crate::harness::*;

fn two(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    [first, second].concat()
}

#[test]
fn c07_the_same_chunk_twice_kills_the_connection() {
    let says = |to: &To| {
        let (all, again) = (
            to.data(4096, &[0; 512], MORE),
            to.data(4096, &[0; 512], DONE),
        );
        two(all, again)
    };
    let overlap = Outcome::Fatal(is!(ProtocolError::Overlap { .. }));
    row(&CHUNKED, Ask::Read, &says, overlap);
}

#[test]
fn c08_overlapping_chunks_kill_the_connection() {
    for (first_is_hole, second_is_hole) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for (first, second) in [((0, 300), (299, 213)), ((200, 312), (0, 201))] {
            let says = |to: &To| {
                let piece = |(offset, length): (u64, u32), is_hole, flags| match is_hole {
                    true => to.hole(4096 + offset, length, flags),
                    false => to.data(4096 + offset, &vec![0; length as usize], flags),
                };
                two(
                    piece(first, first_is_hole, MORE),
                    piece(second, second_is_hole, DONE),
                )
            };
            let overlap = Outcome::Fatal(is!(ProtocolError::Overlap { .. }));
            row(&CHUNKED, Ask::Read, &says, overlap);
        }
    }
}

/// Data byte by byte, from the start.
fn bytewise(to: &To, length: u64) -> Vec<u8> {
    let byte = |i| {
        let flags = if i + 1 == length { DONE } else { MORE };
        to.data(to.head.offset + i, &[i as u8], flags)
    };
    (0..length).flat_map(byte).collect()
}

#[test]
fn c41_data_byte_by_byte_is_put_together() {
    let expected: Vec<u8> = (0..4096).map(|i| i as u8).collect();
    let whole = Outcome::Tolerated(&|got| got.is_data(&expected));
    row(&CHUNKED, Ask::ReadOf(4096), &|to| bytewise(to, 4096), whole);
}

#[test]
fn c42_bytes_one_by_one_are_put_together_however_many() {
    let length = 64 << 10;
    let expected: Vec<u8> = (0..length).map(|i| i as u8).collect();
    let whole = Outcome::Tolerated(&|got| got.is_data(&expected));
    let ask = Ask::ReadOf(length as usize);
    row(&STRUCTURED, ask, &|to| bytewise(to, length), whole);
}

#[test]
fn c42_pieces_that_nobody_takes_are_bounded_in_number() {
    each(&CHUNKED, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let mut chunks = conn.read_structured(0, 1 << 20);
        assert!(chunks.next().now_or_never().is_none());
        let head = peer.expect_command(Command::READ).await.unwrap().head;
        let _ = peer.send_bytes(&bytewise(&To { style, head }, 5000)).await;
        assert_eq!(
            violation::<()>(Err(conn.closed().await)),
            ProtocolError::TooFragmented
        );
        // What came before is not lost.
        let mut taken = 0;
        let error = loop {
            match chunks.try_next().await {
                Ok(chunk) => {
                    let Chunk::Data { offset, .. } = chunk.unwrap() else {
                        panic!("no data");
                    };
                    assert_eq!(offset, taken);
                    taken += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(violation::<()>(Err(error)), ProtocolError::TooFragmented);
        assert_eq!(taken, 4096);
    });
}

#[test]
fn c43_every_second_byte_first_kills_the_connection() {
    let says = |to: &To| {
        let every_second = (0..32768).map(|i| 4096 + 2 * i + 1);
        every_second
            .flat_map(|offset| to.data(offset, &[0], MORE))
            .collect()
    };
    let fragmented = Outcome::Fatal(is!(ProtocolError::TooFragmented));
    row(&CHUNKED, Ask::ReadOf(65536), &says, fragmented);
}

#[test]
fn c43_every_second_sector_from_the_end_is_put_together() {
    let length = 1u64 << 20;
    let sectors = length / 512;
    let says = |to: &To| {
        let halves = [1, 2].map(|first| (0..sectors / 2).map(move |i| sectors - first - 2 * i));
        let sector = |i: u64| {
            let flags = if i == 0 { DONE } else { MORE };
            to.data(4096 + 512 * i, &[i as u8; 512], flags)
        };
        halves.into_iter().flatten().flat_map(sector).collect()
    };
    let expected: Vec<u8> = (0..length).map(|at| (at / 512) as u8).collect();
    let whole = Outcome::Tolerated(&|got| got.is_data(&expected));
    row(&CHUNKED, Ask::ReadOf(length as usize), &says, whole);
}

#[test]
fn c44_chunks_of_many_requests_may_be_interleaved() {
    each(&CHUNKED, async |style, transport| {
        let mut random = Random::seeded();
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let reads: Vec<_> = (0..64)
            .map(|i| tokio::spawn(conn.read(i * 1000, 256).into_future()))
            .collect();
        // Of each request the pieces that are due.
        let mut due: Vec<(To, Vec<u64>)> = Vec::new();
        for _ in 0..64 {
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            due.push((To { style, head }, (0..16).collect()));
        }
        while !due.is_empty() {
            let at = random.below(due.len() as u64) as usize;
            let (to, pieces) = &mut due[at];
            let piece = pieces.swap_remove(random.below(pieces.len() as u64) as usize);
            let flags = if pieces.is_empty() { DONE } else { MORE };
            let offset = to.head.offset + piece * 16;
            let bytes = match piece {
                7 => to.hole(offset, 16, flags),
                _ => to.data(offset, &[(to.head.offset / 1000 + piece) as u8; 16], flags),
            };
            if pieces.is_empty() {
                due.swap_remove(at);
            }
            peer.send_bytes(&bytes).await.unwrap();
        }
        for (i, read) in (0..).zip(reads) {
            let expected: Vec<u8> = (0..256u64)
                .map(|at| if at / 16 == 7 { 0 } else { (i + at / 16) as u8 })
                .collect();
            assert_eq!(read.await.unwrap().unwrap()[..], expected);
        }
        goodbye(&conn, peer).await;
    });
}

#[test]
fn c46_one_hole_answers_a_read_that_must_not_be_fragmented() {
    let zeroes = Outcome::Tolerated(&|got| got.is_data(&[0; 512]));
    let says = |to: &To| to.hole(4096, 512, DONE);
    row(&CHUNKED, Ask::ReadUnfragmented, &says, zeroes);
    let says = |to: &To| two(to.data(4096, &[0; 256], MORE), to.hole(4352, 256, DONE));
    let fragmented = Outcome::Fatal(is!(ProtocolError::Fragmented));
    row(&CHUNKED, Ask::ReadUnfragmented, &says, fragmented);
}

/// 40 000 bytes in a small chunk that comes early, a large one, and a hole; and what they are.
fn three_chunks(to: &To) -> (Vec<u8>, Vec<u8>) {
    let large: Vec<u8> = (0..39_900u32).map(|i| (i % 251) as u8).collect();
    let mut bytes = to.data(to.head.offset + 39_960, &[3; 40], MORE);
    bytes.extend(to.data(to.head.offset, &large, MORE));
    bytes.extend(to.hole(to.head.offset + 39_900, 60, DONE));
    (bytes, [large, vec![0; 60], vec![3; 40]].concat())
}

/// Places to cut those: all but for most of the large chunk's data.
fn cuts() -> impl Iterator<Item = usize> {
    (0..200)
        .chain((200..39_900).step_by(3989))
        .chain(39_950..40_080)
}

#[test]
fn c47_a_pause_at_any_byte_of_a_reply_changes_nothing() {
    each(&CHUNKED, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        for cut in cuts() {
            let read = tokio::spawn(conn.read(4096, 40_000).into_future());
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            let (bytes, expected) = three_chunks(&To { style, head });
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            peer.send_bytes(head).await.unwrap();
            settle().await;
            peer.send_bytes(tail).await.unwrap();
            assert!(read.await.unwrap().unwrap() == expected, "cut at {cut}");
        }
        goodbye(&conn, peer).await;
    });
}

#[test]
fn c48_the_end_at_any_byte_of_a_reply_loses_the_connection() {
    for cut in cuts() {
        let says = |to: &To| {
            let (bytes, _) = three_chunks(to);
            bytes[..cut.min(bytes.len() - 1)].to_vec()
        };
        row(&CHUNKED, Ask::ReadOf(40_000), &says, Outcome::Lost);
    }
}

#[test]
fn c49_a_stall_in_a_chunk_ends_all_requests_at_the_deadline_of_one() {
    // The others have no deadline; nothing of theirs can come behind the half chunk.
    for cut in [1, 19, 20, 27, 28, 100, 39_000] {
        let says = |to: &To| three_chunks(to).0[..cut].to_vec();
        row(&CHUNKED, Ask::ReadOf(40_000), &says, Outcome::Expired);
    }
}

#[test]
fn c51_no_byte_of_another_read_shows_after_a_failed_one() {
    each(&CHUNKED, async |style, transport| {
        let (conn, mut peer) = transport.ready(style, Connection::builder()).await;
        let length = 64 << 10;
        let half = length as u64 / 2;
        let to = async |peer: &mut Peer| {
            let head = peer.expect_command(Command::READ).await.unwrap().head;
            To { style, head }
        };
        // Secrets pass through the buffers that the next reads use.
        for round in 0..3 {
            let secret = tokio::spawn(conn.read(0, length).into_future());
            let reply = to(&mut peer).await.data(0, &vec![0xa5; length], DONE);
            peer.send_bytes(&reply).await.unwrap();
            drop(secret.await.unwrap().unwrap());

            let failed = tokio::spawn(conn.read(0, length).into_future());
            let answer = to(&mut peer).await;
            let mut reply = answer.data(half, &vec![0xa5; length / 2], MORE);
            reply.extend(answer.error(Errno::EIO, "", DONE));
            peer.send_bytes(&reply).await.unwrap();
            let error = failed.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Request(_)));

            // The end comes first, so that there is a gap at the start, which a hole fills.
            let buffer = BytesMut::from(&vec![0xa5; length][..]);
            let reused = tokio::spawn(conn.read_into(0, buffer).into_future());
            let fresh = tokio::spawn(conn.read(0, length).into_future());
            for _ in 0..2 {
                let answer = to(&mut peer).await;
                let mut reply = answer.data(half, &vec![round; length / 2], MORE);
                reply.extend(answer.hole(0, half as u32, DONE));
                peer.send_bytes(&reply).await.unwrap();
            }
            let expected = [vec![0; length / 2], vec![round; length / 2]].concat();
            assert!(reused.await.unwrap().unwrap() == expected);
            assert!(fresh.await.unwrap().unwrap() == expected);
        }
        goodbye(&conn, peer).await;
    });
}
