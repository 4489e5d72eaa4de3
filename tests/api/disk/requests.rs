//! Requests that are more than one message: over a disk they are one.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, Errno, TransmissionFlags as Flags};
use nbd_client::{Changes, Connection, Error};

use super::*;
use crate::support::assert_matches;

/// A server that hangs up at the first requests of a command, so many of them.
fn hangs_up(export: &Export, command: Command, times: usize) -> Server {
    let left = AtomicUsize::new(times);
    let take = move || {
        let less = |left: usize| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    };
    Server::builder()
        .export("", export.clone())
        .hang_up_on(move |request| request.command == command && take())
        .build()
}

async fn disk_over(builder: DiskBuilder, server: &Server) -> Disk {
    let opened = watch(builder.open(Place::of(server).connector())).await;
    opened.unwrap()
}

/// An export that cannot zero, and is full.
fn without_zeroes() -> Export {
    let flags = Flags::HAS_FLAGS | Flags::SEND_FLUSH;
    let export = Export::new(SIZE).flags(flags);
    export.fill(0, SIZE, 0xff);
    export
}

both_runtimes!(zeroes_are_written_over_the_next_connection);
async fn zeroes_are_written_over_the_next_connection() {
    let export = without_zeroes();
    let server = hangs_up(&export, Command::WRITE, 2);
    let disk = disk_over(builder().changes(Changes::Repeat), &server).await;
    let mut events = disk.events();
    assert_matches!(
        watch(disk.write_zeroes(4096, 8192).into_future()).await,
        Err(Error::Invalid(_))
    );
    let zeroes = disk.write_zeroes(4096, 8192).or_write();
    watch(zeroes.into_future()).await.unwrap();
    let range = event(&mut events, |event| match event {
        Event::Repeated { range } => Some(range),
        _ => None,
    });
    assert_eq!(range.await, 4096..12288);
    let expected = [vec![0xff; 4096], vec![0; 8192], vec![0xff; 4096]].concat();
    assert!(export.contents(0, 16384) == expected);
    // The first ones may still be carried out.
    assert_matches!(
        watch(disk.write(8192, "x").into_future()).await,
        Err(Error::Held { .. })
    );
    let again = disk.write_zeroes(8192, 512).or_write();
    watch(again.into_future()).await.unwrap();
}

both_runtimes!(zeroes_are_written_if_they_cannot_be_fast);
async fn zeroes_are_written_if_they_cannot_be_fast() {
    let export = Export::new(SIZE).fast_zero(false);
    export.fill(0, SIZE, 0xff);
    let disk = disk_over(builder(), &Server::new(export.clone())).await;
    let fast = disk.write_zeroes(4096, 4096).fast_zero();
    let error = watch(fast.into_future()).await;
    assert_matches!(error, Err(Error::Request(failed)) if failed.errno() == Errno::ENOTSUP);
    assert_eq!(disk.status().unflushed_bytes, 0);
    let fast = disk.write_zeroes(4096, 4096).fast_zero().or_write();
    watch(fast.into_future()).await.unwrap();
    assert_eq!((export.counters().zeroes, export.counters().writes), (2, 1));
    assert!(export.contents(4096, 4096) == [0; 4096]);
    assert_eq!(disk.status().unflushed_bytes, 4096);
}

both_runtimes!(a_read_fills_the_buffer_that_it_is_given);
async fn a_read_fills_the_buffer_that_it_is_given() {
    let export = Export::new(SIZE);
    export.fill(512, 1024, 7);
    let disk = disk_over(builder(), &Server::new(export.clone())).await;
    let mut buffer = BytesMut::with_capacity(1 << 16);
    buffer.resize(1024, 0);
    let memory = (buffer.as_ptr(), buffer.capacity());
    let read = disk.read_into(512, buffer);
    let found = watch(read.into_future()).await.unwrap();
    assert_eq!((found.as_ptr(), found.capacity()), memory);
    assert_eq!(&found[..], [7; 1024]);
    // Over the next connection it is another one, of the same length.
    let server = hangs_up(&export, Command::READ, 2);
    let disk = disk_over(builder(), &server).await;
    for buffer in [BytesMut::zeroed(1024), BytesMut::with_capacity(1024)] {
        let read = disk.read_into(512, buffer);
        let found = watch(read.into_future()).await.unwrap();
        assert_eq!(&found[..], [7; 1024]);
    }
    assert!(disk.status().generation > 1);
}

/// Links that flush after a change that is to be durable.
fn emulating() -> DiskBuilder {
    builder().link(Connection::builder().emulate_fua(true))
}

/// An export that cannot make a single change durable.
fn without_fua() -> Export {
    Export::new(SIZE).flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH)
}

both_runtimes!(a_change_that_a_flush_has_made_durable_is_not_in_doubt);
async fn a_change_that_a_flush_has_made_durable_is_not_in_doubt() {
    let export = without_fua();
    let server = Server::new(export.clone());
    let disk = disk_over(builder(), &server).await;
    let refused = watch(disk.write(0, "x").fua().into_future()).await;
    assert_matches!(refused, Err(Error::Invalid(_)));
    let disk = disk_over(emulating(), &server).await;
    let mut events = disk.events();
    let durable = disk.write(0, "durable").fua();
    watch(durable.into_future()).await.unwrap();
    assert_eq!(
        (export.counters().writes, export.counters().flushes),
        (1, 1)
    );
    assert_eq!(disk.status().unflushed_bytes, 0);
    let volatile = disk.write(4096, "volatile");
    watch(volatile.into_future()).await.unwrap();
    assert_eq!(disk.status().unflushed_bytes, 8);
    server.hang_up();
    recovered(&mut events).await;
    let flush = watch(disk.flush().into_future()).await;
    assert_matches!(flush, Err(Error::DurabilityUnknown(lost)) if lost.ranges() == std::slice::from_ref(&(4096..4104)));
}

both_runtimes!(a_change_whose_flush_is_lost_is_in_doubt);
async fn a_change_whose_flush_is_lost_is_in_doubt() {
    let export = without_fua();
    let server = hangs_up(&export, Command::FLUSH, 1);
    let disk = disk_over(emulating(), &server).await;
    let durable = disk.write(0, "durable").fua();
    let error = watch(durable.into_future()).await;
    assert_matches!(error, Err(Error::OutcomeUnknown(lost)) if lost.range() == &(0..7));
    assert_eq!(disk.status().held, std::slice::from_ref(&(0..7)));

    let export = without_fua();
    let server = hangs_up(&export, Command::FLUSH, 1);
    let disk = disk_over(emulating().changes(Changes::Repeat), &server).await;
    let mut events = disk.events();
    let durable = disk.write(0, "durable").fua();
    watch(durable.into_future()).await.unwrap();
    event(&mut events, |event| {
        matches!(event, Event::Repeated { range } if range == (0..7)).then_some(())
    })
    .await;
    // Both are sent again, the flush after the write.
    assert_eq!(export.counters().writes, 2);
    assert_eq!(disk.status().unflushed_bytes, 0);
}
