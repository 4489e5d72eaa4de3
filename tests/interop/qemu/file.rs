//! Data, seen from the image behind the server.

use nbd_client::wire::Errno;
use nbd_client::{Builder, Connection, Error, Strict};

use super::connect;
use crate::disk::{Model, ten_gibibytes};
use crate::shared::load;
use crate::shared::process::is_gone;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server, run};

const SIZE: u64 = 1 << 20;

/// The client in each of the ways it can speak: with what the server has, with structured
/// replies, and with simple ones.
fn styles() -> [Builder; 3] {
    [
        Connection::builder(),
        Connection::builder().extended_headers(false),
        Connection::builder()
            .extended_headers(false)
            .structured_replies(false),
    ]
}

both_runtimes!(random_commands_leave_a_raw_image_as_they_should);
async fn random_commands_leave_a_raw_image_as_they_should() {
    for (seed, style) in (10..).zip(styles()) {
        let dir = Dir::new();
        let disk = dir.disk("disk", SIZE);
        let server = Server::qemu(&["-f", "raw", "--discard=unmap", &disk]);
        let conn = connect(&server, style).await;
        let mut model = Model::new(SIZE);
        model.exercise(&conn, &mut Random::new(seed), 300).await;
        conn.disconnect().await.unwrap();
        model.verify_file(&disk);
    }
}

both_runtimes!(random_commands_leave_a_qcow2_image_as_they_should);
async fn random_commands_leave_a_qcow2_image_as_they_should() {
    for (seed, style) in (20..).zip(styles()) {
        let dir = Dir::new();
        let image = dir.path("disk.qcow2");
        run("qemu-img", &["create", "-q", "-f", "qcow2", &image, "1M"]);
        let server = Server::qemu(&["-f", "qcow2", "--discard=unmap", &image]);
        let conn = connect(&server, style).await;
        let mut model = Model::new(SIZE);
        model.exercise(&conn, &mut Random::new(seed), 300).await;
        conn.disconnect().await.unwrap();
        server.stop();
        let raw = dir.path("disk.raw");
        run(
            "qemu-img",
            &["convert", "-f", "qcow2", "-O", "raw", &image, &raw],
        );
        model.verify_file(&raw);
    }
}

#[tokio::test]
async fn many_tasks_mix_reads_and_writes_on_one_thread() {
    for style in styles() {
        let dir = Dir::new();
        let server = Server::qemu(&["-f", "raw", &dir.disk("disk", load::SIZE)]);
        load::verified(&connect(&server, style).await, load::HEAVY, 8).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_mix_reads_and_writes_on_many_threads() {
    for style in styles() {
        let dir = Dir::new();
        let server = Server::qemu(&["-f", "raw", &dir.disk("disk", load::SIZE)]);
        load::verified(&connect(&server, style).await, load::HEAVY, 8).await;
    }
}

both_runtimes!(k48_a_server_takes_over_a_socket_and_ends_with_the_connection);
async fn k48_a_server_takes_over_a_socket_and_ends_with_the_connection() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let conn = Connection::new();
    let argv = ["qemu-nbd", "-f", "raw", &disk];
    conn.connect_systemd_socket_activation(argv).await.unwrap();
    let pid = conn.child_id().unwrap();
    conn.write(512, vec![4; 512]).await.unwrap();
    conn.disconnect().await.unwrap();
    assert!(is_gone(pid));
    assert!(std::fs::read(&disk).unwrap()[512..1024] == [4; 512]);
}

// P-116: qemu-nbd answers EINVAL to more than 32 MiB.
both_runtimes!(reads_and_writes_of_more_than_32_mib_are_split);
async fn reads_and_writes_of_more_than_32_mib_are_split() {
    const LONG: usize = (33 << 20) + 512;
    for style in styles() {
        let dir = Dir::new();
        let disk = dir.disk("disk", 40 << 20);
        let server = Server::qemu(&["-f", "raw", &disk]);
        let conn = connect(&server, style).await;
        let data = Random::new(4).bytes(LONG);
        conn.write(512, data.clone()).fua().await.unwrap();
        assert!(std::fs::read(&disk).unwrap()[512..512 + LONG] == data);
        assert!(conn.read(512, LONG).await.unwrap() == data);
    }
}

// P-117: the protocol lets a client cache more than the maximum payload, but this server answers
// EINVAL ("is larger than max len") to more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_without_data_are_as_long_as_the_caller_likes() {
    for style in styles() {
        let dir = Dir::new();
        let disk = dir.disk("disk", 12 << 30);
        let server = Server::qemu(&["-f", "raw", "--discard=unmap", &disk]);
        let conn = connect(&server, style).await;
        ten_gibibytes(&conn).await;
        conn.disconnect().await.unwrap();
    }
}

// What is longer than the limit is refused by the server itself, if it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_payload_is_not_cached_at_once() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 30);
    let server = Server::qemu(&["-f", "raw", &disk]);
    let conn = connect(&server, Connection::builder()).await;
    conn.set_strict(Strict::all() - Strict::PAYLOAD);
    conn.cache(0, 32 << 20).await.unwrap();
    let refused = conn.cache(0, (32 << 20) + 1).await.unwrap_err();
    let is_refused = matches!(&refused, Error::Request(error) if error.errno() == Errno::EINVAL);
    assert!(is_refused, "{refused}");
    conn.read(0, 4096).await.unwrap();
}
