//! What libnbd tests with qemu-nbd and qemu-storage-daemon.

mod activation;
mod headers;
mod status;
mod storage_daemon;

use nbd_client::{Builder, Connection};

use crate::shared::server::{Dir, Server, run};

async fn connect(server: &Server, builder: Builder) -> Connection {
    let conn = builder.build();
    conn.connect_unix(server.socket()).await.unwrap();
    conn
}

/// A qcow2 image with these bitmaps, written to as `qemu-io` is told.
fn image(dir: &Dir, size: &str, bitmaps: &[&str], commands: &[&str]) -> String {
    let image = dir.path("disk.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &image, size]);
    for bitmap in bitmaps {
        run("qemu-img", &["bitmap", "--add", &image, bitmap]);
    }
    for command in commands {
        run("qemu-io", &["-f", "qcow2", "-c", command, &image]);
    }
    image
}
