//! How a disk begins and ends: what it must find again, when it gives up, and what its last handle leaves.

use std::time::Duration;

use futures::StreamExt;
use nbd_client::testing::{Export, Server};
use nbd_client::{Error, Event, Fence, Retry};

use super::*;
use crate::support::assert_matches;

both_runtimes!(an_export_that_has_changed_ends_the_disk);
async fn an_export_that_has_changed_ends_the_disk() {
    let (disk, server, place) = open(builder()).await;
    place.put(Some(&Server::new(Export::new(SIZE / 2))));
    server.hang_up();
    let error = watch(disk.read(0, 1).into_future()).await.unwrap_err();
    assert_matches!(
        error,
        Error::ExportChanged {
            what: "its size in bytes",
            ..
        }
    );
    assert!(disk.ended().is_some());
    assert_matches!(disk.close().await, Err(Error::ExportChanged { .. }));
}

both_runtimes!(a_disk_that_cannot_come_back_gives_up);
async fn a_disk_that_cannot_come_back_gives_up() {
    for (retry, attempts) in [
        (quick().outage(Duration::from_millis(50)), "gave up after "),
        (quick().attempts(3), "; gave up after 3 attempts in "),
        (quick().attempts(1), "; gave up after 1 attempt in "),
        (Retry::never(), ""),
    ] {
        let (disk, server, place) = open(builder().retry(retry)).await;
        let mut events = disk.events();
        place.put(None);
        server.hang_up();
        let error = watch(disk.read(0, 1).into_future()).await.unwrap_err();
        let text = error.to_string();
        assert_matches!(error, Error::Disconnected(..));
        assert!(text.contains(attempts), "{text}");
        let gave_up = !attempts.is_empty();
        assert_eq!(text.contains("gave up"), gave_up, "{text}");
        event(&mut events, |event| {
            matches!(event, Event::GaveUp { .. }).then_some(())
        })
        .await;
    }
}

both_runtimes!(the_newest_events_wait_for_a_listener_that_is_late);
async fn the_newest_events_wait_for_a_listener_that_is_late() {
    let retry = Retry::default().most(Duration::ZERO).attempts(2000);
    let (disk, server, place) = open(builder().retry(retry)).await;
    let mut events = disk.events();
    place.put(None);
    server.hang_up();
    watch(disk.read(0, 1).into_future()).await.unwrap_err();
    for attempt in 2000 - 1023 + 1..=2000 {
        let next = events.next().await;
        assert_matches!(next, Some(Event::Retrying { attempt: found, .. }) if found == attempt);
    }
    assert_matches!(events.next().await, Some(Event::GaveUp { .. }));
    assert!(events.next().await.is_none());
    assert!(events.next().await.is_none());
    assert!(disk.events().next().await.is_none());
}

both_runtimes!(a_disk_that_gives_up_says_what_was_not_flushed);
async fn a_disk_that_gives_up_says_what_was_not_flushed() {
    for is_flushed in [true, false] {
        let (disk, server, place) = open(builder().retry(quick().attempts(1))).await;
        disk.write(0, "acknowledged").await.unwrap();
        if is_flushed {
            disk.flush().await.unwrap();
        }
        place.put(None);
        server.hang_up();
        let error = watch(disk.read(0, 1).into_future()).await.unwrap_err();
        assert_eq!(error.has_unflushed_writes(), !is_flushed);
        assert_eq!(disk.ended().unwrap().has_unflushed_writes(), !is_flushed);
    }
}

both_runtimes!(a_snapshot_does_not_survive_its_connection_unless_it_is_identified);
async fn a_snapshot_does_not_survive_its_connection_unless_it_is_identified() {
    let (disk, server, _place) = open(builder().point_in_time(true)).await;
    server.hang_up();
    watch(disk.read(0, 1).into_future()).await.unwrap_err();
    let same = builder().point_in_time(true).identify(|conn| async move {
        assert_eq!(&conn.read(0, 4).await?[..], b"same");
        Ok(())
    });
    let (disk, server, _place) = open(same).await;
    disk.write(0, "same").await.unwrap();
    server.hang_up();
    watch(disk.read(0, 1).into_future()).await.unwrap();
}

both_runtimes!(the_first_connection_is_tried_again_if_asked);
async fn the_first_connection_is_tried_again_if_asked() {
    let server = Server::new(Export::new(SIZE));
    let place = Place::of(&server);
    place.put(None);
    builder().open(place.connector()).await.unwrap_err();
    let opening = begun(builder().retry_first(true).open(place.connector()));
    tokio::task::yield_now().await;
    place.put(Some(&server));
    drop(watch(opening).await.unwrap().unwrap());
    place.put(None);
    let short = quick().outage(Duration::from_millis(20));
    let never = builder().retry_first(true).retry(short);
    let error = watch(never.open(place.connector())).await.unwrap_err();
    assert!(error.to_string().contains("; gave up after "), "{error}");
}

/// The first of its connections are refused; the others are to a server that never speaks.
fn silent_after(refused: usize) -> Connector {
    let silent = Mutex::new((0, Vec::new()));
    Connector::stream(move || {
        let (count, servers) = &mut *silent.lock().unwrap();
        *count += 1;
        let stream = (*count > refused).then(|| {
            let (server, stream) = tokio::io::duplex(64);
            servers.push(server);
            stream
        });
        async move { stream.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()) }
    })
}

#[tokio::test(start_paused = true)]
async fn opening_takes_no_longer_than_the_outage_with_a_silent_server() {
    let outage = Duration::from_secs(5);
    for refused in [0, 1] {
        let builder = builder().retry(quick().outage(outage)).retry_first(true);
        let begin = tokio::time::Instant::now();
        let error = watch(builder.open(silent_after(refused)))
            .await
            .unwrap_err();
        let text = error.to_string();
        match error {
            Error::Timeout(..) if refused == 0 => {}
            // It says more than that there was no time left.
            Error::Disconnected(..) if refused == 1 => {
                assert!(text.contains("2 attempts"), "{text}")
            }
            other => panic!("{other:?}"),
        }
        let elapsed = begin.elapsed();
        assert!(elapsed >= outage && elapsed < outage * 2, "{elapsed:?}");
    }
}

both_runtimes!(dropping_the_last_handle_ends_all_connections);
async fn dropping_the_last_handle_ends_all_connections() {
    let (disk, server, _place) = open(builder()).await;
    let other = disk.clone();
    drop(disk);
    watch(other.read(0, 1).into_future()).await.unwrap();
    drop(other);
    watch(async {
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

both_runtimes!(an_export_may_appear_and_grow_if_that_was_said);
async fn an_export_may_appear_and_grow_if_that_was_said() {
    let empty = Server::builder().build();
    let larger = Server::new(Export::new(2 * SIZE));
    // By default both are final.
    let (disk, server, place) = open(builder()).await;
    place.put(Some(&empty));
    server.hang_up();
    assert_matches!(
        watch(disk.read(0, 1).into_future()).await,
        Err(Error::Refused(_))
    );
    let (disk, server, place) = open(builder()).await;
    place.put(Some(&larger));
    server.hang_up();
    assert_matches!(
        watch(disk.read(0, 1).into_future()).await,
        Err(Error::ExportChanged { .. })
    );

    let retry = quick().export_may_appear(true);
    let (disk, server, place) = open(builder().retry(retry).may_grow(true)).await;
    let mut events = disk.events();
    place.put(Some(&empty));
    server.hang_up();
    let unknown = |event| match event {
        Event::Retrying { cause, .. } => matches!(cause, Error::Refused(_)).then_some(()),
        _ => None,
    };
    event(&mut events, unknown).await;
    place.put(Some(&larger));
    watch(disk.read(0, 1).into_future()).await.unwrap();
    assert_eq!(disk.size(), SIZE);
    // What the disk does not have is not read either.
    let beyond = "READ of 2 bytes at offset 1048575 is outside the export";
    let error = disk.read(SIZE - 1, 2).await.unwrap_err();
    assert!(error.to_string().contains(beyond), "{error}");
    let error = disk.read(u64::MAX, 4096).await.unwrap_err();
    assert!(error.to_string().contains("READ of 4096 bytes"), "{error}");
}

#[test]
fn a_disk_whose_runtime_is_gone_says_so() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    };
    let (first, second) = (runtime().unwrap(), runtime().unwrap());
    let (disk, _server, _place) = first.block_on(open(builder()));
    drop(first);
    let error = second.block_on(disk.read(0, 1).into_future()).unwrap_err();
    let gone = "the Tokio runtime was shut down";
    assert!(error.to_string().contains(gone), "{error}");
    let error = second.block_on(disk.close()).unwrap_err();
    assert!(error.to_string().contains(gone), "{error}");
}

both_runtimes!(a_closure_that_panics_ends_the_disk_and_is_named);
async fn a_closure_that_panics_ends_the_disk_and_is_named() {
    let fence = Fence::by(|_| async { panic!("a closure of the test") });
    let (disk, server, _place) = open(builder().fence(fence)).await;
    server.pause();
    let write = disk.write(0, "ghost").submit();
    watch(server.held(1)).await;
    server.hang_up();
    watch(write).await.unwrap_err();
    let error = watch(async {
        loop {
            match disk.ended() {
                Some(error) => break error,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// A waker may call back: no lock is held then.
struct Asks(Disk, std::sync::atomic::AtomicUsize);

impl std::task::Wake for Asks {
    fn wake(self: Arc<Self>) {
        drop(self.0.status());
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

both_runtimes!(a_listener_may_ask_the_disk_when_it_is_woken);
async fn a_listener_may_ask_the_disk_when_it_is_woken() {
    use futures::StreamExt;
    let (disk, server, _place) = open(builder()).await;
    let mut events = disk.events();
    let asks = Arc::new(Asks(disk.clone(), 0.into()));
    let waker = asks.clone().into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(events.poll_next_unpin(&mut context).is_pending());
    server.hang_up();
    watch(async {
        while asks.1.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    watch(disk.read(0, 1).into_future()).await.unwrap();
}
