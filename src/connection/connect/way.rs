//! Checked ways to a server.

#[cfg(unix)]
use std::path::PathBuf;

use super::Connecting;
use crate::config::Config;
use crate::connection::Connection;
use crate::driver::{Address, Inner, runtime};
use crate::error::{InvalidUse, Result};
use crate::transport::{Transport, tcp};
#[cfg(unix)]
use crate::transport::{
    command::{self, Group},
    program::Program,
    unix,
};
use crate::uri::{Endpoint, Uri};

/// A way to a server whose arguments were checked.
pub(super) enum Way {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
    #[cfg(all(feature = "vsock", target_os = "linux"))]
    Vsock(u32, u32),
    #[cfg(unix)]
    Command(Program),
}

impl Way {
    /// Returns the way to the server of a URI.
    #[cfg_attr(not(unix), allow(unused_variables, reason = "no ssh is run there"))]
    pub(super) fn find(uri: &Uri, config: &Config) -> Result<Self> {
        match uri.endpoint() {
            #[cfg(unix)]
            Endpoint::Ssh { .. } => {
                let command = uri.ssh_command().unwrap_or_default();
                let ssh = config.ssh.clone().args(command.into_iter().skip(1));
                ssh.check()?;
                Ok(Self::Command(ssh))
            }
            #[cfg(not(unix))]
            Endpoint::Ssh { .. } => Err(InvalidUse::NotBuilt(
                "this URI asks for ssh, which nbd-client does not run on this system",
            )
            .into()),
            endpoint => Self::to(endpoint),
        }
    }

    /// Returns the way to an address.
    fn to(endpoint: &Endpoint) -> Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, .. } if host.is_empty() => {
                Err(InvalidUse::Empty { what: "host" }.into())
            }
            Endpoint::Tcp { host, port } => Ok(Self::Tcp(host.clone(), *port)),
            #[cfg(unix)]
            Endpoint::Unix { path } => {
                unix::check(path)?;
                Ok(Self::Unix(path.clone()))
            }
            #[cfg(not(unix))]
            Endpoint::Unix { .. } => {
                Err(InvalidUse::NotBuilt("nbd-client has no Unix sockets on this system").into())
            }
            #[cfg(all(feature = "vsock", target_os = "linux"))]
            Endpoint::Vsock { cid, port } => Ok(Self::Vsock(*cid, *port)),
            #[cfg(not(all(feature = "vsock", target_os = "linux")))]
            Endpoint::Vsock { .. } => {
                Err(InvalidUse::NotBuilt("this build of nbd-client has no vsock").into())
            }
            Endpoint::Ssh { .. } => Err(InvalidUse::NotAnAddress.into()),
        }
    }
}

impl Connection {
    /// Begins to connect to an address.
    pub(super) fn aio_connect_endpoint(&self, endpoint: Endpoint) -> Result<Connecting> {
        if let Endpoint::Ssh { .. } = endpoint {
            self.check_created()?;
            runtime::check_io()?;
            let uri = Uri::builder(endpoint).export_name(self.export_name());
            return self.go_to_uri(uri.build()?);
        }
        let host = match &endpoint {
            Endpoint::Tcp { host, .. } => Some(&**host),
            _ => None,
        };
        self.prepare_for(host)?;
        let way = Way::to(&endpoint)?;
        self.inner().begin()?;
        note(self.inner(), endpoint);
        self.go(way)
    }

    /// Begins to connect by a way, after everything was checked.
    pub(super) fn go(&self, way: Way) -> Result<Connecting> {
        match way {
            #[cfg(unix)]
            Way::Command(program) => {
                let delay = self.inner().config.child_kill_delay;
                self.start_child(command::spawn(program.command(), Group::Ours, delay))
            }
            way => {
                let options = self.inner().config.tcp.clone();
                Ok(self.start(async move { open(way, &options).await }))
            }
        }
    }
}

/// Opens the stream to an address that a closure has returned.
pub(super) async fn open_late(endpoint: Endpoint, inner: &Inner) -> Result<Transport> {
    if let Endpoint::Tcp { host, .. } = &endpoint {
        inner.tls().check(Some(host))?;
    } else {
        inner.tls().check(None)?;
    }
    let way = Way::to(&endpoint)?;
    note(inner, endpoint);
    open(way, &inner.config.tcp).await
}

/// Records the address of the server, and the name that TLS verifies.
fn note(inner: &Inner, endpoint: Endpoint) {
    let endpoint = match endpoint {
        Endpoint::Tcp { host, port } => {
            inner.lock_tls().server_name = Some(host.clone());
            let host = tcp::unbracketed(&host).to_owned();
            Endpoint::Tcp { host, port }
        }
        other => other,
    };
    inner.lock_facts().address = Some(Address::Endpoint(endpoint));
}

async fn open(way: Way, options: &tcp::TcpOptions) -> Result<Transport> {
    match way {
        Way::Tcp(host, port) => Ok(tcp::connect(&host, port, options).await?.into()),
        #[cfg(unix)]
        Way::Unix(path) => Ok(unix::connect(&path).await?.into()),
        #[cfg(all(feature = "vsock", target_os = "linux"))]
        Way::Vsock(cid, port) => crate::transport::vsock::connect(cid, port).await,
        #[cfg(unix)]
        Way::Command(_) => Err(InvalidUse::NotAnAddress.into()),
    }
}
