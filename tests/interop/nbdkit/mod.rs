//! The client against nbdkit.

pub(crate) mod baseline;
mod block_size;
#[cfg(feature = "blocking")]
mod blocking;
mod cancel;
mod child;
mod connector;
mod durability;
mod errors;
mod exports;
mod file;
mod group;
mod handshake;
mod health;
mod killed;
mod libnbd;
mod limits;
mod program;
mod sequential;
mod socket;
mod status;
mod stopped;
mod uri;

use nbd_client::{Connection, Error};

use crate::shared::server::Server;

/// A connection to nbdkit with these arguments, and the server.
async fn connect(args: &[&str]) -> (Connection, Server) {
    let server = Server::nbdkit(args);
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    (conn, server)
}

/// What the server says is wrong with a request.
#[track_caller]
fn request_error<T: std::fmt::Debug>(result: Result<T, Error>) -> nbd_client::RequestError {
    match result.unwrap_err() {
        Error::Request(error) => error,
        other => panic!("not an error of the request: {other}"),
    }
}
