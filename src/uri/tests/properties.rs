//! Whatever is built or read.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{1,12}", "\\PC{0,12}", any::<String>()]
}

fn path() -> impl Strategy<Value = PathBuf> {
    let bytes = prop_oneof![vec(any::<u8>(), 0..20), vec(1u8.., 1..20)];
    bytes.prop_map(|bytes| OsString::from_vec(bytes).into())
}

fn host_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._-]{1,12}",
        2 => any::<Ipv6Addr>().prop_map(|address| address.to_string()),
        1 => any::<u16>().prop_map(|n| format!("fe80::{n:x}%eth0.{n}")),
        1 => text(),
    ]
}

fn remote() -> impl Strategy<Value = SshRemote> {
    prop_oneof![
        (1u16..).prop_map(|port| SshRemote::Tcp { port }),
        path().prop_map(|path| SshRemote::Unix { path }),
    ]
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let user = of("[a-z@_.+]{1,9}");
    let ssh = (user, host_name(), any::<(Option<u16>, bool)>(), remote());
    prop_oneof![
        (host_name(), any::<u16>()).prop_map(|(host, port)| Endpoint::Tcp { host, port }),
        path().prop_map(|path| Endpoint::Unix { path }),
        any::<(u32, u32)>().prop_map(|(cid, port)| Endpoint::Vsock { cid, port }),
        ssh.prop_map(|(user, host, (port, compress), remote)| Endpoint::Ssh {
            user,
            host,
            port,
            compress,
            remote,
        }),
    ]
}

fn builder() -> impl Strategy<Value = UriBuilder> {
    let kind = select([TlsType::Anon, TlsType::X509, TlsType::Psk].as_slice());
    let experimental = vec(("x-\\PC{0,5}", "\\PC{0,9}"), 0..3);
    (
        (any_endpoint(), any::<bool>(), text(), of(text())),
        (of(kind), of(host_name()), any::<Option<bool>>()),
        (of(path()), of(path()), experimental),
    )
        .prop_map(|(first, second, third)| {
            let (endpoint, tls, export_name, tls_user) = first;
            let (tls_type, tls_hostname, tls_verify_peer) = second;
            let (tls_certificates, tls_psk_file, experimental) = third;
            UriBuilder(Uri {
                endpoint,
                tls,
                export_name,
                tls_user,
                tls_type,
                tls_hostname,
                tls_verify_peer,
                tls_certificates,
                tls_psk_file,
                experimental,
            })
        })
}

/// Text that is nearly a URI.
fn nearly() -> impl Strategy<Value = String> {
    const STARTS: &str = "nbd://h nbds://u@[::1]:1/x nbd+unix:///?socket=/s \
        nbd+vsock://2:1/ nbds+ssh://u@h:22/x?socket=/s nbd nbds+ nbd://";
    const PIECES: &str = "+unix +vsock +ssh :// : / ? # @ [ ] [::1] [fe80::1%25eth0] :: % %25 \
        %00 %2F %ff %C3%A4 & ; = ?socket= socket=/s nbd-port=7 compress=true tls-type=psk \
        tls-hostname=h tls-verify-peer=0 tls-certificates=/c tls-psk-file=/k tls-username=u \
        x-a=b host - 10809 0 4294967296 .. + \u{e4} \0";
    let words = |text: &'static str| select(text.split(' ').collect::<Vec<_>>());
    (words(STARTS), vec(words(PIECES), 0..8))
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

fn refused_or_reads_back_equal(text: &str) -> Result<(), TestCaseError> {
    if let Ok(uri) = text.parse::<Uri>() {
        let canonical = uri.to_string();
        prop_assert_eq!(canonical.parse(), Ok(uri.clone()), "{}", &canonical);
        prop_assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert!(Uri::is_uri(text));
        prop_assert!(!uri.export_name().contains('\0'));
        let _ = (format!("{uri:?}"), uri.ssh_command());
        let _ = UriPolicy::default().check(&uri);
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::tests::properties::config())]

    #[test]
    fn built_uri_reads_back_equal(builder in builder()) {
        if let Ok(uri) = builder.build() {
            prop_assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
            prop_assert_eq!(UriBuilder(uri.clone()).build(), Ok(uri));
        }
    }

    #[test]
    fn k39_any_text_is_refused_or_reads_back_equal(text in any::<String>()) {
        refused_or_reads_back_equal(&text)?;
    }

    #[test]
    fn k39_nearly_a_uri_is_refused_or_reads_back_equal(text in nearly()) {
        refused_or_reads_back_equal(&text)?;
    }

    #[test]
    fn mutated_uri_is_refused_or_reads_back_equal(
        builder in builder(),
        edits in vec((any::<Index>(), any::<char>(), 0..3u8), 1..4),
    ) {
        if let Ok(uri) = builder.build() {
            let mut text: Vec<char> = uri.to_string().chars().collect();
            for (at, character, edit) in edits {
                let at = at.index(text.len());
                match edit {
                    0 => text[at] = character,
                    1 => text.insert(at, character),
                    _ => drop(text.remove(at)),
                }
            }
            refused_or_reads_back_equal(&String::from_iter(text))?;
        }
    }
}
