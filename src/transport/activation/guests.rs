//! Who else uses a server that listens.

use std::convert::Infallible;

use tokio::sync::mpsc::{Receiver, Sender, WeakSender, channel};

/// A further connection to the server, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Guest {
    _sender: Sender<Infallible>,
}

/// Lets guests in.
#[derive(Clone, Debug)]
pub(super) struct Invitation(WeakSender<Infallible>);

/// All guests of a server.
#[derive(Debug)]
pub(crate) struct Guests {
    own: Option<Sender<Infallible>>,
    receiver: Receiver<Infallible>,
}

impl Guests {
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "elsewhere a server has no further connections")
    )]
    pub(super) fn new() -> (Self, Invitation) {
        let (sender, receiver) = channel(1);
        let invitation = Invitation(sender.downgrade());
        let own = Some(sender);
        (Self { own, receiver }, invitation)
    }

    /// Waits until there are none. The last one to leave shuts the door.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again.
    pub(crate) async fn left(&mut self) {
        self.own = None;
        self.receiver.recv().await;
    }
}

impl Invitation {
    /// Returns `None` if the server is about to end.
    pub(super) fn accept(&self) -> Option<Guest> {
        let _sender = self.0.upgrade()?;
        Some(Guest { _sender })
    }
}
