//! TCP, to whichever address of a host answers first.

mod keep_alive;
mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time;

pub use self::keep_alive::KeepAlive;
pub(crate) use self::stream::Stream;
use crate::error::trying;
use crate::error::{Error, InvalidUse, Phase, Result};
use crate::names::names;
use crate::platform;

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The longest user timeout that fits the system's count of milliseconds: about 25 days.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Which addresses of a host may be used.
///
/// `Display` writes `any`, `ipv4` or `ipv6`, and `FromStr` reads it.
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

names!(
    AddressFamily,
    "address family",
    Any = "any",
    V4 = "ipv4",
    V6 = "ipv6",
);

impl AddressFamily {
    /// What addresses of the family are called.
    const fn name(self) -> &'static str {
        match self {
            Self::Any => "IP",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct TcpOptions {
    /// The local address, and with it the family.
    pub(crate) bind: Option<IpAddr>,
    /// The addresses to try.
    pub(crate) family: AddressFamily,
    /// How a silent peer is asked whether it is there, if it is.
    pub(crate) keep_alive: Option<KeepAlive>,
    /// How long sent data may stay unacknowledged before the connection counts as lost
    /// (`TCP_USER_TIMEOUT`).
    pub(crate) user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            bind: None,
            family: AddressFamily::default(),
            keep_alive: Some(KeepAlive::default()),
            user_timeout: None,
        }
    }
}

impl TcpOptions {
    /// What the addresses that may be used are called.
    const fn family_name(&self) -> &'static str {
        match self.bind {
            Some(IpAddr::V4(_)) => AddressFamily::V4.name(),
            Some(IpAddr::V6(_)) => AddressFamily::V6.name(),
            None => self.family.name(),
        }
    }

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
pub(crate) async fn connect(host: &str, port: u16, options: &TcpOptions) -> Result<Stream> {
    let host = unbracketed(host);
    if host.is_empty() {
        return Err(InvalidUse::Empty { what: "host" }.into());
    }
    if host.contains('\0') {
        return Err(InvalidUse::ContainsNul { what: "host" }.into());
    }
    if let Some(bind) = options.bind.filter(|bind| !options.family.allows(*bind)) {
        let (address, family) = (bind, options.family.name());
        return Err(InvalidUse::LocalAddress { address, family }.into());
    }

    if options.user_timeout.is_some() && !platform::USER_TIMEOUT {
        let why = "this system has no timeout for TCP data that is not acknowledged";
        return Err(InvalidUse::NotBuilt(why).into());
    }

    let failed = |error| Error::io(Phase::Connect, error);
    let found = match lookup_host((host, port)).await {
        Ok(found) => found,
        Err(error) => return Err(failed(trying(format!("cannot resolve {host:?}"), error))),
    };
    let addresses = interleave(found.filter(|address| options.allows(address.ip())));
    let Some(last) = addresses.last().copied() else {
        let why = format!("it has no {} address", options.family_name());
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, why);
        let what = format!("cannot connect to {host}:{port}");
        return Err(failed(trying(what, error)));
    };
    let tried = addresses.len();
    let stream = race(addresses, options).await.map_err(|error| {
        let what = match tried {
            1 if last.ip().to_string() == host => format!("cannot connect to {last}"),
            1 => format!("cannot connect to {host}:{port} ({})", last.ip()),
            _ => format!("cannot connect to {host}:{port} ({tried} addresses tried)"),
        };
        failed(trying(what, error))
    })?;
    Ok(Stream::new(stream))
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
    ) || later.raw_os_error() == Some(platform::NO_SUCH_FAMILY);
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
    // P-004: TCP sends small messages at once.
    sock.set_tcp_nodelay(true)?;
    if let Some(keep_alive) = options.keep_alive {
        sock.set_tcp_keepalive(&keep_alive.for_socket())?;
    }
    if let Some(timeout) = options.user_timeout {
        platform::set_user_timeout(&sock, timeout.min(LONGEST))?;
    }
    if let Some(bind) = options.bind {
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    let stream = socket.connect(address).await?;
    // A closed port of this host in the range of ephemeral ports can be given to the very socket
    // that connects to it, which then talks to itself.
    if stream.local_addr()? == address {
        return Err(platform::refusal());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests;
