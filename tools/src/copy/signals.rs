//! Ctrl-C and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::out::complain;

/// What is added to the number of a signal for the exit code of a program that it has ended.
const BY_SIGNAL: i32 = 128;

/// The first signal that asks this program to end.
#[derive(Clone)]
pub(crate) struct Signals(watch::Receiver<Option<i32>>);

impl Signals {
    /// Catches the first signal; the second one ends the program.
    pub(crate) fn catch() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        let (mut interrupts, mut terminations) = (signal(interrupt)?, signal(terminate)?);
        tokio::spawn(async move {
            let first = next(&mut interrupts, &mut terminations).await;
            sender.send_replace(Some(BY_SIGNAL + first));
            complain!("nbd copy: ends in order; a second signal ends it at once");
            let second = next(&mut interrupts, &mut terminations).await;
            std::process::exit(BY_SIGNAL + second);
        });
        Ok(Self(receiver))
    }

    /// Waits for the first signal.
    pub(crate) async fn caught(mut self) {
        // The sender lives as long as the runtime.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Returns the exit code that the signal asks for, if there was one.
    pub(crate) fn code(&self) -> Option<u8> {
        self.0.borrow().and_then(|code| u8::try_from(code).ok())
    }
}

/// Waits for a signal and returns its number.
async fn next(interrupts: &mut Signal, terminations: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupts.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminations.recv() => SignalKind::terminate().as_raw_value(),
    }
}
