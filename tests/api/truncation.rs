//! The server stops at every byte of a conversation.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nbd_client::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::paced::{Paced, Stop};
use crate::shared::long;
use crate::support::*;
use crate::talk::{PATIENCE, Talk};

/// More than any conversation takes; under a paused clock, more than all deadlines together.
const WATCHDOG: Duration = Duration::from_secs(300);

/// Every byte of what is short; of the bulk every byte of the handshake, and then each seventh, or
/// fewer. In a long run so many times as many of the bulk, until it is every byte of it as well.
async fn cuts() -> Vec<(Talk, usize)> {
    let mut cuts = Vec::new();
    for talk in Talk::SHORT {
        let (_, whole) = talk.whole().await;
        cuts.extend((0..whole).map(|cut| (talk, cut)));
    }
    for (style, step) in STYLES.into_iter().zip([97_usize, 7, 101]) {
        let talk = Talk::Bulk(style);
        let (_, whole) = talk.whole().await;
        assert!(whole > 64 << 10);
        let step = step.div_ceil(long::factor());
        cuts.extend((300..whole).step_by(step).map(|cut| (talk, cut)));
    }
    assert!(cuts.len() >= 10_000, "{} cuts", cuts.len());
    cuts
}

/// Says how far a test got.
fn reached(cuts: &[(Talk, usize)], stop: &str) {
    println!("reached: {} cuts, {stop}", cuts.len());
}

/// Cuts all conversations in memory; gives the errors that came of it.
async fn stopped(stop: Stop, is_right: impl Fn(&Error) -> bool) {
    let cuts = cuts().await;
    for &(talk, cut) in &cuts {
        let stream = Paced::stopping_after(talk.server().connect(), cut, stop);
        let held = timeout(WATCHDOG, talk.hold(stream)).await;
        let held = held.unwrap_or_else(|_| panic!("{talk:?} hangs with {stop:?} at {cut}"));
        let error = held.expect_err("cut off");
        assert!(is_right(&error), "{talk:?}, {stop:?} at {cut}: {error:?}");
    }
    reached(&cuts, &format!("{stop:?} of a pipe"));
}

#[tokio::test]
async fn o10_r05_c48_the_end_at_any_byte_is_an_error() {
    stopped(Stop::End, |error| matches!(error, Error::Disconnected(..))).await;
}

#[tokio::test]
async fn o10_r05_c48_a_reset_at_any_byte_is_an_error() {
    stopped(Stop::Reset, |error| {
        matches!(error, Error::Disconnected(..))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g14_c36_a_stall_at_any_byte_ends_with_a_deadline() {
    stopped(Stop::Stall, |error| matches!(error, Error::Timeout(..))).await;
}

/// With a clock that runs: how late the system is. That no deadline is early or forgotten, the
/// clock that stands still shows for every byte.
#[tokio::test]
#[ignore = "takes a quarter of a minute, and measures: tests/long runs it"]
async fn g14_c36_a_stall_ends_soon_after_its_deadline_in_real_time() {
    let mut stalls = Vec::new();
    for talk in Talk::SHORT.into_iter().chain(STYLES.map(Talk::Bulk)) {
        let (_, whole) = talk.whole().await;
        stalls.extend([whole / 8, whole / 2, whole - 1].map(|cut| (talk, cut)));
    }
    let mut latest = Duration::ZERO;
    for _ in 0..long::factor() {
        let stalls = (0..).zip(&stalls).map(|(i, &(talk, cut))| async move {
            // Apart from each other, so that none of them waits while others work.
            sleep(Duration::from_millis(100) * i).await;
            let stream = Paced::stopping_after(talk.server().connect(), cut, Stop::Stall);
            let start = Instant::now();
            assert_matches!(talk.hold(stream).await, Err(Error::Timeout(..)));
            start.elapsed().checked_sub(PATIENCE).expect("too early")
        });
        let late = join_all(stalls).await;
        latest = late.into_iter().fold(latest, Duration::max);
    }
    println!(
        "reached: {} stalls, ended at most {latest:?} after their deadlines",
        stalls.len()
    );
    assert!(latest < Duration::from_secs(5), "{latest:?} late");
}

/// Passes on what the client says, and so many bytes of what the server says.
async fn pass_on<S>(server: DuplexStream, client: &mut S, cut: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (answers, mut questions) = tokio::io::split(server);
    let (mut there, mut back) = tokio::io::split(client);
    let mut answers = answers.take(cut as u64);
    tokio::select! {
        // The client may have given up.
        _ = tokio::io::copy(&mut answers, &mut back) => {}
        _ = tokio::io::copy(&mut there, &mut questions) => {}
    }
}

#[tokio::test]
async fn o10_r05_c48_the_end_of_a_socket_at_any_byte_is_an_error() {
    let cuts = cuts().await;
    for &(talk, cut) in &cuts {
        let (client, mut far) = UnixStream::pair().unwrap();
        let line = async {
            pass_on(talk.server().connect(), &mut far, cut).await;
            drop(far);
        };
        let (held, ()) = tokio::join!(timeout(WATCHDOG, talk.hold(client)), line);
        let error = held.expect("a hang").expect_err("cut off");
        assert_matches!(error, Error::Disconnected(..));
    }
    reached(&cuts, "End of a Unix socket");
}

#[tokio::test]
async fn o10_r05_c48_a_reset_of_a_socket_at_any_byte_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cuts = cuts().await;
    for &(talk, cut) in &cuts {
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, mut far) = (client.unwrap(), accepted.unwrap().0);
        for stream in [&client, &far] {
            stream.set_nodelay(true).unwrap();
        }
        let line = async {
            pass_on(talk.server().connect(), &mut far, cut).await;
            far.set_zero_linger().unwrap();
            drop(far);
        };
        let (held, ()) = tokio::join!(timeout(WATCHDOG, talk.hold(client)), line);
        let error = held.expect("a hang").expect_err("cut off");
        assert_matches!(error, Error::Disconnected(..));
    }
    reached(&cuts, "Reset of a TCP socket");
}
