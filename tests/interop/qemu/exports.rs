//! What qemu-nbd says of its exports.

use nbd_client::wire::{Errno, OptionReplyType};
use nbd_client::{Connection, Delivery, Error, ErrorKind, Handshake};

use super::connect;
use crate::shared::server::{Dir, Server};

fn server() -> (Server, Dir) {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let args = ["-f", "raw", "-x", "disk0", "-D", "a small disk", &disk];
    (Server::qemu(&args), dir)
}

both_runtimes!(the_list_has_name_and_description);
async fn the_list_has_name_and_description() {
    let (server, _dir) = server();
    let conn = connect(&server, Connection::builder().opt_mode(true)).await;
    let list = conn.opt_list().await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].name, "disk0");
    assert_eq!(list[0].description.as_str(), "a small disk");
}

// P-047: information comes in any order; P-057: the canonical name may differ.
both_runtimes!(name_and_description_come_with_full_info);
async fn name_and_description_come_with_full_info() {
    let (server, _dir) = server();
    let builder = Connection::builder().export_name("disk0").full_info(true);
    let export = connect(&server, builder).await.export().unwrap();
    assert_eq!(export.canonical_name(), Some("disk0"));
    assert_eq!(export.description().unwrap().as_str(), "a small disk");
    assert_eq!(export.size(), 1 << 20);
}

both_runtimes!(name_and_description_do_not_come_unasked);
async fn name_and_description_do_not_come_unasked() {
    let (server, _dir) = server();
    let builder = Connection::builder().export_name("disk0");
    let export = connect(&server, builder).await.export().unwrap();
    assert_eq!(export.canonical_name(), None);
    assert!(export.description().is_none());
}

// P-023: an error reply may carry a message; P-052: a refusal leaves negotiation usable.
both_runtimes!(an_unknown_export_is_refused_with_the_text_of_the_server);
async fn an_unknown_export_is_refused_with_the_text_of_the_server() {
    let (server, _dir) = server();
    let conn = Connection::builder().export_name("disk1").build();
    let error = conn.connect_unix(server.socket()).await.unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("not a refusal: {error}");
    };
    assert_eq!(refusal.reply(), OptionReplyType::ERR_UNKNOWN);
    assert!(refusal.message().as_str().contains("disk1"), "{error}");
    assert_eq!(error.errno(), Some(2));
}

both_runtimes!(block_sizes_are_always_said);
async fn block_sizes_are_always_said() {
    let (server, _dir) = server();
    let builder = Connection::builder().export_name("disk0");
    let export = connect(&server, builder).await.export().unwrap();
    let sizes = export.block_size().unwrap();
    assert_eq!(
        (sizes.minimum, sizes.preferred, sizes.maximum),
        (1, 4096, 32 << 20)
    );
}

both_runtimes!(structured_replies_are_agreed_on_without_extended_headers);
async fn structured_replies_are_agreed_on_without_extended_headers() {
    let (server, _dir) = server();
    let builder = Connection::builder()
        .export_name("disk0")
        .extended_headers(false);
    let conn = connect(&server, builder).await;
    let protocol = conn.protocol().unwrap();
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert!(protocol.structured_replies);
    assert!(!protocol.extended_headers);
    conn.write(512, vec![3; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![3; 512]);
}

both_runtimes!(neither_is_agreed_on_if_neither_is_wanted);
async fn neither_is_agreed_on_if_neither_is_wanted() {
    let (server, _dir) = server();
    let builder = Connection::builder()
        .export_name("disk0")
        .structured_replies(false);
    let conn = connect(&server, builder).await;
    let protocol = conn.protocol().unwrap();
    assert!(!protocol.structured_replies);
    assert!(!protocol.extended_headers);
    conn.write(512, vec![3; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![3; 512]);
}

// P-132: only what the server offers.
both_runtimes!(a_read_only_export_offers_no_writes);
async fn a_read_only_export_offers_no_writes() {
    let dir = Dir::new();
    let server = Server::qemu(&["-r", "-f", "raw", &dir.disk("disk", 1 << 20)]);
    let conn = connect(&server, Connection::builder()).await;
    assert!(conn.export().unwrap().is_read_only());
    let error = conn.write(0, vec![0; 512]).await.unwrap_err();
    assert_eq!(error.errno(), Some(1), "{error}");
    conn.read(0, 512).await.unwrap();
}

both_runtimes!(several_connections_see_one_export);
async fn several_connections_see_one_export() {
    let dir = Dir::new();
    let server = Server::qemu(&["-f", "raw", &dir.disk("disk", 1 << 20)]);
    let one = connect(&server, Connection::builder()).await;
    let two = connect(&server, Connection::builder()).await;
    assert!(one.export().unwrap().can_multi_conn());
    one.write(4096, vec![9; 4096]).await.unwrap();
    one.flush().await.unwrap();
    assert_eq!(two.read(4096, 4096).await.unwrap(), vec![9; 4096]);
}

/// A server whose disk cannot be read, or written.
fn failing(way: &str) -> (Server, Dir) {
    let dir = Dir::new();
    let disk = dir.file("disk", vec![1; 1 << 20]);
    let image = format!(
        "driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={disk},\
         file.inject-error.0.event={way}_aio,file.inject-error.0.iotype={way}"
    );
    (Server::qemu(&["--image-opts", &image]), dir)
}

// P-023: errors of qemu-nbd come with text.
both_runtimes!(an_error_carries_the_text_of_the_server);
async fn an_error_carries_the_text_of_the_server() {
    let (server, _dir) = failing("write");
    let conn = connect(&server, Connection::builder()).await;
    let error = match conn.write(0, vec![2; 512]).await {
        Err(Error::Request(error)) => error,
        other => panic!("not an error of the request: {other:?}"),
    };
    assert_eq!(error.errno(), Errno::EIO);
    assert!(!error.message().is_empty(), "{error}");
    assert_eq!(conn.read(0, 512).await.unwrap(), vec![1; 512]);
}

// P-179: this server hangs up where it cannot read.
both_runtimes!(a_server_that_hangs_up_in_a_read_ends_the_connection);
async fn a_server_that_hangs_up_in_a_read_ends_the_connection() {
    let (server, _dir) = failing("read");
    let conn = connect(&server, Connection::builder()).await;
    let error = conn.read(0, 512).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(conn.is_dead());
    let error = conn.write(0, vec![2; 512]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert_eq!(error.delivery(), Delivery::NotSent);
}
