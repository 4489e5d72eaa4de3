//! The in-process server, for what connects by itself.

use nbd_client::Connector;
use nbd_client::testing::Server;

/// A way to a server in this process, which lives on the runtime of whoever connects.
pub(crate) fn way_to(server: &Server) -> Connector {
    let server = server.clone();
    Connector::stream(move || {
        let stream = server.connect();
        async move { Ok(stream) }
    })
}
