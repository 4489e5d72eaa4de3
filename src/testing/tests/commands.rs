//! Every command, in every style.

use super::*;
use crate::testing::Export;
use crate::wire::TransmissionFlags;

const STYLES: [ReplyStyle; 3] = [
    ReplyStyle::Simple,
    ReplyStyle::Structured,
    ReplyStyle::Extended,
];
const NONE: CommandFlags = CommandFlags::empty();

#[tokio::test]
async fn what_is_written_is_read_in_every_style() {
    for style in STYLES {
        let disk = Export::new(1 << 40);
        let mut client = Client::ready(&Server::new(disk.clone()), style, &[]).await;
        let data: Vec<u8> = (0..300_000u32).map(|i| (i % 241) as u8 + 1).collect();
        assert_eq!(client.write(123_456, &data).await, Answer::ok());
        let read = client.read(123_455, 300_002).await.data();
        assert_eq!((read[0], read[300_001]), (0, 0));
        assert!(read[1..300_001] == data, "{style:?}");
        assert!(disk.contents(123_456, 300_000) == data);
        assert_eq!(client.call(Command::FLUSH, NONE, 0, 0).await, Answer::ok());
        assert_eq!(client.call(Command::CACHE, NONE, 0, 9).await, Answer::ok());
        client.send(Command::DISC, NONE, 0, 0).await;
        assert!(client.is_closed().await);
        let counters = disk.counters();
        assert_eq!(
            (counters.reads, counters.writes, counters.flushes),
            (1, 1, 1)
        );
        assert_eq!(
            (counters.bytes_read, counters.bytes_written),
            (300_002, 300_000)
        );
        assert_eq!(
            (counters.caches, counters.disconnects, counters.fua),
            (1, 1, 0)
        );
    }
}

#[tokio::test]
async fn zeroing_and_trimming_leave_zeroes() {
    for style in STYLES {
        let disk = Export::new(1 << 20);
        disk.fill(0, 1 << 20, 7);
        let mut client = Client::ready(&Server::new(disk.clone()), style, &[]).await;
        let fua = CommandFlags::FUA;
        assert_eq!(
            client.call(Command::TRIM, fua, 10, 200_000).await,
            Answer::ok()
        );
        let flags = CommandFlags::NO_HOLE | CommandFlags::FAST_ZERO;
        let answer = client.call(Command::WRITE_ZEROES, flags, 500_000, 9).await;
        assert_eq!(answer, Answer::ok());
        assert_eq!(client.read(8, 4).await.data(), [7, 7, 0, 0]);
        assert_eq!(client.read(200_008, 4).await.data(), [0, 0, 7, 7]);
        assert_eq!(disk.contents(499_999, 11)[..2], [7, 0]);
        assert_eq!(disk.contents(499_999, 11)[9..], [0, 7]);
        assert_eq!(disk.counters().fua, 1);
    }
}

#[tokio::test]
async fn structured_reads_show_holes_unless_told_not_to() {
    let disk = Export::new(1 << 20);
    disk.write(65_536, [1; 10]);
    let server = Server::new(disk.clone());
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    let page = |fill: &[u8]| {
        let mut page = vec![0; 65_536];
        page[..fill.len()].copy_from_slice(fill);
        Content::Data(page.into())
    };
    let answer = client.read(60_000, 100_000).await;
    let expected = [
        (60_000, Content::Hole(5_536)),
        (65_536, page(&[1; 10])),
        (131_072, Content::Hole(160_000 - 131_072)),
    ];
    assert_eq!(answer.content, expected);
    // P-166: DF means one chunk of content.
    let df = client
        .call(Command::READ, CommandFlags::DF, 60_000, 100_000)
        .await;
    assert!(matches!(df.content[..], [(60_000, Content::Data(_))]));
    assert_eq!(df.data(), answer.data());

    let server = Server::builder()
        .export("", disk.clone())
        .report_holes(false)
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    let answer = client.read(60_000, 100_000).await;
    assert!(matches!(answer.content[..], [(60_000, Content::Data(_))]));
    assert_eq!(answer.data(), disk.contents(60_000, 100_000));
}

#[tokio::test]
async fn reads_are_split_and_reversed_on_demand() {
    let disk = Export::new(1 << 20);
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    disk.write(0, &data);
    let server = Server::builder()
        .export("", disk)
        .read_chunk(30_000)
        .reverse_chunks(true)
        .trailing_done(true)
        .simple_acks(false)
        .build();
    for style in [ReplyStyle::Structured, ReplyStyle::Extended] {
        let mut client = Client::ready(&server, style, &[]).await;
        let answer = client.read(0, 100_000).await;
        let offsets: Vec<_> = answer.content.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [90_000, 60_000, 30_000, 0]);
        assert!(answer.data() == data);
        assert_eq!(client.write(0, &data[..1]).await, Answer::ok());
    }
}

#[tokio::test]
async fn requests_are_refused_with_the_errors_of_the_protocol() {
    let disk = Export::new(10_000)
        .block_sizes(10, 100, 2_000)
        .max_unfragmented(500);
    let server = Server::new(disk.clone().flags(
        TransmissionFlags::HAS_FLAGS
            | TransmissionFlags::SEND_DF
            | TransmissionFlags::SEND_FLUSH
            | TransmissionFlags::SEND_WRITE_ZEROES,
    ));
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    use Command as C;
    let fua = CommandFlags::FUA;
    for (command, flags, offset, length, error) in [
        (C::READ, NONE, 9_990, 20, Errno::EINVAL),
        (C::READ, NONE, u64::MAX - 9, 20, Errno::EINVAL),
        (C::READ, NONE, 5, 10, Errno::EINVAL),
        (C::READ, NONE, 0, 15, Errno::EINVAL),
        (C::READ, NONE, 0, 0, Errno::EINVAL),
        (C::READ, NONE, 0, 2_010, Errno::EOVERFLOW),
        (C::READ, CommandFlags::DF, 0, 510, Errno::EOVERFLOW),
        (C::READ, CommandFlags::REQ_ONE, 0, 10, Errno::EINVAL),
        (
            C::READ,
            CommandFlags::from_bits_retain(0x8000),
            0,
            10,
            Errno::EINVAL,
        ),
        (C::READ, fua, 0, 10, Errno::EINVAL),
        (C::WRITE_ZEROES, NONE, 9_990, 20, Errno::ENOSPC),
        (
            C::WRITE_ZEROES,
            CommandFlags::FAST_ZERO,
            0,
            10,
            Errno::EINVAL,
        ),
        (C::TRIM, NONE, 0, 10, Errno::EINVAL),
        (C::FLUSH, NONE, 0, 10, Errno::EINVAL),
        (C::BLOCK_STATUS, NONE, 0, 10, Errno::EINVAL),
        (C::RESIZE, NONE, 0, 10, Errno::EINVAL),
        (Command(99), NONE, 0, 10, Errno::EINVAL),
    ] {
        let answer = client.call(command, flags, offset, length).await;
        assert_eq!(
            answer.error,
            Some(error),
            "{command} {flags:?} {offset}+{length}"
        );
        assert!(!answer.message.is_empty());
    }
    assert_eq!(
        client.write(9_990, &[1; 20]).await.error,
        Some(Errno::ENOSPC)
    );
    assert_eq!(
        client.write(0, &[1; 2_010]).await.error,
        Some(Errno::EINVAL)
    );
    assert_eq!(disk.contents(0, 10_000), vec![0; 10_000]);
    assert_eq!(client.write(9_990, &[1; 10]).await, Answer::ok());
}

// P-149: a read-only export is not written; P-142: FAST_ZERO may fail with ENOTSUP.
#[tokio::test]
async fn writing_to_a_read_only_export_fails_with_eperm() {
    for style in STYLES {
        let server = Server::new(Export::new(100).read_only(true));
        let mut client = Client::ready(&server, style, &[]).await;
        assert_eq!(client.write(0, b"x").await.error, Some(Errno::EPERM));
        for command in [Command::TRIM, Command::WRITE_ZEROES] {
            let answer = client.call(command, NONE, 0, 1).await;
            assert_eq!(answer.error, Some(Errno::EPERM));
        }
        assert_eq!(client.read(0, 1).await.data(), [0]);

        let server = Server::new(Export::from_contents([7; 10]).fast_zero(false));
        let mut client = Client::ready(&server, style, &[]).await;
        let fast = CommandFlags::FAST_ZERO;
        let answer = client.call(Command::WRITE_ZEROES, fast, 0, 10).await;
        assert_eq!(answer.error, Some(Errno::ENOTSUP));
        assert_eq!(client.read(0, 1).await.data(), [7]);
    }
}

// PAYLOAD_LEN announces a payload; X-06: the length is that of the payload or the effect.
#[tokio::test]
async fn the_payload_flag_belongs_to_writes_of_extended_requests() {
    let server = Server::new(Export::new(100));
    let mut client = Client::ready(&server, ReplyStyle::Extended, &[]).await;
    let answer = client.call(Command::WRITE, NONE, 0, 10).await;
    assert_eq!(answer.error, Some(Errno::EINVAL));
    let flag = CommandFlags::PAYLOAD_LEN;
    let head = client.send_with(Command::READ, flag, 0, 3, b"abc").await;
    assert_eq!(client.answer(head).await.error, Some(Errno::EINVAL));
    assert_eq!(client.read(0, 3).await.data(), [0; 3]);
}

fn status_disk() -> Export {
    let disk = Export::new(1 << 40).context("x:dirty", [(1000, 1), (1 << 36, 2)]);
    disk.write(65_536, [1; 65_537]);
    disk
}

// P-169: one status chunk for each context; P-170: REQ_ONE gives one extent; P-171: only the last
// extent passes the range.
#[tokio::test]
async fn status_covers_the_range_once_per_context() {
    for style in [ReplyStyle::Structured, ReplyStyle::Extended] {
        let server = Server::new(status_disk());
        let mut client = Client::ready(&server, style, &["base:allocation", "x:dirty"]).await;
        let length = 1_000_000;
        let status = client
            .call(Command::BLOCK_STATUS, NONE, 500, length)
            .await
            .status;
        let rest = length + 500 - 65_536 * 3;
        assert_eq!(status[0].extents, [(65_036, 3), (131_072, 0), (rest, 3)]);
        assert_eq!(status[1].extents, [(500, 1), (length - 500, 2)]);
        assert_ne!(status[0].context, status[1].context);
        let one = CommandFlags::REQ_ONE;
        let status = client
            .call(Command::BLOCK_STATUS, one, 500, 100)
            .await
            .status;
        assert_eq!(status[0].extents, [(100, 3)]);
        assert_eq!(status[1].extents, [(100, 1)]);
        let answer = client.call(Command::BLOCK_STATUS, NONE, 1 << 40, 1).await;
        assert_eq!(answer.error, Some(Errno::EINVAL));
    }
}

#[tokio::test]
async fn status_can_overshoot_or_stop_early() {
    let server = Server::builder()
        .export("", status_disk())
        .overshoot_extents(true)
        .max_extents(2)
        .build();
    let contexts = ["base:allocation", "x:dirty"];
    let mut client = Client::ready(&server, ReplyStyle::Extended, &contexts).await;
    let status = client
        .call(Command::BLOCK_STATUS, NONE, 0, 1 << 20)
        .await
        .status;
    assert_eq!(status[0].extents, [(65_536, 3), (131_072, 0)]);
    assert_eq!(status[1].extents, [(1000, 1), (1 << 36, 2)]);
    // The compact form overshoots as far as 32 bits go.
    let mut client = Client::ready(&server, ReplyStyle::Structured, &contexts).await;
    let status = client
        .call(Command::BLOCK_STATUS, NONE, 0, 1 << 20)
        .await
        .status;
    assert_eq!(status[1].extents, [(1000, 1), (0xffff_0000 - 1000, 2)]);
}

// status flags may have 64 bits; X-10: a choice of contexts is a payload.
#[tokio::test]
async fn extended_status_is_wide_and_can_be_filtered() {
    let server = Server::new(status_disk().context("x:wide", [(1 << 39, 1 << 60)]));
    let contexts = ["base:allocation", "x:dirty", "x:wide"];
    let mut client = Client::ready(&server, ReplyStyle::Extended, &contexts).await;
    let all = client
        .call(Command::BLOCK_STATUS, NONE, 0, 1 << 40)
        .await
        .status;
    assert_eq!(all[2].extents, [(1 << 39, 1 << 60), (1 << 39, 0)]);
    let filter = async |client: &mut Client, ids: &[u32]| {
        let mut payload = (1u64 << 40).to_be_bytes().to_vec();
        ids.iter().for_each(|id| payload.extend(id.to_be_bytes()));
        let flag = CommandFlags::PAYLOAD_LEN;
        let length = payload.len() as u64;
        let head = client
            .send_with(Command::BLOCK_STATUS, flag, 0, length, &payload)
            .await;
        client.answer(head).await
    };
    let (first, wide) = (all[0].context, all[2].context);
    let some = filter(&mut client, &[wide, first]).await.status;
    assert_eq!(some, [all[2].clone(), all[0].clone()]);
    for bad in [&[][..], &[first, first], &[wide + 1]] {
        let answer = filter(&mut client, bad).await;
        assert_eq!(answer.error, Some(Errno::EINVAL), "{bad:?}");
    }
}

#[tokio::test]
async fn faults_are_injected_and_logged_without_effect() {
    let disk = Export::new(100).log_requests(2);
    let server = Server::builder()
        .export("", disk.clone())
        .fail_with(|head| (head.offset == 50).then(|| (Errno::EIO, "broken".into())))
        .build();
    let mut client = Client::ready(&server, ReplyStyle::Structured, &[]).await;
    assert_eq!(client.write(1, b"a").await, Answer::ok());
    let answer = client.write(50, b"a").await;
    assert_eq!(answer.error, Some(Errno::EIO));
    assert_eq!(answer.message, "broken");
    assert_eq!(client.read(50, 1).await.error, Some(Errno::EIO));
    assert_eq!(disk.contents(50, 1), [0]);
    let log: Vec<_> = disk
        .log()
        .iter()
        .map(|head| (head.command, head.offset))
        .collect();
    assert_eq!(log, [(Command::WRITE, 50), (Command::READ, 50)]);
    server.shut_down();
    assert_eq!(client.read(0, 1).await.error, Some(Errno::ESHUTDOWN));
}
