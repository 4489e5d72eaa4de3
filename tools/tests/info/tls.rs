//! Certificates where the URI names none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::geteuid;

use crate::pki;
use crate::server::{Dir, Over, Server};

/// A user whose home may hold certificates, which that of root may not.
const NOBODY: &str = "65534";

/// Runs `nbd info --size` as a user with this home.
fn size_with_home(program: &Path, home: &Path, uri: &str) -> Output {
    let mut command;
    if geteuid().is_root() {
        command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command
            .args([&*user, &*group, "--clear-groups"])
            .arg(program);
    } else {
        command = Command::new(program);
    }
    command.args(["info", "--size", uri]).env("HOME", home);
    command.output().unwrap()
}

/// Lets everybody look into a directory of the test's, or read a file there.
fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn certificates_in_the_home_of_the_user_are_used() {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let args = ["--tls=require", &certificates, "memory", "1M"];
    let server = Server::nbdkit_over(Over::Tcp, &args);
    let dir = Dir::new();
    let (program, home) = (dir.path("nbd"), dir.path("home"));
    let (program, home) = (Path::new(&program), Path::new(&home));
    fs::copy(env!("CARGO_BIN_EXE_nbd"), program).unwrap();
    for path in [Path::new(&dir.path("")), program] {
        open(path);
    }
    for place in [".pki/libnbd", ".config/pki/libnbd"] {
        let place = home.join(place);
        let uri = format!("nbds://localhost:{}/", server.port());
        fs::create_dir_all(&place).unwrap();
        let output = size_with_home(program, home, &uri);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("authority"), "{complaint}");

        let ca = place.join("ca-cert.pem");
        fs::copy(pki::path("ca/ca-cert.pem"), &ca).unwrap();
        open(&ca);
        let output = size_with_home(program, home, &uri);
        assert_eq!(output.stdout, b"1048576\n", "{output:?}");

        // What the URI names comes first.
        let uri = format!("{uri}?tls-certificates=/nonexistent");
        let output = size_with_home(program, home, &uri);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            complaint.contains("/nonexistent/ca-cert.pem"),
            "{complaint}"
        );
        fs::remove_dir_all(home).unwrap();
    }
}
