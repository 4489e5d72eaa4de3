//! What the library says of its methods, in words of the program.

use std::borrow::Cow;

/// What `nbd load` has options for.
const OF_LOAD: [(&str, &str); 4] = [
    (
        "`Builder::extended_headers(false)` leaves it out",
        "--no-extended leaves it out",
    ),
    (
        "`Builder::structured_replies(false)` leaves it out",
        "--simple leaves it out",
    ),
    (
        "see `Builder::extended_headers`",
        "see --no-extended and --simple",
    ),
    (
        "set the name of one that `opt_list` gives",
        "name one with --export or in the URI, of those that nbd info --list prints",
    ),
];

/// What all tools have in common.
const OF_ALL: [(&str, &str); 17] = [
    (": `Builder::extended_headers(false)` leaves it out", ""),
    (": `Builder::structured_replies(false)` leaves it out", ""),
    (": `Builder::request_meta_context(false)` leaves it out", ""),
    (": `Builder::force_export_name(true)` does without it", ""),
    (": see `Builder::extended_headers`", ""),
    (": see `Builder::request_block_size`", ""),
    (" (`DiskBuilder::fence`) or `Disk::assume_fenced`", ""),
    (
        "`TlsMode::Disable` leaves it out",
        "a URI with nbd in place of nbds leaves it out",
    ),
    (" or `TlsMode::Require`", ""),
    (
        "although requests are in flight",
        "although requests are in flight: --stall says how long it may be silent",
    ),
    (
        "set the name of one that `opt_list` gives",
        "name one in the URI, of those that nbd info --list prints",
    ),
    (
        "ask for one with `Builder::meta_context`",
        "the server does not offer any",
    ),
    (
        "ask for it with `Builder::meta_context`",
        "the server does not offer it",
    ),
    (
        "set one with `Builder::tls`",
        "name certificates with ?tls-certificates=DIR in the URI",
    ),
    (
        "add one with `ca_pem`, `ca_der` or `directory` of `TlsConfig::builder()`, or with \
         ?tls-certificates=DIR in the URI",
        "name the directory of one with ?tls-certificates=DIR in the URI",
    ),
    ("with `TlsConfig::server_name`, or with ?", "with ?"),
    (
        ": choose TLS versions with `TlsConfigBuilder::min_version` and `max_version`, or leave the \
         parameter out",
        ": leave the parameter out",
    ),
];

/// Puts options of a tool in place of methods of the library, which its user does not have.
pub(crate) fn of_tool<'a>(tool: &str, said: &'a str) -> Cow<'a, str> {
    let of_load = OF_LOAD.iter().filter(|_| tool == "nbd load");
    let mut words = Cow::Borrowed(said);
    for (theirs, ours) in of_load.chain(&OF_ALL) {
        if words.contains(theirs) {
            words = Cow::Owned(words.replace(theirs, ours));
        }
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// Every sentence that the library can say.
    fn sentences() -> Vec<String> {
        let table = include_str!("../../src/error/tests/table.txt").lines();
        let of_uri = nbd_client::Uri::try_from("nbds://host/?tls-priority=NORMAL").unwrap_err();
        table
            .map(str::to_owned)
            .chain([of_uri.to_string()])
            .collect()
    }

    /// What no tool does, and the checkpoint, of which `nbd copy` says more.
    const NEVER: [&str; 5] = [
        "`Builder::read_only`",
        "`DiskBuilder::changes`",
        "`tokio::task::spawn_blocking`",
        "after `fork`",
        "`Copying::resume`",
    ];

    #[test]
    fn no_method_is_named_to_the_user_of_a_tool() {
        for line in sentences() {
            for tool in ["nbd load", "nbd info"] {
                let said = of_tool(tool, &line).replace("`nbdkit -s`", "nbdkit -s");
                let is_never = NEVER.iter().any(|never| line.contains(never));
                assert!(is_never || !said.contains('`'), "{said}");
            }
        }
    }

    #[test]
    fn nothing_is_explained_that_the_library_does_not_say() {
        let all = sentences().concat();
        for (theirs, _) in OF_LOAD.iter().chain(&OF_ALL) {
            assert!(all.contains(theirs), "{theirs}");
        }
    }

    #[test]
    fn a_load_has_options_that_other_tools_do_not_have() {
        let said =
            "after the option EXTENDED_HEADERS: `Builder::extended_headers(false)` leaves it out";
        let load = "after the option EXTENDED_HEADERS: --no-extended leaves it out";
        assert_eq!(of_tool("nbd load", said), load);
        assert_eq!(
            of_tool("nbd dump", said),
            "after the option EXTENDED_HEADERS"
        );
    }
}
