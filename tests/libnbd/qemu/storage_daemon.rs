//! interop-qemu-storage-daemon.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};

use nbd_client::Connection;

use crate::shared::process::is_gone;
use crate::shared::server::Dir;

/// A daemon that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its arguments, for a disk and a socket that it is given.
fn arguments(disk: &str, socket: &str) -> [String; 6] {
    [
        "--blockdev".into(),
        format!("driver=file,node-name=n,filename={disk}"),
        "--nbd-server".into(),
        format!("addr.type=fd,addr.str={socket}"),
        "--export".into(),
        "type=nbd,id=e,node-name=n,writable=on".into(),
    ]
}

both_runtimes!(daemon_that_was_given_a_socket_is_reached_by_another);
async fn daemon_that_was_given_a_socket_is_reached_by_another() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let path = dir.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let _daemon = Daemon(
        Command::new("sh")
            .args(["-c", "exec qemu-storage-daemon \"$@\" 3<&0", "sh"])
            .args(arguments(&disk, "3"))
            .stdin(OwnedFd::from(listener))
            .spawn()
            .unwrap(),
    );
    let conn = Connection::builder().export_name("n").build();
    let socket = UnixStream::connect(&path).unwrap();
    conn.connect_socket(socket).await.unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 20);
    conn.write(512, vec![9; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![9; 512]);
    conn.disconnect().await.unwrap();
}

both_runtimes!(daemon_takes_over_a_socket);
async fn daemon_takes_over_a_socket() {
    let dir = Dir::new();
    let disk = dir.disk("disk", 1 << 20);
    let conn = Connection::builder().export_name("n").build();
    let mut argv = vec!["qemu-storage-daemon".to_owned()];
    argv.extend(arguments(&disk, "3"));
    conn.connect_systemd_socket_activation(argv).await.unwrap();
    conn.write(512, vec![9; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![9; 512]);
    let pid = conn.child_id().unwrap();
    conn.disconnect().await.unwrap();
    assert!(is_gone(pid));
}
