//! What a disk tells of itself.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;

use crate::driver::sync::{Mutex, MutexGuard};
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
    /// A connection was lost. It is told when no change is on its way over it any more, so perhaps after
    /// [`Retrying`](Self::Retrying).
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
/// The stream ends when the disk does, after the events that still wait. The disk does not wait for a
/// listener: of the events that were not taken yet, the newest 1024 are kept, and older ones are
/// dropped. The stream does not say where events are missing; [`Disk::status`](crate::Disk::status)
/// says what the disk is doing now.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Mutex<Queue>>,
}

/// How many events wait for a listener.
const WAITING: usize = 1024;

/// The events that wait for one listener.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    is_over: bool,
    listener: Option<Waker>,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who listen to events.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    queues: Vec<Weak<Mutex<Queue>>>,
    /// Those who wait, to be woken when the lock of the hub is released.
    woken: Vec<Waker>,
}

impl Listeners {
    pub(super) fn add(&mut self) -> Events {
        let queue = Arc::default();
        self.queues.push(Arc::downgrade(&queue));
        Events { queue }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let woken = &mut self.woken;
        self.queues.retain(|listener| {
            let Some(queue) = listener.upgrade() else {
                return false;
            };
            let mut queue = lock(&queue);
            if queue.waiting.len() == WAITING {
                queue.waiting.pop_front();
            }
            queue.waiting.push_back(event.clone());
            woken.extend(queue.listener.take());
            true
        });
    }

    pub(super) fn end(&mut self) {
        for queue in self.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            let mut queue = lock(&queue);
            queue.is_over = true;
            self.woken.extend(queue.listener.take());
        }
    }

    /// Returns those who wait and have something to take.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = lock(&self.queue);
        match queue.waiting.pop_front() {
            None if !queue.is_over => {
                queue.listener = Some(cx.waker().clone());
                Poll::Pending
            }
            next => Poll::Ready(next),
        }
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
