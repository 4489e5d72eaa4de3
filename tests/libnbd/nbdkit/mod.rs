//! What libnbd tests with nbdkit.

mod activation;
mod checks;
mod flags;
mod map;
mod options;
mod shutdown;
mod ssh;
mod transports;

use nbd_client::{Builder, Connection};

/// A connection to a server on its standard input and output.
async fn connect(builder: Builder, plugin: &[&str]) -> Connection {
    let conn = builder.build();
    let argv = [&["nbdkit", "-s", "--exit-with-parent"], plugin].concat();
    conn.connect_command(argv).await.unwrap();
    conn
}
