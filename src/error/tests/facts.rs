//! What is known of an error beside its cause, and which errors have room for it.

use std::sync::Arc;

use super::samples::*;
use super::table::{child, groups, site};
use crate::error::*;
use crate::wire::OptionType;

/// A site that is not that of the other tests.
fn elsewhere() -> Arc<Site> {
    let (server, export) = (Some("elsewhere:1".into()), Some("disk9".into()));
    Arc::new(Site { server, export })
}

#[test]
fn the_first_site_stays() {
    let errors = || groups().into_iter().flat_map(|(_, errors)| errors);
    assert!(errors().any(|error| error.site().is_some()));
    for error in errors().map(|error| error.at(&site())) {
        let before = format!("{error:#?}");
        if error.site().is_some() {
            assert_eq!(format!("{:#?}", error.at(&elsewhere())), before);
        }
    }
}

#[test]
fn a_site_goes_where_the_text_does_not_tell_it() {
    for error in every() {
        let has_room = !matches!(
            &error,
            Error::Invalid(_)
                | Error::InvalidUse(_)
                | Error::OutcomeUnknown(_)
                | Error::Held { .. }
                | Error::ExportChanged { .. }
                | Error::Copy(_)
        );
        let text = error.to_string();
        let placed = error.at(&site());
        assert_eq!(placed.site().is_some(), has_room, "{text}");
        if has_room {
            assert_eq!(*placed.site().unwrap(), site());
        } else {
            assert_eq!(placed.to_string(), text);
        }
    }
}

#[test]
fn a_report_of_the_server_process_is_kept_where_there_is_room() {
    for error in every() {
        let takes_child = error.takes_child();
        let text = error.to_string();
        let told = error.with_child(child(Some(1), true, "no such plugin"));
        assert_eq!(told.child().is_some(), takes_child, "{text}");
        let report = "; the server process ended with exit status: 1, saying:\n  no such plugin";
        let expected = match takes_child {
            true => format!("{text}{report}"),
            false => text,
        };
        assert_eq!(told.to_string(), expected);
    }
}

#[test]
fn an_error_that_ends_nothing_takes_no_facts_of_an_end() {
    for error in every() {
        if error.details().is_some() {
            continue;
        }
        let (before, delivery) = (error.to_string(), error.delivery());
        let (request, is_unflushed) = (error.request(), error.has_unflushed_writes());
        let after = error
            .delivered(Delivery::MaybeSent)
            .with_unflushed(true)
            .of(READ)
            .after_option(Some(OptionType::GO))
            .unsent();
        assert_eq!(after.to_string(), before);
        assert_eq!(after.delivery(), delivery, "{before}");
        assert_eq!(after.request(), request, "{before}");
        assert_eq!(after.has_unflushed_writes(), is_unflushed, "{before}");
        assert!(after.ending().is_none(), "{before}");
    }
}

#[test]
fn only_an_answer_of_the_server_can_be_made_the_end() {
    for error in every() {
        let was_fatal = error.is_fatal();
        let is_answer = matches!(error, Error::Refused(_) | Error::MissingContext(_));
        let text = error.to_string();
        let ended = error.into_fatal();
        assert_eq!(ended.is_fatal(), was_fatal || is_answer, "{text}");
        assert_eq!(ended.to_string(), text);
    }
}

#[test]
fn the_last_option_is_named_if_the_handshake_failed() {
    for phase in PHASES {
        let limit = Error::timeout(phase, LIMIT);
        for error in [Error::eof(phase), limit] {
            let (text, structure) = (error.to_string(), format!("{error:#?}"));
            let same = error.clone().after_option(None);
            assert_eq!(format!("{same:#?}"), structure);
            let after = error.after_option(Some(OptionType::LIST));
            if phase == Phase::Handshake {
                let after = after.to_string();
                assert!(after.starts_with(&text), "{after}");
                assert!(after.ends_with("the option LIST"), "{after}");
            } else {
                assert_eq!(format!("{after:#?}"), structure);
            }
        }
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs", feature = "tls-psk"))]
#[test]
fn credentials_that_cannot_be_used_say_which_and_why() {
    let error = Error::credentials("TLS client key", "it is empty");
    assert_eq!(
        error.to_string(),
        "cannot use the TLS client key: it is empty"
    );
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!error.is_fatal());
}
