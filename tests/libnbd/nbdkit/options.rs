//! opt-structured-twice, newstyle-limited, shutdown-opt-mode.

use nbd_client::wire::HandshakeFlags;
use nbd_client::{Connection, Handshake, State};

use super::connect;

both_runtimes!(structured_replies_can_be_asked_for_twice);
async fn structured_replies_can_be_asked_for_twice() {
    let builder = Connection::builder()
        .opt_mode(true)
        .structured_replies(false);
    let conn = connect(builder, &["memory", "1M"]).await;
    assert!(!conn.protocol().unwrap().structured_replies);
    assert!(conn.opt_structured_reply().await.unwrap());
    assert!(conn.protocol().unwrap().structured_replies);
    // P-021: whatever the server says to the second, it stays with the first.
    conn.opt_structured_reply().await.unwrap();
    assert!(conn.protocol().unwrap().structured_replies);
    conn.opt_go().await.unwrap();
    assert!(conn.export().unwrap().can_df());
    conn.read(0, 512).await.unwrap();
}

// P-016: without fixed newstyle, only EXPORT_NAME.
both_runtimes!(without_fixed_newstyle_there_is_only_go_and_abort);
async fn without_fixed_newstyle_there_is_only_go_and_abort() {
    let limited = || {
        Connection::builder()
            .opt_mode(true)
            .handshake_flags(HandshakeFlags::NO_ZEROES)
    };
    let plugin = ["--filter=exportname", "memory", "1M", "exportname=a"];
    let strict = ["exportname-strict=true"];
    let plugin = [&plugin[..], &strict].concat();
    let conn = connect(limited(), &plugin).await;
    assert_eq!(conn.protocol().unwrap().handshake, Handshake::Newstyle);
    assert!(conn.is_negotiating());
    let none: [&str; 0] = [];
    for result in [
        conn.opt_list().await.map(drop),
        conn.opt_info().await.map(drop),
        conn.opt_structured_reply().await.map(drop),
        conn.opt_extended_headers().await.map(drop),
        conn.opt_list_meta_context(none).await.map(drop),
        conn.opt_set_meta_context(none).await.map(drop),
    ] {
        assert_eq!(result.unwrap_err().errno(), Some(95));
        assert!(conn.is_negotiating());
    }
    conn.set_export_name("a").unwrap();
    conn.opt_go().await.unwrap();
    conn.read(0, 512).await.unwrap();

    // P-018: a name that does not exist ends the connection.
    let conn = connect(limited().export_name("b"), &plugin).await;
    conn.opt_go().await.unwrap_err();
    assert!(!conn.is_negotiating());

    let conn = connect(limited(), &plugin).await;
    conn.opt_abort().await.unwrap();
    assert_eq!(conn.state(), State::Closed);
}

// P-030: the connection closes after ABORT.
both_runtimes!(disconnecting_while_negotiating_aborts);
async fn disconnecting_while_negotiating_aborts() {
    let conn = connect(Connection::builder().opt_mode(true), &["memory", "1M"]).await;
    conn.disconnect().await.unwrap();
    assert_eq!(conn.state(), State::Closed);
    assert!(conn.size().is_err());
    conn.disconnect().await.unwrap();
}
