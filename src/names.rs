//! Names of settings and kinds, from and to text.

use std::fmt;

/// A text that is not the name of any value of a type, such as [`TlsMode`](crate::TlsMode).
///
/// ```
/// use nbd_client::TlsMode;
///
/// let error = "always".parse::<TlsMode>().unwrap_err();
/// assert_eq!(error.to_string(), r#"unknown TLS mode "always": it must be disable, prefer or require"#);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownName {
    what: &'static str,
    given: String,
    names: &'static [&'static str],
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, given: &str, names: &'static [&'static str]) -> Self {
        /// The longest text that is repeated, in characters.
        const MOST: usize = 64;
        let given = match given.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", &given[..end]),
            None => given.to_owned(),
        };
        Self { what, given, names }
    }

    /// Returns the text that is not a name, shortened if it is very long.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// Returns the names that there are.
    #[must_use]
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, given, names } = self;
        write!(f, "unknown {what} {given:?}: it must be ")?;
        match names {
            [others @ .., before, last] => {
                for name in others.iter() {
                    write!(f, "{name}, ")?;
                }
                write!(f, "{before} or {last}")
            }
            _ => f.write_str(&names.concat()),
        }
    }
}

impl std::error::Error for UnknownName {}

/// Gives each value of an enum a name: `Display` writes it, and `FromStr` reads it, in any case.
macro_rules! names {
    ($type:ident, $what:literal, $($value:ident = $name:literal),+ $(,)?) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$value => $name,)+
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                const VALUES: &[$type] = &[$($type::$value),+];
                const NAMES: &[&str] = &[$($name),+];
                let mut named = VALUES.iter().zip(NAMES);
                named
                    .find(|(_, name)| name.eq_ignore_ascii_case(text))
                    .map(|(value, _)| *value)
                    .ok_or_else(|| $crate::names::UnknownName::new($what, text, NAMES))
            }
        }
    };
}

pub(crate) use names;

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use super::*;
    use crate::error::{Delivery, ErrorKind};
    use crate::transport::tcp::AddressFamily;
    use crate::transport::tls::TlsMode;

    #[track_caller]
    fn round_trip<T>(named: &[(T, &str)])
    where
        T: FromStr<Err = UnknownName> + Copy + Debug + Display + PartialEq,
    {
        for (value, name) in named {
            assert_eq!(value.to_string(), *name);
            assert_eq!(name.parse(), Ok(*value));
            assert_eq!(name.to_ascii_uppercase().parse(), Ok(*value));
            assert_eq!(format!("{value:>14}").len(), 14);
        }
        for wrong in ["", " ", "any ", "nosuch"] {
            let error = wrong.parse::<T>().unwrap_err();
            let names: Vec<_> = named.iter().map(|(_, name)| *name).collect();
            assert_eq!((error.given(), error.names()), (wrong, &*names));
        }
    }

    #[test]
    fn every_name_is_read_as_it_is_written() {
        round_trip(&[
            (TlsMode::Disable, "disable"),
            (TlsMode::Prefer, "prefer"),
            (TlsMode::Require, "require"),
        ]);
        round_trip(&[
            (AddressFamily::Any, "any"),
            (AddressFamily::V4, "ipv4"),
            (AddressFamily::V6, "ipv6"),
        ]);
        round_trip(&[
            (Delivery::NotSent, "not-sent"),
            (Delivery::MaybeSent, "maybe-sent"),
        ]);
        round_trip(&[
            (ErrorKind::Invalid, "invalid"),
            (ErrorKind::Refused, "refused"),
            (ErrorKind::Request, "request"),
            (ErrorKind::Protocol, "protocol"),
            (ErrorKind::Disconnected, "disconnected"),
            (ErrorKind::Tls, "tls"),
            (ErrorKind::Timeout, "timeout"),
            (ErrorKind::Closed, "closed"),
            (ErrorKind::Copy, "copy"),
        ]);
    }

    #[test]
    fn long_texts_are_not_repeated() {
        let error = "a".repeat(1000).parse::<Delivery>().unwrap_err();
        assert!(error.to_string().len() < 150, "{error}");
        let text = "unknown delivery \"x\": it must be not-sent or maybe-sent";
        assert_eq!("x".parse::<Delivery>().unwrap_err().to_string(), text);
    }
}
