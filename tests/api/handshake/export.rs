//! What is said about an export: `INFO`, `GO` and `EXPORT_NAME`.

use super::*;

both_runtimes!(i01_go_without_size_and_flags_is_a_violation);
async fn i01_go_without_size_and_flags_is_a_violation() {
    assert_matches!(fatal(vec![ack()]).await, ProtocolError::NoExportInfo(_));
    let description = info(InfoType::DESCRIPTION, b"a disk");
    assert_matches!(
        fatal(vec![description, ack()]).await,
        ProtocolError::NoExportInfo(_)
    );
}

both_runtimes!(i02_information_without_a_type_is_a_violation);
async fn i02_information_without_a_type_is_a_violation() {
    for length in [0, 1] {
        let violation = fatal(vec![reply(OptionReplyType::INFO, vec![0; length])]).await;
        assert_matches!(violation, ProtocolError::Length { .. });
    }
}

both_runtimes!(i03_size_and_flags_of_the_wrong_length_are_a_violation);
async fn i03_size_and_flags_of_the_wrong_length_are_a_violation() {
    for length in [2, 3, 10, 11, 13, 4096] {
        let replies = vec![info(InfoType::EXPORT, &vec![0; length - 2]), ack()];
        assert_eq!(fatal(replies).await, ProtocolError::Info(InfoType::EXPORT));
    }
}

both_runtimes!(i04_block_sizes_of_the_wrong_length_are_a_violation);
async fn i04_block_sizes_of_the_wrong_length_are_a_violation() {
    for length in [2, 3, 10, 13, 15, 4096] {
        let sizes = info(InfoType::BLOCK_SIZE, &vec![0; length - 2]);
        let violation = fatal(vec![export(), sizes, ack()]).await;
        assert_eq!(violation, ProtocolError::Info(InfoType::BLOCK_SIZE));
    }
}

both_runtimes!(i06_unknown_information_is_skipped_up_to_64_kib);
async fn i06_unknown_information_is_skipped_up_to_64_kib() {
    for length in [0, 1, 100, (64 << 10) - 2] {
        let unknown = info(InfoType(0x7777), &vec![1; length]);
        let (conn, result, _) = gone(vec![unknown.clone(), export(), unknown, ack()]).await;
        result.unwrap();
        assert_eq!(conn.size().unwrap(), INFO.size);
    }
    fatal(vec![info(InfoType(0x7777), &vec![1; (64 << 10) - 1])]).await;
}

both_runtimes!(i07_names_over_4096_bytes_are_a_violation);
async fn i07_names_over_4096_bytes_are_a_violation() {
    for kind in [InfoType::NAME, InfoType::DESCRIPTION] {
        fatal(vec![export(), info(kind, &[b'x'; 4097]), ack()]).await;
    }
}

both_runtimes!(i08_names_that_are_no_strings_are_left_out);
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
        let (conn, result, _) = gone_with(&builder, &replies).await;
        result.unwrap();
        let export = conn.export().unwrap();
        assert_eq!(export.canonical_name(), None);
        let printed = export.description().map(ToString::to_string);
        assert!(!printed.unwrap_or_default().contains(char::is_control));
    }
}

both_runtimes!(i09_an_export_larger_than_63_bits_is_refused);
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

both_runtimes!(i10_an_empty_export_is_fine_and_nothing_is_inside);
async fn i10_an_empty_export_is_fine_and_nothing_is_inside() {
    let empty = ExportInfo { size: 0, ..INFO };
    let empty = OptionReply::info(OptionType::GO, &Info::Export(empty));
    let (conn, result, _) = gone(vec![empty, ack()]).await;
    result.unwrap();
    assert_eq!(conn.size().unwrap(), 0);
    assert_matches!(conn.read(0, 1).await, Err(Error::Invalid(_)));
}

both_runtimes!(i10_an_export_that_ends_within_a_block_is_fine_and_nothing_lies_behind_it);
async fn i10_an_export_that_ends_within_a_block_is_fine_and_nothing_lies_behind_it() {
    let odd = ExportInfo { size: 1000, ..INFO };
    let odd = OptionReply::info(OptionType::GO, &Info::Export(odd));
    let (conn, result, _) = gone(vec![odd, sizes(512, 4096, 1 << 20), ack()]).await;
    result.unwrap();
    assert_eq!(conn.size().unwrap(), 1000);
    assert_matches!(conn.read(512, 512).await, Err(Error::Invalid(_)));
}

both_runtimes!(i11_flags_without_has_flags_are_a_violation);
async fn i11_flags_without_has_flags_are_a_violation() {
    for bits in [2, 4, 0xfffe] {
        let flags = TransmissionFlags::from_bits_retain(bits);
        let info = ExportInfo { size: 512, flags };
        let info = OptionReply::info(OptionType::GO, &Info::Export(info));
        assert_eq!(
            fatal(vec![info, ack()]).await,
            ProtocolError::TransmissionFlags(bits)
        );
    }
}

// Old and home-made servers, and qemu's own fault injector, send none: qemu and the kernel take it.
both_runtimes!(i11_no_flags_at_all_mean_that_nothing_is_offered);
async fn i11_no_flags_at_all_mean_that_nothing_is_offered() {
    let flags = TransmissionFlags::empty();
    let info = ExportInfo { size: 512, flags };
    let info = OptionReply::info(OptionType::GO, &Info::Export(info));
    let (conn, result, _) = gone(vec![info, ack()]).await;
    result.unwrap();
    let export = conn.export().unwrap();
    assert_eq!((export.size(), export.flags()), (512, flags));
    assert!(!export.is_read_only() && !export.can_flush() && !export.can_multi_conn());
}

both_runtimes!(i13_unknown_flags_are_ignored);
async fn i13_unknown_flags_are_ignored() {
    let flags = TransmissionFlags::from_bits_retain(0xe001);
    let info = ExportInfo { size: 512, flags };
    let info = OptionReply::info(OptionType::GO, &Info::Export(info));
    let (conn, result, _) = gone(vec![info, ack()]).await;
    result.unwrap();
    assert!(!conn.export().unwrap().can_flush());
}

both_runtimes!(i14_impossible_block_sizes_are_refused);
async fn i14_impossible_block_sizes_are_refused() {
    for (minimum, preferred, maximum) in [
        (0, 4096, 1 << 20),
        (3, 4096, 1 << 20),
        (1 << 17, 1 << 17, 1 << 20),
        (4096, 512, 1 << 20),
        (1, 256, 1 << 20),
        (512, 4096, 2048),
    ] {
        assert_matches!(
            fatal(vec![export(), sizes(minimum, preferred, maximum), ack()]).await,
            ProtocolError::BlockSizes { .. }
        );
    }
}

both_runtimes!(i15_no_maximum_means_ours);
async fn i15_no_maximum_means_ours() {
    let (conn, result, _) = gone(vec![sizes(1, 512, u32::MAX), export(), ack()]).await;
    result.unwrap();
    assert_eq!(
        conn.export().unwrap().max_payload(),
        nbd_client::MAX_PAYLOAD
    );
}

// The catalogue lets a maximum of 1 be honoured, but "Size constraints" has it at least as large
// as the preferred size, which is 512 or more: like the other impossible sizes (I14) it is
// refused. The smallest that can be is honoured.
both_runtimes!(i15_a_maximum_below_the_preferred_size_is_refused_and_the_smallest_is_honoured);
async fn i15_a_maximum_below_the_preferred_size_is_refused_and_the_smallest_is_honoured() {
    for maximum in [0, 1, 511] {
        assert_matches!(
            fatal(vec![export(), sizes(1, 512, maximum), ack()]).await,
            ProtocolError::BlockSizes { .. }
        );
    }
    let (conn, result, _) = gone(vec![sizes(1, 512, 512), export(), ack()]).await;
    result.unwrap();
    assert_eq!(conn.export().unwrap().max_payload(), 512);
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

// There is no pool in this crate. Whoever opens several connections compares what `export` says.
both_runtimes!(i21_a_second_connection_that_differs_can_be_told);
async fn i21_a_second_connection_that_differs_can_be_told() {
    for way in option_ways() {
        let mut facts = Vec::new();
        let other = TransmissionFlags::HAS_FLAGS | TransmissionFlags::READ_ONLY;
        for (info, minimum) in [
            (INFO, 1),
            (INFO, 1),
            (ExportInfo { size: 512, ..INFO }, 1),
            (
                ExportInfo {
                    flags: other,
                    ..INFO
                },
                1,
            ),
            (INFO, 512),
        ] {
            let info = OptionReply::info(OptionType::GO, &Info::Export(info));
            let bytes = encode(&[info, sizes(minimum, 4096, 1 << 20), ack()]);
            let (conn, result, _) = gone_by(way, &builder(ReplyStyle::Simple), &bytes).await;
            result.unwrap();
            facts.push(conn.export().unwrap());
        }
        assert_eq!(facts[0], facts[1]);
        assert!(facts[2..].iter().all(|other| facts[0] != *other));
    }
}

both_runtimes!(i22_block_sizes_that_were_asked_for_cannot_be_required);
async fn i22_block_sizes_that_were_asked_for_cannot_be_required() {
    let required = || reply(OptionReplyType::ERR_BLOCK_SIZE_REQD, "ask");
    for replies in [
        vec![required()],
        vec![sizes(512, 4096, 1 << 20), required()],
    ] {
        assert_eq!(
            fatal(replies).await,
            ProtocolError::UnexpectedOptionReply {
                option: OptionType::GO,
                reply: OptionReplyType::ERR_BLOCK_SIZE_REQD,
            }
        );
    }
}

/// Pieces of information, each with another one of its type.
fn contradictions() -> [(InfoType, OptionReply, OptionReply); 4] {
    let larger = ExportInfo {
        size: INFO.size + 512,
        ..INFO
    };
    let larger = OptionReply::info(OptionType::GO, &Info::Export(larger));
    let text = |kind, text: &[u8]| info(kind, text);
    let (name, description) = (InfoType::NAME, InfoType::DESCRIPTION);
    [
        (InfoType::EXPORT, export(), larger),
        (
            InfoType::BLOCK_SIZE,
            sizes(1, 4096, 1 << 20),
            sizes(512, 4096, 1 << 20),
        ),
        (name, text(name, b"disk"), text(name, b"disc")),
        (description, text(description, b"a"), text(description, b"")),
    ]
}

both_runtimes!(two_different_answers_about_one_export_are_a_violation);
async fn two_different_answers_about_one_export_are_a_violation() {
    let builder = builder(ReplyStyle::Simple).full_info(true);
    for (kind, one, other) in contradictions() {
        for replies in [[one.clone(), other.clone()], [other, one]] {
            let replies = [&[export()][..], &replies, &[ack()]].concat();
            let (conn, result, next) = gone_with(&builder, &encode(&replies)).await;
            let expected = ProtocolError::ContradictoryInfo {
                option: OptionType::GO,
                info: kind,
            };
            assert_eq!(violation(result), expected);
            assert_eq!(next, None, "nothing is said to such a server");
            assert_eq!(conn.state(), State::Dead);
        }
    }
}

both_runtimes!(the_same_answer_about_an_export_may_come_twice);
async fn the_same_answer_about_an_export_may_come_twice() {
    let all = contradictions().map(|(_, one, _)| one);
    let replies = [&all[..], &all, &[ack()]].concat();
    let builder = builder(ReplyStyle::Simple).full_info(true);
    let (conn, result, _) = gone_with(&builder, &encode(&replies)).await;
    result.unwrap();
    let export = conn.export().unwrap();
    assert_eq!(
        (export.size(), export.canonical_name()),
        (INFO.size, Some("disk"))
    );
    assert_eq!(export.block_size().unwrap().minimum, 1);
}

// P-046, P-050: what was not asked for says nothing.
both_runtimes!(different_answers_that_nobody_asked_for_are_left_out);
async fn different_answers_that_nobody_asked_for_are_left_out() {
    let builder = builder(ReplyStyle::Simple).request_block_size(false);
    for (_, one, other) in &contradictions()[1..] {
        let replies = [export(), one.clone(), other.clone(), ack()];
        let (conn, result, _) = gone_with(&builder, &encode(&replies)).await;
        result.unwrap();
        assert_eq!(conn.export().unwrap().block_size(), None);
    }
}
