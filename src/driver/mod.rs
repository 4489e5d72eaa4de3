//! The task of a connection; no other module spawns Tokio tasks.
//!
//! The task opens the transport, runs the handshake, moves bytes while commands flow, and cleans
//! up, whichever way the connection ends: it closes the socket, reaps the child process, and
//! answers every waiting request.

mod busy;
mod child;
mod handshake;
mod inner;
mod input;
mod io;
mod negotiator;
mod options;
mod output;
mod overdue;
mod parting;
#[cfg(all(test, shuttle))]
pub(crate) mod races;
pub(crate) mod runtime;
mod stall;
pub(crate) mod sync;
pub(crate) mod timer;
mod transmission;
mod wake;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use child::{beside, is_used, post_mortem};
use handshake::{Established, establish};
pub(crate) use inner::{Address, Inner};
use input::Input;
use io::{Driver, Ended};
use negotiator::Negotiator;
pub(crate) use options::OptionCall;
use options::Outcome;
use output::Output;
pub(crate) use parting::LEAVE;
pub(crate) use transmission::Transmission;

use crate::driver::timer::{after, until};
use crate::error::{ChildReport, Error, Phase, Result};
use crate::export::Export;
use crate::session::Bounds;
use crate::state::State;
use crate::transport::child::Child;
use crate::transport::{Rouse, Transport};

/// What opens the transport.
type Opening = BoxFuture<'static, Result<Transport>>;

/// Starts the task of a connection that has just begun to connect. `child` is the server process,
/// if the connection has started one.
pub(crate) fn spawn(
    inner: Arc<Inner>,
    child: Option<Child>,
    open: impl Future<Output = Result<Transport>> + Send + 'static,
) {
    let address = {
        let mut facts = inner.lock_facts();
        facts.child = child.as_ref().map(Child::handle);
        facts.address.clone()
    };
    let peer = address.as_ref().map(tracing::field::display);
    let export = inner.export_options().export_name;
    // Which of its addresses answers is not known yet.
    let address = tracing::field::Empty;
    let span = tracing::debug_span!("nbd", peer, export, address);
    let task = Task {
        inner,
        phase: Phase::Connect,
        leaving: None,
        rouse: None,
        span: span.clone(),
    };
    // What opening needs is freed once the stream is open: the task lasts as long as the connection.
    let open = Box::pin(open);
    sync::spawn(&Handle::current(), task.run(child, open).instrument(span));
}

/// The task of a connection. Dropping it, as its runtime may do at any time, ends the connection.
struct Task {
    inner: Arc<Inner>,
    /// What the task is doing, for errors.
    phase: Phase,
    /// The time by which the server must have left, once it was told that nothing follows.
    leaving: Option<Instant>,
    /// Has the stream wake its thread early, if it can.
    rouse: Option<Rouse>,
    /// The span in which it runs.
    span: tracing::Span,
}

impl Task {
    /// Runs the connection to its end. Dropping the future also ends the child, before the end of
    /// the connection is recorded.
    async fn run(mut self, mut child: Option<Child>, open: Opening) {
        tracing::debug!("connecting");
        let deadline = after(self.inner.config.handshake_timeout);
        let inner = self.inner.clone();
        let served = {
            let serving = pin!(self.serve(open, deadline));
            beside(child.as_mut(), &inner, serving).await
        };
        // The socket is closed.
        let (state, error) = served.unwrap_or_else(|| self.left_alone());
        let Some(mut child) = child else {
            self.inner.end(state, error);
            return;
        };
        let has_parted = match &error {
            Error::Closed(_) => true,
            // The server said that it is shutting down, and was sent DISC.
            Error::Disconnected(lost, _) => {
                state == State::Closed && lost.phase() == Phase::Shutdown
            }
            _ => false,
        };
        if is_used(&mut child, self.leaving.filter(|_| has_parted)).await {
            // It ends with the last of those who use it.
            sync::spawn(&Handle::current(), async move { child.deserted().await });
            self.inner.end(state, error);
            return;
        }
        if has_parted {
            return self.part(&mut child, state, error).await;
        }
        let is_connected = self.inner.transmission().is_some() || self.inner.options().is_some();
        let deadline = (!is_connected).then_some(deadline);
        let error = post_mortem(&mut child, error, deadline).await;
        let was_killed = error.child().is_some_and(ChildReport::was_killed);
        let state = if was_killed { State::Dead } else { state };
        self.inner.end(state, error);
    }

    /// Ends a connection that this side has closed: waits for the child, up to the shutdown
    /// deadline.
    async fn part(&self, child: &mut Child, state: State, error: Error) {
        let patience = self.inner.config.shutdown_timeout;
        let until = self.leaving.unwrap_or_else(|| after(patience));
        if self.inner.transmission().is_none() {
            // No request was ever sent, so the result does not depend on the child.
            self.inner.end(state, error.clone());
        }
        tokio::select! {
            status = timeout_at(until, child.terminate()) => {
                tracing::debug!(?status, "waited for the server process");
            }
            () = self.inner.given_up.cancelled() => {}
        }
        let report = child.report().await;
        if report.was_killed() {
            // It may have been killed before it had carried out all requests.
            let error = Error::eof(Phase::Shutdown).with_child(report);
            self.inner.end(State::Dead, error);
        } else {
            self.inner.end(state, error);
        }
    }

    /// Returns the end of a connection whose server has exited and left its socket to another
    /// process.
    fn left_alone(&self) -> (State, Error) {
        match self.inner.transmission() {
            Some(transmission) if transmission.is_parting() => (
                State::Closed,
                transmission.refusal(false).unwrap_or_else(Error::closed),
            ),
            _ => (State::Dead, Error::eof(self.phase)),
        }
    }

    /// Runs the connection, without the child process.
    async fn serve(&mut self, open: Opening, deadline: Instant) -> (State, Error) {
        match self.connect(open, deadline).await {
            Ok(Established::Ready(negotiator, export)) => self.transmit(negotiator, export).await,
            Ok(Established::Negotiating(negotiator)) => self.negotiate(negotiator).await,
            Err(error @ Error::Closed(_)) => (State::Closed, error),
            Err(error) => (State::Dead, error),
        }
    }

    /// Opens the transport and runs the automatic part of the handshake, within one deadline.
    async fn connect(&mut self, open: Opening, deadline: Instant) -> Result<Established> {
        let inner = self.inner.clone();
        let (phase, rouse, span) = (&mut self.phase, &mut self.rouse, &self.span);
        let established = async {
            let mut transport = open.await?;
            *rouse = transport.rouse.take();
            if let Some(ends) = transport.ends {
                inner.lock_facts().ends = Some(ends);
                let address = tracing::field::display(ends.peer);
                span.record("address", address);
            }
            establish(&inner, transport, phase, deadline).await
        };
        let result = tokio::select! {
            result = until(deadline, established) => result,
            () = inner.detached.cancelled() => Some(Err(Error::closed())),
        };
        let limit = inner.config.handshake_timeout;
        result.unwrap_or_else(|| Err(Error::timeout(self.phase, limit)))
    }

    /// Serves option mode, and the transmission phase if it is entered.
    async fn negotiate(&mut self, mut negotiator: Negotiator) -> (State, Error) {
        let inner = self.inner.clone();
        let (sender, mut calls) = mpsc::channel(1);
        inner.release_child_words();
        inner.set_options(sender);
        tracing::debug!("negotiating option by option");
        match options::serve(&inner, &mut negotiator, &mut calls).await {
            Ok(Outcome::Entered(export, answer)) => {
                let driver = self.enter(negotiator, export);
                let _ = answer.send(Ok(()));
                // Options that were waiting for this one cannot be sent any more.
                drop(calls);
                self.finish(driver).await
            }
            Ok(Outcome::Aborted(answer)) => {
                drop(negotiator);
                let error = Error::closed();
                inner.end(State::Closed, error.clone());
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(()));
                }
                (State::Closed, error)
            }
            Err(error @ Error::Closed(_)) => (State::Closed, error),
            Err(error) => (State::Dead, error),
        }
    }

    /// Runs the transmission phase until it ends.
    async fn transmit(&mut self, negotiator: Negotiator, export: Export) -> (State, Error) {
        let driver = self.enter(negotiator, export);
        self.finish(driver).await
    }

    /// Enters the transmission phase: the connection becomes ready.
    fn enter(&mut self, negotiator: Negotiator, export: Export) -> Driver {
        self.phase = Phase::Request;
        let inner = &self.inner;
        let config = &inner.config;
        let bounds = Bounds {
            requests: config.max_in_flight,
            bytes: config.max_in_flight_bytes,
        };
        tracing::debug!(
            export = export.name,
            size = export.size,
            flags = ?export.flags,
            replies = ?negotiator.style,
            contexts = ?export.contexts().collect::<Vec<_>>(),
            "ready"
        );
        let (style, is_encrypted) = (negotiator.style, negotiator.is_encrypted());
        let (Transport { read, write, .. }, input) = negotiator.into_transport();
        let transmission = Arc::new(Transmission::new(Arc::new(export), style, bounds, config));
        let (input, output) = (Input::new(read, input), Output::new(write, is_encrypted));
        let rouse = self.rouse.take();
        let driver = Driver::new(transmission.clone(), input, output, rouse, config);
        inner.release_child_words();
        inner.set_transmission(transmission);
        inner.set_state(State::Ready);
        driver
    }

    async fn finish(&mut self, mut driver: Driver) -> (State, Error) {
        let ended = driver.run().await;
        self.leaving = driver.leaving();
        // This closes the socket.
        drop(driver);
        match ended {
            Ended::Orderly(error) => (State::Closed, error),
            Ended::Failed(error) => (State::Dead, error),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The end was not recorded before only if the runtime goes away, or code of the caller's
        // panics in this task: a stream or a waker.
        let error = std::io::Error::other(if std::thread::panicking() {
            "the task of the connection panicked"
        } else {
            "the Tokio runtime was shut down"
        });
        self.inner.end(State::Dead, Error::io(self.phase, error));
        self.inner.finished.cancel();
    }
}
