//! Making errors, and adding what is known of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::ending::Facts;
use super::lost::ShuttingDown;
use super::{
    Attempts, ChildReport, Delivery, Ending, Error, FailedRequest, InvalidRequest, LostConnection,
    Phase, Site, TlsError,
};
use crate::state::State;
use crate::wire::OptionType;

impl Error {
    pub(crate) fn io(phase: Phase, error: io::Error) -> Self {
        let source = Arc::new(error);
        Self::Disconnected(LostConnection { phase, source }, Ending::default())
    }

    /// The server ended the connection where more was due.
    pub(crate) fn eof(phase: Phase) -> Self {
        Self::io(phase, io::ErrorKind::UnexpectedEof.into())
    }

    /// The server has said that it is shutting down.
    pub(crate) fn shutting_down() -> Self {
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, ShuttingDown);
        Self::io(Phase::Shutdown, error)
    }

    pub(crate) fn tls(error: TlsError) -> Self {
        Self::Tls(error, Ending::default())
    }

    /// A deadline of this length has passed.
    pub(crate) fn timeout(phase: Phase, limit: Duration) -> Self {
        let mut ending = Ending::default();
        ending.facts_mut().limit = Some(limit);
        Self::Timeout(phase, ending)
    }

    /// A request was not answered within its deadline.
    pub(crate) fn overdue(limit: Duration, request: FailedRequest) -> Self {
        let mut error = Self::timeout(Phase::Request, limit);
        if let Some(facts) = error.facts_mut() {
            facts.overdue = Some(request);
        }
        error
    }

    /// The same error of a request to a disk that has no connection.
    pub(crate) fn without_link(mut self) -> Self {
        if let Some(facts) = self.facts_mut() {
            facts.lacks_link = true;
        }
        self
    }

    /// The same error of a request that timed out alone: nothing of it was sent, unless
    /// [`delivered`](Self::delivered) says otherwise, and the connection goes on.
    pub(crate) const fn unsent(mut self) -> Self {
        if let Some(ending) = self.details_mut() {
            ending.goes_on = true;
        }
        self
    }

    pub(crate) fn closed() -> Self {
        Self::Closed(Ending::default())
    }

    pub(crate) const fn state(state: State, needed: &'static str) -> Self {
        Self::Invalid(InvalidRequest::State { state, needed })
    }

    /// TLS credentials that cannot be used.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs", feature = "tls-psk"))]
    pub(crate) fn credentials(what: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        super::InvalidUse::Credentials { what, why }.into()
    }

    /// Whether the server still negotiates: it has refused, or nothing was sent.
    pub(crate) const fn leaves_negotiation(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::MissingContext(_) | Self::Invalid(_) | Self::InvalidUse(_)
        )
    }

    /// Whether there is room for what is known of the server process.
    pub(crate) fn takes_child(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::MissingContext(_)) || self.ending().is_some()
    }

    /// What is known of the end, or of a request that timed out alone.
    pub(super) const fn details(&self) -> Option<&Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, ending)
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    const fn details_mut(&mut self) -> Option<&mut Ending> {
        match self {
            Self::Protocol(_, ending)
            | Self::Disconnected(_, ending)
            | Self::Tls(_, ending)
            | Self::Timeout(_, ending)
            | Self::Closed(ending) => Some(ending),
            _ => None,
        }
    }

    fn facts_mut(&mut self) -> Option<&mut Facts> {
        self.details_mut().map(Ending::facts_mut)
    }

    /// The same error, which has ended the connection.
    pub(crate) const fn into_fatal(mut self) -> Self {
        match &mut self {
            Self::Refused(refusal) => refusal.fatal = true,
            Self::MissingContext(missing) => missing.fatal = true,
            _ => {}
        }
        self
    }

    /// The same error for a request of which this much is known.
    pub(crate) fn delivered(mut self, delivery: Delivery) -> Self {
        if let Some(ending) = self.details_mut() {
            ending.delivery = delivery;
        }
        self
    }

    /// The same error for a connection that ended like this.
    pub(crate) fn with_unflushed(mut self, unflushed: bool) -> Self {
        if let Some(ending) = self.details_mut() {
            ending.unflushed |= unflushed;
        }
        self
    }

    /// The same error with what is known of the server process.
    pub(crate) fn with_child(mut self, report: ChildReport) -> Self {
        let report = Some(Arc::new(report));
        match &mut self {
            Self::Refused(refusal) => refusal.child = report,
            Self::MissingContext(missing) => missing.child = report,
            _ => {
                if let Some(facts) = self.facts_mut() {
                    facts.child = report;
                }
            }
        }
        self
    }

    /// The same error of a disk that gave up after these attempts, if there were any.
    pub(crate) fn after_attempts(mut self, attempts: Attempts) -> Self {
        let attempts = (attempts.count > 0).then_some(attempts);
        match &mut self {
            Self::Refused(refusal) => refusal.attempts = attempts,
            _ => {
                if let Some(facts) = self.facts_mut() {
                    facts.attempts = attempts;
                }
            }
        }
        self
    }

    /// The attempts after which a disk gave up.
    pub(super) fn attempts(&self) -> Option<Attempts> {
        match self {
            Self::Refused(refusal) => refusal.attempts,
            _ => self.details()?.facts.as_ref()?.attempts,
        }
    }

    /// The same error with the option that was sent last, if it is about the handshake.
    pub(crate) fn after_option(mut self, option: Option<OptionType>) -> Self {
        let ending = match &mut self {
            Self::Disconnected(lost, ending) if lost.phase == Phase::Handshake => ending,
            Self::Timeout(Phase::Handshake, ending) => ending,
            _ => return self,
        };
        if option.is_some() {
            ending.facts_mut().asked = option;
        }
        self
    }

    /// The same error as the answer to a request. An error of the server's already names the
    /// request.
    pub(crate) fn of(mut self, request: FailedRequest) -> Self {
        if let Some(facts) = self.facts_mut() {
            facts.request = Some(request);
        }
        self
    }

    /// The same error for a sentence that has already named this request.
    pub(super) fn without(mut self, request: FailedRequest) -> Self {
        if let Some(facts) = self.facts_mut() {
            facts.request = facts.request.filter(|named| *named != request);
            facts.overdue = facts.overdue.filter(|named| *named != request);
        }
        self
    }

    /// Adds the server and the export to the error, unless it has them.
    pub(crate) fn at(mut self, site: &Arc<Site>) -> Self {
        if self.site().is_some() {
            return self;
        }
        let missing = match &mut self {
            Self::Refused(refusal) => &mut refusal.site,
            Self::MissingContext(missing) => &mut missing.site,
            Self::Request(request) => &mut request.site,
            Self::DurabilityUnknown(lost) => lost.site_mut(),
            _ => match self.facts_mut() {
                Some(facts) => &mut facts.site,
                None => return self,
            },
        };
        *missing = Some(site.clone());
        self
    }

    /// Where it came about.
    pub(super) fn site(&self) -> Option<&Arc<Site>> {
        match self {
            Self::Refused(refusal) => refusal.site.as_ref(),
            Self::MissingContext(missing) => missing.site.as_ref(),
            Self::Request(request) => request.site.as_ref(),
            Self::DurabilityUnknown(lost) => lost.site(),
            _ => self.details().and_then(Ending::site),
        }
    }
}
