//! nbd-server.

use crate::run::{Compared, QUESTIONS};
use crate::server::{Dir, Server};

#[test]
fn exports_of_nbd_server_are_described_alike() {
    let server = || {
        let dir = Dir::new();
        let one = dir.file("one", "#!/bin/sh\n".repeat(1000));
        let two = dir.disk("two", 1 << 20);
        let exports = format!("[one]\nexportname={one}\n[two]\nexportname={two}\nreadonly=true\n");
        (Server::nbd_server(&exports), dir)
    };
    let compared = Compared::new(server, "one").one_client();
    compared.json(&["--json"]);
    compared.json(&["--json", "--no-content"]);
    compared.lines(&["--no-content"]);
    compared.exactly(&["--size"]);
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
    compared.failure(&["--map"]);
}
