//! Connects over TLS, verifies the server, and prints what was negotiated.
//!
//! CERTIFICATES is a directory with `ca-cert.pem` and, where the server asks for them,
//! `client-cert.pem` and `client-key.pem`.
//!
//! ```text
//! cargo run --example tls -- nbds://localhost CERTIFICATES
//! ```

use std::process::ExitCode;

use nbd_client::{Connection, TlsConfig, TlsMode};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [uri, certificates] = &args[..] else {
        eprintln!("usage: tls URI CERTIFICATES");
        return ExitCode::from(2);
    };
    match run(uri, certificates).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(uri: &str, certificates: &str) -> nbd_client::Result<()> {
    let tls = TlsConfig::from_directory(certificates)?;
    // With `Require`, nothing is sent in clear but the wish for TLS, whatever the URI says.
    let conn = Connection::builder().tls(TlsMode::Require, tls).build();
    conn.connect_uri(uri).await?;
    if let Some(info) = conn.tls_info() {
        println!("{info:?}");
    }
    println!("{} bytes, behind TLS", conn.size()?);
    conn.disconnect().await
}
