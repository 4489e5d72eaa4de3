//! What was waited for when a deadline passed, and for how long.

use std::fmt;
use std::time::Duration;

use super::ending::{Facts, Phase};

/// What a server process must do that sends no greeting.
pub(super) const WHERE_TO_SPEAK: &str = "A server that is run as a command must speak on its \
    standard input and output, as `nbdkit -s` does, or on the socket that it is given by socket \
    activation";

/// The text of [`Error::Timeout`](super::Error::Timeout).
pub(super) struct Deadline<'a> {
    pub(super) phase: Phase,
    pub(super) facts: &'a Facts,
    /// Whether the request was sent, if it is about one.
    pub(super) is_sent: bool,
}

impl fmt::Display for Deadline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = Period(self.facts.limit.unwrap_or_default());
        match self.phase {
            Phase::Connect => write!(f, "no connection was made within {limit}"),
            Phase::Greeting if self.facts.child.is_some() => write!(
                f,
                "the server process sent no greeting within {limit}: does it listen elsewhere? \
                 {WHERE_TO_SPEAK}"
            ),
            Phase::Greeting => write!(
                f,
                "the server accepted the connection but sent no greeting within {limit}: is it an \
                 NBD server, or busy with as many clients as it serves, or does it expect TLS at \
                 once?"
            ),
            Phase::Handshake => {
                write!(f, "the handshake was not done within {limit}")?;
                match self.facts.asked {
                    Some(option) => write!(f, ": the server has not answered the option {option}"),
                    None => Ok(()),
                }
            }
            Phase::Tls => write!(f, "the TLS handshake was not done within {limit}"),
            Phase::Request => match self.facts.overdue {
                Some(request) if self.facts.lacks_link => {
                    write!(
                        f,
                        "{request} timed out after {limit}: there is no connection"
                    )
                }
                Some(request) if !self.is_sent => {
                    write!(f, "{request} timed out after {limit}, before it was sent")
                }
                Some(request) => write!(f, "{request} was not answered within {limit}"),
                None => write!(f, "the request was not answered within {limit}"),
            },
            Phase::Stall => write!(
                f,
                "the server sent nothing for {limit} although requests are in flight"
            ),
            Phase::Reply => write!(
                f,
                "the server did not answer the oldest request in flight within {limit}"
            ),
            Phase::Shutdown => write!(f, "the connection was not shut down within {limit}"),
        }
    }
}

/// A period with its unit, such as "30 s" or "1.5 ms".
pub(super) struct Period(Duration);

impl Period {
    /// A period that was measured, to the tenth of a second, and below a second to the millisecond.
    pub(super) fn rounded(measured: Duration) -> Self {
        let millis = measured.as_millis().max(1);
        let step = if millis < 1000 { 1 } else { 100 };
        let millis = u64::try_from(millis / step * step).unwrap_or(u64::MAX);
        Self(Duration::from_millis(millis))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        let unit = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        write!(f, "{number} {unit}")
    }
}
