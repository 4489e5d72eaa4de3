//! Texts that the table does not have, and what they are written to.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;

use super::samples::*;
use super::table::{child, groups};
use crate::error::attempt::WithCauses;
use crate::error::*;

/// A place for this many bytes.
struct Room {
    left: usize,
    text: String,
}

impl fmt::Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        self.text.push_str(text);
        Ok(())
    }
}

/// Whatever piece does not fit, the caller is told, and nothing is written after it.
#[track_caller]
fn is_cut_or_whole(item: &dyn fmt::Display) {
    let whole = item.to_string();
    for left in 0..=whole.len() {
        let text = String::new();
        let mut room = Room { left, text };
        let written = write!(room, "{item}");
        assert_eq!(written.is_ok(), left == whole.len(), "{left} of {whole}");
        assert!(whole.starts_with(&room.text), "{} of {whole}", room.text);
    }
}

#[test]
fn a_text_that_does_not_fit_is_an_error_of_the_writer() {
    for error in groups().into_iter().flat_map(|(_, errors)| errors) {
        is_cut_or_whole(&error);
        is_cut_or_whole(&error.with_unflushed(true));
    }
    is_cut_or_whole(&child(Some(1), true, "no such plugin\nbye"));
    PHASES.iter().for_each(|phase| is_cut_or_whole(phase));
}

#[test]
fn every_phase_has_a_text() {
    assert_eq!(
        PHASES.map(|phase| phase.to_string()),
        [
            "connecting",
            "the greeting",
            "the handshake",
            "the TLS handshake",
            "transmission",
            "a silence of the server",
            "the wait for an overdue reply",
            "shutdown",
        ]
    );
}

#[test]
fn the_reason_of_the_system_fits_into_a_sentence() {
    for (error, text) in [
        (io::Error::from_raw_os_error(111), "connection refused"),
        // EDOTDOT: an abbreviation keeps its capitals.
        (io::Error::from_raw_os_error(73), "RFS specific error"),
        (
            io::Error::other("failed to lookup address information: Try again"),
            "try again",
        ),
        (
            io::Error::other("failed to lookup address information: DNS failed"),
            "DNS failed",
        ),
        (io::Error::other("No luck"), "No luck"),
    ] {
        assert_eq!(Reason(&error).to_string(), text);
    }
}

/// A cause that is not an error of the system.
#[derive(Debug, thiserror::Error)]
#[error("the key is gone")]
struct KeyGone;

/// An error that leaves its cause to its callers.
#[derive(Debug, thiserror::Error)]
#[error("the tunnel broke")]
struct Tunnel(#[source] KeyGone);

#[test]
fn a_cause_of_any_type_is_in_the_text() {
    let error = io::Error::other(Tunnel(KeyGone));
    let text = "the tunnel broke: the key is gone";
    assert_eq!(WithCauses(&error).to_string(), text);
    let lost = Error::io(Phase::Greeting, error);
    assert_eq!(
        lost.to_string(),
        format!("the connection failed before the server's greeting: {text}")
    );
}

#[test]
fn a_stream_of_the_callers_has_an_export_and_no_address() {
    let named = |server: Option<&str>, export: Option<&str>| Site {
        server: server.map(str::to_owned),
        export: export.map(str::to_owned),
    };
    for (site, text) in [
        (named(None, Some("disk0")), "export \"disk0\": "),
        (named(None, Some("")), ""),
        (named(None, None), ""),
        (named(Some("host:1"), None), "host:1: "),
        (named(Some("host:1"), Some("")), "host:1: "),
        (named(Some("host:1"), Some("a")), "host:1, export \"a\": "),
    ] {
        assert_eq!(site.to_string(), text);
        let error = Error::closed().at(&Arc::new(site));
        let sentence = format!("{text}this side closed the connection");
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
fn an_unknown_context_names_eight_of_those_there_are() {
    for (count, last) in [
        (1, "but \"x:1\" was"),
        (2, "but \"x:1\", \"x:2\" were"),
        (8, ", \"x:8\" were"),
        (9, ", \"x:8\" and 1 more were"),
    ] {
        let names: Vec<_> = (1..=count).map(|at| format!("x:{at}")).collect();
        let error = InvalidRequest::unknown_context("x:0", names.iter().map(String::as_str));
        let text = error.to_string();
        let start = "metadata context \"x:0\" was not negotiated, but \"x:1\"";
        let end = format!("{last}: ask for it with `Builder::meta_context`");
        assert!(text.starts_with(start) && text.ends_with(&end), "{text}");
    }
}
