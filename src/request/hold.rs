//! What holds `DISC` back for the messages to come of a request that has begun.

use std::sync::Arc;

use crate::driver::Transmission;

/// Holds `DISC` back while a request of several messages has messages to come. Each message that is
/// not queued yet has a clone, and so has whatever makes further ones.
///
/// A message that has one is sent even if [`disconnect`](crate::Connection::disconnect) was called
/// after the request had begun.
#[derive(Clone, Debug)]
pub(super) struct Hold(Option<Arc<Held>>);

#[derive(Debug)]
struct Held(Arc<Transmission>);

impl Hold {
    /// Begins a request of several messages, or goes on with the request `of` that it is a part of.
    /// If no request is taken any more, nothing is held, and the messages will be refused.
    pub(super) fn begin(of: Option<&Self>, transmission: &Arc<Transmission>) -> Self {
        let begin = || {
            let begins = transmission.begin_several();
            Self(begins.then(|| Arc::new(Held(transmission.clone()))))
        };
        of.cloned().unwrap_or_else(begin)
    }

    /// Returns whether a message of the request that has begun is taken when new ones are not.
    pub(super) const fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end_several();
    }
}
