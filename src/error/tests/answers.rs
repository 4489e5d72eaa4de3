//! What each kind of error answers: who is at fault, and what the caller can do.

use std::io;

use super::samples::*;
use super::table::groups;
use crate::error::*;
use crate::state::State;
use crate::wire::{Command, Errno, OptionReplyType, OptionType, ProtocolError};

/// A request that failed with this number.
fn failed(command: Command, errno: Errno) -> Error {
    let mut failure = request_error();
    (failure.request.command, failure.errno) = (command, errno);
    Error::Request(failure)
}

fn refused(reply: OptionReplyType) -> Error {
    Error::Refused(Refusal {
        option: OptionType::GO,
        reply,
        message: "".into(),
        fatal: false,
        child: None,
        site: None,
        attempts: None,
    })
}

fn held() -> Error {
    let (range, generation) = (0..512, 1);
    Error::Held { range, generation }
}

fn lost_change(cause: Error) -> Error {
    Error::lost_change(Command::WRITE, 0..512, Some(1), cause)
}

#[test]
fn each_error_answers_who_is_at_fault_and_whether_to_try_again() {
    use Delivery::{MaybeSent, NotSent};
    use ErrorKind as K;
    let no_host = || InvalidUse::Empty { what: "host" };
    let tls = |failure| Error::tls(TlsError::new(failure, broken_pipe()));
    // Kind, delivery, whether it is retryable, whether what was acknowledged may be lost.
    for (error, kind, delivery, is_retryable, is_unflushed) in [
        (
            Error::state(State::Dead, "ready"),
            K::Invalid,
            NotSent,
            false,
            false,
        ),
        (no_host().into(), K::Invalid, NotSent, false, false),
        (
            refused(OptionReplyType::ERR_POLICY),
            K::Refused,
            NotSent,
            false,
            false,
        ),
        (
            refused(OptionReplyType::ERR_SHUTDOWN),
            K::Refused,
            NotSent,
            true,
            false,
        ),
        (missing_context(1), K::Refused, NotSent, false, false),
        (
            failed(Command::WRITE, Errno::EIO),
            K::Request,
            MaybeSent,
            false,
            false,
        ),
        (
            failed(Command::WRITE, Errno::ESHUTDOWN),
            K::Request,
            MaybeSent,
            true,
            false,
        ),
        (
            failed(Command::FLUSH, Errno::EIO),
            K::Request,
            MaybeSent,
            false,
            true,
        ),
        (
            Error::DurabilityUnknown(request_error().into()),
            K::Request,
            MaybeSent,
            false,
            true,
        ),
        (
            Error::maybe_lost(Vec::new()),
            K::Request,
            MaybeSent,
            false,
            true,
        ),
        // As the connection that was lost would have it.
        (
            lost_change(Error::eof(Phase::Request)),
            K::Disconnected,
            MaybeSent,
            true,
            false,
        ),
        (
            lost_change(ProtocolError::NotDone.into()),
            K::Disconnected,
            MaybeSent,
            false,
            false,
        ),
        (held(), K::Disconnected, NotSent, false, false),
        (export_changed(), K::Refused, NotSent, false, false),
        (
            ProtocolError::NotDone.into(),
            K::Protocol,
            NotSent,
            false,
            false,
        ),
        (
            Error::eof(Phase::Request),
            K::Disconnected,
            NotSent,
            true,
            false,
        ),
        (
            Error::shutting_down(),
            K::Disconnected,
            NotSent,
            true,
            false,
        ),
        (tls(TlsFailure::Expired), K::Tls, NotSent, false, false),
        (tls(TlsFailure::Closed), K::Tls, NotSent, true, false),
        (tls(TlsFailure::Io), K::Tls, NotSent, true, false),
        (
            Error::timeout(Phase::Stall, LIMIT),
            K::Timeout,
            NotSent,
            true,
            false,
        ),
        (Error::closed(), K::Closed, NotSent, false, false),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.delivery(), delivery, "{error}");
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
        assert_eq!(error.has_unflushed_writes(), is_unflushed, "{error}");
    }
}

#[test]
fn tls_may_go_better_next_time_only_if_the_connection_was_lost() {
    for failure in TLS_FAILURES {
        let error = Error::tls(TlsError::new(failure, broken_pipe()));
        let is_lost = matches!(failure, TlsFailure::Closed | TlsFailure::Io);
        assert_eq!(error.is_retryable(), is_lost, "{error}");
    }
}

#[test]
fn negotiation_goes_on_after_a_refusal_or_an_argument_that_is_wrong() {
    for error in every() {
        let goes_on = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Refused)
            && !matches!(error, Error::ExportChanged { .. });
        assert_eq!(error.leaves_negotiation(), goes_on, "{error}");
    }
}

#[test]
fn the_error_of_the_standard_library_has_the_error_in_it() {
    for error in groups().into_iter().flat_map(|(_, errors)| errors) {
        let io = io::Error::from(error.clone());
        let inner = io.get_ref().and_then(|it| it.downcast_ref::<Error>());
        let inner = inner.unwrap();
        assert_eq!(format!("{inner:#?}"), format!("{error:#?}"));
    }
}

#[test]
fn the_structure_shows_the_variant_and_its_parts_in_order() {
    let tls = TlsError::new(TlsFailure::Expired, broken_pipe());
    let no_host = InvalidUse::Empty { what: "host" };
    let lost = Error::eof(Phase::Request).delivered(Delivery::MaybeSent);
    for (error, start, parts) in [
        (
            Error::state(State::Dead, "ready"),
            "Invalid(\n    State {\n",
            ["state: Dead", "needed: \"ready\""],
        ),
        (
            no_host.into(),
            "InvalidUse(\n    Empty {\n",
            ["what: \"host\"", "}"],
        ),
        (
            refused(OptionReplyType::ERR_POLICY),
            "Refused(\n    Refusal {\n",
            ["fatal: false", "site: None"],
        ),
        (
            missing_context(1),
            "MissingContext(\n    MissingContext {\n",
            ["name: \"qemu:dirty-bitmap:b0\"", "\"qemu:dirty-bitmap:b1\""],
        ),
        (
            failed(Command::WRITE, Errno::EIO),
            "Request(\n    RequestError {\n",
            ["length: 512", "message: \"bad sector\""],
        ),
        (
            Error::maybe_lost(vec![0..1, 4..8]),
            "DurabilityUnknown(\n    MaybeLost {\n",
            ["failure: None", "4..8"],
        ),
        (
            lost_change(Error::closed()),
            "OutcomeUnknown(\n    LostChange {\n",
            ["range: 0..512", "cause: Closed(\n"],
        ),
        (held(), "Held(\n", ["    0..512,\n", "    1,\n"]),
        (
            export_changed(),
            "ExportChanged(\n    \"its size\",\n",
            ["    \"1048576\",\n", "    \"4096\",\n"],
        ),
        (
            ProtocolError::NotDone.into(),
            "Protocol(\n    NotDone,\n",
            ["Ending {", "unflushed: false"],
        ),
        (
            lost,
            "Disconnected(\n    LostConnection {\n",
            ["phase: Request", "delivery: MaybeSent"],
        ),
        (
            Error::tls(tls),
            "Tls(\n    TlsError {\n",
            ["failure: Expired", "kind: BrokenPipe"],
        ),
        (
            Error::overdue(LIMIT, READ).unsent(),
            "Timeout(\n    Request,\n",
            ["goes_on: true", "30s"],
        ),
        (
            Error::copy(CopyFault::Cancelled, 512, true),
            "Copy(\n    CopyError {\n",
            ["fault: Cancelled", "done: 512"],
        ),
        (
            Error::closed().with_unflushed(true),
            "Closed(\n    Ending {\n",
            ["unflushed: true", "facts: None"],
        ),
    ] {
        let structure = format!("{error:#?}");
        let mut rest = structure.strip_prefix(start).expect(&structure);
        for part in parts {
            let (_, after) = rest.split_once(part).expect(&structure);
            rest = after;
        }
    }
}
