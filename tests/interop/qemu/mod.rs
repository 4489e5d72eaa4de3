//! The client against qemu-nbd.

mod bad_sector;
mod bitmap;
#[cfg(feature = "blocking")]
mod blocking;
mod endurance;
mod exports;
mod extended;
mod file;

use nbd_client::{Builder, Connection};

use crate::shared::server::Server;

/// A connection to a server with what the builder says.
async fn connect(server: &Server, builder: Builder) -> Connection {
    let conn = builder.build();
    conn.connect_unix(server.socket()).await.unwrap();
    conn
}
