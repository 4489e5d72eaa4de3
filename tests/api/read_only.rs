//! Connections that make no changes, whatever the server allows.

use nbd_client::testing::{Export, Server};
use nbd_client::wire::{Command, TransmissionFlags};
use nbd_client::{Builder, Error, InvalidRequest, Strict};
use tokio::io::AsyncWriteExt as _;

use crate::support::*;

/// A connection that makes no changes, and the export, which logs what is asked of it.
async fn connected(builder: Builder) -> (nbd_client::Connection, Export) {
    let export = Export::new(1 << 20).log_requests(100);
    let server = Server::new(export.clone());
    let conn = builder.read_only(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    (conn, export)
}

#[track_caller]
fn is_refused(result: Result<(), Error>, command: Command) {
    let error = result.unwrap_err();
    assert_eq!(error.errno(), Some(1), "{error}");
    assert!(!error.is_fatal());
    match error {
        Error::Invalid(InvalidRequest::ReadOnlyConnection(refused)) => {
            assert_eq!(refused, command);
        }
        other => panic!("{command}: {other}"),
    }
}

both_runtimes!(no_change_is_sent_whatever_the_server_allows);
async fn no_change_is_sent_whatever_the_server_allows() {
    for style in STYLES {
        for strict in [Strict::all(), Strict::empty()] {
            let builder = builder(style).strict(strict).emulate_fua(true);
            let (conn, export) = connected(builder).await;
            is_refused(conn.write(0, "data").await, Command::WRITE);
            is_refused(conn.write(0, "data").fua().await, Command::WRITE);
            is_refused(conn.write(0, vec![1; 1 << 20]).await, Command::WRITE);
            is_refused(conn.trim(0, 512).await, Command::TRIM);
            is_refused(conn.write_zeroes(0, 512).await, Command::WRITE_ZEROES);
            is_refused(
                conn.write_zeroes(0, 512).fast_zero().await,
                Command::WRITE_ZEROES,
            );
            assert_eq!(conn.read(0, 512).await.unwrap().len(), 512);
            conn.flush().await.unwrap();
            conn.cache(0, 512).await.unwrap();
            let sent: Vec<_> = export.log().iter().map(|head| head.command).collect();
            assert_eq!(sent, [Command::READ, Command::FLUSH, Command::CACHE]);
            conn.disconnect().await.unwrap();
        }
    }
}

#[tokio::test]
async fn export_is_described_as_read_only_but_for_the_flags_of_the_server() {
    let (conn, _export) = connected(nbd_client::Connection::builder()).await;
    let export = conn.export().unwrap();
    assert!(export.is_read_only());
    assert!(!export.can_trim() && !export.can_zero() && !export.can_fast_zero());
    assert!(!export.can_fua());
    assert!(export.can_flush() && export.can_cache());
    let flags = export.flags();
    assert!(flags.contains(TransmissionFlags::SEND_TRIM | TransmissionFlags::SEND_FUA));
    assert!(!flags.contains(TransmissionFlags::READ_ONLY));
}

#[tokio::test]
async fn export_is_described_so_before_it_is_entered() {
    let server = Server::new(Export::new(1 << 20));
    let builder = nbd_client::Connection::builder().read_only(true);
    let conn = builder.opt_mode(true).build();
    conn.connect_stream(server.connect()).await.unwrap();
    assert!(conn.opt_info().await.unwrap().is_read_only());
    conn.opt_go().await.unwrap();
    is_refused(conn.write(0, "data").await, Command::WRITE);
}

both_runtimes!(a_cursor_says_who_is_read_only);
async fn a_cursor_says_who_is_read_only() {
    for is_protected in [false, true] {
        let server = Server::new(Export::new(1 << 20).read_only(is_protected));
        for makes_no_changes in [true, false] {
            let builder = nbd_client::Connection::builder().read_only(makes_no_changes);
            let conn = builder.build();
            conn.connect_stream(server.connect()).await.unwrap();
            let written = within(conn.cursor().write_all(b"data")).await;
            let refused = written.map_err(|error| error.downcast::<Error>().unwrap());
            if makes_no_changes {
                is_refused(refused, Command::WRITE);
            } else if is_protected {
                let export = InvalidRequest::ReadOnly(Command::WRITE);
                assert_matches!(refused, Err(Error::Invalid(refused)) if refused == export);
            } else {
                refused.unwrap();
            }
        }
    }
}
