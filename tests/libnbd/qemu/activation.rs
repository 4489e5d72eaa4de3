//! interop-qemu-nbd and socket-activation-qemu-nbd.

use nbd_client::Connection;

use super::image;
use crate::shared::process::is_gone;
use crate::shared::server::Dir;

both_runtimes!(server_takes_over_a_socket);
async fn server_takes_over_a_socket() {
    let dir = Dir::new();
    let image = image(&dir, "1M", &[], &[]);
    let conn = Connection::builder().export_name("/").build();
    let argv = ["qemu-nbd", "-f", "qcow2", "-x", "/", &image];
    conn.connect_systemd_socket_activation(argv).await.unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 20);
    conn.write(0, vec![5; 512]).fua().await.unwrap();
    assert_eq!(conn.read(0, 512).await.unwrap(), vec![5; 512]);
    let pid = conn.child_id().unwrap();
    conn.disconnect().await.unwrap();
    assert!(is_gone(pid));
}
