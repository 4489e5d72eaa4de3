//! The end of a connection: how it came about, and what is known of it.

use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::Period;
use super::{FailedRequest, Site};
use crate::names::names;
use crate::platform;
use crate::wire::{OptionType, Text};

/// Whether a request may have reached the server.
///
/// `Display` writes `not-sent` or `maybe-sent`, and `FromStr` reads it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Delivery {
    /// No byte of it was sent: repeating it is safe.
    #[default]
    NotSent,
    /// At least a part of it was handed to the network: its outcome is unknown.
    MaybeSent,
}

names!(
    Delivery,
    "delivery",
    NotSent = "not-sent",
    MaybeSent = "maybe-sent",
);

/// What was going on when a connection ended or a deadline passed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Phase {
    /// Reaching the server: name lookup, connecting, starting the command.
    Connect,
    /// Waiting for the server's first bytes.
    Greeting,
    /// Negotiating options.
    Handshake,
    /// Upgrading to TLS.
    Tls,
    /// Sending a request, or waiting for its reply.
    Request,
    /// Waiting for any byte at all while requests are in flight.
    Stall,
    /// Waiting for the reply to the oldest request in flight.
    Reply,
    /// Waiting for the server to close after the last request.
    Shutdown,
}

impl Phase {
    /// Whether no export has been asked for yet.
    pub(super) const fn is_before_export(self) -> bool {
        matches!(self, Self::Connect | Self::Greeting | Self::Tls)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Greeting => "the greeting",
            Self::Handshake => "the handshake",
            Self::Tls => "the TLS handshake",
            Self::Request => "transmission",
            Self::Stall => "a silence of the server",
            Self::Reply => "the wait for an overdue reply",
            Self::Shutdown => "shutdown",
        })
    }
}

/// What is known about a connection that has ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub(super) delivery: Delivery,
    pub(super) unflushed: bool,
    /// The connection has not ended: a request timed out alone.
    pub(super) goes_on: bool,
    pub(super) facts: Option<Arc<Facts>>,
}

/// What the text of an error says beside the cause.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) site: Option<Arc<Site>>,
    pub(super) child: Option<Arc<ChildReport>>,
    /// How long the deadline was that has passed.
    pub(super) limit: Option<Duration>,
    /// The request whose deadline it was.
    pub(super) overdue: Option<FailedRequest>,
    /// Whether the disk that was to carry it out had no connection then.
    pub(super) lacks_link: bool,
    /// The request that this error answers.
    pub(super) request: Option<FailedRequest>,
    /// The option that was sent last.
    pub(super) asked: Option<OptionType>,
    /// The attempts after which a disk gave up.
    pub(super) attempts: Option<Attempts>,
}

/// The attempts to connect after which a [`Disk`](crate::Disk) gave up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Attempts {
    pub(crate) count: u32,
    /// How long the disk had no connection.
    pub(crate) elapsed: Duration,
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, elapsed } = *self;
        let attempts = if count == 1 { "attempt" } else { "attempts" };
        write!(
            f,
            "gave up after {count} {attempts} in {}",
            Period::rounded(elapsed)
        )
    }
}

impl Facts {
    pub(super) fn site(&self) -> Option<&Site> {
        self.site.as_deref()
    }
}

impl Ending {
    /// Whether the request this error answers may have reached the server.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Whether the server had acknowledged changes that are not known to be durable.
    #[must_use]
    pub const fn has_unflushed_writes(&self) -> bool {
        self.unflushed
    }

    /// What is known of the server process, if this connection ran one.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        self.facts.as_ref()?.child.as_deref()
    }

    pub(super) fn site(&self) -> Option<&Arc<Site>> {
        self.facts.as_ref()?.site.as_ref()
    }

    pub(super) fn facts_mut(&mut self) -> &mut Facts {
        Arc::make_mut(self.facts.get_or_insert_default())
    }
}

/// What is known of a server that was started as a child process when its connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChildReport {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) has_ended: bool,
    pub(crate) stderr: Text,
    /// The text went to our standard error, too.
    pub(crate) is_copied: bool,
    /// The program could not be run, which the error says.
    pub(crate) was_not_run: bool,
}

impl ChildReport {
    /// How the process ended; `None` if it had not ended by itself at the time, or its status could
    /// not be learnt.
    #[must_use]
    pub const fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// The last 4 KiB it wrote to its standard error.
    #[must_use]
    pub const fn stderr(&self) -> &Text {
        &self.stderr
    }

    /// Whether it died of a signal that it was not ended with.
    pub(crate) fn was_killed(&self) -> bool {
        self.status.is_some_and(platform::is_death_by_signal)
    }
}

/// How the process ended, and what it wrote to its standard error, unless that has been copied to
/// ours: it should not be there twice.
impl fmt::Display for ChildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "the server process ended with {status}")?,
            None if self.has_ended => f.write_str("the server process ended")?,
            None => f.write_str("the server process was still running")?,
        }
        if self.is_copied || self.stderr.is_empty() {
            return Ok(());
        }
        f.write_str(", saying:")?;
        // Lines stay lines; everything else that could move a cursor is escaped.
        for line in self.stderr.as_str().lines() {
            write!(f, "\n  {}", Text::from(line))?;
        }
        Ok(())
    }
}
