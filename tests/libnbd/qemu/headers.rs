//! opt-extended-headers, interop-qemu-block-size, structured-read.

use futures::TryStreamExt;
use nbd_client::{Chunk, Connection, Error};

use super::connect;
use crate::shared::server::{Dir, Server, run};

/// Negotiating, with neither form of reply asked for.
async fn plain(server: &Server) -> Connection {
    let builder = Connection::builder()
        .opt_mode(true)
        .structured_replies(false)
        .extended_headers(false);
    connect(server, builder).await
}

fn agreed(conn: &Connection) -> (bool, bool) {
    let protocol = conn.protocol().unwrap();
    (protocol.structured_replies, protocol.extended_headers)
}

// X-01: extended headers take precedence.
both_runtimes!(extended_headers_and_structured_replies_are_agreed_in_any_order);
async fn extended_headers_and_structured_replies_are_agreed_in_any_order() {
    let server = Server::qemu(&["-r", "--image-opts", "driver=null-co,size=1M"]);
    let conn = plain(&server).await;
    assert_eq!(agreed(&conn), (false, false));
    assert!(conn.opt_structured_reply().await.unwrap());
    assert_eq!(agreed(&conn), (true, false));
    assert!(conn.opt_extended_headers().await.unwrap());
    assert_eq!(agreed(&conn), (true, true));
    // Nothing is to be had twice, nor the lesser after the greater; what is agreed stays.
    conn.opt_extended_headers().await.unwrap();
    assert!(!conn.opt_structured_reply().await.unwrap());
    assert_eq!(agreed(&conn), (true, true));
    conn.opt_go().await.unwrap();
    conn.read(0, 512).await.unwrap();

    let conn = plain(&server).await;
    assert!(conn.opt_extended_headers().await.unwrap());
    assert_eq!(agreed(&conn), (true, true));
    conn.opt_go().await.unwrap();
    conn.read(0, 512).await.unwrap();

    let conn = plain(&server).await;
    conn.opt_go().await.unwrap();
    assert_eq!(agreed(&conn), (false, false));
    conn.read(0, 512).await.unwrap();

    let automatic = connect(&server, Connection::builder().opt_mode(true)).await;
    assert_eq!(agreed(&automatic), (true, true));
}

/// What INFO and GO say of the minimum block size, asked for it or not.
async fn minimum(server: &Server, asks: bool) -> (Option<u32>, Option<u32>) {
    let builder = Connection::builder()
        .opt_mode(true)
        .request_block_size(asks);
    let conn = connect(server, builder).await;
    let info = conn.opt_info().await;
    if let Err(error) = &info {
        assert!(matches!(error, Error::Refused(_)), "{error}");
        assert_eq!(error.errno(), Some(22));
    }
    let sizes = |export: nbd_client::Export| export.block_size().map(|sizes| sizes.minimum);
    let info = info.ok().and_then(sizes);
    conn.opt_go().await.unwrap();
    (info, sizes(conn.export().unwrap()))
}

// P-056: a server may require block sizes; P-110: block sizes are requested with GO.
both_runtimes!(block_sizes_are_known_to_who_asks_for_them);
async fn block_sizes_are_known_to_who_asks_for_them() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let coarse = format!("driver=blkdebug,align=4096,image.driver=file,image.filename={disk}");
    let server = Server::qemu(&["--image-opts", &coarse]);
    assert_eq!(minimum(&server, true).await, (Some(4096), Some(4096)));
    assert_eq!(minimum(&server, false).await, (None, None));
    let server = Server::qemu(&["-f", "raw", &disk]);
    assert_eq!(minimum(&server, true).await, (Some(1), Some(1)));
    assert_eq!(minimum(&server, false).await, (None, None));
}

// P-161: content comes in any order; P-166: DF means one chunk of content.
both_runtimes!(data_and_holes_are_put_together_or_come_in_one_piece);
async fn data_and_holes_are_put_together_or_come_in_one_piece() {
    let dir = Dir::new();
    let disk = dir.path("disk.qcow2");
    let small = ["-o", "cluster_size=512", &disk, "3k"];
    run(
        "qemu-img",
        &[&["create", "-q", "-f", "qcow2"], &small[..]].concat(),
    );
    let write = ["-f", "qcow2", "-c", "write -P 3 2560 512", &disk];
    run("qemu-io", &write);
    let server = Server::qemu(&["-r", "-f", "qcow2", &disk]);
    for extended in [false, true] {
        let builder = Connection::builder().extended_headers(extended);
        let conn = connect(&server, builder).await;
        let mut expected = vec![0; 1024];
        expected[512..].fill(3);
        assert_eq!(conn.read(2048, 1024).await.unwrap(), expected);

        let mut chunks: Vec<_> = conn
            .read_structured(2048, 1024)
            .try_collect()
            .await
            .unwrap();
        chunks.sort_by_key(|chunk| match chunk {
            Chunk::Data { offset, .. } | Chunk::Hole { offset, .. } => *offset,
            _ => u64::MAX,
        });
        let [hole, data] = &chunks[..] else {
            panic!("{chunks:?}");
        };
        let is_hole = matches!(
            hole,
            Chunk::Hole {
                offset: 2048,
                length: 512
            }
        );
        assert!(is_hole, "{hole:?}");
        let is_data = matches!(data, Chunk::Data { offset: 2560, data } if data[..] == [3; 512]);
        assert!(is_data, "{data:?}");

        let whole = conn.read_structured(2048, 1024).dont_fragment();
        let whole: Vec<_> = whole.try_collect().await.unwrap();
        let [Chunk::Data { offset: 2048, data }] = &whole[..] else {
            panic!("{whole:?}");
        };
        assert_eq!(data[..], expected);
    }
}
