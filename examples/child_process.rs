//! Runs a server as a child process, which ends with the connection, and shows what is known when
//! such a server fails.
//!
//! ```text
//! cargo run --example child_process
//! cargo run --example child_process -- nbdkit -s file disk.img
//! ```

use nbd_client::Connection;

const DEFAULT: [&str; 4] = ["nbdkit", "-s", "memory", "64M"];

#[tokio::main]
async fn main() -> nbd_client::Result<()> {
    let mut server: Vec<_> = std::env::args().skip(1).collect();
    if server.is_empty() {
        server = DEFAULT.map(String::from).to_vec();
    }
    // The server speaks on its standard input and output. There is no shell: each word is an
    // argument. `connect_systemd_socket_activation` runs servers that want a socket instead.
    let conn = Connection::new();
    conn.connect_command(&server).await?;
    let id = conn.child_id().expect("the server is a child");
    println!("process {id} serves {} bytes", conn.size()?);
    println!("it begins with {:?}", conn.read(0, 8).await?);
    // Waits for the requests in flight and for the end of the process.
    conn.disconnect().await?;

    // This server fails: the error has its exit status and the end of its standard error.
    let conn = Connection::new();
    let broken = ["sh", "-c", "echo no such disk >&2; exit 3"];
    if let Err(error) = conn.connect_command(broken).await {
        println!("error: {error}");
        if let Some(child) = error.child() {
            if let Some(status) = child.status() {
                println!("it ended with {status}");
            }
            println!("standard error: {}", child.stderr());
        }
    }
    Ok(())
}
