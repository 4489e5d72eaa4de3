//! Errors of attempts to connect: what to look at.

use std::io;
use std::sync::Arc;

use super::table::refusal;
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
