//! URIs that go through `ssh`, with a stand-in for it that does what it is told on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nbd_client::{Connection, UriPolicy};

use crate::shared::server::Dir;

const ALONE: &str = "LIBNBD_SSH_ALONE";

/// Writes its arguments down and becomes a server, whatever it was told to run.
const SSH: &str = r#"#!/bin/sh
for word; do printf '%s\n' "$word"; done > "$0.told"
exec nbdkit -s --exit-with-parent memory 1M
"#;

#[test]
fn server_behind_ssh_is_reached_by_uri() {
    let Some(dir) = std::env::var_os(ALONE) else {
        // Another search path, without changing that of the other tests.
        let dir = Dir::new();
        let ssh = dir.file("ssh", SSH);
        fs::set_permissions(&ssh, PermissionsExt::from_mode(0o700)).unwrap();
        let directory = dir.path("");
        let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
        let name = "nbdkit::ssh::server_behind_ssh_is_reached_by_uri";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("PATH", path)
            .env(ALONE, &ssh)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 passed"), "no test is called {name}");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let uri = "nbd+ssh://me@far:2222/disk?socket=/run/a%20b.sock";
        // By default a URI starts no program.
        let conn = Connection::new();
        assert_eq!(conn.connect_uri(uri).await.unwrap_err().errno(), Some(1));

        let trusted = UriPolicy::default().ssh(true);
        let conn = Connection::builder().uri_policy(trusted).build();
        conn.connect_uri(uri).await.unwrap();
        assert_eq!(conn.size().unwrap(), 1 << 20);
        assert_eq!(conn.export_name(), "disk");
        assert_eq!(conn.uri().unwrap().to_string(), uri);
        conn.disconnect().await.unwrap();
        let told = format!("{}.told", dir.to_str().unwrap());
        let told = fs::read_to_string(told).unwrap();
        let told: Vec<_> = told.lines().collect();
        let command = "nc -U '/run/a b.sock'";
        assert_eq!(told, ["-T", "-p", "2222", "-l", "me", "--", "far", command]);
    });
}
