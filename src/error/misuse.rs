//! Uses of the library that cannot work, other than requests.

use std::net::IpAddr;

use crate::uri::UriError;

/// Something other than a request that was refused before anything was done: an argument of a
/// connect call, credentials, a URI, a missing runtime, a signal.
///
/// ```
/// use nbd_client::{Connection, Error, InvalidUse};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = Connection::new().connect_tcp("", 10809).await.unwrap_err();
/// assert_eq!(error.to_string(), "the host is empty");
/// assert!(matches!(error, Error::InvalidUse(InvalidUse::Empty { what: "host" })));
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUse {
    /// There is no Tokio runtime here, or none that can do what is needed: some can be built
    /// without time, or without I/O.
    #[error("{0}")]
    NoRuntime(&'static str),
    /// A call of the feature `blocking` in a task of a Tokio runtime, or in `block_on`.
    #[error(
        "`blocking::{call}` would block the Tokio runtime: await `{twin}`, or make the call in \
         `tokio::task::spawn_blocking`"
    )]
    InRuntime {
        /// The call.
        call: &'static str,
        /// What to use in its place.
        twin: &'static str,
    },
    /// A call of the feature `blocking` in a process that was forked after its parent had made one.
    #[error(
        "blocking disks do not work after `fork`, since their thread is in the parent process: \
         fork before the first of them is opened, or execute a program"
    )]
    Forked,
    /// This build of the library, or this system, cannot do it.
    #[error("{0}")]
    NotBuilt(&'static str),
    /// An argument that must not be empty.
    #[error("the {what} is empty")]
    Empty {
        /// The argument.
        what: &'static str,
    },
    /// An argument with a NUL character, which cannot be passed on.
    #[error("the {what} contains a NUL character")]
    ContainsNul {
        /// The argument.
        what: &'static str,
    },
    /// An argument that is too long.
    #[error("the {what} has {length} bytes, and must not have more than {limit}")]
    TooLong {
        /// The argument.
        what: &'static str,
        /// Its length, in bytes.
        length: usize,
        /// The greatest length, in bytes.
        limit: usize,
    },
    /// A name of a socket for socket activation that is not of ASCII letters and digits.
    #[error("the socket name {0:?} must consist of ASCII letters and digits")]
    SocketName(String),
    /// A program for socket activation whose name begins with `-`.
    #[error("the name of the program {0:?} must not begin with \"-\": write \"./-name\"")]
    ProgramName(String),
    /// A descriptor that is not a connected stream socket.
    #[error("a connected stream socket is needed, and this is {0}")]
    NotASocket(&'static str),
    /// A socket that cannot be used.
    #[error("cannot use the socket: {0}")]
    Socket(String),
    /// A local address of another family than the one that may be used.
    #[error("the local address {address} is not of the address family {family}")]
    LocalAddress {
        /// The local address.
        address: IpAddr,
        /// The family that may be used.
        family: &'static str,
    },
    /// TLS without anything to do it with.
    #[error("no TLS configuration: set one with `Builder::tls`")]
    NoTls,
    /// TLS without an authority to check the server's certificate against.
    #[error(
        "no certificate authority to trust: add one with `ca_pem`, `ca_der` or `directory` of \
         `TlsConfig::builder()`, or with ?tls-certificates=DIR in the URI{hint}"
    )]
    NoAuthority {
        /// What came of the authorities that the system trusts.
        hint: String,
    },
    /// TLS without a name to check the server's certificate against.
    #[error(
        "this transport has no host name to verify: set one with `TlsConfig::server_name`, or \
         with ?tls-hostname=NAME in the URI"
    )]
    NoServerName,
    /// A name to check the server's certificate against that is none.
    #[error("the TLS server name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// TLS versions of which the oldest is newer than the newest.
    #[error("no TLS version is allowed: the oldest is newer than the newest")]
    TlsVersions,
    /// A certificate, a key, a file or a directory for TLS that cannot be used.
    #[error("cannot use the {what}: {why}")]
    Credentials {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A URI that cannot be used.
    #[error("invalid NBD URI{}: {error}", Quoted(.uri))]
    Uri {
        /// The URI, without the user name, if it is known.
        uri: Option<String>,
        /// What is wrong with it.
        error: UriError,
    },
    /// The URI of a connection that has no address: it was made over a socket, a stream or a
    /// command of the caller's.
    #[error("the connection was not made to an address, so no URI leads there")]
    NoAddress,
    /// An endpoint that only a URI can lead to, because it is reached by a command.
    #[error("the address is reached by a command: connect to a URI instead")]
    NotAnAddress,
    /// A signal to the server process of a connection that runs none.
    #[error("this connection has no server process")]
    NoChild,
    /// A signal to a server process that has ended.
    #[error("the server process has ended")]
    ChildEnded,
    /// A number that is not that of a signal.
    #[error("{0} is not the number of a signal")]
    Signal(i32),
}

impl InvalidUse {
    /// What a [`UriPolicy`](crate::UriPolicy) forbids.
    pub(super) const fn is_forbidden(&self) -> bool {
        matches!(
            self,
            Self::Uri {
                error: UriError::Forbidden { .. },
                ..
            }
        )
    }

    /// The number libnbd gives in this case.
    pub(super) const fn errno(&self) -> i32 {
        match self {
            _ if self.is_forbidden() => 1,
            Self::ChildEnded => 3,
            Self::TooLong { .. } => 36,
            Self::NotBuilt(_) => 95,
            _ => 22,
        }
    }
}

/// A URI in the middle of a sentence.
struct Quoted<'a>(&'a Option<String>);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(uri) => write!(f, " {uri:?}"),
            None => Ok(()),
        }
    }
}
