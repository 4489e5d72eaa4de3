//! Changes that are over for their caller, and not for the server.

use std::sync::atomic::{AtomicBool, Ordering};

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, TransmissionFlags as Flags};
use nbd_client::{Changes, Connection, Delivery, Error};

use super::*;
use crate::support::assert_matches;

const LONG: Duration = Duration::from_secs(3600);

/// A server that takes 4096 bytes a message. The second block fails at once, and the third takes an
/// hour.
fn server() -> Server {
    let flags = Flags::HAS_FLAGS | Flags::SEND_FLUSH | Flags::SEND_FUA;
    let export = Export::new(SIZE).flags(flags).block_sizes(1, 4096, 4096);
    Server::builder()
        .export("", export)
        .fail_with(|request| (request.offset == 4096).then(|| (Errno::EIO, String::new())))
        .latency_with(|request| match request.offset {
            8192 => LONG,
            _ => Duration::ZERO,
        })
        .build()
}

both_runtimes!(a_part_that_is_still_on_its_way_is_waited_for);
async fn a_part_that_is_still_on_its_way_is_waited_for() {
    let server = server();
    let disk = builder().open(Place::of(&server).connector());
    let disk = disk.await.unwrap();
    let mut events = disk.events();
    let write = begun(disk.write(0, vec![1; 16384]));
    watch(server.received(4)).await;
    // The same bytes wait for all parts.
    let next = begun(disk.write(8192, vec![2; 4096]));
    server.hang_up();
    lost(&mut events).await;
    assert_matches!(watch(write).await.unwrap(), Err(Error::Request(_)));
    assert_matches!(watch(next).await.unwrap(), Err(Error::Held { .. }));
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..16384)));
}

both_runtimes!(a_deadline_of_the_links_is_one_of_the_disk);
async fn a_deadline_of_the_links_is_one_of_the_disk() {
    let link = Connection::builder().request_timeout(Duration::from_millis(30));
    let (disk, server, place) = open(builder().link(link)).await;
    server.pause();
    let error = watch(disk.write(0, "late").into_future())
        .await
        .unwrap_err();
    assert_matches!(&error, Error::OutcomeUnknown(lost) if lost.generation().is_none());
    // It is still on its way, so that nothing passes it.
    let error = watch(disk.write(0, "more").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
    // Without a connection there is an end, too.
    place.put(None);
    server.hang_up();
    let chunks = disk.read_structured(0, 512);
    let error = watch(futures::TryStreamExt::try_collect::<Vec<_>>(chunks)).await;
    assert_matches!(error, Err(Error::Timeout(..)));
    let patient = disk.read(0, 4).timeout(Duration::MAX);
    let patient = begun(patient);
    assert_matches!(disk.read(0, 4).await, Err(Error::Timeout(..)));
    server.resume();
    place.put(Some(&server));
    watch(patient).await.unwrap().unwrap();
}

both_runtimes!(a_write_of_a_part_of_a_block_is_repeated);
async fn a_write_of_a_part_of_a_block_is_repeated() {
    let is_armed = Arc::new(AtomicBool::new(false));
    let armed = is_armed.clone();
    let server = Server::builder()
        .export("", Export::new(SIZE).block_sizes(512, 4096, 1 << 20))
        .hang_up_on(move |request| {
            request.command == Command::WRITE && armed.swap(false, Ordering::SeqCst)
        })
        .build();
    let disk = builder().changes(Changes::Repeat);
    let disk = watch(disk.open(Place::of(&server).connector()));
    let disk = disk.await.unwrap();
    let before: Vec<u8> = (0..4096_u32).map(|at| at as u8).collect();
    let parts = [
        (700, 100),
        (700, 324),
        (512, 100),
        (700, 1000),
        (0, 10),
        (4000, 96),
    ];
    for (at, length) in parts {
        watch(disk.write(0, before.clone()).into_future())
            .await
            .unwrap();
        let mut events = disk.events();
        let after = vec![0x55; length];
        // The edges are read first; the write that follows is lost.
        is_armed.store(true, Ordering::SeqCst);
        let write = disk.write(at, after.clone()).unaligned();
        watch(write.into_future()).await.unwrap();
        let range = at..at + length as u64;
        event(&mut events, |event| match event {
            Event::Repeated { range: found } => (found == range).then_some(()),
            _ => None,
        })
        .await;
        let mut expected = before.clone();
        expected[at as usize..at as usize + length].copy_from_slice(&after);
        let found = watch(disk.read(0, 4096).into_future()).await.unwrap();
        assert!(found == expected, "{length} bytes at {at}");
        disk.assume_fenced();
    }
}
