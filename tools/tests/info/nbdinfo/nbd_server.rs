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
    // nbd-server says 0 before the export is entered, which is what nbdinfo prints.
    for args in [&["--json"][..], &["--json", "--no-content"]] {
        let ours = compared.json_but(args, &["export-size", "export-size-str", "content"]);
        let export = &ours["exports"][0];
        assert_eq!(export["export-size"], 10_000, "{export}");
        let content = export.get("content").map(|text| text.as_str().unwrap());
        let is_script = |text: &str| text.contains("shell script");
        assert_eq!(content.is_some_and(is_script), args.len() == 1, "{export}");
    }
    compared.lines_but(&["--no-content"], "export-size");
    compared.exactly(&["--size"]);
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
    compared.failure(&["--map"]);
}
