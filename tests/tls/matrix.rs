//! Every server, in every way it can be spoken to with certificates.

use nbd_client::{ClientCertificate, Connection, TlsMode, TlsVersion};

use crate::shared::server::{Over, Server};
use crate::shared::{load, pki};
use crate::tls::servers;

/// Who proves who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// The server.
    Server,
    /// The server and the client.
    Mutual,
}

fn nbdkit(over: Over, proof: Proof) -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let size = load::SIZE.to_string();
    let mut args = vec!["--tls=require", &certificates, "memory", &size];
    if proof == Proof::Mutual {
        args.insert(0, "--tls-verify-peer");
    }
    servers::nbdkit(over, &args)
}

fn qemu(over: Over, proof: Proof) -> Server {
    let verify = if proof == Proof::Mutual { "yes" } else { "no" };
    let dir = pki::path("good").display().to_string();
    let credentials = format!("tls-creds-x509,dir={dir},verify-peer={verify}");
    servers::qemu(over, load::SIZE, &credentials)
}

fn nbd_server(over: Over, _: Proof) -> Server {
    let dir = pki::path("good").display().to_string();
    let generic = format!(
        "certfile = {dir}/server-cert.pem\nkeyfile = {dir}/server-key.pem\n\
         cacertfile = {dir}/ca-cert.pem\nforce_tls = true\n"
    );
    servers::nbd_server(over, load::SIZE, &generic)
}

async fn works(start: fn(Over, Proof) -> Server, over: Over, version: TlsVersion, proof: Proof) {
    let server = start(over, proof);
    let config = match proof {
        Proof::Server => pki::trusting(),
        Proof::Mutual => pki::mutual(),
    };
    let config = config.min_version(version).max_version(version).build();
    let mut config = config.unwrap();
    if over == Over::Unix {
        config = config.server_name("localhost");
    }
    let conn = Connection::builder()
        .tls(TlsMode::Require, config)
        .export_name("disk")
        .build();
    server.connect(&conn).await.unwrap();

    let info = conn.tls_info().unwrap();
    let version = match version {
        TlsVersion::Tls13 => "TLSv1.3",
        _ => "TLSv1.2",
    };
    assert_eq!(info.version(), version);
    // Some servers ask for a certificate and do without it.
    let sent = info.client_certificate() == ClientCertificate::Sent;
    assert_eq!(sent, proof == Proof::Mutual);
    assert_eq!(info.server_name(), Some("localhost"));

    load::verified(&conn, 8, 2).await;
    conn.disconnect().await.unwrap();
}

macro_rules! matrix {
    ($server:ident: $($name:ident $over:ident $version:ident $proof:ident,)*) => {
        mod $server {
            use super::{Over, Proof, TlsVersion, works};

            $(both_runtimes!($name);
            async fn $name() {
                works(super::$server, Over::$over, TlsVersion::$version, Proof::$proof).await;
            })*
        }
    };
}

matrix! { nbdkit:
    carries_a_load_over_tcp_with_tls_1_2 Tcp Tls12 Server,
    carries_a_load_over_tcp_with_tls_1_3 Tcp Tls13 Server,
    carries_a_load_over_tcp_with_tls_1_2_both_proven Tcp Tls12 Mutual,
    carries_a_load_over_tcp_with_tls_1_3_both_proven Tcp Tls13 Mutual,
    carries_a_load_over_unix_with_tls_1_2 Unix Tls12 Server,
    carries_a_load_over_unix_with_tls_1_3 Unix Tls13 Server,
    carries_a_load_over_unix_with_tls_1_2_both_proven Unix Tls12 Mutual,
    carries_a_load_over_unix_with_tls_1_3_both_proven Unix Tls13 Mutual,
}

matrix! { qemu:
    carries_a_load_over_tcp_with_tls_1_2 Tcp Tls12 Server,
    carries_a_load_over_tcp_with_tls_1_3 Tcp Tls13 Server,
    carries_a_load_over_tcp_with_tls_1_2_both_proven Tcp Tls12 Mutual,
    carries_a_load_over_tcp_with_tls_1_3_both_proven Tcp Tls13 Mutual,
    carries_a_load_over_unix_with_tls_1_2 Unix Tls12 Server,
    carries_a_load_over_unix_with_tls_1_3 Unix Tls13 Server,
    carries_a_load_over_unix_with_tls_1_2_both_proven Unix Tls12 Mutual,
    carries_a_load_over_unix_with_tls_1_3_both_proven Unix Tls13 Mutual,
}

// nbd-server 3.24 never goes without a certificate of the client.
matrix! { nbd_server:
    carries_a_load_over_tcp_with_tls_1_2_both_proven Tcp Tls12 Mutual,
    carries_a_load_over_tcp_with_tls_1_3_both_proven Tcp Tls13 Mutual,
    carries_a_load_over_unix_with_tls_1_2_both_proven Unix Tls12 Mutual,
    carries_a_load_over_unix_with_tls_1_3_both_proven Unix Tls13 Mutual,
}

/// More than a server can answer at once.
mod heavy_nbdkit {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_directions_can_be_full() {
        let server = nbdkit(Over::Tcp, Proof::Mutual);
        let config = pki::mutual().build().unwrap();
        let conn = Connection::builder().tls(TlsMode::Require, config).build();
        server.connect(&conn).await.unwrap();
        load::verified(&conn, load::HEAVY, 2).await;
        conn.disconnect().await.unwrap();
    }
}
