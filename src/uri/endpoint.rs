//! Where a server is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a server is.
///
/// `Debug` leaves the user name out.
#[derive(Clone, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Endpoint {
    /// On a TCP port.
    Tcp {
        /// A name or an address, without brackets. An IPv6 address may end with `%` and a zone.
        host: String,
        /// The port, not 0.
        port: u16,
    },
    /// Behind a Unix domain socket of this machine.
    Unix {
        /// The path of the socket. If it starts with a NUL byte, what follows is a name in the
        /// abstract namespace of Linux.
        path: PathBuf,
    },
    /// On a vsock port: on the host of this virtual machine, or in one of its guests.
    Vsock {
        /// The context identifier; 2 is the host.
        cid: u32,
        /// The port, not 0.
        port: u32,
    },
    /// On another machine, reached by `ssh`, see [`Uri::ssh_command`](crate::Uri::ssh_command).
    Ssh {
        /// The remote user; `None` leaves the choice to `ssh`.
        user: Option<String>,
        /// A name that `ssh` knows, or an address.
        host: String,
        /// The port that `ssh` connects to, not 0; `None` leaves the choice to `ssh`.
        port: Option<u16>,
        /// Whether `ssh` compresses.
        compress: bool,
        /// Where the server listens on that machine.
        remote: SshRemote,
    },
}

/// The address as text, for an IPv6 address with its zone, if it has one.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            other => other.ip().to_string(),
        };
        let port = address.port();
        Self::Tcp { host, port }
    }
}

impl Endpoint {
    /// The address in a few words, without the user name, for errors.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix { path } => format!("{path:?}"),
            Self::Vsock { cid, port } => format!("vsock:{cid}:{port}"),
            Self::Ssh { host, remote, .. } => match remote {
                SshRemote::Tcp { port } => format!("localhost:{port} by ssh {host}"),
                SshRemote::Unix { path } => format!("{path:?} by ssh {host}"),
            },
        }
    }
}

/// Where an NBD server listens on the machine that `ssh` reaches.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SshRemote {
    /// On a port of its `localhost`.
    Tcp {
        /// The port, not 0.
        port: u16,
    },
    /// Behind a Unix domain socket.
    Unix {
        /// The path of the socket. A relative one starts in the home directory of the user.
        path: PathBuf,
    },
}

/// How the two sides of a TLS connection prove who they are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TlsType {
    /// Not at all: anybody could be in the middle.
    Anon,
    /// With X.509 certificates.
    X509,
    /// With pre-shared keys.
    Psk,
}

impl TlsType {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::X509 => "x509",
            Self::Psk => "psk",
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => f
                .debug_struct("Tcp")
                .field("host", host)
                .field("port", port)
                .finish(),
            Self::Unix { path } => f.debug_struct("Unix").field("path", path).finish(),
            Self::Vsock { cid, port } => f
                .debug_struct("Vsock")
                .field("cid", cid)
                .field("port", port)
                .finish(),
            Self::Ssh {
                user,
                host,
                port,
                compress,
                remote,
            } => f
                .debug_struct("Ssh")
                .field("user", &user.as_ref().map(|_| "***"))
                .field("host", host)
                .field("port", port)
                .field("compress", compress)
                .field("remote", remote)
                .finish(),
        }
    }
}
