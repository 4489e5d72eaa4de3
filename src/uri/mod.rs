//! NBD URIs: what they say, what they may ask for, and how they are written. No I/O.

mod authority;
mod build;
mod convert;
mod decode;
mod endpoint;
mod error;
mod parse;
mod policy;
mod query;
mod scheme;
mod ssh;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

pub use build::UriBuilder;
pub use endpoint::{Endpoint, SshRemote, TlsType};
pub use error::UriError;
pub use policy::{UriPolicy, UriTls};

/// The port that IANA assigned to NBD, for TCP and vsock (U-07: the default port is 10809).
const DEFAULT_PORT: u16 = 10809;

/// An NBD URI: where a server is, which export to open, and what TLS must look like.
///
/// It is read as [`doc/uri.md`](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)
/// of the NBD project defines it ("NBD URI components"), on top of RFC 3986. A `Uri` is always
/// valid: it comes from text ([`str::parse`], or `TryFrom` for strings of any type) or from a
/// [`UriBuilder`]. `Display` writes the canonical form, which parses to an equal `Uri`. `Debug` leaves the user names out.
///
/// ```
/// use nbd_client::{Endpoint, Uri};
///
/// let uri: Uri = "nbds://alice@example.com/hello%20world".parse()?;
/// assert_eq!(uri.endpoint(), &Endpoint::Tcp { host: "example.com".into(), port: 10809 });
/// assert_eq!(uri.export_name(), "hello world");
/// assert_eq!(uri.tls_user(), Some("alice"));
/// assert!(uri.is_tls());
/// assert_eq!(uri.to_string(), "nbds://alice@example.com/hello%20world");
/// assert_eq!(format!("{uri:?}"), r#"Uri("nbds://***@example.com/hello%20world")"#);
/// # Ok::<(), nbd_client::UriError>(())
/// ```
///
/// # Schemes and authority
///
/// | Scheme | Authority | Server |
/// |---|---|---|
/// | `nbd`, `nbds` | `[USER@]HOST[:PORT]` | over TCP; host `localhost` and port 10809 if not given |
/// | `nbd+unix`, `nbds+unix` | `[USER@]` | the local socket `socket=PATH` |
/// | `nbd+vsock`, `nbds+vsock` | `[USER@][CID][:PORT]` | over vsock; CID 2 (the host of this virtual machine) and port 10809 if not given |
/// | `nbd+ssh`, `nbds+ssh` | `[SSH-USER@]HOST[:SSH-PORT]` | on the machine that `ssh` reaches: the socket `socket=PATH`, or the port `nbd-port=N` (10809 if not given) of its `localhost` |
///
/// The last two are not in `uri.md`; libnbd has them. `nbds` insists on TLS. `nbd` leaves it to
/// the options of the connection, so the TLS parameters are allowed there too: they say what TLS
/// must look like if it is negotiated, not that it must be. IPv6 addresses are written in
/// brackets, with `%25` before a zone (`[fe80::1%25eth0]`). `USER` is the user name for TLS; there
/// are no passwords.
///
/// # Export name
///
/// The path without exactly one leading slash, percent-decoded, is the name: `/a/../b` is not
/// simplified, and a plus is a plus. At most 4096 bytes of UTF-8 without NUL.
///
/// # Parameters
///
/// | Parameter | Value | Goes with |
/// |---|---|---|
/// | `socket` | path; a leading `%00` makes it an abstract socket name | `+unix` (required), `+ssh` |
/// | `nbd-port` | port | `+ssh`; `+vsock` if none is in the authority |
/// | `compress` | `true` or `false` | `+ssh` |
/// | `tls-type` | `anon`, `x509` or `psk` | all |
/// | `tls-hostname` | name the certificate is checked against | all |
/// | `tls-verify-peer` | `0` or `1` | all |
/// | `tls-certificates` | directory with certificates and keys | all |
/// | `tls-psk-file` | file with the pre-shared keys | all |
/// | `tls-username` | user name for TLS | all, unless the authority has it |
/// | `x-…` | anything, kept and otherwise ignored | all |
///
/// Parameters are separated by `&` or `;`. Others are an error, as is the same one twice: a URI
/// whose meaning is a matter of taste is not used. libnbd's `tls-priority` is a GnuTLS priority
/// string, which nothing here can follow: the error names what to use instead.
///
/// With the feature `serde` a URI is its text, user names included.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Uri {
    endpoint: Endpoint,
    tls: bool,
    export_name: String,
    tls_user: Option<String>,
    tls_type: Option<TlsType>,
    tls_hostname: Option<String>,
    tls_verify_peer: Option<bool>,
    tls_certificates: Option<PathBuf>,
    tls_psk_file: Option<PathBuf>,
    experimental: Vec<(String, String)>,
}

impl Uri {
    /// The longest URI that is accepted, in bytes.
    pub const MAX_LENGTH: usize = 64 * 1024;

    /// Starts a URI for any kind of server.
    ///
    /// ```
    /// use nbd_client::{Endpoint, SshRemote, Uri};
    ///
    /// let endpoint = Endpoint::Ssh {
    ///     user: None,
    ///     host: "storage".into(),
    ///     port: None,
    ///     compress: true,
    ///     remote: SshRemote::Unix { path: "/run/nbd.sock".into() },
    /// };
    /// let uri = Uri::builder(endpoint).build()?;
    /// assert_eq!(uri.to_string(), "nbd+ssh://storage/?socket=/run/nbd.sock&compress=true");
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub const fn builder(endpoint: Endpoint) -> UriBuilder {
        UriBuilder(Self {
            endpoint,
            tls: false,
            export_name: String::new(),
            tls_user: None,
            tls_type: None,
            tls_hostname: None,
            tls_verify_peer: None,
            tls_certificates: None,
            tls_psk_file: None,
            experimental: Vec::new(),
        })
    }

    /// Starts a URI for a server that is reached over TCP.
    ///
    /// The host is a name or an address, without brackets. An empty one is `localhost`.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// let uri = Uri::tcp("::1", 10810).export_name("disk").build()?;
    /// assert_eq!(uri.to_string(), "nbd://[::1]:10810/disk");
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub fn tcp(host: impl Into<String>, port: u16) -> UriBuilder {
        Self::builder(Endpoint::Tcp {
            host: host.into(),
            port,
        })
    }

    /// Starts a URI for a server behind a Unix domain socket.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// let uri = Uri::unix("/run/nbd 0.sock").tls(true).build()?;
    /// assert_eq!(uri.to_string(), "nbds+unix:///?socket=/run/nbd%200.sock");
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> UriBuilder {
        Self::builder(Endpoint::Unix { path: path.into() })
    }

    /// Starts a URI for a server that is reached over vsock.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// let uri = Uri::vsock(2, 10809).build()?;
    /// assert_eq!(uri.to_string(), "nbd+vsock://2/");
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub const fn vsock(cid: u32, port: u32) -> UriBuilder {
        Self::builder(Endpoint::Vsock { cid, port })
    }

    /// Whether a text starts like an NBD URI: with one of the schemes and `://`.
    ///
    /// For programs that take either a URI or a file name. What follows may still be wrong.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// assert!(Uri::is_uri("NBD+unix://?sockt=oops"));
    /// assert!(!Uri::is_uri("disk.img"));
    /// assert!(!Uri::is_uri("nbd:localhost:10809"));
    /// ```
    #[doc(alias = "nbd_is_uri")]
    #[must_use]
    pub fn is_uri(text: &str) -> bool {
        scheme::split_scheme(text).is_ok()
    }

    /// The scheme, in lower case.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match (&self.endpoint, self.tls) {
            (Endpoint::Tcp { .. }, false) => "nbd",
            (Endpoint::Tcp { .. }, true) => "nbds",
            (Endpoint::Unix { .. }, false) => "nbd+unix",
            (Endpoint::Unix { .. }, true) => "nbds+unix",
            (Endpoint::Vsock { .. }, false) => "nbd+vsock",
            (Endpoint::Vsock { .. }, true) => "nbds+vsock",
            (Endpoint::Ssh { .. }, false) => "nbd+ssh",
            (Endpoint::Ssh { .. }, true) => "nbds+ssh",
        }
    }

    /// Where the server is.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the scheme insists on TLS: a connection without it must fail.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The name of the export; empty for the server's default export.
    #[must_use]
    pub fn export_name(&self) -> &str {
        &self.export_name
    }

    /// The user name for TLS with pre-shared keys.
    #[must_use]
    pub fn tls_user(&self) -> Option<&str> {
        self.tls_user.as_deref()
    }

    /// The kind of authentication TLS must use.
    #[must_use]
    pub const fn tls_type(&self) -> Option<TlsType> {
        self.tls_type
    }

    /// The name to check the server's certificate against, instead of the host.
    #[must_use]
    pub fn tls_hostname(&self) -> Option<&str> {
        self.tls_hostname.as_deref()
    }

    /// Whether to verify who the server is; `None` if the URI does not say.
    #[must_use]
    pub const fn tls_verify_peer(&self) -> Option<bool> {
        self.tls_verify_peer
    }

    /// The directory with certificates and keys.
    #[must_use]
    pub fn tls_certificates(&self) -> Option<&Path> {
        self.tls_certificates.as_deref()
    }

    /// The file with pre-shared keys.
    #[must_use]
    pub fn tls_psk_file(&self) -> Option<&Path> {
        self.tls_psk_file.as_deref()
    }

    /// The parameters that start with `x-`, as they came.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// let uri: Uri = "nbd://localhost/?x-cache=on&x-note".parse()?;
    /// let found: Vec<_> = uri.experimental().collect();
    /// assert_eq!(found, [("x-cache", "on"), ("x-note", "")]);
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub fn experimental(&self) -> impl Iterator<Item = (&str, &str)> {
        self.experimental.iter().map(|(k, v)| (&**k, &**v))
    }
}

/// As much of a text as belongs into an error message.
fn short(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
