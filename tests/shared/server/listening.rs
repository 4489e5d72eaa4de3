//! Whether somebody listens, told without connecting: some servers take one client and no more.

use std::fs;

/// Whether a Unix socket of this name listens.
pub(crate) fn listens_unix(path: &str) -> bool {
    // Of a socket that listens the kernel shows the flag SO_ACCEPTCON.
    let is_it = |line: &str| {
        let mut words = line.split_whitespace();
        words.nth(3) == Some("00010000") && words.nth(3) == Some(path)
    };
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    sockets.lines().any(is_it)
}

/// Whether a TCP socket on this port of the loopback address listens.
pub(crate) fn listens_tcp(port: u16) -> bool {
    let local = format!("0100007F:{port:04X}");
    let is_it = |line: &str| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some(&local) && words.nth(1) == Some("0A")
    };
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(is_it)
}
