//! The server, to be connected to as often as needed.

use std::error::Error;
use std::ffi::OsString;

use nbd_client::{Builder, Connection, Uri, UriPolicy};

use crate::place::Place;
use crate::tls::with_default_certificates;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) enum Server {
    Uri(Box<Uri>),
    Command(Vec<OsString>),
}

impl Server {
    pub(crate) fn new(place: Place) -> Result<Self> {
        match place {
            Place::Uri(uri) => Ok(Self::Uri(Box::new(uri.parse()?))),
            Place::Command(command) => Ok(Self::Command(command)),
            other => Err(format!("expected a URI or a command in brackets: {other}").into()),
        }
    }

    pub(crate) async fn connect(&self, set: impl FnOnce(Builder) -> Builder) -> Result<Connection> {
        // Whoever types the URI in may do with it what they like.
        let builder = Connection::builder().uri_policy(UriPolicy::trusted());
        let mut builder = set(builder);
        if let Self::Uri(uri) = self {
            builder = with_default_certificates(builder, uri)?;
        }
        let conn = builder.build();
        match self {
            Self::Uri(uri) => conn.connect_uri(&**uri).await?,
            Self::Command(command) => conn.connect_systemd_socket_activation(command).await?,
        }
        Ok(conn)
    }

    /// Connects to an export of which only the name is another one, and asks for all about it.
    pub(crate) async fn connect_to(&self, name: &str) -> Result<Connection> {
        let Self::Uri(uri) = self else {
            let named = |builder: Builder| builder.export_name(name).full_info(true);
            return self.connect(named).await;
        };
        let uri = nbd_client::UriBuilder::from(Uri::clone(uri)).export_name(name);
        let other = Self::Uri(Box::new(uri.build()?));
        other.connect(|builder| builder.full_info(true)).await
    }
}
