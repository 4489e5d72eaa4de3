//! The TLS handshake with a pre-shared key, by OpenSSL: rustls cannot do it.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{
    self, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::X509VerifyResult;
use tokio_openssl::SslStream;
use zeroize::Zeroizing;

use super::psk_stream::{Records, Watched};
use super::{ByteStream, TlsInfo, TlsUpgrade, TlsVersion, Upgrading, failure, name, psk_file};
use crate::error::{Error, InvalidUse, Result, TlsError, TlsFailure};

/// Suites of TLS 1.3. The key goes with SHA-256 only: with any other the server would have to
/// go on without it.
const SUITES_13: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
/// Suites of TLS 1.2 that prove the key and keep old sessions secret should it ever leak. One by
/// one: the names OpenSSL has for such groups contain suites that do not encrypt.
const SUITES_12: &str = "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:\
                         DHE-PSK-AES128-GCM-SHA256:DHE-PSK-CHACHA20-POLY1305";
/// What OpenSSL takes at most (with the NUL that ends the name).
const MAX_USER: usize = 255;
const MAX_KEY: usize = 256;

/// TLS with a pre-shared key, by OpenSSL: for [`Builder::tls`](crate::Builder::tls).
///
/// Both sides prove that they have the key. There are no certificates, so there are no names to
/// check. A server that goes on without the key is refused. TLS 1.3 and 1.2 are supported, always
/// with forward secrecy.
///
/// A value is cheap to clone, and can be used for any number of connections. The key is wiped from
/// memory when the last clone is dropped.
///
/// ```no_run
/// # async fn example() -> nbd_client::Result<()> {
/// use nbd_client::{Connection, TlsMode, TlsPsk};
///
/// let psk = TlsPsk::from_file("/etc/nbd/keys.psk", Some("alice"))?;
/// let conn = Connection::builder().tls(TlsMode::Require, psk).build();
/// conn.connect_unix("/run/nbd.sock").await?;
/// assert_eq!(conn.tls_info().unwrap().psk_identity(), Some("alice"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsPsk {
    user: Arc<str>,
    key: Arc<Zeroizing<Vec<u8>>>,
    versions: (TlsVersion, TlsVersion),
}

impl TlsPsk {
    /// Uses this user name, of at most 255 bytes without NUL, and this key, of 1 to 256 bytes.
    ///
    /// An eavesdropper can try out keys offline, so the key should be random, and have at least 16
    /// bytes.
    ///
    /// # Errors
    /// If the name or the key is empty or too long, or there is a NUL in the name.
    #[doc(alias = "nbd_set_tls_username")]
    pub fn new(user: &str, key: impl Into<Vec<u8>>) -> Result<Self> {
        let key = Zeroizing::new(key.into());
        if user.is_empty() || user.len() > MAX_USER || user.contains('\0') {
            let why = "it must have 1 to 255 bytes, and no NUL among them";
            return Err(Error::credentials("TLS user", why));
        }
        if key.is_empty() || key.len() > MAX_KEY {
            let why = format!("it must have 1 to {MAX_KEY} bytes");
            return Err(Error::credentials("TLS pre-shared key", why));
        }
        Ok(Self {
            user: user.into(),
            key: Arc::new(key),
            versions: (TlsVersion::Tls12, TlsVersion::Tls13),
        })
    }

    /// Uses the key that a file has for this user. Without a name, the user is that of the
    /// environment variable `LOGNAME`, or else `USER`.
    ///
    /// The file has lines of the form `user:key`, with the key in hexadecimal, as written by
    /// `psktool` of GnuTLS. Only its owner may have access to it.
    ///
    /// # Errors
    /// If the file cannot be read, others have access to it, or it has no usable key for the
    /// user.
    #[doc(alias = "nbd_set_tls_psk_file")]
    #[doc(alias = "nbd_set_tls_username")]
    pub fn from_file(path: impl AsRef<Path>, user: Option<&str>) -> Result<Self> {
        let own;
        let user = match user {
            Some(user) => user,
            None => {
                own = psk_file::own_name()?;
                &own
            }
        };
        Self::new(user, psk_file::key_of(user, path.as_ref())?)
    }

    /// Sets the oldest version of TLS to use; by default 1.2.
    #[must_use]
    pub const fn min_version(mut self, version: TlsVersion) -> Self {
        self.versions.0 = version;
        self
    }

    /// Sets the newest version of TLS to use; by default 1.3.
    #[must_use]
    pub const fn max_version(mut self, version: TlsVersion) -> Self {
        self.versions.1 = version;
        self
    }

    fn context(&self) -> Result<SslContext, ErrorStack> {
        let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
        // A server that ignores the key has to show a certificate instead. None is good enough:
        // the store of trusted ones is empty.
        context.set_verify(SslVerifyMode::PEER);
        context.set_min_proto_version(Some(version(self.versions.0)))?;
        context.set_max_proto_version(Some(version(self.versions.1)))?;
        context.set_cipher_list(SUITES_12)?;
        context.set_ciphersuites(SUITES_13)?;
        context.set_options(
            SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET,
        );
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        // What is written again after a wait is the same, but may have moved.
        context.set_mode(
            SslMode::AUTO_RETRY
                | SslMode::ENABLE_PARTIAL_WRITE
                | SslMode::ACCEPT_MOVING_WRITE_BUFFER,
        );
        let (user, key) = (self.user.clone(), self.key.clone());
        context.set_psk_client_callback(move |_, _, identity, secret| {
            Ok(give(&user, &key, identity, secret).unwrap_or(0))
        });
        Ok(context.build())
    }

    async fn handshake(
        &self,
        stream: Box<dyn ByteStream>,
        server_name: Option<&str>,
    ) -> Result<(Box<dyn ByteStream>, TlsInfo), TlsError> {
        let mut ssl = self
            .context()
            .and_then(|context| Ssl::new(&context))
            .map_err(internal)?;
        if let Some(name) = server_name.and_then(name::to_send) {
            // There is no certificate to choose: the name need not be told.
            let _ = ssl.set_hostname(name);
        }
        let mut stream = SslStream::new(ssl, Watched::new(stream)).map_err(internal)?;
        let result = Pin::new(&mut stream).connect().await;
        result.map_err(|error| explain(error, stream.ssl()))?;
        prove(stream.ssl())?;
        let info = describe(stream.ssl()).with_psk_identity(&self.user);
        Ok((Box::new(Records::new(stream)), info))
    }
}

impl TlsUpgrade for TlsPsk {
    fn check(&self, _server_name: Option<&str>) -> Result<()> {
        if self.versions.0 > self.versions.1 {
            return Err(InvalidUse::TlsVersions.into());
        }
        Ok(())
    }

    fn upgrade<'a>(
        &'a self,
        stream: Box<dyn ByteStream>,
        server_name: Option<&'a str>,
    ) -> Upgrading<'a> {
        Box::pin(self.handshake(stream, server_name))
    }
}

impl fmt::Debug for TlsPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPsk")
            .field("user", &self.user)
            .field("key", &"***")
            .field("versions", &self.versions)
            .finish()
    }
}

const fn version(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}

/// Copies name and key to where OpenSSL wants them; `None` if there is not enough room.
fn give(user: &str, key: &[u8], identity: &mut [u8], secret: &mut [u8]) -> Option<usize> {
    identity
        .get_mut(..user.len())?
        .copy_from_slice(user.as_bytes());
    *identity.get_mut(user.len())? = 0;
    secret.get_mut(..key.len())?.copy_from_slice(key);
    Some(key.len())
}

/// Makes sure that the server has proven to have the key.
fn prove(ssl: &SslRef) -> Result<(), TlsError> {
    let proven = match ssl.version2() {
        // OpenSSL takes such a key for a session that is resumed; there are no others here.
        Some(SslVersion::TLS1_3) => ssl.session_reused(),
        Some(SslVersion::TLS1_2) => ssl
            .current_cipher()
            .is_some_and(|cipher| cipher.name().contains("PSK")),
        _ => false,
    };
    if proven && ssl.peer_certificate().is_none() {
        return Ok(());
    }
    let error = io::Error::other("it was not part of the handshake");
    Err(TlsError::new(TlsFailure::PskIgnored, error))
}

fn describe(ssl: &SslRef) -> TlsInfo {
    let suite = ssl.current_cipher();
    let name = suite.map(|suite| suite.standard_name().unwrap_or_else(|| suite.name()));
    TlsInfo::new(ssl.version_str(), name.unwrap_or("unknown"))
}

fn internal(error: ErrorStack) -> TlsError {
    TlsError::new(TlsFailure::Handshake, error.into())
}

/// Finds the likely cause of a failed handshake.
fn explain(error: ssl::Error, ssl: &SslRef) -> TlsError {
    let certificate_shown = ssl.verify_result() != X509VerifyResult::OK;
    let alert = error
        .ssl_error()
        .and_then(|stack| stack.errors().iter().find_map(alert));
    let error = error.into_io_error().unwrap_or_else(|error| {
        // OpenSSL has nothing to say about the end of the stream.
        match error.ssl_error() {
            Some(_) => io::Error::other(error),
            None => io::ErrorKind::UnexpectedEof.into(),
        }
    });
    let ending = failure::ending(&error);
    let failure = match alert {
        _ if certificate_shown => TlsFailure::PskIgnored,
        Some(alert) if PSK_ALERTS.contains(&alert) => TlsFailure::PskRejected,
        Some(_) => TlsFailure::Handshake,
        None => match ending {
            // That is how GnuTLS says no.
            TlsFailure::Closed => TlsFailure::PskRejected,
            TlsFailure::Io if error.raw_os_error().is_none() => TlsFailure::Handshake,
            ending => ending,
        },
    };
    TlsError::new(failure, error)
}

/// Alerts for a key or a name that is not right: bad_record_mac, handshake_failure,
/// illegal_parameter, decrypt_error, insufficient_security, unknown_psk_identity.
const PSK_ALERTS: [i32; 6] = [20, 40, 47, 51, 71, 115];

/// The number of the alert that the server sent, if this is one.
fn alert(error: &openssl::error::Error) -> Option<i32> {
    /// OpenSSL's reason for an alert is its number and this.
    const OFFSET: i32 = 1000;
    let reason = error.reason_code();
    (reason >= OFFSET).then_some(reason - OFFSET)
}
