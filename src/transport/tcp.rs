//! TCP, to whichever address of a host answers first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time;

use super::socket::Socket;
use super::trying;
use crate::error::{Error, Phase, Result};

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// A silent peer is asked after a minute, and given up a minute later.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(6);

/// The longest user timeout that fits the system's count of milliseconds: about 25 days.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Which addresses of a host may be used.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// IPv6 and IPv4, in the order the system prefers, tried side by side.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl AddressFamily {
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// How to connect.
#[derive(Clone, Debug, Default)]
pub(crate) struct TcpOptions {
    /// The local address, and with it the family.
    pub(crate) bind: Option<IpAddr>,
    /// The addresses to try.
    pub(crate) family: AddressFamily,
    /// How long sent data may stay unacknowledged before the connection counts as lost
    /// (`TCP_USER_TIMEOUT`).
    pub(crate) user_timeout: Option<Duration>,
}

impl TcpOptions {
    fn allows(&self, address: IpAddr) -> bool {
        self.family.allows(address)
            && self
                .bind
                .is_none_or(|bind| bind.is_ipv4() == address.is_ipv4())
    }
}

/// Connects to a host: a name, or an address with or without brackets.
///
/// Waits for as long as the system does; the caller sets the deadline.
///
/// # Cancel safety
///
/// Dropping the future closes every socket it opened.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    options: &TcpOptions,
) -> Result<Socket<TcpStream>> {
    let host = unbracketed(host);
    if host.is_empty() {
        return Err(Error::argument("host", "it is empty"));
    }
    if host.contains('\0') {
        return Err(Error::argument("host", "it contains a NUL byte"));
    }
    if let Some(bind) = options.bind.filter(|bind| !options.family.allows(*bind)) {
        let why = format!("{bind} is not of the family {:?}", options.family);
        return Err(Error::argument("local address", why));
    }

    let failed = |error| Error::io(Phase::Connect, error);
    let found = match lookup_host((host, port)).await {
        Ok(found) => found,
        Err(error) => return Err(failed(trying(format!("cannot look up {host:?}"), error))),
    };
    let addresses = interleave(found.filter(|address| options.allows(address.ip())));
    let Some(last) = addresses.last().copied() else {
        let why = format!("{host:?} has no address of the family asked for");
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, why);
        return Err(failed(error));
    };
    let tried = addresses.len();
    let stream = race(addresses, options).await.map_err(|error| {
        let what = match tried {
            1 => format!("cannot connect to {host:?} at {last}"),
            _ => format!("cannot connect to {host:?} port {port}, {tried} addresses tried"),
        };
        failed(trying(what, error))
    })?;
    Ok(Socket(stream))
}

/// An address as it is without the brackets that a URI puts around it.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Alternates the families, starting with that of the first address (RFC 8305, section 4).
fn interleave(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let v4_first = unique.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second) = unique
        .iter()
        .copied()
        .partition::<Vec<_>, _>(|address| address.is_ipv4() == v4_first);
    let mut second = second.into_iter();
    let mut mixed = Vec::with_capacity(unique.len());
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

/// Starts an attempt whenever the one before has failed or had its time; the first to succeed
/// wins and the others are dropped (RFC 8305, section 5).
async fn race(addresses: Vec<SocketAddr>, options: &TcpOptions) -> io::Result<TcpStream> {
    let mut left = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    loop {
        running.extend(left.next().map(|address| attempt(address, options)));
        let ended = if left.as_slice().is_empty() {
            running.next().await
        } else {
            // Out of time: leave it running.
            let Ok(ended) = time::timeout(STAGGER, running.next()).await else {
                continue;
            };
            ended
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = Some(more_telling(failure, error)),
            None => {
                return Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
        }
    }
}

/// Of two failures the later, unless it only says that this host lacks one of the families.
fn more_telling(earlier: Option<io::Error>, later: io::Error) -> io::Error {
    let local = matches!(
        later.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable
    );
    match earlier {
        Some(earlier) if local => earlier,
        _ => later,
    }
}

async fn attempt(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let sock = SockRef::from(&socket);
    // P-004
    sock.set_tcp_nodelay(true)?;
    sock.set_tcp_keepalive(&KEEPALIVE)?;
    let longest = |timeout: Duration| timeout.min(LONGEST);
    sock.set_tcp_user_timeout(options.user_timeout.map(longest))?;
    if let Some(bind) = options.bind {
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    let stream = socket.connect(address).await?;
    // A closed port of this host in the range of ephemeral ports can be given to the very socket
    // that connects to it, which then talks to itself.
    if stream.local_addr()? == address {
        return Err(rustix::io::Errno::CONNREFUSED.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::transport::raw_os_error;

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
            user_timeout: Some(Duration::from_secs(7)),
        };
        let stream = connect("localhost", address.port(), &options)
            .await
            .unwrap()
            .0;
        let sock = SockRef::from(&stream);
        // P-004
        assert!(stream.nodelay().unwrap());
        assert!(sock.keepalive().unwrap());
        assert_eq!(sock.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(sock.tcp_user_timeout().unwrap(), options.user_timeout);
        let peer = listener.accept().unwrap().1;
        assert_eq!(Some(peer.ip()), options.bind);
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
            ("", &any, "invalid host: it is empty"),
            ("[]", &any, "invalid host: it is empty"),
            ("a\0b", &any, "invalid host: it contains a NUL byte"),
            (
                "localhost",
                &mixed,
                "invalid local address: 127.0.0.1 is not of the family V6",
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
            assert!(error.to_string().contains("\"127.0.0.1\" has no address"));
        }
    }

    #[tokio::test]
    async fn name_that_cannot_be_looked_up_is_named() {
        // Refused by the resolver itself: no name server is asked.
        let error = connect("a..b", 1, &TcpOptions::default())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot look up \"a..b\": "), "{text}");
    }

    #[tokio::test]
    async fn refusal_keeps_kind_and_number_and_names_the_host() {
        let address = closed();
        let error = connect("127.0.0.3", address.port(), &TcpOptions::default())
            .await
            .unwrap_err();
        assert_eq!(lost(&error).kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(raw_os_error(lost(&error)), Some(111));
        let text = format!("cannot connect to \"127.0.0.3\" at {address}: Connection refused");
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
}
