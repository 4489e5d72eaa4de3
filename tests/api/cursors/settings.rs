//! Cursors whose settings meet those of the server, or change.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_read_ahead_is_bounded_in_bytes_whatever_the_requests() {
    for size in [1, 512, usize::MAX] {
        let disk = Export::new(8 << 20).block_sizes(4096, 4096, 64 << 10);
        let (conn, server) = connect(Server::builder(), &disk).await;
        let cursor = conn.cursor().request_size(size);
        let mut cursor = cursor.max_read_ahead(256 << 10);
        within(cursor.read_exact(&mut vec![0; 1 << 20]))
            .await
            .unwrap();
        let before = disk.counters().reads;
        server.pause();
        assert!(
            drop_after(1, cursor.read_exact(&mut vec![0; 1 << 20]))
                .await
                .is_none()
        );
        settle().await;
        assert!(disk.counters().reads - before <= 65, "requests of {size}");
    }
}

both_runtimes!(a_flush_of_nothing_spoils_no_cursor);
async fn a_flush_of_nothing_spoils_no_cursor() {
    let conn = Connection::new();
    let mut cursor = conn.cursor();
    let _ = within(cursor.flush()).await;
    let server = Server::new(Export::new(1 << 20));
    conn.connect_stream(server.connect()).await.unwrap();
    within(cursor.write_all(&[1; 512])).await.unwrap();
    within(cursor.shutdown()).await.unwrap();
}

both_runtimes!(what_failed_behind_stays_when_it_is_written_through);
async fn what_failed_behind_stays_when_it_is_written_through() {
    let server = Server::builder().fail_with(|head| {
        let is_first = head.command == Command::WRITE && head.length == 1000;
        is_first.then(|| (Errno::ENOSPC, String::new()))
    });
    let (conn, _server) = connect(server, &Export::new(1 << 20)).await;
    let mut cursor = conn.cursor().write_behind(1 << 20);
    within(cursor.write_all(&[1; 1000])).await.unwrap();
    let mut cursor = cursor.write_behind(0);
    within(cursor.write(&[2; 512])).await.unwrap_err();
    within(cursor.write(&[2; 512])).await.unwrap_err();
    within(cursor.shutdown()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_given_up_comes_before_one_behind() {
    let disk = Export::new(1 << 20);
    let server = Server::builder().latency(Duration::from_millis(10));
    let (conn, _server) = connect(server, &disk).await;
    let mut cursor = conn.cursor();
    assert!(drop_after(3, cursor.write(b"aaaa")).await.is_none());
    let mut cursor = cursor.write_behind(1 << 20);
    within(cursor.write_all(b"bbbb")).await.unwrap();
    within(cursor.seek(SeekFrom::Start(0))).await.unwrap();
    let mut cursor = cursor.write_behind(0);
    within(cursor.write_all(b"aaaa")).await.unwrap();
    assert_eq!(disk.contents(0, 4), b"aaaa");
}
