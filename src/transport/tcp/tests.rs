use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::error::raw_os_error;
use crate::platform;

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that refuses; no other test listens on it.
fn closed() -> SocketAddr {
    listen("127.0.0.3:0").1
}

fn lost(error: &Error) -> &io::Error {
    match error {
        Error::Disconnected(lost, _) => lost.io(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn names_addresses_and_brackets_are_reached() {
    for (bound, host) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("127.0.0.1:0", "localhost"),
        ("[::1]:0", "::1"),
        ("[::1]:0", "[::1]"),
    ] {
        let (_listener, address) = listen(bound);
        let stream = connect(host, address.port(), &TcpOptions::default()).await;
        assert_eq!(stream.unwrap().0.peer_addr().unwrap(), address, "{host}");
    }
}

#[tokio::test]
async fn options_reach_the_socket() {
    let (listener, address) = listen("127.0.0.1:0");
    let options = TcpOptions {
        bind: Some([127, 0, 0, 2].into()),
        family: AddressFamily::V4,
        keep_alive: Some(
            KeepAlive::default()
                .idle(Duration::from_secs(20))
                .interval(Duration::from_millis(4500))
                .retries(3),
        ),
        user_timeout: Some(Duration::from_secs(7)),
    };
    let stream = connect("localhost", address.port(), &options)
        .await
        .unwrap()
        .0;
    let sock = SockRef::from(&stream);
    // P-004: TCP sends small messages at once.
    assert!(stream.nodelay().unwrap());
    assert!(sock.keepalive().unwrap());
    assert_eq!(sock.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
    assert_eq!(
        sock.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(5)
    );
    assert_eq!(sock.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(sock.tcp_user_timeout().unwrap(), options.user_timeout);
    let peer = listener.accept().unwrap().1;
    assert_eq!(Some(peer.ip()), options.bind);
}

#[tokio::test]
async fn keep_alive_is_on_unless_it_is_left_out() {
    let (_listener, address) = listen("127.0.0.1:0");
    for is_on in [true, false] {
        let mut options = TcpOptions::default();
        if !is_on {
            options.keep_alive = None;
        }
        let stream = connect("127.0.0.1", address.port(), &options).await;
        let stream = stream.unwrap().0;
        let sock = SockRef::from(&stream);
        assert_eq!(sock.keepalive().unwrap(), is_on);
        if is_on {
            assert_eq!(sock.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        }
    }
}

#[tokio::test]
async fn a_user_timeout_too_long_for_the_system_is_as_long_as_can_be() {
    let (_listener, address) = listen("127.0.0.1:0");
    for timeout in [Duration::MAX, Duration::from_secs(1 << 22)] {
        let options = TcpOptions {
            user_timeout: Some(timeout),
            ..TcpOptions::default()
        };
        let stream = connect("127.0.0.1", address.port(), &options).await;
        let stream = stream.unwrap().0;
        let set = SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(set, Some(LONGEST));
    }
}

#[tokio::test]
async fn impossible_arguments_are_refused_with_a_reason() {
    let any = TcpOptions::default();
    let mixed = TcpOptions {
        bind: Some([127, 0, 0, 1].into()),
        family: AddressFamily::V6,
        ..TcpOptions::default()
    };
    for (host, options, text) in [
        ("", &any, "the host is empty"),
        ("[]", &any, "the host is empty"),
        ("a\0b", &any, "the host contains a NUL character"),
        (
            "localhost",
            &mixed,
            "the local address 127.0.0.1 is not of the address family IPv6",
        ),
    ] {
        let error = connect(host, 1, options).await.unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn host_without_an_address_of_the_family_is_an_error() {
    let v6 = TcpOptions {
        family: AddressFamily::V6,
        ..TcpOptions::default()
    };
    let bound_to_v6 = TcpOptions {
        bind: Some("::1".parse().unwrap()),
        ..TcpOptions::default()
    };
    for options in [v6, bound_to_v6] {
        let error = connect("127.0.0.1", 1, &options).await.unwrap_err();
        assert_eq!(lost(&error).kind(), io::ErrorKind::AddrNotAvailable);
        let text = error.to_string();
        assert_eq!(
            text,
            "cannot connect to 127.0.0.1:1: it has no IPv6 address"
        );
    }
}

#[tokio::test]
async fn name_that_cannot_be_looked_up_is_named() {
    // Refused by the resolver itself: no name server is asked.
    let error = connect("a..b", 1, &TcpOptions::default())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot resolve \"a..b\": "), "{text}");
}

#[tokio::test]
async fn refusal_keeps_kind_and_number_and_names_the_host() {
    let address = closed();
    let error = connect("127.0.0.3", address.port(), &TcpOptions::default())
        .await
        .unwrap_err();
    assert_eq!(lost(&error).kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(raw_os_error(lost(&error)), Some(111));
    let text = format!("cannot connect to {address}: connection refused");
    assert!(error.to_string().contains(&text), "{error}");
}

#[tokio::test]
async fn k49_next_address_is_tried_at_once_after_a_refusal() {
    let (_listener, open) = listen("[::1]:0");
    let mut addresses = vec![closed(); 20];
    addresses.push(open);
    let options = TcpOptions::default();
    let racing = race(addresses, &options);
    let stream = time::timeout(STAGGER * 10, racing).await.unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
}

#[tokio::test]
async fn k49_silent_address_is_overtaken() {
    // Once the queue of a listener is full, Linux does not answer.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = time::timeout(STAGGER, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }

    let (_listener, open) = listen("127.0.0.1:0");
    let options = TcpOptions::default();
    let stream = race(vec![address, open], &options).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
}

#[tokio::test]
async fn race_fails_when_the_last_address_has() {
    let addresses = vec![closed(), closed()];
    let error = race(addresses, &TcpOptions::default()).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(111));
}

#[test]
fn lack_of_a_family_hides_no_better_reason() {
    let kind = |first: io::ErrorKind, second: io::ErrorKind| {
        more_telling(Some(first.into()), second.into()).kind()
    };
    let refused = io::ErrorKind::ConnectionRefused;
    let unreachable = io::ErrorKind::NetworkUnreachable;
    assert_eq!(kind(refused, unreachable), refused);
    assert_eq!(kind(unreachable, refused), refused);
    let no_family = io::Error::from_raw_os_error(platform::NO_SUCH_FAMILY);
    assert_eq!(
        more_telling(Some(refused.into()), no_family).kind(),
        refused
    );
    assert_eq!(
        kind(refused, io::ErrorKind::TimedOut),
        io::ErrorKind::TimedOut
    );
}

#[test]
fn families_alternate_and_duplicates_are_dropped() {
    let order = |found: &[&str]| {
        let found = found.iter().map(|address| address.parse().unwrap());
        let mixed = interleave(found)
            .into_iter()
            .map(|address| address.to_string());
        mixed.collect::<Vec<_>>().join(" ")
    };
    let (a, b, c) = ("[::1]:1", "[::2]:1", "[::3]:1");
    let (x, y) = ("1.1.1.1:1", "2.2.2.2:1");
    assert_eq!(order(&[a, a, b, c, x, y]), format!("{a} {x} {b} {y} {c}"));
    assert_eq!(order(&[x, y, a, x]), format!("{x} {a} {y}"));
    assert_eq!(order(&[x]), x);
    assert_eq!(order(&[]), "");
}
