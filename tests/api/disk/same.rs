//! What a disk does if another connection shows another export.

use futures::StreamExt as _;
use nbd_client::testing::{Export, Server};
use nbd_client::{Error, wire::TransmissionFlags as Flags};

use super::several::in_turn;
use super::*;
use crate::support::assert_matches;

both_runtimes!(an_export_that_has_changed_is_told);
async fn an_export_that_has_changed_is_told() {
    let (disk, server, place) = open(builder()).await;
    let events = disk.events();
    let smaller = Server::new(Export::new(SIZE - 512));
    place.put(Some(&smaller));
    server.hang_up();
    let events: Vec<_> = watch(events.collect()).await;
    let is_changed = |cause: &Error| {
        let Error::ExportChanged { what, was, is } = cause else {
            return false;
        };
        assert_eq!(
            (*what, &**was, &**is),
            ("its size in bytes", "1048576", "1048064")
        );
        true
    };
    let [
        Event::Lost { generation: 1, .. },
        Event::Retrying { attempt: 1, .. },
        Event::ExportChanged { cause },
        Event::GaveUp { cause: last },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(is_changed(cause) && is_changed(last));
    assert!(is_changed(&disk.ended().unwrap()));
    // The connection is not kept.
    watch(smaller.connected(0)).await;
}

both_runtimes!(a_further_connection_to_another_export_is_not_used);
async fn a_further_connection_to_another_export_is_not_used() {
    let read_only =
        Server::new(shared().read_only(true).flags(
            Flags::HAS_FLAGS | Flags::SEND_FLUSH | Flags::READ_ONLY | Flags::CAN_MULTI_CONN,
        ));
    let servers = [Server::new(shared()), read_only];
    let disk = builder().connections(2);
    let disk = watch(disk.open(in_turn(&servers))).await.unwrap();
    let mut events = disk.events();
    let reads = (0..64).map(|_| disk.read(0, 512).into_future());
    watch(futures::future::try_join_all(reads)).await.unwrap();
    let cause = event(&mut events, |event| match event {
        Event::Limited { cause } => Some(cause),
        _ => None,
    });
    let what = "write access";
    assert_matches!(cause.await, Error::ExportChanged { what: of, .. } if of == what);
    let reason = disk.status().limited_by().unwrap();
    assert!(reason.contains("another export"), "{reason}");
    watch(servers[1].connected(0)).await;
    assert_eq!(disk.status().links, 1);
    assert_matches!(disk.ended(), None);
    watch(disk.write(0, "on").into_future()).await.unwrap();
}
