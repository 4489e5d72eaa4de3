//! Servers that ask for TLS.

use crate::pki;
use crate::run::{copied, disk, failed, same};
use crate::server::{Dir, Over, Server};

#[test]
fn both_servers_may_ask_for_certificates() {
    let dir = Dir::new();
    let (from, to) = (disk(&dir, "from"), dir.disk("to", 8 << 20));
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let serve = |file: &str| {
        let args = [
            "--tls=require",
            &certificates,
            "--tls-verify-peer",
            "file",
            file,
        ];
        Server::nbdkit_over(Over::Tcp, &args)
    };
    let servers = [serve(&from), serve(&to)];
    let client = dir.path("client");
    std::fs::create_dir(&client).unwrap();
    for name in ["ca/ca-cert.pem", "client-cert.pem", "client-key.pem"] {
        let kept = name.rsplit('/').next().unwrap();
        std::fs::copy(pki::path(name), dir.path(&format!("client/{kept}"))).unwrap();
    }
    let uri = |server: &Server| {
        let port = server.port();
        format!("nbds://localhost:{port}/?tls-certificates={client}")
    };
    // Small requests, so that there are several connections.
    let places = servers.each_ref().map(uri);
    copied(&["--request-size=64K", "--verify", &places[0], &places[1]]);
    same(&from, &to);
    let (code, errors) = failed(&[&places[0].replace("nbds:", "nbd:"), "null:"]);
    assert_eq!(code, 1);
    assert!(errors.contains("the source of the copy: "), "{errors}");
    assert!(errors.contains("TLS"), "{errors}");
}
