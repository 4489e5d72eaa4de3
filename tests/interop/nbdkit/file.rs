//! Data, seen from the file behind the server.

use std::fs;
use std::time::Duration;

use nbd_client::Connection;

use super::connect;
use crate::disk::Model;
use crate::shared::load;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

const SIZE: u64 = 1 << 20;

both_runtimes!(random_commands_leave_the_file_as_they_should);
async fn random_commands_leave_the_file_as_they_should() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let (conn, _server) = connect(&["file", &disk]).await;
    let mut model = Model::new(SIZE);
    model.exercise(&conn, &mut Random::new(1), 500).await;
    model.verify_file(&disk);
    conn.disconnect().await.unwrap();
}

both_runtimes!(a_written_range_is_in_the_file_and_nothing_else_changed);
async fn a_written_range_is_in_the_file_and_nothing_else_changed() {
    let dir = Dir::new();
    let disk = dir.file("disk", vec![0xee; SIZE as usize]);
    let (conn, _server) = connect(&["file", &disk]).await;
    conn.write(12_345, vec![0x11; 6_789]).fua().await.unwrap();
    let mut expected = vec![0xee; SIZE as usize];
    expected[12_345..12_345 + 6_789].fill(0x11);
    assert!(fs::read(&disk).unwrap() == expected);
}

both_runtimes!(written_zeroes_are_zeroes_in_the_file);
async fn written_zeroes_are_zeroes_in_the_file() {
    let dir = Dir::new();
    let disk = dir.file("disk", vec![0xee; SIZE as usize]);
    let (conn, _server) = connect(&["file", &disk]).await;
    conn.write_zeroes(4096, 8192).no_hole().await.unwrap();
    conn.write_zeroes(65536, 8192).await.unwrap();
    conn.flush().await.unwrap();
    let mut expected = vec![0xee; SIZE as usize];
    expected[4096..4096 + 8192].fill(0);
    expected[65536..65536 + 8192].fill(0);
    assert!(fs::read(&disk).unwrap() == expected);
}

both_runtimes!(a_trimmed_range_takes_no_room_in_the_file);
async fn a_trimmed_range_takes_no_room_in_the_file() {
    use std::os::unix::fs::MetadataExt;

    let dir = Dir::new();
    let disk = dir.file("disk", vec![0xee; SIZE as usize]);
    let (conn, _server) = connect(&["file", &disk]).await;
    let before = fs::metadata(&disk).unwrap().blocks();
    conn.trim(0, SIZE / 2).fua().await.unwrap();
    let after = fs::metadata(&disk).unwrap().blocks();
    assert!(after * 512 <= before * 512 - SIZE / 2, "{before} {after}");
}

// P-116: longer than what one message can be, so several are sent.
both_runtimes!(a_write_longer_than_32_mib_arrives_whole);
async fn a_write_longer_than_32_mib_arrives_whole() {
    const LONG: usize = (40 << 20) + 512;
    let dir = Dir::new();
    let disk = dir.disk("disk", LONG as u64);
    let (conn, _server) = connect(&["file", &disk]).await;
    let data = Random::new(2).bytes(LONG);
    conn.write(0, data.clone()).fua().await.unwrap();
    assert!(fs::read(&disk).unwrap() == data);
    assert!(conn.read(0, LONG).await.unwrap() == data);
}

// P-149: a read-only export is not written.
both_runtimes!(a_read_only_export_is_not_written);
async fn a_read_only_export_is_not_written() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let (conn, _server) = connect(&["-r", "file", &disk]).await;
    assert!(conn.export().unwrap().is_read_only());
    let error = conn.write(0, vec![1; 512]).await.unwrap_err();
    assert_eq!(error.errno(), Some(1), "{error}");
    assert!(fs::read(&disk).unwrap().iter().all(|&byte| byte == 0));
}

#[tokio::test]
async fn many_tasks_mix_reads_and_writes_on_one_thread() {
    let (conn, _server) = connect(&["memory", &load::SIZE.to_string()]).await;
    load::verified(&conn, load::HEAVY, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_mix_reads_and_writes_on_many_threads() {
    let (conn, _server) = connect(&["memory", &load::SIZE.to_string()]).await;
    load::verified(&conn, load::HEAVY, 8).await;
}

both_runtimes!(many_tasks_mix_reads_and_writes_over_tcp);
async fn many_tasks_mix_reads_and_writes_over_tcp() {
    let server = Server::nbdkit_tcp(&["memory", &load::SIZE.to_string()]);
    let conn = Connection::new();
    conn.connect_tcp("127.0.0.1", server.port()).await.unwrap();
    load::verified(&conn, load::HEAVY, 8).await;
}

// Most of the tasks wait for room, and nobody for ever.
both_runtimes!(many_tasks_mix_reads_and_writes_within_a_small_window);
async fn many_tasks_mix_reads_and_writes_within_a_small_window() {
    let server = Server::nbdkit(&["memory", &load::SIZE.to_string()]);
    let conn = Connection::builder()
        .max_in_flight(3)
        .max_in_flight_bytes(600 << 10)
        .shutdown_timeout(Duration::from_secs(5))
        .build();
    conn.connect_unix(server.socket()).await.unwrap();
    load::verified(&conn, load::HEAVY, 8).await;
}
