//! Several metadata contexts at once, without extended headers.

use nbd_client::{Builder, Connection, Error, Extent};

use super::connect;
use crate::shared::server::{Dir, Server, run};

pub(super) const BASE: &str = "base:allocation";
pub(super) const DEPTH: &str = "qemu:allocation-depth";
pub(super) const DIRTY: &str = "qemu:dirty-bitmap:b0";

const MIB: u64 = 1 << 20;

/// An image of 64 MiB: the first was written before the bitmap was started, and 64 KiB at 2 MiB
/// and 128 KiB at 10 MiB after it.
pub(super) fn server() -> (Server, Dir) {
    let dir = Dir::new();
    let image = dir.path("disk.qcow2");
    let write = |commands: &[&str]| {
        let mut args = vec!["-f", "qcow2"];
        commands
            .iter()
            .for_each(|command| args.extend(["-c", command]));
        args.push(&image);
        run("qemu-io", &args);
    };
    run("qemu-img", &["create", "-q", "-f", "qcow2", &image, "64M"]);
    write(&["write -P 0xaa 0 1M"]);
    run("qemu-img", &["bitmap", "--add", "--enable", &image, "b0"]);
    write(&["write -P 0xbb 2M 64k", "write -P 0xcc 10M 128k"]);
    let server = Server::qemu(&["-r", "-f", "qcow2", "-A", "-B", "b0", &image]);
    (server, dir)
}

/// Asks for all three contexts.
pub(super) fn contexts() -> Builder {
    Connection::builder()
        .meta_context(DIRTY)
        .meta_context(BASE)
        .meta_context(DEPTH)
}

/// What is written in that image.
pub(super) fn written(flags: u64, otherwise: u64) -> Vec<Extent> {
    vec![
        Extent::new(0, MIB, flags),
        Extent::new(MIB, MIB, otherwise),
        Extent::new(2 * MIB, MIB / 16, flags),
        Extent::new(2 * MIB + MIB / 16, 8 * MIB - MIB / 16, otherwise),
        Extent::new(10 * MIB, MIB / 8, flags),
        Extent::new(10 * MIB + MIB / 8, 54 * MIB - MIB / 8, otherwise),
    ]
}

/// What was written since the bitmap was started.
pub(super) fn dirty() -> Vec<Extent> {
    vec![
        Extent::new(0, 2 * MIB, 0),
        Extent::new(2 * MIB, MIB / 16, Extent::DIRTY),
        Extent::new(2 * MIB + MIB / 16, 8 * MIB - MIB / 16, 0),
        Extent::new(10 * MIB, MIB / 8, Extent::DIRTY),
        Extent::new(10 * MIB + MIB / 8, 54 * MIB - MIB / 8, 0),
    ]
}

// P-169: one chunk for each context; P-075: one of qemu's contexts has the id zero.
both_runtimes!(one_status_answers_for_every_context);
async fn one_status_answers_for_every_context() {
    let (server, _dir) = server();
    let conn = connect(&server, contexts().extended_headers(false)).await;
    let export = conn.export().unwrap();
    for context in [BASE, DEPTH, DIRTY] {
        assert!(export.has_context(context), "{context}");
    }
    let status = conn.block_status(0, 64 * MIB).await.unwrap();
    assert_eq!(status.len(), 3);
    let hole = Extent::HOLE | Extent::ZERO;
    assert_eq!(status.get(BASE).unwrap(), written(0, hole));
    assert_eq!(status.get(DEPTH).unwrap(), written(1, 0));
    assert_eq!(status.get(DIRTY).unwrap(), dirty());
}

// P-077: contexts come in any order, ids once.
both_runtimes!(a_bitmap_that_does_not_exist_is_missing);
async fn a_bitmap_that_does_not_exist_is_missing() {
    let (server, _dir) = server();
    let builder = contexts().meta_context("qemu:dirty-bitmap:b1");
    let conn = connect(&server, builder).await;
    let export = conn.export().unwrap();
    assert!(!export.has_context("qemu:dirty-bitmap:b1"));
    assert_eq!(export.contexts().count(), 3);
}

// P-078: a list holds names as the server has them.
both_runtimes!(the_list_of_contexts_has_every_bitmap);
async fn the_list_of_contexts_has_every_bitmap() {
    let (server, _dir) = server();
    let conn = connect(&server, Connection::builder().opt_mode(true)).await;
    let every = conn.opt_list_meta_context([""; 0]).await.unwrap();
    for context in [BASE, DEPTH, DIRTY] {
        assert!(every.iter().any(|name| name == context), "{every:?}");
    }
    let bitmaps = conn.opt_list_meta_context(["qemu:dirty-bitmap:"]).await;
    assert_eq!(bitmaps.unwrap(), [DIRTY]);
}

both_runtimes!(a_write_makes_a_live_bitmap_dirty);
async fn a_write_makes_a_live_bitmap_dirty() {
    let dir = Dir::new();
    let image = dir.path("disk.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &image, "64M"]);
    run("qemu-img", &["bitmap", "--add", "--enable", &image, "b0"]);
    let server = Server::qemu(&["-f", "qcow2", "-B", "b0", &image]);
    let conn = connect(&server, Connection::builder().meta_context(DIRTY)).await;
    let status = conn.block_status(0, 64 * MIB).await.unwrap();
    assert_eq!(status.get(DIRTY).unwrap(), [Extent::new(0, 64 * MIB, 0)]);
    conn.write(MIB, vec![1; 65536]).await.unwrap();
    let status = conn.block_status(MIB, MIB).await.unwrap();
    let first = status.get(DIRTY).unwrap()[0];
    assert_eq!(first, Extent::new(MIB, 65536, Extent::DIRTY));
}

both_runtimes!(a_mistyped_bitmap_is_told_with_those_that_there_are);
async fn a_mistyped_bitmap_is_told_with_those_that_there_are() {
    let (server, _dir) = server();
    let builder = contexts().require_meta_context("qemu:dirty-bitmap:b1");
    let conn = builder.build();
    let Err(Error::MissingContext(missing)) = conn.connect_unix(server.socket()).await else {
        panic!("{conn:?}");
    };
    assert_eq!(missing.name(), "qemu:dirty-bitmap:b1");
    let mut available = missing.available().to_vec();
    available.sort();
    assert_eq!(available, [BASE, DEPTH, DIRTY]);

    // The server serves on.
    let conn = contexts().require_meta_context(DIRTY).build();
    conn.connect_unix(server.socket()).await.unwrap();
    assert!(conn.export().unwrap().has_context(DIRTY));
}

both_runtimes!(the_bitmap_and_the_allocation_are_streamed_with_their_meaning);
async fn the_bitmap_and_the_allocation_are_streamed_with_their_meaning() {
    use futures::TryStreamExt;
    use nbd_client::{Allocation, InvalidRequest};

    let (server, _dir) = server();
    let conn = connect(&server, contexts()).await;
    let extents: Vec<_> = conn.dirty_extents("b0", ..).try_collect().await.unwrap();
    let found = extents
        .iter()
        .map(|extent| (extent.offset, extent.length, extent.is_dirty));
    let expected: Vec<_> = dirty()
        .iter()
        .map(|extent| (extent.offset, extent.length, extent.is_dirty()))
        .collect();
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let extents: Vec<_> = conn.allocation(..).try_collect().await.unwrap();
    let data = extents
        .iter()
        .filter(|extent| extent.kind == Allocation::Data);
    let data: u64 = data.map(|extent| extent.length).sum();
    assert_eq!(data, MIB + MIB / 16 + MIB / 8);
    let mistyped = conn.dirty_extents("bo", ..).try_next().await;
    assert!(matches!(
        mistyped,
        Err(Error::Invalid(InvalidRequest::UnknownContext { negotiated, .. }))
            if negotiated.len() == 3
    ));
}
