//! The types that a URI can be made from, for calls that take any of them.

use std::ffi::{OsStr, OsString};

use super::Uri;
use crate::error::InvalidUse;

impl From<&Self> for Uri {
    fn from(uri: &Self) -> Self {
        uri.clone()
    }
}

impl TryFrom<&str> for Uri {
    type Error = InvalidUse;

    fn try_from(text: &str) -> Result<Self, InvalidUse> {
        text.parse().map_err(|error| InvalidUse::uri(text, error))
    }
}

/// Text that is not UTF-8 is refused, as all text is in which such bytes are not percent-encoded.
impl TryFrom<&OsStr> for Uri {
    type Error = InvalidUse;

    fn try_from(text: &OsStr) -> Result<Self, InvalidUse> {
        // The character that replaces such bytes is not allowed in a URI, so the error names its
        // position.
        Self::try_from(&*text.to_string_lossy())
    }
}

/// Implements the conversion from types that hold text, by that from a reference to the text.
macro_rules! from_text {
    ($($held:ty as $text:ty),*) => {$(
        impl TryFrom<$held> for Uri {
            type Error = InvalidUse;

            fn try_from(text: $held) -> Result<Self, InvalidUse> {
                Self::try_from(AsRef::<$text>::as_ref(&text))
            }
        }
    )*};
}

from_text!(
    String as str,
    &String as str,
    OsString as OsStr,
    &OsString as OsStr
);
