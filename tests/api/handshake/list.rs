//! `LIST`.

use nbd_client::ListedExport;

use super::*;

/// Lists the exports of a server that answers with these replies.
async fn listed(replies: &[OptionReply]) -> Result<Vec<ListedExport>> {
    let bytes = encode(replies);
    let mut results = Vec::new();
    for way in option_ways() {
        let (conn, mut peer) = crate::options::negotiating_by(way).await;
        let script = async {
            peer.expect_option().await.unwrap();
            // The client may be gone before all of it is sent.
            let _ = peer.send_bytes(&bytes).await;
        };
        let (result, ()) = tokio::join!(conn.opt_list(), script);
        results.push(result);
    }
    let first = results.remove(0);
    for again in results {
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
    }
    first
}

fn server_reply(payload: impl Into<Bytes>) -> OptionReply {
    OptionReply {
        option: OptionType::LIST,
        reply: OptionReplyType::SERVER,
        payload: payload.into(),
    }
}

both_runtimes!(l01_a_name_that_does_not_fit_its_entry_is_a_violation);
async fn l01_a_name_that_does_not_fit_its_entry_is_a_violation() {
    for payload in [
        vec![],
        vec![0, 0, 0],
        vec![0, 0, 0, 1],
        vec![0, 0, 0, 2, b'x'],
        vec![0xff, 0xff, 0xff, 0xff, b'x'],
    ] {
        assert_matches!(
            violation(listed(&[server_reply(payload)]).await),
            ProtocolError::Length { .. }
        );
    }
}

both_runtimes!(l02_names_and_descriptions_of_4096_bytes_are_the_longest);
async fn l02_names_and_descriptions_of_4096_bytes_are_the_longest() {
    let (most, long) = ("x".repeat(4096), "x".repeat(4097));
    let entries = [
        OptionReply::server(&most, &most),
        OptionReply::ack(OptionType::LIST),
    ];
    assert_eq!(listed(&entries).await.unwrap()[0].name, most);
    for entry in [
        OptionReply::server(&long, ""),
        OptionReply::server("", &long),
    ] {
        assert_matches!(
            violation(listed(&[entry]).await),
            ProtocolError::Length { .. }
        );
    }
}

both_runtimes!(l03_hostile_names_are_kept_as_they_are_or_left_out_and_printed_without_harm);
async fn l03_hostile_names_are_kept_as_they_are_or_left_out_and_printed_without_harm() {
    let entry = |name: &[u8]| {
        let mut payload = BytesMut::new();
        payload.put_u32(u32::try_from(name.len()).unwrap());
        payload.put_slice(name);
        payload.put_slice(b"\x1b[2J\xff\0");
        server_reply(payload)
    };
    let kept = ["\x1b]0;pwned\x07", "a\nb\r", "../../etc", "\u{202e}x", ""];
    let mut replies = vec![entry(b"a\0b"), entry(b"\xff\xfe"), entry(b"\xc3")];
    replies.extend(kept.iter().map(|name| entry(name.as_bytes())));
    replies.push(OptionReply::ack(OptionType::LIST));
    let exports = listed(&replies).await.unwrap();
    let names: Vec<_> = exports.iter().map(|export| &*export.name).collect();
    assert_eq!(names, kept);
    let printed = format!("{exports:?} {}", exports[0].description);
    assert!(!printed.contains(char::is_control), "{printed:?}");
    assert!(!printed.contains('\u{202e}'), "{printed:?}");
}

both_runtimes!(l05_ten_thousand_exports_are_listed);
async fn l05_ten_thousand_exports_are_listed() {
    let mut replies: Vec<_> = (0..10_000)
        .map(|i| OptionReply::server(&i.to_string(), "a disk"))
        .collect();
    replies.push(OptionReply::ack(OptionType::LIST));
    let exports = listed(&replies).await.unwrap();
    assert_eq!(exports.len(), 10_000);
    assert_eq!(exports[9_999].name, "9999");
}

both_runtimes!(l06_one_export_more_is_a_violation);
async fn l06_one_export_more_is_a_violation() {
    // Those that are left out count like the others.
    let nameless = server_reply(&b"\0\0\0\x01\0"[..]);
    for entry in [OptionReply::server("x", ""), nameless] {
        let many = vec![entry; 10_001];
        assert_matches!(
            violation(listed(&many).await),
            ProtocolError::TooManyReplies(_)
        );
    }
    let large = vec![OptionReply::server("x", &"d".repeat(4096)); 2050];
    assert_matches!(
        violation(listed(&large).await),
        ProtocolError::TooManyReplies(_)
    );
}

both_runtimes!(l08_information_in_a_list_is_a_violation);
async fn l08_information_in_a_list_is_a_violation() {
    let mut stray = export();
    stray.option = OptionType::LIST;
    assert_matches!(
        violation(listed(&[stray]).await),
        ProtocolError::UnexpectedOptionReply { .. }
    );
}
