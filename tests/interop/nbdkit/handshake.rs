//! Every kind of handshake nbdkit can do.

use nbd_client::wire::HandshakeFlags;
use nbd_client::{Connection, Handshake, Protocol};

use crate::shared::server::Server;

/// What was agreed, once data has gone both ways over it.
async fn agreed(conn: &Connection) -> Protocol {
    conn.write(1000, vec![0x5a; 3000]).await.unwrap();
    let data = conn.read(0, 8192).await.unwrap();
    assert!(data[1000..4000].iter().all(|&byte| byte == 0x5a));
    assert!(data[..1000].iter().all(|&byte| byte == 0));
    // No flush: this nbdkit offers it to oldstyle clients, but refuses to do it.
    assert_eq!(conn.size().unwrap(), 1 << 20);
    let protocol = conn.protocol().unwrap();
    conn.disconnect().await.unwrap();
    assert!(conn.is_closed());
    protocol
}

async fn agreed_with(args: &[&str]) -> Protocol {
    let server = Server::nbdkit(&[args, &["memory", "1M"]].concat());
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    agreed(&conn).await
}

// extended headers may be refused.
both_runtimes!(nbdkit_agrees_on_structured_replies_without_extended_headers);
async fn nbdkit_agrees_on_structured_replies_without_extended_headers() {
    let protocol = agreed_with(&[]).await;
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert!(protocol.structured_replies);
    assert!(!protocol.extended_headers);
    assert_eq!(protocol.handshake_flags, HandshakeFlags::all());
}

// P-061: structured replies may be refused.
both_runtimes!(a_server_without_structured_replies_sends_simple_ones);
async fn a_server_without_structured_replies_sends_simple_ones() {
    let protocol = agreed_with(&["--no-sr"]).await;
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert!(!protocol.structured_replies);
}

both_runtimes!(a_client_that_wants_no_structured_replies_gets_none);
async fn a_client_that_wants_no_structured_replies_gets_none() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let conn = Connection::builder().structured_replies(false).build();
    conn.connect_unix(server.socket()).await.unwrap();
    assert!(!agreed(&conn).await.structured_replies);
}

// P-010: an oldstyle greeting has 152 bytes.
both_runtimes!(an_oldstyle_server_is_ready_at_once);
async fn an_oldstyle_server_is_ready_at_once() {
    let protocol = agreed_with(&["-o"]).await;
    assert_eq!(protocol.handshake, Handshake::Oldstyle);
    assert!(!protocol.structured_replies);
    assert_eq!(protocol.handshake_flags, HandshakeFlags::empty());
}

// P-016, P-017: the export is entered by name, and 124 zeroes follow.
both_runtimes!(a_server_without_fixed_newstyle_is_entered_by_name);
async fn a_server_without_fixed_newstyle_is_entered_by_name() {
    let protocol = agreed_with(&["--mask-handshake=0"]).await;
    assert_eq!(protocol.handshake, Handshake::Newstyle);
    assert!(!protocol.structured_replies);
    assert_eq!(protocol.handshake_flags, HandshakeFlags::empty());
}

// P-014: NO_ZEROES only if it was offered.
both_runtimes!(a_server_without_no_zeroes_negotiates_as_any_other);
async fn a_server_without_no_zeroes_negotiates_as_any_other() {
    let protocol = agreed_with(&["--mask-handshake=1"]).await;
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert!(protocol.structured_replies);
    let agreed = HandshakeFlags::FIXED_NEWSTYLE;
    assert_eq!(protocol.handshake_flags, agreed);
}

// P-014: NO_ZEROES was offered; P-015: FIXED_NEWSTYLE was not.
both_runtimes!(a_server_with_no_zeroes_alone_is_entered_by_name);
async fn a_server_with_no_zeroes_alone_is_entered_by_name() {
    let protocol = agreed_with(&["--mask-handshake=2"]).await;
    assert_eq!(protocol.handshake, Handshake::Newstyle);
}

// P-015: nothing is accepted that the client was told not to.
both_runtimes!(a_client_that_accepts_no_flags_enters_by_name);
async fn a_client_that_accepts_no_flags_enters_by_name() {
    for flags in [HandshakeFlags::empty(), HandshakeFlags::NO_ZEROES] {
        let server = Server::nbdkit(&["memory", "1M"]);
        let conn = Connection::builder().handshake_flags(flags).build();
        conn.connect_unix(server.socket()).await.unwrap();
        let protocol = agreed(&conn).await;
        assert_eq!(protocol.handshake, Handshake::Newstyle);
        assert_eq!(protocol.handshake_flags, flags);
    }
}

both_runtimes!(an_oldstyle_server_has_nothing_to_negotiate);
async fn an_oldstyle_server_has_nothing_to_negotiate() {
    let server = Server::nbdkit(&["-o", "memory", "1M"]);
    let conn = Connection::builder().opt_mode(true).build();
    conn.connect_unix(server.socket()).await.unwrap();
    assert!(conn.is_ready());
    agreed(&conn).await;
}

both_runtimes!(nbdkit_is_reached_over_tcp);
async fn nbdkit_is_reached_over_tcp() {
    let server = Server::nbdkit_tcp(&["memory", "1M"]);
    let conn = Connection::new();
    conn.connect_tcp("localhost", server.port()).await.unwrap();
    let peer = conn.peer_addr().unwrap();
    assert!(peer.ip().is_loopback() && peer.port() == server.port());
    agreed(&conn).await;

    let conn = Connection::new();
    conn.connect_addr(peer).await.unwrap();
    assert_eq!(conn.peer_addr(), Some(peer));
    agreed(&conn).await;
}

both_runtimes!(nbdkit_is_run_on_its_standard_input_and_output);
async fn nbdkit_is_run_on_its_standard_input_and_output() {
    let conn = Connection::new();
    let connecting = conn
        .aio_connect_command(["nbdkit", "-s", "--exit-with-parent", "memory", "1M"])
        .unwrap();
    assert!(conn.is_connecting());
    connecting.await.unwrap();
    assert!(conn.is_ready());
    agreed(&conn).await;
}
