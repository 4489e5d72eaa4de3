//! The tests of libnbd's asynchronous Rust handle, by what they are about, for this client.

use futures::TryStreamExt;
use nbd_client::{Builder, Chunk, Connection, Extent, Handshake};

use crate::shared::server::Dir;

const BASE: &str = "base:allocation";
const MEMORY: [&str; 2] = ["memory", "1M"];

/// A connection to a server on its standard input and output.
async fn connect(builder: Builder, plugin: &[&str]) -> Connection {
    let conn = builder.build();
    let argv = [&["nbdkit", "-s", "--exit-with-parent"], plugin].concat();
    conn.connect_command(argv).await.unwrap();
    conn
}

async fn negotiate(plugin: &[&str]) -> Connection {
    let conn = connect(Connection::builder().opt_mode(true), plugin).await;
    assert!(conn.is_negotiating());
    conn
}

both_runtimes!(libnbd_100_a_handle_is_made_and_dropped);
async fn libnbd_100_a_handle_is_made_and_dropped() {
    let conn = Connection::new();
    assert!(conn.is_created());
    drop(conn);
}

both_runtimes!(libnbd_200_a_command_is_run_and_connected_to);
async fn libnbd_200_a_command_is_run_and_connected_to() {
    let conn = connect(Connection::builder(), &["null"]).await;
    assert!(conn.is_ready());
}

// P-030: the connection closes after ABORT.
both_runtimes!(libnbd_210_opt_abort_closes);
async fn libnbd_210_opt_abort_closes() {
    let conn = negotiate(&["null"]).await;
    let protocol = conn.protocol().unwrap();
    assert_eq!(protocol.handshake, Handshake::FixedNewstyle);
    assert_eq!(protocol.handshake.name(), "newstyle-fixed");
    assert!(protocol.structured_replies);
    conn.opt_abort().await.unwrap();
    assert!(conn.is_closed());
    conn.size().unwrap_err();
}

// P-041: SERVER replies end with ACK or an error.
both_runtimes!(libnbd_220_opt_list_gives_what_the_server_lists);
async fn libnbd_220_opt_list_gives_what_the_server_lists() {
    let list = async |answer: &str| {
        let answer = format!("list_exports={answer}");
        let conn = negotiate(&["eval", "get_size=echo 1M", &answer]).await;
        let list = conn.opt_list().await;
        assert!(conn.is_negotiating());
        conn.opt_abort().await.unwrap();
        let names = |list: Vec<nbd_client::ListedExport>| {
            let plain = list.iter().all(|export| export.description.is_empty());
            assert!(plain, "{list:?}");
            list.into_iter()
                .map(|export| export.name)
                .collect::<Vec<_>>()
        };
        list.map(names)
    };
    list("echo EINVAL there is no list >&2; exit 1")
        .await
        .unwrap_err();
    assert_eq!(
        list("echo NAMES; echo a; echo b").await.unwrap(),
        ["a", "b"]
    );
    assert_eq!(list("echo NAMES").await.unwrap(), [""; 0]);
    assert_eq!(list("echo NAMES; echo a").await.unwrap(), ["a"]);
}

/// Three exports: the default one and "big" are read-only, "small" is not.
const THREE: [&str; 7] = [
    "eval",
    "open=case \"$3\" in ''|small|big) echo \"x$3\";; *) echo ENOENT nothing >&2; exit 1;; esac",
    "get_size=case \"$2\" in x) echo 0;; xsmall) echo 1000;; xbig) echo 4000;; esac",
    "can_write=if [ \"$2\" = xsmall ]; then exit 0; else exit 3; fi",
    "can_extents=exit 0",
    "extents=echo 0 $3",
    "pread=dd if=/dev/zero count=$3 iflag=count_bytes status=none",
];

// P-053: GO counts, whatever INFO said; P-058: a selection is for one export; P-085: block status
// needs selected contexts.
both_runtimes!(libnbd_230_opt_info_tells_about_an_export_until_it_is_another);
async fn libnbd_230_opt_info_tells_about_an_export_until_it_is_another() {
    let conn = negotiate(&THREE).await;
    conn.add_meta_context(BASE).unwrap();
    conn.export().unwrap_err();
    conn.size().unwrap_err();

    let export = conn.opt_info().await.unwrap();
    assert_eq!(conn.export().unwrap(), export);
    assert_eq!(conn.size().unwrap(), 0);
    assert!(export.is_read_only());
    assert!(export.has_context(BASE));

    conn.set_export_name("small").unwrap();
    conn.export().unwrap_err();
    conn.size().unwrap_err();

    conn.set_export_name("nobody").unwrap();
    conn.opt_info().await.unwrap_err();

    conn.set_export_name("small").unwrap();
    conn.set_request_meta_context(false).unwrap();
    conn.opt_info().await.unwrap();
    // The same name changes nothing.
    conn.set_export_name("small").unwrap();
    assert_eq!(conn.size().unwrap(), 1000);
    assert!(!conn.export().unwrap().is_read_only());
    assert!(!conn.export().unwrap().has_context(BASE));
    conn.set_request_meta_context(true).unwrap();

    conn.set_export_name("nobody").unwrap();
    conn.opt_go().await.unwrap_err();
    conn.export().unwrap_err();

    conn.set_export_name("big").unwrap();
    conn.opt_go().await.unwrap();
    assert_eq!(conn.size().unwrap(), 4000);
    assert!(conn.export().unwrap().is_read_only());
    assert!(conn.export().unwrap().has_context(BASE));

    // Too late, which loses nothing.
    conn.set_export_name("nobody").unwrap_err();
    assert_eq!(conn.export_name(), "big");
    conn.opt_info().await.unwrap_err();
    assert_eq!(conn.size().unwrap(), 4000);
    assert!(conn.export().unwrap().has_context(BASE));
    conn.disconnect().await.unwrap();
}

// P-074: a selection replaces the former one.
both_runtimes!(libnbd_230_a_selection_made_by_opt_info_outlives_opt_go);
async fn libnbd_230_a_selection_made_by_opt_info_outlives_opt_go() {
    let conn = negotiate(&THREE).await;
    conn.add_meta_context("x-nobody:knows").unwrap();
    conn.export().unwrap_err();
    assert!(!conn.opt_info().await.unwrap().has_context(BASE));
    conn.set_request_meta_context(false).unwrap();
    conn.add_meta_context(BASE).unwrap();
    conn.opt_go().await.unwrap();
    assert!(!conn.export().unwrap().has_context(BASE));
    conn.disconnect().await.unwrap();
}

const ALL: [&str; 0] = [];

// P-071: a list of contexts selects nothing; P-077: contexts come in any order, ids once.
both_runtimes!(libnbd_240_opt_list_meta_context_changes_nothing);
async fn libnbd_240_opt_list_meta_context_changes_nothing() {
    let conn = negotiate(&MEMORY).await;
    let all = conn.opt_list_meta_context(ALL).await.unwrap();
    assert!(all.iter().any(|name| name == BASE), "{all:?}");

    conn.add_meta_context(BASE).unwrap();
    conn.export().unwrap_err();
    conn.opt_info().await.unwrap();
    let none = conn.opt_list_meta_context(["x-nobody:"]).await.unwrap();
    assert_eq!(none, [""; 0]);
    assert_eq!(conn.size().unwrap(), 1 << 20);
    assert!(conn.export().unwrap().has_context(BASE));

    // P-079: here a wildcard is one.
    let some = conn.opt_list_meta_context(["base:"]).await.unwrap();
    assert!(some.iter().any(|name| name == BASE), "{some:?}");
    assert!(some.len() <= all.len());
    conn.opt_abort().await.unwrap();
}

// P-071: a list of contexts selects nothing.
both_runtimes!(libnbd_240_contexts_are_listed_before_and_after_structured_replies);
async fn libnbd_240_contexts_are_listed_before_and_after_structured_replies() {
    let builder = Connection::builder()
        .opt_mode(true)
        .structured_replies(false);
    let conn = connect(builder, &MEMORY).await;
    let before = conn.opt_list_meta_context(ALL).await.unwrap();
    assert!(before.iter().any(|name| name == BASE), "{before:?}");
    assert!(conn.opt_structured_reply().await.unwrap());
    let after = conn.opt_list_meta_context(ALL).await.unwrap();
    assert_eq!(before, after);
    conn.opt_abort().await.unwrap();
}

both_runtimes!(libnbd_245_queries_stand_for_themselves);
async fn libnbd_245_queries_stand_for_themselves() {
    let conn = negotiate(&MEMORY).await;
    conn.add_meta_context("x-nobody:").unwrap();
    let all = conn.opt_list_meta_context(ALL).await.unwrap();
    assert!(all.iter().any(|name| name == BASE), "{all:?}");
    conn.clear_meta_contexts().unwrap();
    let none = conn.opt_list_meta_context(["x-nobody:"]).await.unwrap();
    assert_eq!(none, [""; 0]);
    let one = conn.opt_list_meta_context(["x-nobody:", BASE]).await;
    assert_eq!(one.unwrap(), [BASE]);
    conn.opt_abort().await.unwrap();
}

// P-070: contexts need structured replies; P-079: an empty leaf matches in a list only.
both_runtimes!(libnbd_250_opt_set_meta_context_needs_structured_replies);
async fn libnbd_250_opt_set_meta_context_needs_structured_replies() {
    let builder = Connection::builder()
        .opt_mode(true)
        .structured_replies(false);
    let conn = connect(builder, &MEMORY).await;
    assert!(!conn.protocol().unwrap().structured_replies);
    conn.opt_set_meta_context([BASE]).await.unwrap_err();
    assert!(conn.opt_structured_reply().await.unwrap());
    assert!(conn.protocol().unwrap().structured_replies);

    let none = [""; 0];
    assert_eq!(conn.opt_set_meta_context(["base:"]).await.unwrap(), none);
    assert_eq!(conn.opt_set_meta_context(none).await.unwrap(), none);
    let one = conn.opt_set_meta_context(["x-nobody:knows", BASE]).await;
    assert_eq!(one.unwrap(), [BASE]);

    // What was selected last is in force, whatever is asked for now.
    conn.set_request_meta_context(false).unwrap();
    conn.add_meta_context("x-nobody:knows").unwrap();
    conn.opt_go().await.unwrap();
    assert!(conn.export().unwrap().has_context(BASE));
    conn.opt_set_meta_context([BASE]).await.unwrap_err();
    assert!(conn.export().unwrap().has_context(BASE));
    conn.block_status(0, 4096).await.unwrap();
    conn.disconnect().await.unwrap();
}

// P-074: a selection replaces the former one.
both_runtimes!(libnbd_255_the_last_selection_replaces_the_others);
async fn libnbd_255_the_last_selection_replaces_the_others() {
    let conn = negotiate(&MEMORY).await;
    let none = [""; 0];
    assert_eq!(conn.opt_set_meta_context(["base:"]).await.unwrap(), none);
    conn.add_meta_context(BASE).unwrap();
    assert_eq!(conn.opt_set_meta_context(none).await.unwrap(), none);
    let one = conn.opt_set_meta_context(["x-nobody:knows", BASE]).await;
    assert_eq!(one.unwrap(), [BASE]);
    conn.set_request_meta_context(false).unwrap();
    conn.opt_go().await.unwrap();
    assert!(conn.export().unwrap().has_context(BASE));
    conn.disconnect().await.unwrap();
}

/// What the pattern plugin holds: each word is its own offset.
fn pattern(length: u64) -> Vec<u8> {
    (0..length).step_by(8).flat_map(u64::to_be_bytes).collect()
}

both_runtimes!(libnbd_400_pread);
async fn libnbd_400_pread() {
    let conn = connect(Connection::builder(), &["pattern", "512"]).await;
    assert_eq!(conn.read(0, 512).await.unwrap(), pattern(512));
}

both_runtimes!(libnbd_405_pread_structured);
async fn libnbd_405_pread_structured() {
    let conn = connect(Connection::builder(), &["pattern", "512"]).await;
    for dont_fragment in [false, true] {
        let mut chunks = conn.read_structured(0, 512);
        if dont_fragment {
            chunks = chunks.dont_fragment();
        }
        let chunks: Vec<Chunk> = chunks.try_collect().await.unwrap();
        let [Chunk::Data { offset: 0, data }] = &chunks[..] else {
            panic!("{chunks:?}");
        };
        assert_eq!(*data, pattern(512));
    }
    // Who does not like a chunk stops asking for more.
    let mut chunks = conn.read_structured(0, 512);
    assert!(chunks.try_next().await.unwrap().is_some());
    drop(chunks);
    assert_eq!(conn.read(0, 512).await.unwrap(), pattern(512));
}

both_runtimes!(libnbd_410_pwrite_fua);
async fn libnbd_410_pwrite_fua() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 512);
    let conn = connect(Connection::builder(), &["file", &disk]).await;
    let mut data = vec![0; 512];
    (data[10], data[510], data[511]) = (1, 0x55, 0xaa);
    conn.write(0, data.clone()).fua().await.unwrap();
    assert_eq!(conn.read(0, 512).await.unwrap(), data);
    assert_eq!(std::fs::read(&disk).unwrap(), data);
}

/// Five extents, one of each kind.
const FIVE: [&str; 5] = [
    "eval",
    "get_size=echo 65536",
    "can_extents=exit 0",
    "extents=echo 0 8192; echo 8192 8192 hole; echo 16384 16384 hole,zero; \
     echo 32768 16384 zero; echo 49152 16384",
    "pread=dd if=/dev/zero count=$3 iflag=count_bytes status=none",
];

// P-171: the last extent may go beyond what was asked for.
both_runtimes!(libnbd_460_block_status);
async fn libnbd_460_block_status() {
    let conn = connect(Connection::builder().meta_context(BASE), &FIVE).await;
    let extents = async |offset, length, one: bool| {
        let request = conn.block_status(offset, length);
        let request = if one { request.req_one() } else { request };
        let status = request.await.unwrap();
        status.get(BASE).unwrap().to_vec()
    };
    let (hole, zero) = (Extent::HOLE, Extent::ZERO);
    let all = [
        Extent::new(0, 8192, 0),
        Extent::new(8192, 8192, hole),
        Extent::new(16384, 16384, hole | zero),
        Extent::new(32768, 16384, zero),
        Extent::new(49152, 16384, 0),
    ];
    assert_eq!(extents(0, 65536, false).await, all);
    let tail = Extent::new(32256, 512, hole | zero);
    let two = [tail, Extent::new(32768, 16384, zero)];
    assert_eq!(extents(32256, 1024, false).await, two);
    assert_eq!(extents(32256, 1024, true).await, [tail]);
}

// Extents have 64 bits here, whatever was agreed on.
both_runtimes!(libnbd_465_block_status_64);
async fn libnbd_465_block_status_64() {
    const HUGE: u64 = 1 << 42;
    let size = HUGE.to_string();
    let builder = Connection::builder().meta_context(BASE);
    let conn = connect(builder, &["null", &size]).await;
    let offset = HUGE - (1 << 20);
    let status = conn.block_status(offset, 1 << 20).await.unwrap();
    let extent = status.get(BASE).unwrap()[0];
    assert_eq!((extent.offset, extent.end()), (offset, HUGE));
    let status = conn.block_status(0, HUGE).await.unwrap();
    assert!(status.get(BASE).unwrap()[0].length <= HUGE);
}

both_runtimes!(libnbd_620_stats);
async fn libnbd_620_stats() {
    let conn = Connection::new();
    let none = conn.stats();
    assert_eq!((none.bytes_sent, none.messages_sent), (0, 0));
    assert_eq!((none.bytes_received, none.messages_received), (0, 0));
    let argv = ["nbdkit", "-s", "--exit-with-parent", "null"];
    conn.connect_command(argv).await.unwrap();

    let connected = conn.stats();
    assert!(connected.messages_sent > 0);
    assert!(connected.bytes_sent > connected.messages_sent);
    assert!(connected.messages_received > 0);
    assert!(connected.bytes_received > connected.messages_received);

    // A request of 28 bytes, and a simple reply of 16.
    conn.flush().await.unwrap();
    let flushed = conn.stats();
    assert_eq!(flushed.bytes_sent, connected.bytes_sent + 28);
    assert_eq!(flushed.messages_sent, connected.messages_sent + 1);
    assert_eq!(flushed.bytes_received, connected.bytes_received + 16);
    assert_eq!(flushed.messages_received, connected.messages_received + 1);

    // P-144: a goodbye, which is not answered.
    conn.disconnect().await.unwrap();
    let ended = conn.stats();
    assert_eq!(ended.bytes_sent, flushed.bytes_sent + 28);
    assert_eq!(ended.messages_sent, flushed.messages_sent + 1);
    assert_eq!(ended.bytes_received, flushed.bytes_received);
    assert_eq!(ended.messages_received, flushed.messages_received);
}
