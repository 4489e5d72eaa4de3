//! What carries the bytes: URIs, TCP, and processes.

use std::net::IpAddr;
use std::time::Duration;

use super::Builder;
#[cfg(unix)]
use crate::transport::program::Program;
use crate::transport::tcp::{AddressFamily, KeepAlive};
use crate::uri::UriPolicy;

/// Transports.
impl Builder {
    /// Sets what a URI may ask for when it is given to [`connect_uri`](crate::Connection::connect_uri); by
    /// default [`UriPolicy::default`]. With the default, a URI says where the server is, and cannot
    /// have local files read, programs started, or TLS weakened.
    pub const fn uri_policy(mut self, policy: UriPolicy) -> Self {
        self.config.uri_policy = policy;
        self
    }

    /// Sets the program that connects to `nbd+ssh` and `nbds+ssh` URIs, with its environment,
    /// directory and user; by default `ssh`, with those of this program. The arguments of
    /// [`Uri::ssh_command`](crate::Uri::ssh_command) follow its own. Not on Windows.
    ///
    /// It is the program that says so, not the URI: [`uri_policy`](Self::uri_policy) still has to
    /// allow `ssh`.
    ///
    /// ```
    /// use nbd_client::{Connection, Program, UriPolicy};
    ///
    /// let ssh = Program::new("ssh")
    ///     .args(["-i", "/etc/backup/key", "-o", "BatchMode=yes"])
    ///     .env_remove("SSH_AUTH_SOCK");
    /// let builder = Connection::builder().uri_policy(UriPolicy::trusted()).ssh(ssh);
    /// ```
    #[cfg(unix)]
    pub fn ssh(mut self, program: Program) -> Self {
        self.config.ssh = program;
        self
    }

    /// Sets the local address to connect from over TCP; by default the system chooses. Only
    /// addresses of the same family are tried.
    pub const fn bind_address(mut self, address: IpAddr) -> Self {
        self.config.tcp.bind = Some(address);
        self
    }

    /// Sets which addresses of a host to try over TCP; by default IPv6 and IPv4 side by side.
    pub const fn address_family(mut self, family: AddressFamily) -> Self {
        self.config.tcp.family = family;
        self
    }

    /// Sets how a server that is silent over TCP is asked whether it is still there, or with `None`
    /// that it is not; by default as [`KeepAlive::default`] says.
    ///
    /// The operating system asks, whether or not requests are in flight, and no NBD message is sent.
    /// A server that answers may still leave requests unanswered, see
    /// [`stall_timeout`](Self::stall_timeout). This is for connections that this crate makes; a
    /// socket of your own keeps its settings.
    pub fn tcp_keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        self.config.tcp.keep_alive = keep_alive.into();
        self
    }

    /// Sets how long sent data may stay unacknowledged before a TCP connection counts as lost
    /// (`TCP_USER_TIMEOUT`, in steps of a millisecond). By default the system decides, which takes
    /// about a quarter of an hour. This works on Linux; on other systems, connecting over TCP then
    /// fails with an error that says so.
    pub const fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.config.tcp.user_timeout = Some(timeout);
        self
    }

    /// Sets the name, in `LISTEN_FDNAMES`, of the socket that a server gets by
    /// [`connect_systemd_socket_activation`](crate::Connection::connect_systemd_socket_activation). The
    /// default, also if the name is empty, is `unknown`.
    ///
    /// If the name has more than 32 characters, or others than ASCII letters and digits, connecting
    /// fails.
    #[doc(alias = "nbd_set_socket_activation_name")]
    #[cfg(unix)]
    pub fn socket_activation_name(mut self, name: impl Into<String>) -> Self {
        self.config.socket_name = Some(name.into());
        self
    }

    /// Sets the time between SIGTERM and SIGKILL for a server that this connection runs; by default
    /// 2 seconds. `Duration::MAX` means that the server is never killed.
    ///
    /// A server that does not exit when its connection ends gets SIGTERM, see
    /// [`aio_connect_command`](crate::Connection::aio_connect_command). A server that writes out much data
    /// at SIGTERM needs longer than the default. No call waits for this: it goes on in the
    /// background, even after the runtime has ended, but not after the program has.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = nbd_client::Connection::builder().child_kill_delay(Duration::from_secs(60));
    /// ```
    #[cfg(unix)]
    pub const fn child_kill_delay(mut self, delay: Duration) -> Self {
        self.config.child_kill_delay = delay;
        self
    }
}
