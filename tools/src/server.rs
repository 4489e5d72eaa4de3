//! The server, to be connected to as often as needed.

use std::error::Error;
use std::ffi::OsString;

use nbd_client::{Builder, Connection, Uri, UriPolicy};

use crate::place::Place;
use crate::stall::{Stall, StallArgs};
use crate::tls::with_default_certificates;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) struct Server {
    target: Target,
    stall: Stall,
}

#[derive(Debug)]
enum Target {
    Uri(Box<Uri>),
    Command(Vec<OsString>),
}

impl Server {
    pub(crate) fn new(place: Place, StallArgs { stall }: StallArgs) -> Result<Self> {
        let target = match place {
            Place::Uri(uri) => Target::Uri(Box::new(Uri::try_from(uri)?)),
            Place::Command(command) => Target::Command(command),
            other => {
                return Err(format!("expected a URI or a command in brackets: {other}").into());
            }
        };
        Ok(Self { target, stall })
    }

    pub(crate) async fn connect(&self, set: impl FnOnce(Builder) -> Builder) -> Result<Connection> {
        // Whoever types the URI in may do with it what they like.
        let builder = Connection::builder().uri_policy(UriPolicy::trusted());
        let mut builder = self.stall.limit(set(builder));
        if let Target::Uri(uri) = &self.target {
            builder = with_default_certificates(builder, uri)?;
        }
        let conn = builder.build();
        match &self.target {
            Target::Uri(uri) => conn.connect_uri(&**uri).await?,
            Target::Command(command) => conn.connect_systemd_socket_activation(command).await?,
        }
        Ok(conn)
    }

    /// Connects to an export of which only the name is another one.
    pub(crate) async fn connect_to(
        &self,
        name: &str,
        set: impl FnOnce(Builder) -> Builder,
    ) -> Result<Connection> {
        let Target::Uri(uri) = &self.target else {
            return self.connect(|builder| set(builder.export_name(name))).await;
        };
        let uri = nbd_client::UriBuilder::from(Uri::clone(uri)).export_name(name);
        let other = Self {
            target: Target::Uri(Box::new(uri.build()?)),
            stall: self.stall,
        };
        other.connect(set).await
    }
}
