//! Every error as its users see it: kind, number, kind of the standard library, and text.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::attempts::{given_up, hints};
use super::samples::*;
use super::violations::violations;
use crate::error::*;
use crate::state::State;
use crate::uri::UriError;
use crate::wire::{Command, Errno, OptionReplyType, OptionType, ProtocolError};

const EXPECTED: &str = include_str!("table.txt");

/// An export of a server on a TCP port.
pub(super) fn site() -> Arc<Site> {
    let server = Some("localhost:10809".into());
    let export = Some("disk0".into());
    Arc::new(Site { server, export })
}

pub(super) fn refusal(option: OptionType, reply: OptionReplyType, message: &str) -> Error {
    Error::Refused(Refusal {
        option,
        reply,
        message: message.into(),
        fatal: false,
        child: None,
        site: None,
        attempts: None,
    })
}

fn refusals() -> Vec<Error> {
    use OptionReplyType as R;
    let replies = [
        R::ERR_UNSUP,
        R::ERR_POLICY,
        R::ERR_INVALID,
        R::ERR_PLATFORM,
        R::ERR_TLS_REQD,
        R::ERR_UNKNOWN,
        R::ERR_SHUTDOWN,
        R::ERR_BLOCK_SIZE_REQD,
        R::ERR_TOO_BIG,
        R::ERR_EXT_HEADER_REQD,
        R(1 << 31 | 99),
    ];
    let mut all: Vec<_> = replies
        .map(|reply| refusal(OptionType::GO, reply, ""))
        .into();
    let (go, starttls) = (OptionType::GO, OptionType::STARTTLS);
    all.push(refusal(go, R::ERR_UNKNOWN, "it was renamed").at(&site()));
    let default = Site {
        server: None,
        export: Some(String::new()),
    };
    all.push(refusal(go, R::ERR_UNKNOWN, "").at(&Arc::new(default)));
    all.push(refusal(go, R::ERR_POLICY, "ask the admin").at(&site()));
    all.push(refusal(starttls, R::ERR_POLICY, "").at(&site()));
    all.push(refusal(starttls, R(1 << 31 | 99), ""));
    all.push(refusal(go, R::ERR_POLICY, "").with_child(child(None, false, "vCenter: expired")));
    all
}

fn requests() -> Vec<Error> {
    let failed = |errno| {
        let mut request = request_error();
        request.errno = errno;
        request
    };
    let mut all: Vec<_> = [
        Errno::EPERM,
        Errno::EIO,
        Errno::ENOMEM,
        Errno::EINVAL,
        Errno::ENOSPC,
        Errno::EOVERFLOW,
        Errno::ENOTSUP,
        Errno::ESHUTDOWN,
        Errno(117),
    ]
    .map(|errno| Error::Request(failed(errno)))
    .into();
    let mut flush = failed(Errno::EIO);
    flush.request.command = Command::FLUSH;
    all.push(Error::Request(flush.clone()).at(&site()));
    all.push(Error::DurabilityUnknown(flush.into()).at(&site()));
    let mut read = failed(Errno::EIO);
    (read.request.command, read.failed_at) = (Command::READ, Some(256));
    all.push(Error::Request(read).at(&site()));
    all
}

fn disk() -> Vec<Error> {
    let lost = Error::eof(Phase::Request).at(&site());
    let mut all: Vec<_> = [
        vec![],
        std::iter::once(0..4096).collect(),
        vec![0..1, 4..8],
        vec![0..1, 2..3, 4..5],
    ]
    .map(Error::maybe_lost)
    .into();
    all.push(Error::maybe_lost(vec![0..1, 4..8]).at(&site()));
    all.push(Error::lost_change(Command::TRIM, 512..1024, Some(2), lost));
    for (length, generation) in [(512, None), (512, Some(2)), (8192, None), (8192, Some(2))] {
        let request = FailedRequest {
            command: Command::WRITE,
            offset: 0,
            length,
        };
        let cause = match generation {
            Some(_) => Error::eof(Phase::Request).of(request).at(&site()),
            None => Error::overdue(LIMIT, request),
        };
        all.push(Error::lost_change(
            Command::WRITE,
            0..512,
            generation,
            cause,
        ));
    }
    let (range, generation) = (4096..8192, 3);
    all.push(Error::Held { range, generation });
    all.push(export_changed());
    all
}

fn lost() -> Vec<Error> {
    let os = io::Error::from_raw_os_error;
    let mut all: Vec<_> = PHASES.map(Error::eof).into();
    // One event, whatever the system calls it: EPIPE, ECONNABORTED, ECONNRESET.
    all.extend([32, 103, 104].map(|number| Error::io(Phase::Request, os(number)).at(&site())));
    all.push(Error::io(Phase::Handshake, os(110)).at(&site()));
    all.push(Error::io(Phase::Request, os(113)).at(&site()));
    all.push(Error::eof(Phase::Request).with_unflushed(true).at(&site()));
    all.push(Error::shutting_down().at(&site()));
    all.push(Error::eof(Phase::Request).of(READ).at(&site()));
    all.push(Error::shutting_down().of(FLUSH));
    for phase in [Phase::Connect, Phase::Request] {
        let error = io::Error::other("the Tokio runtime was shut down");
        all.push(Error::io(phase, error).at(&site()));
    }
    let attempts = [
        ("cannot connect to localhost:21999 (127.0.0.1)", os(111)),
        ("cannot run \"nosuch\"", os(2)),
        (
            "cannot resolve \"x\"",
            io::Error::other("failed to lookup address information: Name or service not known"),
        ),
    ];
    for (what, error) in attempts {
        let error = trying(what.to_owned(), error);
        all.push(Error::io(Phase::Connect, error).at(&site()));
    }
    all.extend(hints());
    for option in [
        OptionType::EXTENDED_HEADERS,
        OptionType::STRUCTURED_REPLY,
        OptionType::STARTTLS,
        OptionType::SET_META_CONTEXT,
        OptionType::GO,
        OptionType::EXPORT_NAME,
        OptionType::LIST,
    ] {
        let error = Error::eof(Phase::Handshake).after_option(Some(option));
        all.push(error.at(&site()));
    }
    all.extend(
        failures()
            .into_iter()
            .map(|failure| Error::io(Phase::Request, failure)),
    );
    let program = Site {
        server: Some("\"nbdkit\"".into()),
        export: None,
    };
    for (phase, status, has_ended, copied) in [
        (Phase::Greeting, Some(0), true, false),
        (Phase::Greeting, Some(1), true, false),
        (Phase::Greeting, None, true, false),
        (Phase::Greeting, None, false, false),
        (Phase::Handshake, None, true, false),
        (Phase::Request, None, false, true),
    ] {
        let mut report = child(status, has_ended, "no such plugin\nbye");
        report.is_copied = copied;
        let error = Error::eof(phase).with_child(report);
        all.push(error.at(&Arc::new(program.clone())));
    }
    let mut not_run = child(Some(127), true, "sh: 1: exec: nosuch: not found");
    not_run.was_not_run = true;
    let error = trying("cannot run \"nosuch\"".to_owned(), os(2));
    all.push(Error::io(Phase::Connect, error).with_child(not_run));
    all
}

fn missing_contexts() -> Vec<Error> {
    let mut all: Vec<_> = [0, 1, 8, 9].map(missing_context).into();
    all.push(missing_context(2).at(&site()));
    let simple = MissingContext::new("base:allocation".into(), Vec::new(), false);
    all.push(Error::MissingContext(simple));
    let report = child(Some(1), true, "no bitmap");
    all.push(missing_context(0).with_child(report));
    all
}

pub(super) fn child(status: Option<i32>, has_ended: bool, stderr: &str) -> ChildReport {
    use std::os::unix::process::ExitStatusExt;
    ChildReport {
        status: status.map(|code| std::process::ExitStatus::from_raw(code << 8)),
        has_ended,
        stderr: stderr.into(),
        is_copied: false,
        was_not_run: false,
    }
}

fn tls() -> Vec<Error> {
    let cause = || io::Error::other("received fatal alert");
    let mut all: Vec<_> = TLS_FAILURES
        .map(|failure| Error::tls(TlsError::new(failure, cause())))
        .into();
    let reset = TlsError::new(TlsFailure::Closed, io::Error::from_raw_os_error(104));
    all.push(Error::tls(reset.with_hint("the server name sent was \"my_host\"")).at(&site()));
    let name = TlsError::new(TlsFailure::WrongName, cause()).with_server_name("localhost");
    all.push(Error::tls(name).at(&site()));
    all
}

fn timeouts() -> Vec<Error> {
    let mut all: Vec<_> = PHASES.map(|phase| Error::timeout(phase, LIMIT)).into();
    let millis = Duration::from_millis(1500);
    all.extend(PHASES.map(|phase| Error::timeout(phase, millis).at(&site())));
    let silent = Error::timeout(Phase::Greeting, LIMIT);
    all.push(silent.with_child(child(None, false, "")));
    let go = Some(OptionType::GO);
    all.push(Error::timeout(Phase::Handshake, LIMIT).after_option(go));
    all.push(Error::overdue(LIMIT, READ).at(&site()));
    all.push(Error::overdue(LIMIT, FLUSH));
    all.push(Error::overdue(LIMIT, FLUSH).of(READ));
    all.push(Error::overdue(LIMIT, FLUSH).unsent());
    all.push(Error::overdue(LIMIT, READ).unsent().of(READ).at(&site()));
    all.push(Error::overdue(LIMIT, READ).unsent().without_link());
    let of_disk = Error::overdue(LIMIT, READ).unsent();
    all.push(of_disk.delivered(Delivery::MaybeSent));
    all
}

/// All of them, in groups.
pub(super) fn groups() -> Vec<(&'static str, Vec<Error>)> {
    let mut invalid: Vec<_> = invalid().into_iter().map(Error::from).collect();
    invalid.push(Error::state(State::Ready, "created"));
    let mut closed = vec![Error::closed()];
    closed.push(Error::closed().with_unflushed(true).at(&site()));
    closed.push(Error::closed().of(READ));
    let from_uri = |error: UriError| Error::from(error);
    let mut protocol: Vec<_> = violations().into_iter().map(Error::from).collect();
    protocol.extend([0, 22].map(|at| protocol[at].clone().at(&site())));
    let mut copied: Vec<_> = copies().into_iter().map(Error::from).collect();
    copied.push(Error::copy(CopyFault::Cancelled, 1 << 20, false));
    // A checkpoint is named only where another copy can go on from it.
    copied.extend(
        copies()
            .into_iter()
            .map(|fault| Error::copy(fault, 1 << 20, true)),
    );
    let (side, cause) = (Side::Source, export_changed());
    copied.push(Error::copy(CopyFault::Nbd { side, cause }, 1 << 20, true));
    vec![
        ("Invalid", invalid),
        (
            "InvalidUse",
            misuse().into_iter().map(Error::from).collect(),
        ),
        (
            "InvalidUse: URIs",
            uri_errors().into_iter().map(from_uri).collect(),
        ),
        ("Refused", refusals()),
        ("MissingContext", missing_contexts()),
        ("Request, DurabilityUnknown", requests()),
        (
            "DurabilityUnknown, OutcomeUnknown, Held, ExportChanged",
            disk(),
        ),
        ("Protocol", protocol),
        ("Disconnected", lost()),
        ("Tls", tls()),
        ("Timeout", timeouts()),
        ("A disk that gave up", given_up()),
        ("Closed", closed),
        ("Copy", copied),
    ]
}

/// One line for each error.
fn table() -> String {
    let mut table = String::new();
    for (group, errors) in groups() {
        writeln!(table, "# {group}").unwrap();
        for error in errors {
            let number = error
                .errno()
                .map_or_else(|| "-".into(), |it| it.to_string());
            let text = error.to_string().replace('\n', "\\n");
            let kind = io::Error::from(error).kind();
            writeln!(table, "{number:>3} {kind:<17?} {text}").unwrap();
        }
    }
    table
}

/// With `--nocapture` it prints the table, which is `table.txt`. After an intended change, set
/// `NBD_CLIENT_ERROR_TABLE` to the path of that file to write it anew, and read what has changed.
#[test]
fn the_table_of_errors() {
    let table = table();
    println!("{table}");
    if let Some(path) = std::env::var_os("NBD_CLIENT_ERROR_TABLE") {
        std::fs::write(path, &table).unwrap();
    }
    for (is, should) in table.lines().zip(EXPECTED.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(table.lines().count(), EXPECTED.lines().count());
}

#[test]
fn no_error_has_a_source_because_its_text_has_the_cause() {
    for error in groups().into_iter().flat_map(|(_, errors)| errors) {
        assert!(error.source().is_none(), "{error}");
        let said = error.to_string();
        // A stranger's text stays as it is.
        let is_system = said.contains("os error") && !said.contains("the tunnel broke");
        assert!(!is_system, "{said}");
        // What a `main` prints that returns it.
        assert_eq!(format!("{error:?}"), said);
        let structure = format!("{error:#?}");
        assert!(structure.contains("(\n"), "{structure}");
        let io = io::Error::from(error);
        assert_eq!(io.to_string(), said);
        assert!(io.source().is_none());
    }
    for error in uri_errors() {
        assert!(error.source().is_none(), "{error}");
    }
    for error in violations() {
        assert!(ProtocolError::source(&error).is_none(), "{error}");
    }
}

#[test]
fn a_uri_is_shown_without_what_may_be_a_secret() {
    for (uri, shown) in [
        ("nbd://alice:pw@host/", "\"nbd://***@host/\""),
        ("alice:pw@host/x", "\"***@host/x\""),
        ("nbd:/a:b@host/a@b", "\"***@b\""),
        ("nbd://host:0/", "\"nbd://host:0/\""),
        ("nbd://h/?password=pw", "\"nbd://h/?password=***\""),
        (
            "nbd://h/?x-key=pw&sockt=/s",
            "\"nbd://h/?x-key=***&sockt=***\"",
        ),
        (
            "nbd://h/?x-a=;tls-type=psk",
            "\"nbd://h/?x-a=***;tls-type=psk\"",
        ),
        (
            "nbds://h/x?tls-username=al&",
            "\"nbds://h/x?tls-username=***&\"",
        ),
        ("nbd+unix:///?socket=/s&q", "\"nbd+unix:///?socket=/s&q\""),
        (
            "nbds+unix:///?socket=/a@b&tls-username=al&x-t=pw",
            "\"nbds+unix://***@b&tls-username=***&x-t=***\"",
        ),
        ("nbd://al?ice:pw@h/?x-k=pw", "\"nbd://***@h/?x-k=***\""),
        ("nbd://a:p?w=x@host/x", "\"nbd://***\""),
    ] {
        let text = Error::from(InvalidUse::uri(uri, UriError::Password)).to_string();
        let start = format!("invalid NBD URI {shown}: ");
        assert!(text.starts_with(&start), "{text}");
    }
    let long = format!("nbd://{}/", "a".repeat(300));
    let text = Error::from(InvalidUse::uri(&long, UriError::Password)).to_string();
    assert!(text.contains("aaa…\": "), "{text}");
}
