//! Errors of attempts to connect: what to look at, and how often it was tried.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::samples::*;
use super::table::{child, refusal, site};
use crate::error::*;
use crate::wire::{OptionReplyType, OptionType};

/// Errors that ask what may be the reason.
pub(super) fn hints() -> Vec<Error> {
    let os = io::Error::from_raw_os_error;
    let mut all = Vec::new();
    let hint = "is the server running?";
    for number in [2, 111] {
        let what = "cannot connect to \"/run/nbd.sock\"".to_owned();
        let error = trying_with_hint(what, os(number), hint);
        all.push(Error::io(Phase::Connect, error));
    }
    for (server, export) in [
        ("localhost:10809", "run/nbd.sock"),
        ("localhost:10809", "a b.sock"),
        ("localhost:10809", "disk0"),
        ("localhost:10810", "run/nbd.sock"),
    ] {
        let (server, export) = (Some(server.into()), Some(export.into()));
        let site = Arc::new(Site { server, export });
        for number in [110, 111] {
            let error = trying("cannot connect to localhost:10809".to_owned(), os(number));
            all.push(Error::io(Phase::Connect, error).at(&site));
        }
        let unknown = refusal(OptionType::GO, OptionReplyType::ERR_UNKNOWN, "");
        all.push(unknown.at(&site));
    }
    all
}

/// Errors of a disk that gave up.
pub(super) fn given_up() -> Vec<Error> {
    let attempts = |count, millis| Attempts {
        count,
        elapsed: Duration::from_millis(millis),
    };
    let lost = || Error::eof(Phase::Request).at(&site());
    let refused = refusal(OptionType::GO, OptionReplyType::ERR_SHUTDOWN, "");
    let running = child(None, false, "bye");
    vec![
        lost().after_attempts(attempts(0, 3)),
        lost().after_attempts(attempts(1, 0)).of(READ),
        lost()
            .after_attempts(attempts(12, 59_987))
            .with_unflushed(true),
        Error::timeout(Phase::Connect, LIMIT).after_attempts(attempts(2, 60_000)),
        refused
            .after_attempts(attempts(7, 1234))
            .with_child(running),
        Error::shutting_down().after_attempts(attempts(3, 999)),
    ]
}
