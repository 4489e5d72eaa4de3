//! What a disk tells of itself.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;

use crate::error::Error;

/// Something that has happened to a [`Disk`](crate::Disk), see [`Disk::events`](crate::Disk::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is ready, or speaks again after it was [`Stalled`](Self::Stalled).
    Connected {
        /// Its number, counted from 1.
        generation: u64,
    },
    /// A connection is silent. It is not used now, but
    /// [listened to](crate::DiskBuilder::drain) before it is given up.
    Stalled {
        /// Its number, counted from 1.
        generation: u64,
    },
    /// A connection was lost.
    Lost {
        /// Its number, counted from 1.
        generation: u64,
        /// Why.
        cause: Error,
        /// The changes that were sent over it and not answered, in bytes from the start of the export:
        /// the server may yet carry them out.
        ghosts: Vec<Range<u64>>,
        /// How many bytes the server had acknowledged over it that no flush has made durable.
        unflushed: u64,
    },
    /// No further connection was made beside those in use: fewer than asked for are no error.
    Limited {
        /// Why.
        cause: Error,
    },
    /// There is no connection, and the disk connects again.
    Retrying {
        /// The number of the attempt since the last connection, counted from 1.
        attempt: u32,
        /// How long it waits before.
        delay: Duration,
        /// Why the last connection was lost, or the last attempt failed.
        cause: Error,
    },
    /// The export of a new connection is not what it was; the connection was given up, and the disk
    /// has ended.
    ExportChanged {
        /// What is different.
        cause: Error,
    },
    /// A change whose outcome was unknown was sent again and acknowledged.
    Repeated {
        /// The bytes, counted from the start of the export.
        range: Range<u64>,
    },
    /// No change of the lost connections up to this one can be carried out any more.
    Fenced {
        /// The number of the connection, counted from 1.
        generation: u64,
    },
    /// The disk works again.
    Recovered {
        /// For how long there was no connection.
        outage: Duration,
    },
    /// The disk has given up.
    GaveUp {
        /// Why.
        cause: Error,
    },
}

/// The events of a disk from the call of [`Disk::events`](crate::Disk::events) on.
///
/// The stream ends when the disk does. Who does not take events in time loses some: the newest 1024
/// wait, and nothing else waits for them.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

/// How many events wait for a listener.
const WAITING: usize = 1024;

/// Those who listen to events.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<mpsc::Sender<Event>>);

impl Listeners {
    pub(super) fn add(&mut self) -> Events {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.0.push(sender);
        Events { receiver }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let tell = |to: &mpsc::Sender<Event>| {
            let sent = to.try_send(event.clone());
            !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
        };
        self.0.retain(tell);
    }

    pub(super) fn end(&mut self) {
        self.0.clear();
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.receiver.poll_recv(cx)
    }
}

/// What a [`Disk`](crate::Disk) is doing, see [`Disk::status`](crate::Disk::status).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// How many connections are ready.
    pub links: usize,
    /// The number of the newest connection, counted from 1.
    pub generation: u64,
    /// How many requests are in flight over all connections, as
    /// [`Connection::in_flight`](crate::Connection::in_flight) counts them.
    pub in_flight: usize,
    /// How many changes have been asked for and not ended.
    pub changes: usize,
    /// The ranges that changes of lost connections may still change, in order, in bytes from the
    /// start of the export. Reads of them may change until they are fenced.
    pub held: Vec<Range<u64>>,
    /// How many bytes are acknowledged and not flushed.
    pub unflushed_bytes: u64,
    /// How many bytes of content the journal keeps.
    pub journal_bytes: u64,
    /// What may be lost and no flush has said so yet, in order, in bytes from the start of the
    /// export. It is known once the disk has connected again: until then, what is not flushed may still
    /// be there.
    pub maybe_lost: Vec<Range<u64>>,
    /// Why there are not as many connections as wished, if there is a reason.
    pub(super) limited_by: Option<&'static str>,
}

impl Status {
    /// Why there are not as many connections as were asked for, if it is not only that nobody
    /// needed them.
    #[must_use]
    pub const fn limited_by(&self) -> Option<&'static str> {
        self.limited_by
    }
}
