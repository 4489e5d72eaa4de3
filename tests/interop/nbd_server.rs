//! The client against nbd-server, which has none of the newer features.

use nbd_client::wire::OptionReplyType;
use nbd_client::{Connection, Error, Handshake};

use crate::disk::Model;
use crate::shared::load;
use crate::shared::random::Random;
use crate::shared::server::{Dir, Server};

const SIZE: u64 = 1 << 20;

/// A section of the configuration that exports a file with everything there is.
fn export(disk: &str) -> String {
    format!("[disk0]\nexportname = {disk}\nflush = true\nfua = true\ntrim = true\n")
}

async fn connect(server: &Server) -> Connection {
    let conn = Connection::builder().export_name("disk0").build();
    conn.connect_unix(server.socket()).await.unwrap();
    conn
}

// P-061: structured replies may be refused; X-02: extended headers may be refused.
both_runtimes!(replies_are_simple);
async fn replies_are_simple() {
    let dir = Dir::new();
    let server = Server::nbd_server(&export(&dir.disk("disk", SIZE)));
    let conn = connect(&server).await;
    let protocol = conn.protocol().unwrap();
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert!(!protocol.structured_replies);
    assert!(!protocol.extended_headers);
    assert_eq!(conn.size().unwrap(), SIZE);
    conn.disconnect().await.unwrap();
}

both_runtimes!(random_commands_leave_the_file_as_they_should);
async fn random_commands_leave_the_file_as_they_should() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let server = Server::nbd_server(&export(&disk));
    let conn = connect(&server).await;
    let facts = conn.export().unwrap();
    assert!(facts.can_flush() && facts.can_fua() && facts.can_trim());
    let mut model = Model::new(SIZE);
    model.exercise(&conn, &mut Random::new(30), 500).await;
    conn.disconnect().await.unwrap();
    model.verify_file(&disk);
}

both_runtimes!(the_server_is_reached_over_tcp);
async fn the_server_is_reached_over_tcp() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let server = Server::nbd_server_tcp(&export(&disk));
    let conn = Connection::builder().export_name("disk0").build();
    conn.connect_tcp("127.0.0.1", server.port()).await.unwrap();
    conn.write(512, vec![8; 512]).await.unwrap();
    conn.flush().await.unwrap();
    assert!(std::fs::read(&disk).unwrap()[512..1024] == [8; 512]);
}

// P-053: this server says a size of zero in INFO, and the right one in GO.
both_runtimes!(the_size_is_what_go_says_and_not_what_info_said);
async fn the_size_is_what_go_says_and_not_what_info_said() {
    let dir = Dir::new();
    let server = Server::nbd_server(&export(&dir.disk("disk", SIZE)));
    let conn = Connection::builder()
        .export_name("disk0")
        .opt_mode(true)
        .build();
    conn.connect_unix(server.socket()).await.unwrap();
    conn.opt_info().await.unwrap();
    conn.opt_go().await.unwrap();
    assert_eq!(conn.size().unwrap(), SIZE);
    conn.read(SIZE - 512, 512).await.unwrap();
}

both_runtimes!(the_list_has_every_section);
async fn the_list_has_every_section() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let sections = format!("{}[disk1]\nexportname = {disk}\n", export(&disk));
    let server = Server::nbd_server(&sections);
    let conn = Connection::builder().opt_mode(true).build();
    conn.connect_unix(server.socket()).await.unwrap();
    let list = conn.opt_list().await.unwrap();
    let mut names: Vec<_> = list.into_iter().map(|export| export.name).collect();
    names.sort();
    assert_eq!(names, ["disk0", "disk1"]);
}

// P-025: an optional feature may be refused; P-041: SERVER replies end with ACK or an error.
both_runtimes!(a_list_that_the_server_keeps_to_itself_is_refused);
async fn a_list_that_the_server_keeps_to_itself_is_refused() {
    let dir = Dir::new();
    let server = Server::nbd_server_tcp(&export(&dir.disk("disk", SIZE)));
    let conn = Connection::builder()
        .export_name("disk0")
        .opt_mode(true)
        .build();
    conn.connect_tcp("127.0.0.1", server.port()).await.unwrap();
    let Error::Refused(refusal) = conn.opt_list().await.unwrap_err() else {
        panic!("not a refusal");
    };
    assert_eq!(refusal.reply(), OptionReplyType::ERR_POLICY);
    conn.opt_go().await.unwrap();
    assert_eq!(conn.size().unwrap(), SIZE);
}

// P-055: the empty name is the default export.
both_runtimes!(there_is_no_default_export);
async fn there_is_no_default_export() {
    let dir = Dir::new();
    let server = Server::nbd_server(&export(&dir.disk("disk", SIZE)));
    let conn = Connection::new();
    let error = conn.connect_unix(server.socket()).await.unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("not a refusal: {error}");
    };
    assert_eq!(refusal.reply(), OptionReplyType::ERR_UNKNOWN);
}

both_runtimes!(many_tasks_mix_reads_and_writes);
async fn many_tasks_mix_reads_and_writes() {
    let dir = Dir::new();
    let server = Server::nbd_server(&export(&dir.disk("disk", load::SIZE)));
    load::verified(&connect(&server).await, load::HEAVY, 8).await;
}

both_runtimes!(a_read_only_export_is_not_written);
async fn a_read_only_export_is_not_written() {
    let dir = Dir::new();
    let disk = dir.disk("disk", SIZE);
    let section = format!("[disk0]\nexportname = {disk}\nreadonly = true\n");
    let server = Server::nbd_server(&section);
    let conn = connect(&server).await;
    assert!(conn.export().unwrap().is_read_only());
    let error = conn.write(0, vec![1; 512]).await.unwrap_err();
    assert_eq!(error.errno(), Some(1), "{error}");
}
