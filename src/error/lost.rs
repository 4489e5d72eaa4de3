//! Connections that could not be made or were lost.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::Phase;
use super::attempt::{WithCauses, is_attempt};

/// The cause if the server has answered `ESHUTDOWN`.
#[derive(Debug, thiserror::Error)]
#[error("the server is shutting down")]
pub(super) struct ShuttingDown;

/// A connection that could not be made or was lost.
#[derive(Clone, Debug)]
pub struct LostConnection {
    pub(super) phase: Phase,
    pub(super) source: Arc<io::Error>,
}

impl LostConnection {
    /// What was going on.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it is over because the server is shutting down.
    pub(super) fn is_shutdown(&self) -> bool {
        let cause = self.source.get_ref();
        cause.is_some_and(|cause| cause.is::<ShuttingDown>())
    }

    /// Whether the text says what was tried and where, so that it needs no address in front.
    pub(super) fn is_attempt(&self) -> bool {
        is_attempt(&self.source)
    }

    /// Whether the other side has closed the connection. Chance and the transport decide by which
    /// of these errors the system tells of it.
    pub(super) fn is_close(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
        )
    }

    /// The error of the operating system; `UnexpectedEof` if the server closed the connection, and
    /// `ConnectionAborted` if it said that it is shutting down.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for LostConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_shutdown() || self.is_attempt() {
            return WithCauses(&self.source).fmt(f);
        }
        let is_close = self.is_close();
        f.write_str(if is_close {
            "the server closed the connection"
        } else {
            "the connection failed"
        })?;
        f.write_str(match self.phase {
            Phase::Connect => " while it was being made",
            Phase::Greeting if is_close => " before its greeting",
            Phase::Greeting => " before the server's greeting",
            Phase::Handshake => " during the handshake",
            Phase::Tls => " during the TLS handshake",
            Phase::Request | Phase::Stall | Phase::Reply => "",
            Phase::Shutdown => " during shutdown",
        })?;
        // What the system calls this event tells nothing more.
        if is_close && self.source.get_ref().is_none() {
            return Ok(());
        }
        write!(f, ": {}", WithCauses(&self.source))
    }
}
