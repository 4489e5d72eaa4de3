//! URIs as text, and as they are built.

mod parse;
mod properties;
mod refusals;

use super::*;

fn parse(text: &str) -> Uri {
    match text.parse() {
        Ok(uri) => uri,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn error(text: &str) -> UriError {
    match text.parse::<Uri>() {
        Ok(uri) => panic!("{text}: accepted as {uri}"),
        Err(error) => error,
    }
}

#[test]
fn k51_debug_leaves_out_what_could_be_secret() {
    for text in [
        "nbds://canary@h/x?tls-type=psk",
        "nbds+unix://canary@/x?socket=/s",
        "nbds+ssh://canary@h/x?tls-username=canary",
        "nbd://h/?x-token=canary",
    ] {
        let uri: Uri = text.parse().expect(text);
        let builder = UriBuilder(uri.clone());
        let debug = format!("{uri:?} {:#?} {builder:?}", uri.endpoint());
        assert!(!debug.contains("canary"), "{debug}");
        assert!(debug.contains("***"), "{debug}");
        assert_eq!(uri.to_string(), text);
    }
}

#[test]
fn builder_refuses_what_cannot_be() {
    let tcp = || Uri::tcp("h", 1);
    for builder in [
        Uri::tcp("h", 0),
        Uri::tcp("::g", 1),
        Uri::tcp("[::1]", 1),
        Uri::tcp("a b", 1),
        Uri::unix(""),
        Uri::unix("/a\0b"),
        Uri::unix("\0"),
        Uri::vsock(2, 0),
        tcp().export_name("a\0"),
        tcp().export_name("a".repeat(4097)),
        tcp().tls_user(""),
        tcp().tls_hostname(""),
        tcp().tls_certificates(""),
        tcp().tls_psk_file("\0"),
        Uri::unix("\u{1}".repeat(30_000)),
    ] {
        assert!(builder.clone().build().is_err(), "{builder:?}");
    }
}

#[test]
fn empty_host_is_the_local_one() {
    assert_eq!(Uri::tcp("", 10809).build(), "nbd://localhost/".parse());
}
