//! Connecting by URI, the addresses of connections, and what a policy keeps a URI from doing.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{AddressFamily, Connection, Error, State, Uri, UriPolicy, UriTls};
use tempfile::TempDir;

fn server() -> Server {
    Server::builder()
        .export("disk 0", Export::new(1 << 20))
        .export("other", Export::new(1 << 10))
        .build()
}

fn socket(dir: &TempDir) -> String {
    dir.path().join("sock").to_str().unwrap().to_owned()
}

both_runtimes!(one_line_connects_to_the_export_of_a_uri);
async fn one_line_connects_to_the_export_of_a_uri() {
    let dir = TempDir::new().unwrap();
    let _listening = server().listen_unix(socket(&dir)).unwrap();
    let text = format!("nbd+unix:///disk%200?socket={}", socket(&dir));
    let conn = Connection::connect(&*text).await.unwrap();
    assert_eq!(conn.export().unwrap().name(), "disk 0");
    assert_eq!(conn.size().unwrap(), 1 << 20);
    assert_eq!(conn.uri().unwrap().to_string(), text);
    conn.disconnect().await.unwrap();
    assert_eq!(conn.uri().unwrap().to_string(), text, "after the end");
}

both_runtimes!(parsed_uri_connects_as_well_as_its_text);
async fn parsed_uri_connects_as_well_as_its_text() {
    let listening = server().listen_tcp("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().port();
    let uri = Uri::tcp("127.0.0.1", port).export_name("other");
    let uri = uri.build().unwrap();
    let conn = Connection::new();
    conn.connect_uri(uri.clone()).await.unwrap();
    assert_eq!(conn.size().unwrap(), 1 << 10);
    assert_eq!(conn.uri().unwrap(), uri);
}

both_runtimes!(uri_may_be_held_by_any_type_of_text);
async fn uri_may_be_held_by_any_type_of_text() {
    let dir = TempDir::new().unwrap();
    let _listening = server().listen_unix(socket(&dir)).unwrap();
    let text = format!("nbd+unix:///other?socket={}", socket(&dir));
    let (uri, os) = (text.parse::<Uri>().unwrap(), OsString::from(&text));
    let builder = Connection::builder();
    let connections = [
        Connection::connect(&text).await,
        Connection::connect(text.clone()).await,
        Connection::connect(&uri).await,
        Connection::connect(&os).await,
        Connection::connect(os.clone()).await,
        Connection::connect(&*os).await,
        builder.connect(&text).await,
        builder.connect(text).await,
        builder.connect(&uri).await,
        builder.connect(&os).await,
        builder.connect(&*os).await,
        builder.connect(os).await,
        builder.connect(uri.endpoint()).await,
    ];
    for (at, conn) in connections.into_iter().enumerate() {
        let conn = conn.unwrap();
        // The last one has no name: it is the default export.
        let size = if at == 12 { 1 << 20 } else { 1 << 10 };
        assert_eq!(conn.size().unwrap(), size, "{at}");
        conn.disconnect().await.unwrap();
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_with_its_place() {
    let text = OsStr::from_bytes(b"nbd://h/a\xffb");
    let error = Connection::connect(text).await.unwrap_err();
    let why = "'\u{fffd}' at byte 9 must be percent-encoded";
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(error.errno(), Some(22));
}

both_runtimes!(uri_without_a_name_resets_the_name);
async fn uri_without_a_name_resets_the_name() {
    let dir = TempDir::new().unwrap();
    let _listening = server().listen_unix(socket(&dir)).unwrap();
    let conn = Connection::builder().export_name("other").build();
    let uri = format!("nbd+unix:///?socket={}", socket(&dir));
    conn.connect_uri(&*uri).await.unwrap();
    assert_eq!(conn.export_name(), "");
    assert_eq!(conn.size().unwrap(), 1 << 20);
}

both_runtimes!(uri_is_rebuilt_from_the_connect_call);
async fn uri_is_rebuilt_from_the_connect_call() {
    let dir = TempDir::new().unwrap();
    let unix = server().listen_unix(socket(&dir)).unwrap();
    let conn = Connection::builder().export_name("disk 0").build();
    conn.connect_unix(socket(&dir)).await.unwrap();
    let uri = format!("nbd+unix:///disk%200?socket={}", socket(&dir));
    assert_eq!(conn.uri().unwrap().to_string(), uri);
    drop(unix);

    let tcp = server().listen_tcp("[::1]:0").await.unwrap();
    let port = tcp.local_addr().port();
    for host in ["::1", "[::1]"] {
        let conn = Connection::new();
        conn.connect_tcp(host, port).await.unwrap();
        let uri = format!("nbd://[::1]:{port}/");
        assert_eq!(conn.uri().unwrap().to_string(), uri);
    }
}

#[tokio::test]
async fn connection_without_an_address_has_no_uri() {
    let conn = Connection::new();
    let error = conn.uri().unwrap_err();
    assert_eq!(error.errno(), Some(107), "{error}");
    conn.connect_stream(server().connect()).await.unwrap();
    let error = conn.uri().unwrap_err();
    assert!(matches!(error, Error::InvalidUse(_)), "{error}");
    assert_eq!(error.errno(), Some(22));
}

both_runtimes!(text_that_is_no_uri_leaves_the_handle_as_it_was);
async fn text_that_is_no_uri_leaves_the_handle_as_it_was() {
    let conn = Connection::builder().export_name("kept").build();
    for text in [
        "",
        "/run/nbd.sock",
        "nbd:localhost:10809",
        "nbd://h/?sockt=x",
    ] {
        let error = conn.connect_uri(text).await.unwrap_err();
        assert_eq!(error.errno(), Some(22), "{text}: {error}");
        assert_eq!(conn.state(), State::Created, "{text}");
    }
    assert_eq!(conn.export_name(), "kept");
}

// U-14: nbds is an error without TLS.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[tokio::test]
async fn tls_that_is_not_built_in_is_an_error_of_its_own() {
    let trusted = UriPolicy::trusted();
    let conn = Connection::builder().uri_policy(trusted).build();
    for text in ["nbds://h/", "nbds+unix:///?socket=/s", "nbds+ssh://h/"] {
        let error = conn.connect_uri(text).await.unwrap_err();
        assert_eq!(error.errno(), Some(95), "{text}: {error}");
        assert!(error.to_string().contains("TLS"), "{error}");
        assert!(conn.is_created());
    }
}

both_runtimes!(k40_refused_uri_does_nothing_at_all);
async fn k40_refused_uri_does_nothing_at_all() {
    let dir = TempDir::new().unwrap();
    let path = socket(&dir);
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();

    let (remote, usual) = (UriPolicy::remote(), UriPolicy::default());
    let secure = UriPolicy::trusted().tls(UriTls::Require);
    for (policy, uri, setting) in [
        (remote, format!("nbd+unix:///x?socket={path}"), "unix"),
        (remote, "nbd+vsock://2/x".into(), "vsock"),
        (usual, "nbd+ssh://h/x".into(), "ssh"),
        (
            usual.unix(false),
            format!("nbd+unix:///x?socket={path}"),
            "unix",
        ),
        (secure, format!("nbd+unix:///x?socket={path}"), "tls"),
        (
            usual,
            format!("nbd+unix:///x?socket={path}&tls-psk-file={path}"),
            "local_files",
        ),
        (
            usual,
            format!("nbd+unix:///x?socket={path}&tls-certificates={path}"),
            "local_files",
        ),
        (
            usual,
            format!("nbd+unix:///x?socket={path}&tls-verify-peer=0"),
            "weak_tls",
        ),
        (usual.tcp(false), "nbd://h/x".into(), "tcp"),
    ] {
        let conn = Connection::builder()
            .export_name("kept")
            .uri_policy(policy)
            .build();
        let error = conn.aio_connect_uri(&*uri).unwrap_err();
        assert_eq!(error.errno(), Some(1), "{uri}: {error}");
        let setting = format!("UriPolicy::{setting}(");
        assert!(error.to_string().contains(&setting), "{uri}: {error}");
        // Nothing has begun: no name was looked up, no task started, no child.
        assert_eq!(conn.state(), State::Created, "{uri}");
        assert_eq!(conn.export_name(), "kept", "{uri}");
        assert_eq!(conn.child_id(), None, "{uri}");
        // The handle can still be used for another server.
        let other = Server::builder().export("kept", Export::new(1)).build();
        conn.connect_stream(other.connect()).await.unwrap();
    }
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

both_runtimes!(policy_that_allows_lets_the_uri_connect);
async fn policy_that_allows_lets_the_uri_connect() {
    let dir = TempDir::new().unwrap();
    let _listening = server().listen_unix(socket(&dir)).unwrap();
    let allowing = UriPolicy::remote().unix(true);
    let conn = Connection::builder().uri_policy(allowing).build();
    let uri = format!("nbd+unix:///?socket={}", socket(&dir));
    conn.connect_uri(&*uri).await.unwrap();
}

both_runtimes!(options_of_the_builder_reach_tcp);
async fn options_of_the_builder_reach_tcp() {
    let listening = server().listen_tcp("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().port();
    let conn = Connection::builder()
        .bind_address([127, 0, 0, 9].into())
        .address_family(AddressFamily::V4)
        .tcp_user_timeout(Duration::from_secs(9))
        .build();
    conn.connect_uri(&*format!("nbd://localhost:{port}/"))
        .await
        .unwrap();

    let v6 = Connection::builder().address_family(AddressFamily::V6);
    let error = v6.build().connect_tcp("127.0.0.1", port).await.unwrap_err();
    assert!(error.to_string().contains("it has no IPv6 address"));
}
