//! What holds for every error.

mod answers;
mod attempts;
mod facts;
mod parts;
mod samples;
mod table;
mod texts;
mod violations;

use std::io;

use samples::*;

use super::*;
use crate::uri::UriError;
use crate::wire::codec::CodecError;

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
    for prints in [false, true] {
        for error in [
            Error::io(Phase::Request, foreign(prints)),
            Error::tls(TlsError::new(TlsFailure::Io, foreign(prints))),
        ] {
            let text = error.to_string();
            // Where the stranger prints it, it is in the system's own words.
            let broken = match prints {
                true => broken_pipe().to_string(),
                false => "broken pipe".to_owned(),
            };
            let all = format!("the tunnel broke: {broken}");
            assert!(text.ends_with(&all), "{text}");
            assert_eq!(text.matches("roken pipe").count(), 1, "{text}");
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
            | Error::InvalidUse(_)
            | Error::Refused(_)
            | Error::MissingContext(_)
            | Error::Request(_)
            | Error::DurabilityUnknown(_)
            | Error::OutcomeUnknown(_)
            | Error::Held { .. } => (false, false),
            Error::Copy(copy) => (copy.nbd().is_some(), false),
            Error::Timeout(_, ending) if ending.goes_on => (false, false),
            Error::ExportChanged { .. } => (true, false),
            Error::Protocol(..)
            | Error::Disconnected(..)
            | Error::Tls(..)
            | Error::Timeout(..)
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
    let error = Error::overdue(LIMIT, READ).unsent();
    assert_eq!(
        error.to_string(),
        "READ of 4096 bytes at offset 8192 timed out after 30 s, before it was sent"
    );
    assert!(error.ending().is_none());
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable());
    let error = Error::overdue(LIMIT, READ);
    let text = "READ of 4096 bytes at offset 8192 was not answered within 30 s";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.request(), None, "it is the cause of an ending");
    let own = error.clone().of(READ);
    assert_eq!(
        (own.to_string().as_str(), own.request()),
        (text, Some(READ))
    );
    assert_eq!(
        error.of(FLUSH).to_string(),
        format!("FLUSH failed: {text}"),
        "another request that was in flight"
    );
}
