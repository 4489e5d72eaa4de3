//! Servers that will not have this client, for want of the right certificate.

use nbd_client::{Connection, TlsConfigBuilder, TlsFailure, TlsMode, TlsVersion};

use crate::shared::pki;
use crate::shared::server::{Over, Server};
use crate::tls::servers;
use crate::tls::wire::failure;

fn nbdkit() -> Server {
    let certificates = format!("--tls-certificates={}", pki::path("good").display());
    let args = [
        "--tls=require",
        "--tls-verify-peer",
        &certificates,
        "memory",
        "1M",
    ];
    servers::nbdkit(Over::Tcp, &args)
}

fn qemu() -> Server {
    let dir = pki::path("good").display().to_string();
    let credentials = format!("tls-creds-x509,dir={dir},verify-peer=yes");
    servers::qemu(Over::Tcp, 1 << 20, &credentials)
}

fn nbd_server() -> Server {
    let dir = pki::path("good").display().to_string();
    let generic = format!(
        "certfile = {dir}/server-cert.pem\nkeyfile = {dir}/server-key.pem\n\
         cacertfile = {dir}/ca-cert.pem\nforce_tls = true\n"
    );
    servers::nbd_server(Over::Tcp, 1 << 20, &generic)
}

/// The failure of a client whom the server will not have.
async fn turned_away(server: Server, config: TlsConfigBuilder, version: TlsVersion) -> TlsFailure {
    let config = config.min_version(version).max_version(version);
    let conn = Connection::builder()
        .export_name("disk")
        .tls(TlsMode::Require, config.build().unwrap())
        .build();
    failure(server.connect(&conn).await)
}

fn stranger() -> TlsConfigBuilder {
    pki::trusting().client_pem(pki::read("stranger-cert.pem"), pki::read("client-key.pem"))
}

macro_rules! turned_away {
    ($server:ident: $($name:ident $config:path, $version:ident => $failure:ident;)*) => {
        mod $server {
            use super::*;

            $(both_runtimes!($name);
            async fn $name() {
                let failure = turned_away(super::$server(), $config(), TlsVersion::$version).await;
                assert_eq!(failure, TlsFailure::$failure);
            })*
        }
    };
    ($($server:ident)*) => {
        $(turned_away! { $server:
            wants_a_certificate_with_tls_1_2 pki::trusting, Tls12 => NoClientCertificate;
            wants_a_certificate_with_tls_1_3 pki::trusting, Tls13 => NoClientCertificate;
            wants_another_certificate_with_tls_1_2 stranger, Tls12 => ClientCertificateRejected;
            wants_another_certificate_with_tls_1_3 stranger, Tls13 => ClientCertificateRejected;
        })*
    };
}

turned_away! { nbdkit qemu nbd_server }

/// qemu-nbd without any certificate.
mod anonymous_qemu {
    use super::*;

    #[tokio::test]
    async fn t20_anonymous_server_is_refused() {
        let server = servers::qemu(Over::Tcp, 1 << 20, "tls-creds-anon");
        let conn = Connection::builder()
            .tls(TlsMode::Require, pki::trusting().build().unwrap())
            .build();
        let failure = failure(server.connect(&conn).await);
        assert!(
            matches!(failure, TlsFailure::Handshake | TlsFailure::Closed),
            "{failure:?}"
        );
    }
}
