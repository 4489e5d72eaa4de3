//! What holds for every error.

use std::fmt;

use super::*;
use crate::error::TlsFailure;
use crate::uri::UriError;
use crate::wire::CommandFlags;
use crate::wire::codec::CodecError;

/// An error of somebody else's, who prints its cause or leaves that to its callers.
#[derive(Debug)]
struct Foreign {
    prints: bool,
    cause: io::Error,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tunnel broke")?;
        if self.prints {
            write!(f, ": {}", self.cause)?;
        }
        Ok(())
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn broken_pipe() -> io::Error {
    io::Error::from_raw_os_error(32)
}

fn foreign(prints: bool) -> io::Error {
    let cause = broken_pipe();
    io::Error::other(Foreign { prints, cause })
}

/// Failures of a stream: as the operating system, a layer above it, or a stranger tells them.
fn failures() -> Vec<io::Error> {
    vec![
        broken_pipe(),
        io::ErrorKind::UnexpectedEof.into(),
        io::Error::other("no luck"),
        foreign(false),
        foreign(true),
    ]
}

fn request_error() -> RequestError {
    RequestError {
        command: Command::WRITE,
        offset: 0,
        length: 512,
        errno: Errno::EIO,
        message: "bad sector".into(),
        failed_at: None,
    }
}

fn invalid() -> Vec<InvalidRequest> {
    use InvalidRequest as I;
    let command = Command::WRITE;
    let (offset, length, size, limit) = (4096, 512, 1024, 256);
    vec![
        I::State {
            state: State::Created,
            needed: "ready",
        },
        I::Argument {
            what: "limit",
            why: "it is 0".into(),
        },
        I::TooLongString {
            what: "name",
            length: 5000,
        },
        I::Forbidden("not allowed".into()),
        I::NotBuilt("feature tls"),
        I::NoAddress,
        I::NoRuntime("no timers"),
        I::ZeroLength(command),
        I::OutOfBounds {
            command,
            offset,
            length,
            size,
        },
        I::Unaligned {
            command,
            offset,
            length,
            alignment: 4096,
        },
        I::ReadOnly(command),
        I::Unsupported(command),
        I::UnsupportedFlag("FUA"),
        I::WrongFlags {
            command,
            flags: CommandFlags::DF,
        },
        I::TooLong {
            command,
            length,
            limit,
        },
        I::NoContexts,
        I::UnknownContext("x:y".into()),
        I::NotNegotiated("extended headers"),
    ]
}

/// Every variant, with every kind of cause.
fn every() -> Vec<Error> {
    let refusal = Refusal {
        option: crate::wire::OptionType::GO,
        reply: OptionReplyType::ERR_POLICY,
        message: "not you".into(),
        fatal: false,
        child: None,
    };
    let mut every: Vec<_> = invalid().into_iter().map(Error::Invalid).collect();
    every.extend([
        Error::Refused(refusal),
        Error::Request(request_error()),
        Error::DurabilityUnknown(request_error()),
        ProtocolError::NotDone.into(),
        Error::timeout(Phase::Request),
        Error::unsent(),
        Error::closed(),
    ]);
    for failure in failures() {
        every.push(Error::io(Phase::Request, failure));
    }
    for failure in failures() {
        every.push(Error::tls(TlsError::new(TlsFailure::Handshake, failure)));
    }
    every
}

/// Whoever prints an error with its sources prints nothing twice.
#[track_caller]
fn is_said_once(error: &(dyn std::error::Error + 'static)) {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        assert!(!said.contains(&text), "{text:?} again, after {said:?}");
        said.push_str(&text);
        next = source.source();
    }
}

#[test]
fn no_cause_is_in_the_text_and_a_source_too() {
    for error in every() {
        is_said_once(&error);
        is_said_once(&error.clone().with_unflushed(true));
        is_said_once(&io::Error::from(error));
    }
    for failure in failures() {
        is_said_once(&TlsError::new(TlsFailure::Io, failure));
    }
    invalid().iter().for_each(|error| is_said_once(error));
    is_said_once(&UriError::Password);
    is_said_once(&ProtocolError::NotDone);
    is_said_once(&CodecError::from(ProtocolError::NotDone));
    is_said_once(&CodecError::from(broken_pipe()));
}

#[test]
fn the_text_has_every_cause_once_and_the_first_can_be_had() {
    let broken = broken_pipe().to_string();
    for prints in [false, true] {
        for error in [
            Error::io(Phase::Request, foreign(prints)),
            Error::tls(TlsError::new(TlsFailure::Io, foreign(prints))),
        ] {
            let text = error.to_string();
            let all = format!("the tunnel broke: {broken}");
            assert!(text.ends_with(&all), "{text}");
            assert_eq!(text.matches(&broken).count(), 1, "{text}");
            let io = match &error {
                Error::Disconnected(lost, _) => lost.io(),
                Error::Tls(error, _) => error.io(),
                other => panic!("{other:?}"),
            };
            assert!(io.get_ref().unwrap().is::<Foreign>());
        }
    }
}

/// Whether the connection is over, as each kind of error tells it.
#[test]
fn an_error_tells_whether_the_connection_is_over() {
    for error in every() {
        let (is_over, has_ending) = match &error {
            Error::Invalid(_)
            | Error::Refused(_)
            | Error::Request(_)
            | Error::DurabilityUnknown(_)
            | Error::Timeout(_, None) => (false, false),
            Error::Protocol(..)
            | Error::Disconnected(..)
            | Error::Tls(..)
            | Error::Timeout(_, Some(_))
            | Error::Closed(_) => (true, true),
        };
        assert_eq!(error.is_fatal(), is_over, "{error}");
        assert_eq!(error.ending().is_some(), has_ending, "{error}");
    }
    // Those that depend on more than their kind.
    for (state, is_over) in [
        (State::Created, false),
        (State::Connecting, false),
        (State::Negotiating, false),
        (State::Ready, false),
        (State::Closed, true),
        (State::Dead, true),
    ] {
        assert_eq!(Error::state(state, "created").is_fatal(), is_over);
    }
    let mut request = request_error();
    request.errno = Errno::ESHUTDOWN;
    assert!(Error::Request(request).is_fatal());
    let refused = every().into_iter().find(|e| matches!(e, Error::Refused(_)));
    assert!(refused.unwrap().into_fatal().is_fatal());
}

#[test]
fn a_request_that_timed_out_before_it_was_sent_says_so() {
    let error = Error::unsent();
    assert_eq!(error.to_string(), "timed out before it was sent");
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable());
    let error = Error::timeout(Phase::Request).to_string();
    assert_eq!(error, "timed out during transmission");
}
