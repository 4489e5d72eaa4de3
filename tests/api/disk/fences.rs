//! A fence that only waits.

use nbd_client::{Error, Fence};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::support::assert_matches;

const QUIET: Duration = Duration::from_secs(40);
const SECOND: Duration = Duration::from_secs(1);

/// Makes a write whose outcome is unknown.
async fn lose_write(disk: &Disk, server: &Server, offset: u64) {
    let mut events = disk.events();
    server.pause();
    let write = begun(disk.write(offset, "newer"));
    watch(server.held(1)).await;
    server.hang_up();
    lost(&mut events).await;
    server.resume();
    assert_matches!(watch(write).await.unwrap(), Err(Error::OutcomeUnknown(_)));
}

#[tokio::test(start_paused = true)]
async fn a_held_change_waits_for_the_quiet_time_after_the_loss() {
    let (disk, server, _place) = open(builder().fence(Fence::quiet(QUIET))).await;
    let mut events = disk.events();
    lose_write(&disk, &server, 0).await;
    let begin = Instant::now();
    // What a ghost does not cover, and what it writes itself, passes at once.
    watch(disk.write(5, "apart").into_future()).await.unwrap();
    watch(disk.write(0, "newer").into_future()).await.unwrap();
    assert!(begin.elapsed() < SECOND);
    // The time runs whether somebody waits for it or not.
    sleep(QUIET / 2).await;
    let mut other = begun(disk.write(0, "other"));
    let rest = QUIET - begin.elapsed();
    timeout(rest - SECOND, &mut other).await.unwrap_err();
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..5)));
    watch(other).await.unwrap().unwrap();
    let waited = begin.elapsed();
    assert!(
        QUIET <= waited + SECOND && waited <= QUIET + SECOND,
        "{waited:?}"
    );
    event(&mut events, |event| {
        matches!(event, Event::Fenced { generation: 1 }).then_some(())
    })
    .await;
    assert!(disk.status().held.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_quiet_time_of_one_loss_is_not_that_of_the_next() {
    let (disk, server, _place) = open(builder().fence(Fence::quiet(QUIET))).await;
    lose_write(&disk, &server, 0).await;
    sleep(QUIET / 2).await;
    lose_write(&disk, &server, 4096).await;
    let begin = Instant::now();
    watch(disk.write(0, "other").into_future()).await.unwrap();
    assert!(begin.elapsed() <= QUIET / 2 + SECOND);
    assert_eq!(disk.status().held, std::slice::from_ref(&(4096..4101)));
    watch(disk.write(4096, "other").into_future())
        .await
        .unwrap();
    assert!(begin.elapsed() >= QUIET);
}
