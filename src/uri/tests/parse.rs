//! What is read, and how it is written again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::*;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: host.to_owned(),
        port,
    }
}

fn unix(path: impl Into<PathBuf>) -> Endpoint {
    Endpoint::Unix { path: path.into() }
}

#[test]
fn examples_of_the_specification_give_its_export_names() {
    // uri.md, "NBD URI export name".
    for (text, name) in [
        ("nbd://example.com/disk", "disk"),
        ("nbd+unix:///disk?socket=sock", "disk"),
        ("nbd://example.com/", ""),
        ("nbd://example.com", ""),
        ("nbd://example.com//disk", "/disk"),
        ("nbd://example.com/hello%20world", "hello world"),
    ] {
        assert_eq!(parse(text).export_name(), name, "{text}");
    }
}

#[test]
fn export_name_is_decoded_once_and_never_simplified() {
    for (path, name) in [
        ("/a/../b", "a/../b"),
        ("/a/b//c/./d", "a/b//c/./d"),
        ("/..", ".."),
        ("/a+b", "a+b"),
        ("/a%2Fb%20c", "a/b c"),
        ("/%2525", "%25"),
        ("/%2Fa", "/a"),
        ("/a;b=c,d:e@f&g", "a;b=c,d:e@f&g"),
        ("/%C3%A4%E2%82%AC", "ä€"),
        ("/%0a", "\n"),
    ] {
        assert_eq!(parse(&format!("nbd://h{path}")).export_name(), name);
    }
    let longest = "a".repeat(4096);
    let uri = parse(&format!("nbd://h/{longest}"));
    assert_eq!(uri.export_name(), longest);
}

#[test]
fn schemes_choose_transport_and_tls_in_any_case() {
    for (text, scheme, tls) in [
        ("nbd://h", "nbd", false),
        ("NBD://h", "nbd", false),
        ("nbds://h", "nbds", true),
        ("Nbd+Unix://?socket=s", "nbd+unix", false),
        ("nbds+unix://?socket=s", "nbds+unix", true),
        ("nbd+vsock://", "nbd+vsock", false),
        ("nbdS+vsock://", "nbds+vsock", true),
        ("nbd+ssh://h", "nbd+ssh", false),
        ("nbds+SSH://h", "nbds+ssh", true),
    ] {
        let uri = parse(text);
        assert_eq!((uri.scheme(), uri.is_tls()), (scheme, tls), "{text}");
    }
}

#[test]
fn authority_is_read_for_each_transport() {
    let vsock = |cid, port| Endpoint::Vsock { cid, port };
    for (text, endpoint) in [
        ("nbd://h", tcp("h", 10809)),
        ("nbd://h:1/", tcp("h", 1)),
        ("nbd://h:065535/", tcp("h", 65535)),
        ("nbd://h:/", tcp("h", 10809)),
        ("nbd://", tcp("localhost", 10809)),
        ("nbd:///x", tcp("localhost", 10809)),
        ("nbd://:7/", tcp("localhost", 7)),
        ("nbd://?x-a=b", tcp("localhost", 10809)),
        ("nbd://@h", tcp("h", 10809)),
        ("nbd://127.0.0.1:7", tcp("127.0.0.1", 7)),
        ("nbd://[::1]", tcp("::1", 10809)),
        ("nbd://[::1]:7/x", tcp("::1", 7)),
        ("nbd://[0:0::0:1]:/x", tcp("::1", 10809)),
        ("nbd://[fe80::1%25eth0]/x", tcp("fe80::1%eth0", 10809)),
        ("nbd://[fe80::1%25a%2Eb]/x", tcp("fe80::1%a.b", 10809)),
        ("nbd://loc%61lhost", tcp("localhost", 10809)),
        ("nbd://Example.COM.", tcp("Example.COM.", 10809)),
        ("nbd://m%C3%A4", tcp("mä", 10809)),
        ("nbd+unix:///?socket=/a/../b", unix("/a/../b")),
        ("nbd+unix://?socket=rel", unix("rel")),
        ("nbds+unix://alice@/exp?socket=/s", unix("/s")),
        ("nbd+unix:///?socket=%2Fa%20b", unix("/a b")),
        ("nbd+unix:///?socket=/a=b?c", unix("/a=b?c")),
        (
            "nbd+unix:///?socket=/%FF",
            unix(OsString::from_vec(b"/\xff".to_vec())),
        ),
        ("nbd+unix:///?socket=%00/abstract", unix("\0/abstract")),
        ("nbd+vsock://", vsock(2, 10809)),
        ("nbd+vsock://:4294967295/", vsock(2, 4_294_967_295)),
        ("nbd+vsock://4294967295:1/", vsock(4_294_967_295, 1)),
        ("nbd+vsock://3?nbd-port=4294967295", vsock(3, 4_294_967_295)),
    ] {
        assert_eq!(parse(text).endpoint(), &endpoint, "{text}");
    }
}

#[test]
fn ssh_keeps_its_own_user_and_port_apart_from_those_of_nbd() {
    let uri = parse("nbds+ssh://bob@h:22/x?nbd-port=7&tls-username=alice&compress=1");
    let endpoint = Endpoint::Ssh {
        user: Some("bob".to_owned()),
        host: "h".to_owned(),
        port: Some(22),
        compress: true,
        remote: SshRemote::Tcp { port: 7 },
    };
    assert_eq!(uri.endpoint(), &endpoint);
    assert_eq!(uri.tls_user(), Some("alice"));
    assert_eq!(parse("nbd+ssh://bob@h/").tls_user(), None);
}

#[test]
fn tls_parameters_are_read_with_and_without_tls() {
    for scheme in ["nbd", "nbds"] {
        let uri = parse(&format!(
            "{scheme}://a%3Ab%40c@h/?tls-type=psk&tls-hostname=other;tls-verify-peer=0\
             &tls-certificates=/etc/a%26b&tls-psk-file=k%FF"
        ));
        assert_eq!(uri.tls_user(), Some("a:b@c"));
        assert_eq!(uri.tls_type(), Some(TlsType::Psk));
        assert_eq!(uri.tls_hostname(), Some("other"));
        assert_eq!(uri.tls_verify_peer(), Some(false));
        assert_eq!(uri.tls_certificates(), Some("/etc/a&b".as_ref()));
        let file = PathBuf::from(OsString::from_vec(b"k\xff".to_vec()));
        assert_eq!(uri.tls_psk_file(), Some(&*file));
    }
    let uri = parse("nbds://h/?tls-username=alice&tls-type=anon&tls-verify-peer=true");
    assert_eq!(uri.tls_user(), Some("alice"));
    assert_eq!(uri.tls_type(), Some(TlsType::Anon));
    assert_eq!(uri.tls_verify_peer(), Some(true));
    assert_eq!(parse("nbds://h/").tls_verify_peer(), None);
}

#[test]
fn canonical_form_is_the_shortest_with_a_slash() {
    for (text, canonical) in [
        ("NBD://h:10809", "nbd://h/"),
        ("nbd://", "nbd://localhost/"),
        ("nbd://@h:/?&;", "nbd://h/"),
        ("nbd://[0::1]:7//a%2fb?", "nbd://[::1]:7//a/b"),
        ("nbd://[fe80::1%25eth0]/", "nbd://[fe80::1%25eth0]/"),
        ("nbd://h/a+b;c%3F", "nbd://h/a%2Bb%3Bc%3F"),
        ("nbd+vsock://", "nbd+vsock://2/"),
        ("nbd+vsock://3?nbd-port=7", "nbd+vsock://3:7/"),
        ("nbd+unix://?socket=%00a", "nbd+unix:///?socket=%00a"),
        (
            "nbd+ssh://h?compress=0&nbd-port=10809&tls-username=a",
            "nbd+ssh://h/?tls-username=a",
        ),
        (
            "nbds://h?x-b&tls-username=a&x-a=1;tls-verify-peer=false&x-b=2",
            "nbds://a@h/?tls-verify-peer=0&x-b=&x-a=1&x-b=2",
        ),
    ] {
        let uri = parse(text);
        assert_eq!(uri.to_string(), canonical, "{text}");
        assert_eq!(parse(canonical), uri, "{text}");
    }
}

// libnbd's side is 1.14.2 as observed; "all" means that later ones are known to do the same.
#[test]
fn differences_from_libnbd_are_deliberate() {
    const ACCEPTED: bool = true;
    const REFUSED: bool = false;
    for (text, libnbd, ours) in [
        // Case-sensitive up to 1.18. RFC 3986, 3.1: schemes are not.
        ("NBD://localhost", REFUSED, ACCEPTED),
        // RFC 3986, 3.2.3: a port may be empty.
        ("nbd://localhost:/x", REFUSED, ACCEPTED),
        // libxml2 stops at 31 bits.
        ("nbd+vsock://2:4294967295/", REFUSED, ACCEPTED),
        // 0 becomes 10809; a number no port can have is left to getaddrinfo.
        ("nbd://localhost:0/x", ACCEPTED, REFUSED),
        ("nbd://localhost:65536/x", ACCEPTED, REFUSED),
        // What follows the digits is ignored, and so is overflow.
        ("nbd+vsock://2x/", ACCEPTED, REFUSED),
        ("nbd+vsock://4294967298/", ACCEPTED, REFUSED),
        // All: unknown parameters are ignored, and with them a typing error in one that
        // protects. uri.md, "Other NBD URI query parameters", wants them diagnosed.
        ("nbds://localhost/?tls-verifypeer=1", ACCEPTED, REFUSED),
        ("nbd://localhost/?=value", ACCEPTED, REFUSED),
        // All: the last one wins.
        ("nbd+unix:///?socket=/a&socket=/b", ACCEPTED, REFUSED),
        // Fails only when it connects.
        ("nbd+unix:///?socket=", ACCEPTED, REFUSED),
        // A host for a local socket is ignored (qemu refuses it too).
        ("nbd+unix://host:5/x?socket=/a", ACCEPTED, REFUSED),
        // The fragment is ignored, although it looks like a part of the name.
        ("nbd://localhost/x#1", ACCEPTED, REFUSED),
        // The password becomes a part of the user name.
        ("nbd://user:secret@localhost/x", ACCEPTED, REFUSED),
        // The name ends at the NUL; bytes that are not UTF-8 go to the server.
        ("nbd://localhost/a%00b", ACCEPTED, REFUSED),
        ("nbd://localhost/%FF", ACCEPTED, REFUSED),
        // Accepted by both, but there the socket's name ends at the NUL, too.
        ("nbd+unix:///?socket=%00/abstract", ACCEPTED, ACCEPTED),
        // The same in both.
        ("nbd://localhost/%zz", REFUSED, REFUSED),
        ("nbd://localhost/a b", REFUSED, REFUSED),
        ("nbd://localhost/\u{e4}", REFUSED, REFUSED),
        ("nbd://::1/", REFUSED, REFUSED),
        ("nbd:unix:/tmp/s:exportname=x", REFUSED, REFUSED),
        ("nbd://localhost?socket=/p", REFUSED, REFUSED),
        ("nbd+unix:///x", REFUSED, REFUSED),
        ("nbd+vsock://abc/x", REFUSED, REFUSED),
        ("nbd+unix://?socket=/p", ACCEPTED, ACCEPTED),
        ("nbds+unix://alice@/exp?socket=/p", ACCEPTED, ACCEPTED),
        ("nbd://[fe80::1%25eth0]/", ACCEPTED, ACCEPTED),
        ("nbd://loc%61lhost/", ACCEPTED, ACCEPTED),
    ] {
        let result = text.parse::<Uri>();
        assert_eq!(
            result.is_ok(),
            ours,
            "{text}: {result:?} ({libnbd} in libnbd)"
        );
    }
}

#[test]
fn every_conversion_gives_the_same() {
    let uri = parse("nbd://h/x");
    assert_eq!(Uri::try_from("nbd://h/x"), Ok(uri.clone()));
    assert_eq!(Uri::try_from("nbd://h/x".to_owned()), Ok(uri));
}
