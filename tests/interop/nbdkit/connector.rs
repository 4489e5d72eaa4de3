//! Connecting again and again, by values that say how.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nbd_client::{
    Connection, Connector, Endpoint, Error, ErrorKind, InvalidRequest, Phase, Program, SshRemote,
    UriPolicy,
};
use tokio::net::UnixStream;

use crate::shared::server::{Dir, Server};

const SIZE: u64 = 1 << 20;

/// Connects twice by each connector: nothing is used up.
async fn connect_twice(connector: &Connector) {
    for _ in 0..2 {
        let conn = Connection::builder().connect(connector).await;
        let conn = conn.unwrap_or_else(|error| panic!("{connector:?}: {error}"));
        assert_eq!(conn.size().unwrap(), SIZE, "{connector:?}");
        assert_eq!(conn.read(0, 512).await.unwrap().len(), 512);
        conn.disconnect().await.unwrap();
    }
}

both_runtimes!(every_connector_connects_again);
async fn every_connector_connects_again() {
    let unix = Server::nbdkit(&["memory", "1M"]);
    let tcp = Server::nbdkit_tcp(&["memory", "1M"]);
    let (socket, port) = (unix.socket(), tcp.port());
    let uri = format!("nbd://127.0.0.1:{port}");
    let host = String::from("127.0.0.1");
    let opened = socket.clone();
    for connector in [
        Connector::unix(&socket),
        Connector::tcp("127.0.0.1", port),
        Connector::from(Endpoint::Tcp { host, port }),
        Connector::uri(uri.parse().unwrap()),
        Connector::try_from(&*uri).unwrap(),
        Connector::command(["nbdkit", "-s", "memory", "1M"]),
        Connector::socket_activation(["nbdkit", "--exit-with-parent", "memory", "1M"]),
        Connector::stream(move || UnixStream::connect(opened.clone())),
    ] {
        connect_twice(&connector).await;
    }
    let text = Connection::builder().connect(&*uri).await.unwrap();
    assert_eq!(text.size().unwrap(), SIZE);
}

both_runtimes!(an_address_may_be_another_one_each_time);
async fn an_address_may_be_another_one_each_time() {
    let first = Server::nbdkit(&["memory", "1M"]);
    let second = Server::nbdkit_tcp(&["memory", "2M"]);
    let host = String::from("127.0.0.1");
    let port = second.port();
    let path = first.socket();
    let addresses = Arc::new([Endpoint::Unix { path }, Endpoint::Tcp { host, port }]);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let connector = Connector::address(move || {
        let nth = counted.fetch_add(1, Ordering::Relaxed);
        let address = addresses[nth % addresses.len()].clone();
        async move { Ok(address) }
    });
    for size in [SIZE, 2 * SIZE, SIZE] {
        let conn = Connection::builder().connect(&connector).await.unwrap();
        assert_eq!(conn.size().unwrap(), size);
        // The handle knows where it has come to.
        let uri = conn.uri().unwrap().to_string();
        assert_eq!(uri.starts_with("nbd://127.0.0.1"), size != SIZE, "{uri}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

both_runtimes!(what_a_closure_says_is_the_error_of_the_attempt);
async fn what_a_closure_says_is_the_error_of_the_attempt() {
    let no_stream = Connector::stream(|| async {
        Err::<UnixStream, _>(io::Error::new(
            io::ErrorKind::HostUnreachable,
            "no route yet",
        ))
    });
    let no_address =
        Connector::address(|| async { Err(io::Error::other("no route yet, ask again")) });
    for connector in [no_stream, no_address] {
        let conn = Connection::new();
        let error = conn.connect_to(&connector).await.unwrap_err();
        let Error::Disconnected(lost, _) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lost.phase(), Phase::Connect);
        assert!(error.to_string().contains("no route yet"), "{error}");
        assert!(error.is_retryable() && conn.is_dead());
    }
}

both_runtimes!(a_connector_that_cannot_be_used_leaves_the_handle_new);
async fn a_connector_that_cannot_be_used_leaves_the_handle_new() {
    let none: [&str; 0] = [];
    for connector in [
        Connector::tcp("", 10809),
        Connector::command(none),
        Connector::unix("x".repeat(200)),
    ] {
        let conn = Connection::new();
        let error = conn.connect_to(&connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{connector:?}: {error}");
        assert!(conn.is_created(), "{connector:?}");
    }
    let conn = Connection::new();
    let error = conn.connect_to("http://example.com").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && conn.is_created());
}

#[tokio::test]
async fn a_handle_that_is_not_new_refuses_every_connector() {
    let server = Server::nbdkit(&["memory", "1M"]);
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    let path = server.socket();
    let again = Connector::address(move || {
        let path = path.clone();
        async move { Ok(Endpoint::Unix { path }) }
    });
    let stream = Connector::stream(|| async { Ok(tokio::io::empty()) });
    for connector in [Connector::unix(server.socket()), again, stream] {
        let error = conn.connect_to(connector).await.unwrap_err();
        let state = matches!(error, Error::Invalid(InvalidRequest::State { .. }));
        assert!(state && conn.is_ready(), "{error}");
    }
}

// A command is no address: nothing says where the server would be.
#[tokio::test]
async fn an_address_by_ssh_is_refused() {
    let remote = SshRemote::Tcp { port: 10809 };
    let connector = Connector::address(move || {
        let ssh = Endpoint::Ssh {
            user: None,
            host: "example.com".into(),
            port: None,
            compress: false,
            remote: remote.clone(),
        };
        async move { Ok(ssh) }
    });
    let conn = Connection::new();
    let error = conn.connect_to(&connector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(conn.is_dead());
}

// The words of the URI come after those of the program.
#[tokio::test]
async fn a_uri_by_ssh_runs_the_program_that_was_set() {
    let dir = Dir::new();
    let script = r#"printf '%s\n' "$PWD" "$MARK" "$@" >said; exec nbdkit -s memory 1M"#;
    let ssh = Program::new("sh")
        .arg(dir.file("ssh", script))
        .args(["-i", "key"])
        .env("MARK", "set")
        .current_dir(dir.path("."));
    let trusted = Connection::builder().uri_policy(UriPolicy::trusted());
    let uri = "nbd+ssh://backup@storage/?socket=/run/nbd.sock";
    let conn = trusted.clone().ssh(ssh.clone()).build();
    conn.connect_uri(uri).await.unwrap();
    assert_eq!(conn.export().unwrap().size(), 1 << 20);
    conn.disconnect().await.unwrap();
    let said = std::fs::read_to_string(dir.path("said")).unwrap();
    let said: Vec<_> = said.lines().collect();
    let own = std::fs::canonicalize(dir.path(".")).unwrap();
    assert_eq!(std::fs::canonicalize(said[0]).unwrap(), own);
    let words = ["set", "-i", "key", "-T", "-l", "backup", "--", "storage"];
    assert_eq!(said[1..9], words);
    assert_eq!(said[9..], ["nc -U '/run/nbd.sock'"]);

    // The policy is asked first.
    let conn = Connection::builder().ssh(ssh).build();
    let error = conn.connect_uri(uri).await.unwrap_err();
    assert!(error.to_string().contains("UriPolicy::ssh"), "{error}");
    let conn = trusted.ssh(Program::new("")).build();
    let error = conn.connect_uri(uri).await.unwrap_err();
    assert!(error.to_string().contains("name of the program"), "{error}");
}
