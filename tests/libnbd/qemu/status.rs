//! dirty-bitmap, block-status-64, block-status-payload.

use futures::TryStreamExt;
use nbd_client::{Connection, Error, Extent, InvalidRequest, context};

use super::{connect, image};
use crate::shared::server::{Dir, Server};

const BASE: &str = context::BASE_ALLOCATION;
const DEPTH: &str = context::QEMU_ALLOCATION_DEPTH;

async fn map(conn: &Connection, context: &str) -> Vec<(u64, u64, u64)> {
    let extents = conn.extents(context, ..).merged();
    let extents: Vec<_> = extents.try_collect().await.unwrap();
    let tuple = |e: &Extent| (e.offset, e.length, e.flags);
    extents.iter().map(tuple).collect()
}

// 512 KiB of data, a hole, zeroes, and a bitmap that knows of the later writes only.
both_runtimes!(bitmap_tells_what_was_written_since_it_was_made);
async fn bitmap_tells_what_was_written_since_it_was_made() {
    let dir = Dir::new();
    let disk = image(
        &dir,
        "1M",
        &["b0"],
        &["write 65536 65536", "write -z 524288 131072"],
    );
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "b0", &disk]);
    let dirty = context::qemu_dirty_bitmap("b0");
    let builder = Connection::builder()
        .meta_context(BASE)
        .meta_context(&*dirty);
    let conn = connect(&server, builder).await;
    let expected = [
        (0, 65536, 0),
        (65536, 65536, 1),
        (131_072, 393_216, 0),
        (524_288, 131_072, 1),
        (655_360, 393_216, 0),
    ];
    assert_eq!(map(&conn, &dirty).await, expected);
    // An incremental backup reads what is dirty, and of that only what is no zero.
    let joint: Vec<_> = conn.joint_extents(..).merged().try_collect().await.unwrap();
    let wanted: Vec<_> = joint
        .iter()
        .filter(|e| e.get(&dirty).unwrap().is_dirty() && !e.get(BASE).unwrap().is_zero())
        .map(|e| (e.offset, e.length))
        .collect();
    assert_eq!(wanted, [(65536, 65536)]);
    let end = joint.iter().fold(0, |at, extent| {
        assert_eq!(extent.offset, at);
        extent.end()
    });
    assert_eq!(end, 1 << 20);
}

// X-08: wide status only with extended headers.
both_runtimes!(extents_of_more_than_4_gib_are_told_in_either_form_of_headers);
async fn extents_of_more_than_4_gib_are_told_in_either_form_of_headers() {
    let dir = Dir::new();
    let disk = image(&dir, "5G", &["b0"], &["write 0 64k"]);
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "b0", &disk]);
    let dirty = context::qemu_dirty_bitmap("b0");
    for extended in [false, true] {
        let builder = Connection::builder()
            .extended_headers(extended)
            .meta_context(BASE)
            .meta_context(&*dirty);
        let conn = connect(&server, builder).await;
        let rest = (5 << 30) - 65536;
        assert_eq!(map(&conn, BASE).await, [(0, 65536, 0), (65536, rest, 3)]);
        assert_eq!(map(&conn, &dirty).await, [(0, 65536, 1), (65536, rest, 0)]);
    }
}

// X-10: a choice of contexts is a payload.
both_runtimes!(status_is_told_for_the_contexts_that_are_wanted);
async fn status_is_told_for_the_contexts_that_are_wanted() {
    let dir = Dir::new();
    let disk = image(&dir, "1M", &["b0", "b1"], &["write 0 64k"]);
    let args = ["-r", "-f", "qcow2", "-A", "-B", "b0", "-B", "b1", &disk];
    let server = Server::qemu(&args);
    let all = [
        BASE.to_owned(),
        DEPTH.to_owned(),
        context::qemu_dirty_bitmap("b0"),
        context::qemu_dirty_bitmap("b1"),
    ];
    let builder = || {
        let builder = Connection::builder();
        all.iter().fold(builder, |b, name| b.meta_context(name))
    };
    let conn = connect(&server, builder()).await;
    assert!(conn.export().unwrap().can_block_status_payload());
    for wanted in [0xf, 0x5, 0x2_u32] {
        let wanted = |at: &usize| wanted & (1 << at) != 0;
        let names: Vec<_> = (0..4).filter(wanted).map(|at| all[at].clone()).collect();
        let status = conn
            .block_status(0, 1 << 20)
            .contexts(&names)
            .await
            .unwrap();
        let found: Vec<_> = status.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(found, names);
        for (name, extents) in status.iter() {
            assert_eq!(
                extents,
                conn.block_status(0, 1 << 20)
                    .await
                    .unwrap()
                    .get(name)
                    .unwrap()
            );
        }
    }
    // What is negotiated is known here; the rest the server says.
    let sent = conn.stats().messages_sent;
    let unknown = conn
        .block_status(0, 512)
        .contexts(["qemu:dirty-bitmap:x"])
        .await;
    assert!(matches!(
        unknown,
        Err(Error::Invalid(InvalidRequest::UnknownContext { .. }))
    ));
    assert_eq!(conn.stats().messages_sent, sent);
    let none: [&str; 0] = [];
    let empty = conn.block_status(0, 512).contexts(none).await;
    assert!(matches!(
        empty,
        Err(Error::Invalid(InvalidRequest::Argument { .. }))
    ));
    assert_eq!(conn.stats().messages_sent, sent);
    // X-10: qemu refuses an id that comes twice, so it is sent once.
    let twice = conn.block_status(0, 512).contexts([BASE, BASE]).await;
    assert_eq!(twice.unwrap().iter().count(), 1);

    let conn = connect(&server, builder().extended_headers(false)).await;
    assert!(!conn.export().unwrap().can_block_status_payload());
    let error = conn
        .block_status(0, 512)
        .contexts([BASE])
        .await
        .unwrap_err();
    assert_eq!(error.errno(), Some(95), "{error}");
    conn.block_status(0, 512).await.unwrap();
}

both_runtimes!(ten_terabytes_of_nothing_are_one_request);
async fn ten_terabytes_of_nothing_are_one_request() {
    let image = "driver=null-co,size=10T,read-zeroes=on";
    let server = Server::qemu(&["-r", "--image-opts", image]);
    let conn = connect(&server, Connection::builder().meta_context(BASE)).await;
    let before = conn.stats().messages_sent;
    assert_eq!(
        map(&conn, BASE).await,
        [(0, 10 << 40, Extent::HOLE | Extent::ZERO)]
    );
    assert_eq!(conn.stats().messages_sent, before + 1);
}
