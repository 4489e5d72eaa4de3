//! Several connections.

use nbd_client::testing::Server;
use nbd_client::wire::TransmissionFlags as Flags;

use super::*;

both_runtimes!(further_links_are_opened_on_demand);
async fn further_links_are_opened_on_demand() {
    let server = Server::new(shared());
    let place = Place::of(&server);
    let disk = builder()
        .connections(3)
        .open(place.connector())
        .await
        .unwrap();
    assert_eq!(
        (server.connections(), disk.status().limited_by()),
        (1, None)
    );
    load(&disk, 3).await;
    assert_eq!(disk.status().links, 3);
    watch(disk.close()).await.unwrap();
    watch(server.connected(0)).await;
}

both_runtimes!(without_multi_conn_there_is_one_link);
async fn without_multi_conn_there_is_one_link() {
    let export = shared().flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH);
    let server = Server::new(export);
    let place = Place::of(&server);
    let disk = builder()
        .connections(3)
        .open(place.connector())
        .await
        .unwrap();
    assert!(disk.status().limited_by().unwrap().contains("MULTI_CONN"));
    let reads = (0..100).map(|_| disk.read(0, 512).into_future());
    watch(futures::future::try_join_all(reads)).await.unwrap();
    assert_eq!(server.connections(), 1);
}

both_runtimes!(a_lost_link_of_several_is_replaced_and_nothing_is_unsure);
async fn a_lost_link_of_several_is_replaced_and_nothing_is_unsure() {
    let server = Server::new(shared());
    let place = Place::of(&server);
    let disk = builder()
        .connections(2)
        .open(place.connector())
        .await
        .unwrap();
    load(&disk, 2).await;
    disk.write(0, "data").await.unwrap();
    disk.flush().await.unwrap();
    let mut events = disk.events();
    server.hang_up();
    recovered(&mut events).await;
    load(&disk, 2).await;
    assert_eq!(
        &watch(disk.read(0, 4).into_future()).await.unwrap()[..],
        b"data"
    );
    watch(disk.flush().into_future()).await.unwrap();
}

both_runtimes!(what_several_links_have_written_is_read_and_flushed);
async fn what_several_links_have_written_is_read_and_flushed() {
    let server = Server::new(shared());
    let place = Place::of(&server);
    let disk = builder()
        .connections(4)
        .open(place.connector())
        .await
        .unwrap();
    load(&disk, 4).await;
    let writes = (0..64_u64).map(|at| disk.write(at * 512, vec![at as u8 + 1; 512]).into_future());
    watch(futures::future::try_join_all(writes)).await.unwrap();
    let all = watch(disk.read(0, 64 * 512).into_future()).await.unwrap();
    for (at, block) in all.chunks(512).enumerate() {
        assert_eq!(block, [at as u8 + 1; 512]);
    }
    watch(disk.flush().into_future()).await.unwrap();
    assert_eq!(disk.status().unflushed_bytes, 0);
}

both_runtimes!(requests_can_be_submitted_and_settled);
async fn requests_can_be_submitted_and_settled() {
    let (disk, server, _place) = open(builder()).await;
    server.pause();
    let write = disk.write(0, "data").submit();
    watch(server.held(1)).await;
    let read = disk.read(512, 4).submit();
    watch(server.held(2)).await;
    assert_eq!(disk.status().in_flight, 2);
    server.resume();
    watch(disk.settled()).await.unwrap();
    watch(write).await.unwrap();
    watch(read).await.unwrap();
    watch(disk.ping()).await.unwrap();
}

both_runtimes!(a_server_that_was_restarted_gets_the_journal_although_it_took_a_further_connection);
async fn a_server_that_was_restarted_gets_the_journal_although_it_took_a_further_connection() {
    let (server, restarted) = (Server::new(shared()), shared());
    let place = Place::of(&server);
    let builder = builder().connections(2).journal(1 << 20);
    let disk = builder.open(place.connector()).await.unwrap();
    watch(disk.write(0, "volatile").into_future())
        .await
        .unwrap();
    // The old connection does not end yet, and the new server is there.
    server.pause();
    let next = Server::new(restarted.clone());
    place.put(Some(&next));
    let reads: Vec<_> = (0..64).map(|_| begun(disk.read(0, 8))).collect();
    watch(next.connected(1)).await;
    assert_eq!(disk.status().links, 1, "it may be another server");
    server.hang_up();
    for read in reads {
        assert_eq!(&watch(read).await.unwrap().unwrap()[..], b"volatile");
    }
    watch(disk.flush().into_future()).await.unwrap();
    assert_eq!(&restarted.contents(0, 8)[..], b"volatile");
}
