use super::query::without_secrets;
use crate::error::{Error, InvalidUse};

/// Why a URI cannot be used.
///
/// The messages are meant for whoever wrote the URI: they name the part that is wrong and, where
/// there is one, the form that was probably meant. They never repeat the userinfo.
///
/// As an [`Error`] it is [`InvalidUse::Uri`] with `EPERM` for what an
/// [`UriPolicy`](crate::UriPolicy) forbids and `EINVAL` for everything else.
///
/// ```
/// use nbd_client::{Uri, UriError};
///
/// let error = "/run/nbd.sock".parse::<Uri>().unwrap_err();
/// assert!(error.to_string().contains("nbd+unix:///?socket=/path"));
///
/// let error = "nbd://localhost/?sockt=/run/nbd.sock".parse::<Uri>().unwrap_err();
/// assert_eq!(error, UriError::UnknownParameter { name: "sockt".into() });
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// The URI, or what would become one, is longer than [`Uri::MAX_LENGTH`](crate::Uri::MAX_LENGTH).
    #[error(
        "{length} bytes are more than the {} a URI may have",
        crate::Uri::MAX_LENGTH
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// There is no scheme in front.
    #[error("there is no scheme like nbd://, nbds:// or nbd+unix:// in front{hint}")]
    NoScheme {
        /// What was probably meant; empty or starts with a separator.
        hint: &'static str,
    },
    /// The scheme is none of NBD's.
    #[error(
        "scheme {scheme:?} is not one of nbd, nbds, and these with +unix, +vsock or +ssh{hint}"
    )]
    UnknownScheme {
        /// The scheme, shortened if it is very long.
        scheme: String,
        /// What was probably meant; empty or starts with a separator.
        hint: &'static str,
    },
    /// The scheme is not followed by `://`.
    #[error("it must begin with {scheme}://{hint}")]
    NoAuthority {
        /// The scheme.
        scheme: &'static str,
        /// What was probably meant; empty or starts with a separator.
        hint: &'static str,
    },
    /// A character that may not stand there in a URI.
    #[error("{character:?} at byte {at} must be percent-encoded")]
    Character {
        /// Where it is, in bytes.
        at: usize,
        /// The character.
        character: char,
    },
    /// A percent sign without two hexadecimal digits after it.
    #[error(
        "the percent sign at byte {at} is not followed by two hexadecimal digits (write %25 for a percent sign)"
    )]
    Escape {
        /// Where it is, in bytes.
        at: usize,
    },
    /// There is a fragment.
    #[error("an NBD URI has no fragment: write %23 for the # at byte {at}")]
    Fragment {
        /// Where it starts, in bytes.
        at: usize,
    },
    /// There is a password.
    #[error(
        "NBD has no passwords: the user name must not be followed by a colon (write %3A if it is part of the name)"
    )]
    Password,
    /// One part of the URI has a value that cannot be used.
    #[error("{part}: {why}")]
    Part {
        /// The part: `host`, `port`, `export name`, or the name of a parameter.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A parameter nobody knows.
    #[error(
        "unknown parameter {name:?} (experimental ones start with x-): if it is part of the export \
         name, write %3F for the ?"
    )]
    UnknownParameter {
        /// Its name, shortened if it is very long.
        name: String,
    },
    /// A parameter of other clients, which nothing here can follow.
    #[error("the parameter {name} is not supported{hint}")]
    UnsupportedParameter {
        /// Its name.
        name: &'static str,
        /// What to use instead; empty or starts with a separator.
        hint: &'static str,
    },
    /// A parameter was given twice, or two that exclude each other.
    #[error("{name} is given more than once")]
    DuplicateParameter {
        /// Its name.
        name: &'static str,
    },
    /// A parameter the scheme cannot do without.
    #[error("{scheme} needs the parameter {name} (as in {scheme}:///?socket=/path)")]
    MissingParameter {
        /// Its name.
        name: &'static str,
        /// The scheme.
        scheme: &'static str,
    },
    /// A parameter, host or port that means nothing for this scheme.
    #[error("{name} does not go with {scheme}://{hint}")]
    Misplaced {
        /// Its name.
        name: &'static str,
        /// The scheme.
        scheme: &'static str,
        /// What was probably meant; empty or starts with a separator.
        hint: &'static str,
    },
    /// The policy does not allow it. Nothing was opened.
    #[error("{what} is not allowed: {setting} would allow it")]
    Forbidden {
        /// What the URI asks for.
        what: &'static str,
        /// The setting of [`UriPolicy`](crate::UriPolicy) that would allow it.
        setting: &'static str,
    },
}

impl UriError {
    pub(crate) fn part(part: &'static str, why: impl Into<String>) -> Self {
        Self::Part {
            part,
            why: why.into(),
        }
    }
}

impl InvalidUse {
    /// A URI that cannot be used, as it was written.
    pub(crate) fn uri(text: &str, error: UriError) -> Self {
        const MOST: usize = 100;
        // The values of parameters that this crate does not know are left out.
        let without_values = |text: &str| match text.split_once('?') {
            Some((before, query)) => format!("{before}?{}", without_secrets(query)),
            None => text.to_owned(),
        };
        let shown = without_values(text);
        let scheme = text.find("://").map_or("", |end| &text[..end + 3]);
        let ats = |text: &str| text.matches('@').count();
        // So is all that looks like a user name or a password, wherever it stands.
        let shown = match shown.rsplit_once('@') {
            // A user name with a question mark was taken for a parameter.
            _ if ats(&shown) < ats(text) => format!("{scheme}***"),
            Some((_, rest)) => without_values(&format!("{scheme}***@{rest}")),
            None => shown,
        };
        let shown = match shown.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", &shown[..end]),
            None => shown,
        };
        let uri = Some(shown);
        Self::Uri { uri, error }
    }
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Self {
        InvalidUse::Uri { uri: None, error }.into()
    }
}
