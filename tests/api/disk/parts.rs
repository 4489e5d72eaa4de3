//! Changes that are over for their caller, and not for the server.

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Errno, TransmissionFlags as Flags};
use nbd_client::{Connection, Delivery, Error};

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
