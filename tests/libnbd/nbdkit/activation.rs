//! connect-systemd-socket-activation, socket-activation-name, socket-activation-nbdkit.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nbd_client::{Connection, State};

use crate::shared::process::is_gone;
use crate::shared::server::Dir;

both_runtimes!(server_takes_over_a_socket);
async fn server_takes_over_a_socket() {
    let conn = Connection::new();
    let argv = ["nbdkit", "-f", "--exit-with-parent", "memory", "1M"];
    conn.connect_systemd_socket_activation(argv).await.unwrap();
    let pid = conn.child_id().unwrap();
    conn.write(512, vec![7; 512]).await.unwrap();
    assert_eq!(conn.read(512, 512).await.unwrap(), vec![7; 512]);
    // Where the socket was is nobody's business.
    assert_eq!(conn.uri().unwrap_err().errno(), Some(22));
    conn.disconnect().await.unwrap();
    assert!(is_gone(pid));
}

/// A server that writes down what it is told of its socket.
fn telling(dir: &Dir) -> [String; 1] {
    let script = format!(
        "#!/bin/sh\necho \"$LISTEN_PID $$ $LISTEN_FDS $LISTEN_FDNAMES\" > {}\n\
         exec nbdkit -f memory 1M\n",
        dir.path("told")
    );
    let path = dir.file("server", script);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    [path]
}

both_runtimes!(socket_has_the_name_that_was_given_or_is_unknown);
async fn socket_has_the_name_that_was_given_or_is_unknown() {
    for (name, told) in [(None, "unknown"), (Some(""), "unknown"), (Some("a1"), "a1")] {
        let dir = Dir::new();
        let mut builder = Connection::builder();
        if let Some(name) = name {
            builder = builder.socket_activation_name(name);
        }
        let conn = builder.build();
        let argv = telling(&dir);
        conn.connect_systemd_socket_activation(argv).await.unwrap();
        let text = fs::read_to_string(dir.path("told")).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(words[0], words[1], "the process is the one that is meant");
        assert_eq!(words[2..], ["1", told]);
        conn.disconnect().await.unwrap();
    }
}

both_runtimes!(name_that_no_socket_can_have_is_refused);
async fn name_that_no_socket_can_have_is_refused() {
    // EINVAL; and ENAMETOOLONG for what is too long.
    for (name, errno) in [
        ("a b", 22),
        ("a:b", 22),
        ("\u{e4}", 22),
        (&*"a".repeat(33), 36),
    ] {
        let conn = Connection::builder().socket_activation_name(name).build();
        let error = conn
            .connect_systemd_socket_activation(["nbdkit", "null"])
            .await
            .unwrap_err();
        assert_eq!(error.errno(), Some(errno), "{name}: {error}");
        assert_eq!(conn.state(), State::Created);
    }
}
