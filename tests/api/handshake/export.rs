//! What is said about an export: `INFO`, `GO` and `EXPORT_NAME`.

use super::*;

#[tokio::test]
async fn i01_go_without_size_and_flags_is_a_violation() {
    assert_matches!(fatal(vec![ack()]).await, ProtocolError::NoExportInfo(_));
    let description = info(InfoType::DESCRIPTION, b"a disk");
    assert_matches!(
        fatal(vec![description, ack()]).await,
        ProtocolError::NoExportInfo(_)
    );
}

#[tokio::test]
async fn i02_i03_i04_information_of_the_wrong_length_is_a_violation() {
    for length in [0, 1] {
        fatal(vec![reply(OptionReplyType::INFO, vec![0; length])]).await;
    }
    for length in [0, 8, 9, 11, 4094] {
        fatal(vec![info(InfoType::EXPORT, &vec![0; length]), ack()]).await;
    }
    for length in [0, 8, 11, 13, 4094] {
        let sizes = info(InfoType::BLOCK_SIZE, &vec![0; length]);
        fatal(vec![export(), sizes, ack()]).await;
    }
}

#[tokio::test]
async fn i06_unknown_information_is_skipped_up_to_64_kib() {
    for length in [0, 1, 100, (64 << 10) - 2] {
        let unknown = info(InfoType(0x7777), &vec![1; length]);
        let (conn, result, _) = gone(vec![unknown.clone(), export(), unknown, ack()]).await;
        result.unwrap();
        assert_eq!(conn.size().unwrap(), INFO.size);
    }
    fatal(vec![info(InfoType(0x7777), &vec![1; (64 << 10) - 1])]).await;
}

#[tokio::test]
async fn i07_names_over_4096_bytes_are_a_violation() {
    for kind in [InfoType::NAME, InfoType::DESCRIPTION] {
        fatal(vec![export(), info(kind, &[b'x'; 4097]), ack()]).await;
    }
}

#[tokio::test]
async fn i08_names_that_are_no_strings_are_left_out() {
    for bytes in [&b"\xff\xfe"[..], b"a\0b"] {
        let mut replies = BytesMut::new();
        for reply in [
            export(),
            info(InfoType::NAME, bytes),
            info(InfoType::DESCRIPTION, bytes),
            ack(),
        ] {
            reply.encode(&mut replies);
        }
        let builder = builder(ReplyStyle::Simple).full_info(true);
        let (conn, result, _) = gone_with(builder, &replies).await;
        result.unwrap();
        let export = conn.export().unwrap();
        assert_eq!(export.canonical_name(), None);
        let printed = export.description().map(ToString::to_string);
        assert!(!printed.unwrap_or_default().contains(char::is_control));
    }
}

#[tokio::test]
async fn i09_an_export_larger_than_63_bits_is_refused() {
    for size in [1 << 63, u64::MAX] {
        let flags = TransmissionFlags::HAS_FLAGS;
        let huge = OptionReply::info(OptionType::GO, &Info::Export(ExportInfo { size, flags }));
        assert_eq!(
            fatal(vec![huge, ack()]).await,
            ProtocolError::ExportSize(size)
        );
    }
}

#[tokio::test]
async fn i10_an_empty_export_is_fine_and_nothing_is_inside() {
    let empty = ExportInfo { size: 0, ..INFO };
    let empty = OptionReply::info(OptionType::GO, &Info::Export(empty));
    let (conn, result, _) = gone(vec![empty, ack()]).await;
    result.unwrap();
    assert_eq!(conn.size().unwrap(), 0);
    assert_matches!(conn.read(0, 1).await, Err(Error::Invalid(_)));
}

#[tokio::test]
async fn i11_flags_without_has_flags_are_a_violation() {
    for bits in [0, 4, 0xfffe] {
        let flags = TransmissionFlags::from_bits_retain(bits);
        let info = ExportInfo { size: 512, flags };
        let info = OptionReply::info(OptionType::GO, &Info::Export(info));
        assert_eq!(
            fatal(vec![info, ack()]).await,
            ProtocolError::TransmissionFlags(bits)
        );
    }
}

#[tokio::test]
async fn i13_unknown_flags_are_ignored() {
    let flags = TransmissionFlags::from_bits_retain(0xe001);
    let info = ExportInfo { size: 512, flags };
    let info = OptionReply::info(OptionType::GO, &Info::Export(info));
    let (conn, result, _) = gone(vec![info, ack()]).await;
    result.unwrap();
    assert!(!conn.export().unwrap().can_flush());
}

#[tokio::test]
async fn i14_impossible_block_sizes_are_refused() {
    for (minimum, preferred, maximum) in [
        (0, 4096, 1 << 20),
        (3, 4096, 1 << 20),
        (1 << 17, 1 << 17, 1 << 20),
        (4096, 512, 1 << 20),
        (1, 256, 1 << 20),
        (512, 4096, 2048),
        (4096, 4096, 4097),
    ] {
        assert_matches!(
            fatal(vec![export(), sizes(minimum, preferred, maximum), ack()]).await,
            ProtocolError::BlockSizes { .. }
        );
    }
}

#[tokio::test]
async fn i15_no_maximum_means_ours() {
    let (conn, result, _) = gone(vec![sizes(1, 512, u32::MAX), export(), ack()]).await;
    result.unwrap();
    assert_eq!(
        conn.export().unwrap().max_payload(),
        nbd_client::MAX_PAYLOAD
    );
}

#[tokio::test]
async fn i20_what_go_says_counts_whatever_info_said() {
    let (conn, mut peer) = crate::options::negotiating().await;
    let (info, ()) = tokio::join!(conn.opt_info(), async {
        let option = peer.expect_option().await.unwrap().option;
        let larger = ExportInfo {
            size: 1 << 30,
            ..INFO
        };
        peer.send_export(option, larger).await.unwrap();
    });
    assert_eq!(info.unwrap().size(), 1 << 30);
    let (go, ()) = tokio::join!(conn.opt_go(), async {
        let option = peer.expect_option().await.unwrap().option;
        peer.send_export(option, INFO).await.unwrap();
    });
    go.unwrap();
    assert_eq!(conn.size().unwrap(), INFO.size);
}
