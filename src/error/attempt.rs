//! Errors of the operating system that say what was tried.

use std::error::Error as _;
use std::fmt;
use std::io;

/// The same error, of the same kind, that also says what was tried.
pub(crate) fn trying(what: String, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Attempt { what, source })
}

/// The number of the operating system in an error that may have been through [`trying`].
pub(crate) fn raw_os_error(error: &io::Error) -> Option<i32> {
    let attempt = || error.get_ref()?.downcast_ref::<Attempt>();
    error
        .raw_os_error()
        .or_else(|| attempt()?.source.raw_os_error())
}

/// What was tried, and why it failed. The cause is in the text, and so not a `source()` too.
#[derive(Debug)]
struct Attempt {
    what: String,
    source: io::Error,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for Attempt {}

/// An error as text, with those of its causes that its own text leaves out.
pub(crate) struct WithCauses<'a>(pub(crate) &'a io::Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let said = cause.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}
