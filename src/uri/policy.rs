use super::{Endpoint, TlsType, Uri, UriError};

/// What a URI may ask for.
///
/// A URI can do more than name a server: it can make this process open local sockets, read files,
/// start `ssh`, or accept a server without verifying its identity. A program that connects to URIs
/// from others decides here how much of that is acceptable. [`check`](Self::check) looks at the URI
/// only; nothing is opened, resolved or started.
///
/// | | [`remote`](Self::remote) | [`default`](Self::default) | [`trusted`](Self::trusted) |
/// |---|---|---|---|
/// | TCP, with or without TLS | yes | yes | yes |
/// | [`unix`](Self::unix), [`vsock`](Self::vsock) | no | yes | yes |
/// | [`ssh`](Self::ssh), which starts a program | no | no | yes |
/// | [`local_files`](Self::local_files): `tls-certificates`, `tls-psk-file` | no | no | yes |
/// | [`weak_tls`](Self::weak_tls): `tls-verify-peer=0`, `tls-type=anon`, `tls-hostname` | no | no | yes |
///
/// The default lets a URI say where a server is, and nothing else. At worst such a URI makes this
/// process connect; a service that does not speak NBD receives no data, since nothing is sent
/// before the greeting of a server. Local sockets are allowed, since most servers listen on them,
/// and a TCP URI can name `localhost` as well.
///
/// Two kinds of programs need another policy. A program with more rights than the author of the
/// URI, such as a service that takes URIs over a network, uses [`remote`](Self::remote): local
/// sockets are protected by file permissions, and the program would use its own permissions for the
/// author. A program whose URIs come from its own user or configuration uses
/// [`trusted`](Self::trusted).
///
/// No policy limits the hosts: a TCP URI can name any machine that this one can reach.
///
/// ```
/// use nbd_client::{Uri, UriPolicy};
///
/// let policy = UriPolicy::default();
/// policy.check(&"nbd+unix:///?socket=/run/nbd.sock".parse()?)?;
/// assert!(policy.check(&"nbd+ssh://backup@example.com/".parse()?).is_err());
///
/// let theirs: Uri = "nbds://example.com/disk?tls-verify-peer=0".parse()?;
/// assert_eq!(
///     policy.check(&theirs).unwrap_err().to_string(),
///     "tls-verify-peer=0 is not allowed: UriPolicy::weak_tls(true) would allow it",
/// );
/// # Ok::<(), nbd_client::UriError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use]
pub struct UriPolicy {
    tcp: bool,
    unix: bool,
    vsock: bool,
    ssh: bool,
    local_files: bool,
    weak_tls: bool,
    tls: UriTls,
}

/// Whether a URI may choose TLS, see [`UriPolicy::tls`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum UriTls {
    /// Schemes with and without TLS are allowed.
    #[default]
    Allow,
    /// Only the schemes that insist on TLS (`nbds…`) are allowed.
    Require,
    /// Only the schemes that do not insist on TLS (`nbd…`) are allowed.
    Disable,
}

impl UriPolicy {
    /// Allows everything, as fits a URI that the user of this program wrote.
    ///
    /// ```
    /// use nbd_client::UriPolicy;
    ///
    /// UriPolicy::trusted().check(&"nbd+ssh://backup@example.com/disk".parse()?)?;
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub const fn trusted() -> Self {
        Self {
            tcp: true,
            unix: true,
            vsock: true,
            ssh: true,
            local_files: true,
            weak_tls: true,
            tls: UriTls::Allow,
        }
    }

    /// Whether `nbd` and `nbds` are allowed. Default: yes.
    #[doc(alias = "nbd_set_uri_allow_transports")]
    #[doc(alias = "LIBNBD_ALLOW_TRANSPORT_TCP")]
    pub const fn tcp(mut self, allow: bool) -> Self {
        self.tcp = allow;
        self
    }

    /// Allows servers on other machines only, with or without TLS. This is for URIs from authors
    /// with fewer rights than this program.
    ///
    /// ```
    /// use nbd_client::UriPolicy;
    ///
    /// let uri = "nbd+unix:///?socket=/run/vm/secret.sock".parse()?;
    /// assert!(UriPolicy::remote().check(&uri).is_err());
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    pub const fn remote() -> Self {
        Self {
            tcp: true,
            unix: false,
            vsock: false,
            ssh: false,
            local_files: false,
            weak_tls: false,
            tls: UriTls::Allow,
        }
    }

    /// Whether `nbd+unix` and `nbds+unix`, and so any socket path, are allowed. Default: yes.
    #[doc(alias = "nbd_set_uri_allow_transports")]
    #[doc(alias = "LIBNBD_ALLOW_TRANSPORT_UNIX")]
    pub const fn unix(mut self, allow: bool) -> Self {
        self.unix = allow;
        self
    }

    /// Whether `nbd+vsock` and `nbds+vsock` are allowed. Default: yes.
    #[doc(alias = "nbd_set_uri_allow_transports")]
    #[doc(alias = "LIBNBD_ALLOW_TRANSPORT_VSOCK")]
    pub const fn vsock(mut self, allow: bool) -> Self {
        self.vsock = allow;
        self
    }

    /// Whether `nbd+ssh` and `nbds+ssh`, which start the `ssh` program with the keys and the
    /// configuration of this user, are allowed. Default: no.
    #[doc(alias = "nbd_set_uri_allow_transports")]
    #[doc(alias = "LIBNBD_ALLOW_TRANSPORT_SSH")]
    pub const fn ssh(mut self, allow: bool) -> Self {
        self.ssh = allow;
        self
    }

    /// Whether the URI may name local files to read: `tls-certificates` and `tls-psk-file`.
    /// Default: no.
    #[doc(alias = "nbd_set_uri_allow_local_file")]
    pub const fn local_files(mut self, allow: bool) -> Self {
        self.local_files = allow;
        self
    }

    /// Whether the URI may make TLS accept another server than the one it names:
    /// `tls-verify-peer=0`, `tls-type=anon`, and for TCP `tls-hostname`. Default: no.
    ///
    /// The other transports have no host name that `tls-hostname` could override: there it only
    /// supplies the name that is checked, and is always allowed.
    pub const fn weak_tls(mut self, allow: bool) -> Self {
        self.weak_tls = allow;
        self
    }

    /// Whether the URI may choose TLS. Default: [`UriTls::Allow`].
    #[doc(alias = "nbd_set_uri_allow_tls")]
    pub const fn tls(mut self, tls: UriTls) -> Self {
        self.tls = tls;
        self
    }

    /// Checks whether the policy allows the URI.
    ///
    /// # Errors
    ///
    /// [`UriError::Forbidden`], with the part of the URI and the setting that would allow it.
    pub fn check(&self, uri: &Uri) -> Result<(), UriError> {
        let (allowed, setting) = match uri.endpoint() {
            Endpoint::Tcp { .. } => (self.tcp, "UriPolicy::tcp(true)"),
            Endpoint::Unix { .. } => (self.unix, "UriPolicy::unix(true)"),
            Endpoint::Vsock { .. } => (self.vsock, "UriPolicy::vsock(true)"),
            Endpoint::Ssh { .. } => (self.ssh, "UriPolicy::ssh(true)"),
        };
        demand(allowed, uri.scheme(), setting)?;

        let allowed = match self.tls {
            UriTls::Allow => true,
            UriTls::Require => uri.is_tls(),
            UriTls::Disable => !uri.is_tls(),
        };
        demand(allowed, uri.scheme(), "UriPolicy::tls(UriTls::Allow)")?;

        for (present, what) in [
            (uri.tls_certificates().is_some(), "tls-certificates"),
            (uri.tls_psk_file().is_some(), "tls-psk-file"),
        ] {
            let allowed = !present || self.local_files;
            demand(allowed, what, "UriPolicy::local_files(true)")?;
        }

        let over_tcp = matches!(uri.endpoint(), Endpoint::Tcp { .. });
        for (present, what) in [
            (uri.tls_verify_peer() == Some(false), "tls-verify-peer=0"),
            (uri.tls_type() == Some(TlsType::Anon), "tls-type=anon"),
            (over_tcp && uri.tls_hostname().is_some(), "tls-hostname"),
        ] {
            let allowed = !present || self.weak_tls;
            demand(allowed, what, "UriPolicy::weak_tls(true)")?;
        }
        Ok(())
    }
}

impl Default for UriPolicy {
    /// Lets a URI say where a server is, and no more: nothing that starts programs, reads local
    /// files or weakens TLS.
    fn default() -> Self {
        Self::remote().unix(true).vsock(true)
    }
}

fn demand(allowed: bool, what: &'static str, setting: &'static str) -> Result<(), UriError> {
    if allowed {
        Ok(())
    } else {
        Err(UriError::Forbidden { what, setting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn forbidden(policy: UriPolicy, uri: &str) -> Option<(&'static str, &'static str)> {
        match policy.check(&uri.parse().expect(uri)) {
            Ok(()) => None,
            Err(UriError::Forbidden { what, setting }) => Some((what, setting)),
            Err(other) => panic!("{uri}: {other}"),
        }
    }

    #[test]
    fn every_refusal_names_the_part_and_the_setting_that_allows_it() {
        let remote = UriPolicy::remote();
        for (uri, what, setting, allowing) in [
            (
                "nbd+unix:///?socket=/s",
                "nbd+unix",
                "UriPolicy::unix(true)",
                remote.unix(true),
            ),
            (
                "nbds+unix:///?socket=/s",
                "nbds+unix",
                "UriPolicy::unix(true)",
                remote.unix(true),
            ),
            (
                "nbd+vsock://2/",
                "nbd+vsock",
                "UriPolicy::vsock(true)",
                remote.vsock(true),
            ),
            (
                "nbd+ssh://h/",
                "nbd+ssh",
                "UriPolicy::ssh(true)",
                remote.ssh(true),
            ),
            (
                "nbds://h/?tls-certificates=/etc",
                "tls-certificates",
                "UriPolicy::local_files(true)",
                remote.local_files(true),
            ),
            (
                // The file is checked without TLS as well: it would be opened if TLS is negotiated.
                "nbd://h/?tls-psk-file=/etc/shadow",
                "tls-psk-file",
                "UriPolicy::local_files(true)",
                remote.local_files(true),
            ),
            (
                "nbds://h/?tls-verify-peer=0",
                "tls-verify-peer=0",
                "UriPolicy::weak_tls(true)",
                remote.weak_tls(true),
            ),
            (
                "nbds://h/?tls-type=anon",
                "tls-type=anon",
                "UriPolicy::weak_tls(true)",
                remote.weak_tls(true),
            ),
            (
                "nbds://h/?tls-hostname=other",
                "tls-hostname",
                "UriPolicy::weak_tls(true)",
                remote.weak_tls(true),
            ),
        ] {
            assert_eq!(forbidden(remote, uri), Some((what, setting)), "{uri}");
            assert_eq!(forbidden(allowing, uri), None, "{uri}");
            assert_eq!(forbidden(UriPolicy::trusted(), uri), None, "{uri}");
        }
    }

    #[test]
    fn plain_and_strict_tcp_is_always_let_through() {
        for uri in [
            "nbd://h/",
            "nbds://alice@h/x",
            "nbds://h/?tls-verify-peer=1&tls-type=x509&x-y=1",
        ] {
            assert_eq!(forbidden(UriPolicy::remote(), uri), None, "{uri}");
            assert_eq!(forbidden(UriPolicy::default(), uri), None, "{uri}");
        }
        assert_eq!(
            forbidden(UriPolicy::trusted().tcp(false), "nbd://h/"),
            Some(("nbd", "UriPolicy::tcp(true)"))
        );
    }

    #[test]
    fn k40_default_lets_a_uri_connect_and_do_nothing_else() {
        let default = UriPolicy::default();
        for uri in [
            "nbd+unix:///?socket=/s",
            "nbds+unix:///?socket=/s",
            "nbd+vsock://2/",
        ] {
            assert_eq!(forbidden(default, uri), None, "{uri}");
        }
        for uri in [
            "nbd+ssh://h/",
            "nbds+unix:///?socket=/s&tls-certificates=/etc",
            "nbd+unix:///?socket=/s&tls-psk-file=/etc/shadow",
            "nbds+unix:///?socket=/s&tls-verify-peer=0",
            "nbds+vsock://2/?tls-type=anon",
        ] {
            assert!(forbidden(default, uri).is_some(), "{uri}");
        }
    }

    #[test]
    fn hostname_for_a_transport_without_one_weakens_nothing() {
        let policy = UriPolicy::default();
        assert_eq!(
            forbidden(policy, "nbds+unix:///?socket=/s&tls-hostname=h"),
            None
        );
    }

    #[test]
    fn tls_can_be_required_or_refused() {
        let what = "UriPolicy::tls(UriTls::Allow)";
        let require = UriPolicy::trusted().tls(UriTls::Require);
        assert_eq!(forbidden(require, "nbd://h/"), Some(("nbd", what)));
        assert_eq!(forbidden(require, "nbds://h/"), None);
        let disable = UriPolicy::trusted().tls(UriTls::Disable);
        assert_eq!(
            forbidden(disable, "nbds+vsock://2/"),
            Some(("nbds+vsock", what))
        );
        assert_eq!(forbidden(disable, "nbd+vsock://2/"), None);
    }

    #[test]
    fn refusal_of_the_policy_is_eperm_and_a_bad_uri_is_einval() {
        let uri = "nbd+ssh://h/".parse().expect("valid");
        let error = Error::from(UriPolicy::default().check(&uri).expect_err("forbidden"));
        assert_eq!(error.errno(), Some(1));
        assert_eq!(
            std::io::Error::from(error).kind(),
            std::io::ErrorKind::PermissionDenied
        );
        let error = Error::from("nbd:x".parse::<Uri>().expect_err("invalid"));
        assert_eq!(error.errno(), Some(22));
        assert_eq!(
            error.to_string(),
            "invalid NBD URI: it must begin with nbd:// (qemu's old form nbd:HOST:PORT:exportname=NAME is nbd://HOST:PORT/NAME)"
        );
    }
}
