//! The state that the handles and the task of one connection share from beginning to end.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::options::OptionCall;
use super::transmission::Transmission;
use crate::config::{Config, ExportOptions};
use crate::error::{Error, Result, Site};
use crate::export::{Protocol, SharedExport};
use crate::state::State;
use crate::stats::{Stats, Tally};
use crate::strict::Strict;
use crate::transport::Ends;
use crate::transport::child::Handle;
use crate::transport::tls::{Tls, TlsInfo};
use crate::uri::{Endpoint, Uri};
use crate::wire::OptionType;

/// The state of one connection, which its handles and its task share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    /// What the next option asks for; the caller can change it while negotiating.
    export_options: Mutex<ExportOptions>,
    tls: Mutex<Tls>,
    state: AtomicU8,
    strict: AtomicU8,
    /// Notifies tasks that wait for a change of `state`.
    changed: watch::Sender<State>,
    facts: Mutex<Facts>,
    transmission: OnceLock<Arc<Transmission>>,
    options: OnceLock<mpsc::Sender<OptionCall>>,
    end: OnceLock<Error>,
    site: OnceLock<Arc<Site>>,
    /// What was sent and received in the handshake.
    pub(crate) sent: Tally,
    pub(crate) received: Tally,
    /// Cancelled when the last handle is dropped.
    pub(crate) detached: CancellationToken,
    /// Cancelled when no caller waits for the server process any more.
    pub(crate) given_up: CancellationToken,
    /// Cancelled when the task is done: the socket is closed and the child reaped.
    pub(crate) finished: CancellationToken,
}

/// What is known about the connection so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) export: Option<SharedExport>,
    pub(crate) protocol: Option<Protocol>,
    /// The metadata contexts of the last selection for this export, if it succeeded.
    pub(crate) contexts: Option<Vec<String>>,
    pub(crate) child: Option<Handle>,
    pub(crate) tls: Option<TlsInfo>,
    /// The address of the server, if it has one.
    pub(crate) address: Option<Address>,
    /// The addresses of both ends, if it is a TCP connection.
    pub(crate) ends: Option<Ends>,
    /// The program that is the server, if that was started here.
    pub(crate) program: Option<String>,
    /// The option that was sent last.
    pub(crate) asked: Option<OptionType>,
}

/// The address of a server, as the caller gave it.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A URI.
    Uri(Box<Uri>),
    /// An endpoint that was given without a URI.
    Endpoint(Endpoint),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // K51: user names stay out of logs.
            Self::Uri(uri) => fmt::Debug::fmt(uri, f),
            Self::Endpoint(endpoint) => fmt::Debug::fmt(endpoint, f),
        }
    }
}

impl Inner {
    pub(crate) fn new(config: Config, export_options: ExportOptions, tls: Tls) -> Self {
        let strict = AtomicU8::new(config.strict.bits());
        Self {
            config,
            export_options: Mutex::new(export_options),
            tls: Mutex::new(tls),
            state: AtomicU8::new(State::Created as u8),
            strict,
            changed: watch::Sender::new(State::Created),
            facts: Mutex::default(),
            transmission: OnceLock::new(),
            options: OnceLock::new(),
            end: OnceLock::new(),
            site: OnceLock::new(),
            sent: Tally::default(),
            received: Tally::default(),
            detached: CancellationToken::new(),
            given_up: CancellationToken::new(),
            finished: CancellationToken::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
        self.changed.send_replace(state);
    }

    pub(crate) fn strict(&self) -> Strict {
        Strict::from_bits_truncate(self.strict.load(Ordering::Relaxed))
    }

    pub(crate) fn set_strict(&self, strict: Strict) {
        self.strict.store(strict.bits(), Ordering::Relaxed);
    }

    /// Moves the state from created to connecting, which only one connect call can do.
    pub(crate) fn begin(&self) -> Result<()> {
        let (created, connecting) = (State::Created as u8, State::Connecting as u8);
        self.state
            .compare_exchange(created, connecting, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|state| Error::state(State::from_number(state), "created"))?;
        self.changed.send_replace(State::Connecting);
        Ok(())
    }

    /// Waits for a state that satisfies `is_there`, and returns it.
    pub(crate) async fn reach(&self, is_there: impl FnMut(&State) -> bool) -> State {
        let mut changes = self.changed.subscribe();
        match changes.wait_for(is_there).await {
            Ok(state) => *state,
            Err(_) => self.state(),
        }
    }

    /// Ends the connection in the background, since the last handle is gone.
    pub(crate) fn detach(&self) {
        self.detached.cancel();
        if let Some(transmission) = self.transmission.get() {
            transmission.detach();
        }
    }

    /// Records the end of the connection, once: the first cause stands.
    pub(crate) fn end(&self, state: State, error: Error) {
        let unflushed = self
            .transmission
            .get()
            .is_some_and(|transmission| transmission.has_unflushed());
        let asked = self.lock_facts().asked;
        let error = error.with_unflushed(unflushed).into_fatal();
        let error = error.after_option(asked).at(&self.site());
        if self.end.set(error.clone()).is_err() {
            return;
        }
        // Warn only once ready: a failed attempt is already reported to its caller.
        if state == State::Dead && self.transmission.get().is_some() {
            tracing::warn!(%state, cause = %error, "connection lost");
        } else {
            tracing::debug!(%state, cause = %error, "connection ended");
        }
        self.set_state(state);
        if let Some(transmission) = self.transmission.get() {
            transmission.end(&error);
        }
    }

    /// Returns the cause of the end, if the connection has ended.
    pub(crate) fn ended(&self) -> Option<&Error> {
        self.end.get()
    }

    /// Returns the transmission phase, once it has begun.
    pub(crate) fn transmission(&self) -> Option<&Arc<Transmission>> {
        self.transmission.get()
    }

    pub(crate) fn set_transmission(&self, transmission: Arc<Transmission>) {
        self.lock_facts().export = Some(transmission.export().clone());
        // If the last handle is dropped at the same time, one of both calls sees the other's write.
        if self.transmission.set(transmission).is_ok() && self.detached.is_cancelled() {
            self.detach();
        }
    }

    /// Returns the channel for options, in option mode.
    pub(crate) fn options(&self) -> Option<&mpsc::Sender<OptionCall>> {
        self.options.get()
    }

    pub(crate) fn set_options(&self, options: mpsc::Sender<OptionCall>) {
        let _ = self.options.set(options);
    }

    /// Returns what has gone over the connection, including the handshake.
    pub(crate) fn stats(&self) -> Stats {
        let (bytes_sent, messages_sent) = self.sent.get();
        let (bytes_received, messages_received) = self.received.get();
        let handshake = Stats {
            bytes_sent,
            bytes_received,
            messages_sent,
            messages_received,
            ..Stats::default()
        };
        handshake
            + self
                .transmission
                .get()
                .map(|transmission| transmission.stats())
                .unwrap_or_default()
    }

    /// Returns what errors say of the server and its export.
    pub(crate) fn site(&self) -> Arc<Site> {
        let site = || {
            let facts = self.lock_facts();
            let server = match &facts.address {
                Some(Address::Uri(uri)) => Some(uri.endpoint().address()),
                Some(Address::Endpoint(endpoint)) => Some(endpoint.address()),
                None => facts.program.clone(),
            };
            drop(facts);
            let export = Some(self.export_options().export_name);
            Arc::new(Site { server, export })
        };
        match self.transmission.get() {
            // Nothing of it changes any more.
            Some(_) => self.site.get_or_init(site).clone(),
            None => site(),
        }
    }

    /// Forgets what is known about the export.
    pub(crate) fn forget_export(&self) {
        let mut facts = self.lock_facts();
        facts.export = None;
        facts.contexts = None;
    }

    /// Copies the standard error of the server process to that of the program from now on: it is
    /// no longer held back for an error of connecting.
    pub(crate) fn release_child_words(&self) {
        if let Some(child) = &self.lock_facts().child {
            child.words.release();
        }
    }

    pub(crate) fn lock_facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_export_options(&self) -> MutexGuard<'_, ExportOptions> {
        self.export_options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_tls(&self) -> MutexGuard<'_, Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tls(&self) -> Tls {
        self.lock_tls().clone()
    }

    pub(crate) fn export_options(&self) -> ExportOptions {
        self.lock_export_options().clone()
    }
}
