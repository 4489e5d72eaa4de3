//! The task of a connection: the only place that spawns.
//!
//! It opens the transport, runs the handshake, moves bytes while commands flow, and cleans up,
//! whichever way that ends: socket closed, child reaped, everybody who waits answered.

mod busy;
mod handshake;
mod link;
mod negotiator;
mod options;
mod output;
mod overdue;
#[cfg(all(test, shuttle))]
mod races;
mod shared;
mod stall;
mod transmission;
mod wake;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::Instrument;

use handshake::{Established, establish};
pub(crate) use link::Link;
use negotiator::Negotiator;
pub(crate) use options::OptionCall;
use options::Outcome;
use output::Output;
pub(crate) use shared::{Address, Shared};
use transmission::{Ended, Transmission};

use crate::error::{Error, Phase, Result};
use crate::export::Export;
use crate::session::Bounds;
use crate::state::State;
use crate::timer::{after, until};
use crate::transport::Transport;
use crate::transport::child::Child;

/// How long a child may take to exit by itself once its connection is closed.
const GRACE: Duration = Duration::from_millis(500);
/// How long a lost connection waits to learn how its child ended.
const POST_MORTEM: Duration = Duration::from_millis(50);

/// Starts the task of a connection that has just begun to connect.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    open: impl Future<Output = Result<Transport>> + Send + 'static,
) {
    let peer = shared.lock_facts().address.clone();
    let peer = peer.as_ref().map(tracing::field::display);
    let span = tracing::debug_span!("nbd", peer, export = shared.wishes().export_name);
    let task = Task {
        shared,
        child: None,
        phase: Phase::Connect,
    };
    tokio::spawn(task.run(open).instrument(span));
}

/// The task: what must be cleaned up even if it is dropped half way with its runtime.
struct Task {
    shared: Arc<Shared>,
    child: Option<Child>,
    /// What is going on.
    phase: Phase,
}

impl Task {
    async fn run(mut self, open: impl Future<Output = Result<Transport>>) {
        tracing::debug!("connecting");
        let (state, error) = match self.connect(open).await {
            Ok(Established::Ready(negotiator, export)) => self.transmit(negotiator, export).await,
            Ok(Established::Negotiating(negotiator)) => self.negotiate(negotiator).await,
            Err(error @ Error::Closed(_)) => (State::Closed, error),
            Err(error) => {
                let report = match self.child.take() {
                    Some(child) => Some(child.terminate(GRACE).await),
                    None => None,
                };
                (State::Dead, error.with_child(report))
            }
        };
        self.shared.end(state, error);
        if let Some(child) = self.child.take() {
            let report = child.terminate(GRACE).await;
            tracing::debug!(status = ?report.status(), "the server process has ended");
        }
    }

    /// Opens the transport and runs the automatic part of the handshake, within one deadline.
    async fn connect(
        &mut self,
        open: impl Future<Output = Result<Transport>>,
    ) -> Result<Established> {
        let shared = self.shared.clone();
        let deadline = after(shared.config.handshake_timeout);
        let (child, phase) = (&mut self.child, &mut self.phase);
        let established = async {
            let transport = open.await?;
            if let Some(started) = transport.child {
                shared.lock_facts().child = Some(started.process().clone());
                *child = Some(started);
            }
            establish(&shared, transport.stream, phase, deadline).await
        };
        let result = tokio::select! {
            result = until(deadline, established) => result,
            () = shared.abandoned.cancelled() => Some(Err(Error::closed())),
        };
        result.unwrap_or_else(|| Err(Error::timeout(self.phase)))
    }

    /// Option mode, and what follows it.
    async fn negotiate(&mut self, mut negotiator: Negotiator) -> (State, Error) {
        let shared = self.shared.clone();
        let (sender, mut calls) = mpsc::channel(1);
        shared.set_options(sender);
        tracing::debug!("negotiating option by option");
        match options::serve(&shared, &mut negotiator, &mut calls).await {
            Ok(Outcome::Entered(export, answer)) => {
                let transmission = self.enter(negotiator, export);
                let _ = answer.send(Ok(()));
                // Options that were waiting for this one cannot be sent any more.
                drop(calls);
                self.finish(transmission).await
            }
            Ok(Outcome::Aborted(answer)) => {
                drop(negotiator);
                let error = Error::closed();
                shared.end(State::Closed, error.clone());
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(()));
                }
                (State::Closed, error)
            }
            Err(error @ Error::Closed(_)) => (State::Closed, error),
            Err(error) => {
                // Whoever waits to send an option gets the cause.
                shared.end(State::Dead, error.clone());
                (State::Dead, error)
            }
        }
    }

    /// The transmission phase, until it ends.
    async fn transmit(&mut self, negotiator: Negotiator, export: Export) -> (State, Error) {
        let transmission = self.enter(negotiator, export);
        self.finish(transmission).await
    }

    /// Makes the connection ready.
    fn enter(&mut self, negotiator: Negotiator, export: Export) -> Transmission {
        self.phase = Phase::Request;
        let shared = &self.shared;
        let config = &shared.config;
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
        let style = negotiator.style;
        let (stream, input) = negotiator.into_stream();
        let (read, write) = stream.into_halves();
        let link = Arc::new(Link::new(Arc::new(export), style, bounds, config));
        let output = Output::new(write);
        let transmission = Transmission::new(link.clone(), read, output, input, config);
        shared.set_link(link);
        shared.set_state(State::Ready);
        transmission
    }

    async fn finish(&mut self, transmission: Transmission) -> (State, Error) {
        // With it the socket closes.
        match transmission.run().await {
            Ended::Orderly(error) => (State::Closed, error),
            Ended::Failed(error) => {
                let report = match &mut self.child {
                    Some(child) => timeout(POST_MORTEM, child.wait()).await.ok(),
                    None => None,
                };
                (State::Dead, error.with_child(report))
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Reached without an end only when the runtime goes away, or code of the caller's panics
        // in this task: a stream or a waker.
        let error = std::io::Error::other(if std::thread::panicking() {
            "the task of the connection panicked"
        } else {
            "the Tokio runtime was shut down"
        });
        self.shared.end(State::Dead, Error::io(self.phase, error));
        self.shared.finished.cancel();
    }
}
