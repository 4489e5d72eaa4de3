//! `LIST`.

use super::*;

/// Lists the exports of a server that answers with these replies.
async fn listed(replies: &[OptionReply]) -> Result<Vec<nbd_client::ListedExport>> {
    let (conn, mut peer) = crate::options::negotiating().await;
    let mut bytes = BytesMut::new();
    replies.iter().for_each(|reply| reply.encode(&mut bytes));
    let script = async {
        peer.expect_option().await.unwrap();
        let _ = peer.send_bytes(&bytes).await;
    };
    let (result, ()) = tokio::join!(conn.opt_list(), script);
    result
}

fn server_reply(payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        option: OptionType::LIST,
        reply: OptionReplyType::SERVER,
        payload: payload.into(),
    }
}

#[tokio::test]
async fn l01_l02_entries_of_the_wrong_form_are_a_violation() {
    for payload in [
        vec![],
        vec![0, 0, 0],
        vec![0, 0, 0, 2, b'x'],
        vec![0xff, 0xff, 0xff, 0xff, b'x'],
    ] {
        violation(listed(&[server_reply(payload)]).await);
    }
    let long = "x".repeat(4097);
    for entry in [
        OptionReply::server(&long, ""),
        OptionReply::server("", &long),
    ] {
        violation(listed(&[entry]).await);
    }
}

#[tokio::test]
async fn l05_ten_thousand_exports_are_listed() {
    let mut replies: Vec<_> = (0..10_000)
        .map(|i| OptionReply::server(&i.to_string(), "a disk"))
        .collect();
    replies.push(OptionReply::ack(OptionType::LIST));
    let exports = listed(&replies).await.unwrap();
    assert_eq!(exports.len(), 10_000);
    assert_eq!(exports[9_999].name, "9999");
}

#[tokio::test]
async fn l06_one_export_more_is_a_violation() {
    let many = vec![OptionReply::server("x", ""); 10_001];
    assert_matches!(
        violation(listed(&many).await),
        ProtocolError::TooManyReplies(_)
    );
    let large = vec![OptionReply::server("x", &"d".repeat(4096)); 2050];
    assert_matches!(
        violation(listed(&large).await),
        ProtocolError::TooManyReplies(_)
    );
}

#[tokio::test]
async fn l08_information_in_a_list_is_a_violation() {
    let mut stray = export();
    stray.option = OptionType::LIST;
    assert_matches!(
        violation(listed(&[stray]).await),
        ProtocolError::UnexpectedOptionReply { .. }
    );
}
