//! Servers, files and the like on the command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// What is between the words of a command that were made one: no argument of a program contains it.
const BETWEEN: u8 = 0;

/// What is read or written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Uri(String),
    Command(Vec<OsString>),
    File(PathBuf),
    /// The standard input or output.
    Stdio,
    Nothing,
}

impl Place {
    /// Reads one word, or the words that [`join_commands`] has made one.
    pub(crate) fn parse(word: OsString) -> Result<Self, &'static str> {
        let bytes = word.as_bytes();
        if bytes.first() == Some(&b'[') && (bytes.len() == 1 || bytes[1] == BETWEEN) {
            let words: Vec<_> = bytes.split(|byte| *byte == BETWEEN).collect();
            return match &words[..] {
                [_, command @ .., end] if !command.is_empty() && *end == b"]" => {
                    let words = command.iter().map(|word| OsStr::from_bytes(word).into());
                    Ok(Self::Command(words.collect()))
                }
                _ => Err("expected a command between [ and ]"),
            };
        }
        match word.to_str() {
            Some("-") => Ok(Self::Stdio),
            Some("null:") => Ok(Self::Nothing),
            Some("") => Err("expected a URI, a file, - or a command in brackets"),
            Some(text) if is_uri(text) => Ok(Self::Uri(text.into())),
            _ => Ok(Self::File(word.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Command(words) => {
                f.write_str("[")?;
                for word in words {
                    write!(f, " {}", word.to_string_lossy())?;
                }
                f.write_str(" ]")
            }
            Self::File(path) => path.display().fmt(f),
            Self::Stdio => f.write_str("-"),
            Self::Nothing => f.write_str("null:"),
        }
    }
}

/// Whether it begins with a scheme: one of NBD, such as `nbd:` or `nbd+unix:`, or another one and `//`,
/// which is no server that can be copied, and no file either.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let family = scheme.split('+').next().unwrap_or(scheme);
    let is_word = scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '+');
    family.eq_ignore_ascii_case("nbd")
        || family.eq_ignore_ascii_case("nbds")
        || is_word && rest.starts_with("//")
}

/// Makes one word of each command in brackets, so that its options are not taken for ours.
pub(crate) fn join_commands(words: &mut Vec<OsString>) {
    let mut at = 0;
    while let Some(open) = words[at..].iter().position(|word| word == "[") {
        let open = at + open;
        // Without an end, all that follows is a command that `Place::parse` refuses.
        let length = words[open..].iter().position(|word| word == "]");
        let end = length.map_or(words.len(), |length| open + length + 1);
        let command: Vec<_> = words.drain(open..end).collect();
        let parts: Vec<_> = command.iter().map(|word| word.as_bytes()).collect();
        words.insert(open, OsString::from_vec(parts.join(&BETWEEN)));
        at = open + 1;
    }
}

/// Makes words again of what [`join_commands`] has made one, for a text that quotes it.
pub(crate) fn separate_words(text: &str) -> String {
    text.replace(char::from(BETWEEN), " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Vec<Result<Place, &'static str>> {
        let mut words = words.split_whitespace().map(OsString::from).collect();
        join_commands(&mut words);
        words.into_iter().map(Place::parse).collect()
    }

    #[test]
    fn each_kind_of_place_is_told_from_the_others() {
        let command = Place::Command(vec!["nbdkit".into(), "-r".into(), "memory".into()]);
        let file = |path: &str| Place::File(path.into());
        for (words, places) in [
            ("- null:", [Place::Stdio, Place::Nothing]),
            (
                "[ nbdkit -r memory ] [ nbdkit -r memory ]",
                [command.clone(), command.clone()],
            ),
            ("[ nbdkit -r memory ] -", [command.clone(), Place::Stdio]),
            ("a [ nbdkit -r memory ]", [file("a"), command]),
            (
                "nbd://a NBDS+unix://b",
                [
                    Place::Uri("nbd://a".into()),
                    Place::Uri("NBDS+unix://b".into()),
                ],
            ),
            ("nbd null", [file("nbd"), file("null")]),
            ("[a] /dev/sda", [file("[a]"), file("/dev/sda")]),
            ("a/b://c nbdkit:b", [file("a/b://c"), file("nbdkit:b")]),
            ("http://a b", [Place::Uri("http://a".into()), file("b")]),
        ] {
            let parsed: Vec<_> = parsed(words).into_iter().map(Result::unwrap).collect();
            assert_eq!(parsed, places, "{words}");
            let shown: Vec<_> = parsed.iter().map(Place::to_string).collect();
            assert_eq!(shown.join(" "), words);
        }
        for words in ["[ ] a", "[ nbdkit", "["] {
            let error = parsed(words).remove(0).unwrap_err();
            assert_eq!(error, "expected a command between [ and ]", "{words}");
        }
    }
}
