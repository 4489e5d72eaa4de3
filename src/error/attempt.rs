//! Errors of the operating system that say what was tried.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The same error, of the same kind, that also says what was tried.
pub(crate) fn trying(what: String, source: io::Error) -> io::Error {
    attempt(what, source, None)
}

/// The same error, which also says what was tried and asks what may be the reason.
#[cfg(unix)]
pub(crate) fn trying_with_hint(what: String, source: io::Error, hint: &'static str) -> io::Error {
    attempt(what, source, Some(hint))
}

fn attempt(what: String, source: io::Error, hint: Option<&'static str>) -> io::Error {
    io::Error::new(source.kind(), Attempt { what, source, hint })
}

/// The same error with another text, which has its reason.
pub(crate) fn described(error: &io::Error, text: String) -> io::Error {
    let number = error.raw_os_error();
    io::Error::new(error.kind(), Described { text, number })
}

/// Whether an error has been through [`trying`], so that its text says what failed and where.
pub(super) fn is_attempt(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Attempt>())
}

/// The number of the operating system in an error that may have been through [`trying`] or
/// [`described`].
pub(crate) fn raw_os_error(error: &io::Error) -> Option<i32> {
    if let Some(number) = error.raw_os_error() {
        return Some(number);
    }
    let inner = error.get_ref()?;
    match inner.downcast_ref::<Attempt>() {
        Some(attempt) => attempt.source.raw_os_error(),
        None => inner.downcast_ref::<Described>()?.number,
    }
}

/// An error of the operating system with a text of ours.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Described {
    text: String,
    number: Option<i32>,
}

/// What was tried, and why it failed. The cause is in the text, and so not a `source()` too.
#[derive(Debug)]
struct Attempt {
    what: String,
    source: io::Error,
    hint: Option<&'static str>,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, Reason(&self.source))?;
        match self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl StdError for Attempt {}

/// The text of an error as a part of a sentence: "connection refused" rather than "Connection
/// refused (os error 111)". The number is [`Error::errno`](super::Error::errno).
pub(crate) struct Reason<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LOOKUP: &str = "failed to lookup address information: ";
        let text = self.0.to_string();
        let bare = match self.0.raw_os_error() {
            Some(number) => text.strip_suffix(&format!(" (os error {number})")),
            None => text.strip_prefix(LOOKUP),
        };
        let Some(bare) = bare else {
            return f.write_str(&text);
        };
        let mut rest = bare.chars();
        match rest.next() {
            // Not an abbreviation.
            Some(first) if rest.as_str().starts_with(char::is_lowercase) => {
                write!(f, "{}{}", first.to_lowercase(), rest.as_str())
            }
            _ => f.write_str(bare),
        }
    }
}

/// An error as text, with those of its causes that its own text leaves out.
pub(crate) struct WithCauses<'a>(pub(crate) &'a io::Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Reason(self.0).to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let said = cause.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                match cause.downcast_ref() {
                    Some(error) => text.push_str(&Reason(error).to_string()),
                    None => text.push_str(&said),
                }
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}
