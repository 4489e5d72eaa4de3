//! What is refused, and what the refusal says.

use super::*;

#[test]
fn text_without_a_scheme_gets_a_hint() {
    for (text, hint) in [
        ("", "it is empty"),
        ("/run/nbd.sock", "nbd+unix:///?socket=/path"),
        ("./nbd.sock", "nbd+unix:///?socket=/path"),
        ("localhost", "nbd://localhost or"),
        ("LocalHost:10809", "nbd://localhost or"),
        ("example.com:10809", "nbd://, nbds:// or nbd+unix://"),
        (" nbd://h", "nbd://, nbds:// or nbd+unix://"),
        ("//h/x", "nbd://, nbds:// or nbd+unix://"),
        ("://h/x", "nbd://, nbds:// or nbd+unix://"),
        ("nbd:unix:/p:exportname=x", "nbd+unix:///NAME?socket=PATH"),
        ("nbd:h:10809:exportname=x", "nbd://HOST:PORT/NAME"),
        ("nbd:", "must begin with nbd://"),
        ("nbd:/x", "must begin with nbd://"),
        ("nbds+unix:/x", "must begin with nbds+unix://"),
        ("nbd", "nbd://, nbds:// or nbd+unix://"),
        ("file:///x", "\"file\" is not one of"),
        ("nbd+tcp://h", "for TCP write nbd://"),
        ("unix:///p", "nbd+unix:///?socket=/path"),
    ] {
        let error = error(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
        assert!(!Uri::is_uri(text), "{text}");
    }
}

#[test]
fn errors_say_which_part_is_wrong() {
    for (text, message) in [
        // Host and port.
        ("nbd://h:0/", "port: it must be 1 to 65535"),
        ("nbd://h:65536/", "port: it must be 1 to 65535"),
        (
            "nbd://h:99999999999999999999999/",
            "port: it must be 1 to 65535",
        ),
        ("nbd://h:x/", "port: it is not a number"),
        ("nbd://h:+1/", "port: it is not a number"),
        (
            "nbd://::1/",
            "port: it is not a number (an IPv6 address must be in brackets)",
        ),
        (
            "nbd://[::1/",
            "port: it is not a number (an IPv6 address must be in brackets)",
        ),
        (
            "nbd://%3A%3A1/",
            "host: \"%3A%3A1\" is no IPv6 address in brackets",
        ),
        (
            "nbd://[::g]/",
            "host: \"[::g]\" is no IPv6 address in brackets",
        ),
        (
            "nbd://[v1.x]/",
            "host: \"[v1.x]\" is no IPv6 address in brackets",
        ),
        (
            "nbd://[127.0.0.1]/",
            "host: \"[127.0.0.1]\" is no IPv6 address in brackets",
        ),
        (
            "nbd://[%3A%3A1]/",
            "host: \"[%3A%3A1]\" is no IPv6 address in brackets",
        ),
        ("nbd://[::1]x/", "host: something follows the bracket"),
        (
            "nbd://[fe80::1%25]/",
            "host: \"\" is no zone of an IPv6 address",
        ),
        (
            "nbd://[fe80::1%eth0]/",
            "the percent sign at byte 14 is not followed by two hexadecimal digits \
             (write %25 for a percent sign)",
        ),
        ("nbd://a%2Fb/", "host: no host name has a '/'"),
        ("nbd://a%40b/", "host: no host name has a '@'"),
        ("nbd://a%0Ab/", "host: no host name has a '\\n'"),
        ("nbd://%FF/", "host: it is not UTF-8"),
        ("nbd+ssh:///x", "host: it is empty"),
        ("nbd+vsock://2:0", "port: it must be 1 to 4294967295"),
        (
            "nbd+vsock://2:4294967296",
            "port: it must be 1 to 4294967295",
        ),
        (
            "nbd+vsock://4294967296",
            "host: a vsock CID is at most 4294967295",
        ),
        ("nbd+vsock://-1", "host: it is not a number"),
        (
            "nbd+unix://run/nbd.sock",
            "a host or port does not go with nbd+unix:// \
             (the path goes into a parameter: nbd+unix:///?socket=/path)",
        ),
        // User.
        (
            "nbd://a@b@c/",
            "user name: an @ or a bracket in it must be percent-encoded",
        ),
        (
            "nbds://%0a@h",
            "TLS user name: it contains a control character",
        ),
        (
            "nbds://a:b@h",
            "NBD has no passwords: the user name must not be followed by a colon \
             (write %3A if it is part of the name)",
        ),
        // Characters and the name.
        ("nbd://h/%00", "export name: it contains a NUL"),
        ("nbd://h/%C3", "export name: it is not UTF-8"),
        ("nbd://h/a[b]", "'[' at byte 9 must be percent-encoded"),
        ("nbd://h/a\\b", "'\\\\' at byte 9 must be percent-encoded"),
        ("nbd://h/\n", "'\\n' at byte 8 must be percent-encoded"),
        (
            "nbd://h/x#y",
            "an NBD URI has no fragment: write %23 for the # at byte 9",
        ),
        // Parameters.
        (
            "nbd+unix:///x",
            "nbd+unix needs the parameter socket (as in nbd+unix:///?socket=/path)",
        ),
        (
            "nbds://h/?socket=/s",
            "socket does not go with nbds:// (did you mean nbds+unix:///?socket=...?)",
        ),
        (
            "nbd+vsock://2/?socket=/s",
            "socket does not go with nbd+vsock:// (did you mean nbd+unix:///?socket=...?)",
        ),
        (
            "nbd://h/?nbd-port=1",
            "nbd-port does not go with nbd:// (the port follows the host: nbd://HOST:PORT/)",
        ),
        ("nbd://h/?compress=1", "compress does not go with nbd://"),
        (
            "nbd+unix://?socket=%00",
            "socket: an abstract name is empty",
        ),
        ("nbd+unix://?socket=%00a%00", "socket: it contains a NUL"),
        ("nbd+unix://?socket=/a%00", "socket: it contains a NUL"),
        ("nbd+unix://?socket", "socket: it is empty"),
        (
            "nbd+vsock://2:1?nbd-port=1",
            "nbd-port is given more than once",
        ),
        (
            "nbds://a@h?tls-username=a",
            "tls-username is given more than once",
        ),
        (
            "nbds://h?tls-type=psk&tls-type=psk",
            "tls-type is given more than once",
        ),
        (
            "nbds://h?tls-type=X509",
            "tls-type: it must be anon, x509 or psk",
        ),
        (
            "nbds://h?tls-verify-peer=no",
            "tls-verify-peer: it must be 0 or 1",
        ),
        (
            "nbds://h?tls-hostname=a/b",
            "tls-hostname: no host name has a '/'",
        ),
        (
            "nbds://h?tls-psk-file=%00",
            "tls-psk-file: it contains a NUL",
        ),
        (
            "nbds://h?tls-certificates=",
            "tls-certificates: it is empty",
        ),
        (
            "nbd://h?TLS-type=psk",
            "unknown parameter \"TLS-type\" (experimental ones start with x-): if it is part of the export name, write %3F for the ?",
        ),
        (
            "nbds://h/?tls-priority=NORMAL",
            "the parameter tls-priority is not supported (it is for GnuTLS: choose TLS versions with `TlsConfigBuilder::min_version` and `max_version`, or leave the parameter out)",
        ),
        (
            "nbd://h?=1",
            "unknown parameter \"\" (experimental ones start with x-): if it is part of the export name, write %3F for the ?",
        ),
        (
            "nbd://h?x-a=%00",
            "experimental parameter: it contains a NUL",
        ),
    ] {
        assert_eq!(error(text).to_string(), message, "{text}");
    }
    let name = "a".repeat(4097);
    assert_eq!(
        error(&format!("nbd://h/{name}")).to_string(),
        "export name: 4097 bytes are more than 4096"
    );
}

#[test]
fn no_error_repeats_the_userinfo() {
    for text in [
        "nbd://canary:canary@h/",
        "nbd://canary:@h/",
        "nbd://canary@x@h/",
        "nbd://canary%FF@h/",
        "nbd://canary%0A@h/",
        "nbd://canary%zz@h/",
        "nbd://canary@h:x/",
        "nbd://alice:canary/@h/",
        "nbd+ssh://canary;@h/",
        "nbds+ssh://h/?tls-username=canary%0A",
    ] {
        let error = error(text);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn huge_texts_are_refused_and_long_parts_are_not_repeated() {
    let megabyte = "a".repeat(1 << 20);
    let text = format!("nbd://h/?x-a={megabyte}");
    assert_eq!(error(&text), UriError::TooLong { length: text.len() });
    let long = "a".repeat(60_000);
    for text in [
        format!("{long}://h/"),
        format!("nbd://h:{long}"),
        format!("nbd://h?{long}=1"),
        format!("nbd://[{long}]"),
        format!("nbd+vsock://{long}"),
    ] {
        assert!(error(&text).to_string().len() < 300);
    }
    // Three times as long with every exclamation mark encoded: it could not be read back.
    let text = format!("nbd://h/?x-a={}", "!".repeat(60_000));
    assert!(matches!(error(&text), UriError::TooLong { .. }));
}
