//! What can be asked of the parts of an error.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::samples::*;
use super::table::child;
use crate::error::*;
use crate::wire::{Command, Errno, OptionReplyType, OptionType};

#[test]
fn a_failed_request_tells_what_was_asked_and_what_the_server_said() {
    let mut failure = request_error();
    assert_eq!(failure.failed_at(), None);
    failure.request.command = Command::READ;
    (failure.request.offset, failure.request.length) = (8192, 4096);
    failure.errno = Errno(117);
    failure.failed_at = Some(8704);
    assert_eq!(failure.command(), Command::READ);
    assert_eq!((failure.offset(), failure.length()), (8192, 4096));
    assert_eq!(failure.errno(), Errno(117), "as it was sent");
    assert_eq!(failure.message().as_str(), "bad sector");
    assert_eq!(failure.failed_at(), Some(8704));

    let request = Error::Request(failure).request().unwrap();
    assert_eq!(request, READ);
    assert_eq!(request.command(), Command::READ);
    assert_eq!((request.offset(), request.length()), (8192, 4096));
}

#[test]
fn a_refusal_tells_option_reason_and_message() {
    let refused = every().into_iter().find(|e| matches!(e, Error::Refused(_)));
    let refused = refused.unwrap().with_child(child(Some(1), true, "bye"));
    let Error::Refused(refusal) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(refusal.option(), OptionType::GO);
    assert_eq!(refusal.reply(), OptionReplyType::ERR_POLICY);
    assert_eq!(refusal.message().as_str(), "not you");
    assert_eq!(refusal.child(), refused.child());
    assert_eq!(refused.child().unwrap().stderr().as_str(), "bye");
}

#[test]
fn a_missing_context_tells_its_name_and_the_others() {
    let missing = missing_context(2).with_child(child(Some(1), true, "bye"));
    let Error::MissingContext(context) = &missing else {
        panic!("{missing}");
    };
    assert_eq!(context.name(), "qemu:dirty-bitmap:b0");
    let others = ["qemu:dirty-bitmap:b1", "qemu:dirty-bitmap:b2"];
    assert_eq!(context.available(), others);
    assert_eq!(context.child(), missing.child());
    assert_eq!(missing.child().unwrap().stderr().as_str(), "bye");
}

#[test]
fn what_may_be_lost_has_a_flush_or_ranges() {
    let mut flush = request_error();
    (flush.request.command, flush.errno) = (Command::FLUSH, Errno::ENOSPC);
    let lost = MaybeLost::from(flush.clone());
    assert_eq!(lost.failure(), Some(&flush));
    assert!(lost.ranges().is_empty(), "nothing tells them");
    assert_eq!(lost.errno(), Errno::ENOSPC);
    let request = Error::DurabilityUnknown(lost).request().unwrap();
    assert_eq!(request.command(), Command::FLUSH);

    let error = Error::maybe_lost(vec![0..1, 4..8]);
    assert_eq!(error.request(), None);
    let Error::DurabilityUnknown(lost) = error else {
        panic!("{error}");
    };
    assert_eq!(lost.failure(), None);
    assert_eq!(lost.ranges(), [0..1, 4..8]);
    assert_eq!(lost.errno(), Errno::EIO, "no flush has failed");
}

#[test]
fn a_lost_change_tells_what_it_was_and_why_it_is_lost() {
    for (generation, cause) in [
        (Some(2), Error::eof(Phase::Request)),
        (None, Error::overdue(LIMIT, READ)),
    ] {
        let error = Error::lost_change(Command::TRIM, 512..1024, generation, cause.clone());
        let Error::OutcomeUnknown(change) = &error else {
            panic!("{error}");
        };
        assert_eq!(change.command(), Command::TRIM);
        assert_eq!(*change.range(), 512..1024);
        assert_eq!(change.generation(), generation);
        assert_eq!(change.cause().to_string(), cause.to_string());
        assert_eq!(error.errno(), cause.errno());
    }
}

#[test]
fn an_ending_tells_what_became_of_the_request_and_the_server() {
    let error = Error::eof(Phase::Request);
    let ending = error.ending().unwrap();
    assert_eq!(ending.delivery(), Delivery::NotSent);
    assert!(!ending.has_unflushed_writes());
    assert_eq!(ending.child(), None);

    let error = error
        .delivered(Delivery::MaybeSent)
        .with_unflushed(true)
        .with_child(child(Some(3), true, "out of memory"));
    let ending = error.ending().unwrap();
    assert_eq!(ending.delivery(), Delivery::MaybeSent);
    assert!(ending.has_unflushed_writes());
    assert_eq!(ending.child(), error.child());
    let report = ending.child().unwrap();
    assert_eq!(report.status().unwrap().code(), Some(3));
    assert_eq!(report.stderr().as_str(), "out of memory");
    // Once it is known it stays known.
    assert!(error.with_unflushed(false).has_unflushed_writes());
}

#[test]
fn only_a_signal_counts_as_killed() {
    let report = |status| ChildReport {
        status,
        ..child(None, true, "")
    };
    let signal = report(Some(ExitStatus::from_raw(9)));
    assert!(signal.was_killed());
    let text = signal.to_string();
    assert!(
        text.starts_with("the server process ended with signal: 9"),
        "{text}"
    );
    for status in [Some(ExitStatus::from_raw(9 << 8)), None] {
        assert!(!report(status).was_killed(), "{status:?}");
    }
}

#[test]
fn the_lines_of_a_server_stay_lines_and_cannot_move_the_cursor() {
    let report = child(Some(1), true, "one\n\x1b[2Jtwo");
    let text = "the server process ended with exit status: 1, saying:\n  one\n  \\u{1b}[2Jtwo";
    assert_eq!(report.to_string(), text);
}

#[test]
fn a_tls_error_tells_the_name_and_the_cause() {
    let error = TlsError::new(TlsFailure::WrongName, broken_pipe());
    assert_eq!(error.failure(), TlsFailure::WrongName);
    assert_eq!(error.server_name(), None);
    assert_eq!(error.io().kind(), io::ErrorKind::BrokenPipe);
    let named = error.with_server_name("localhost").with_hint("try another");
    assert_eq!(named.server_name(), Some("localhost"));
    assert!(named.to_string().ends_with("; try another"), "{named}");
}
