//! What a test can do to a running server: hold replies back, hang up, and wait for it.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Notify, watch};

/// What the connections of a server are told while they run.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    paused: bool,
    /// How many replies may leave although paused.
    tickets: usize,
    /// How often everyone was told to hang up.
    hang_ups: u64,
}

/// The way for orders to the connections, and for numbers back.
#[derive(Debug, Default)]
pub(super) struct ReplyGate {
    orders: watch::Sender<Orders>,
    held: AtomicUsize,
    received: AtomicUsize,
    connections: AtomicUsize,
    // Woken whenever one of the numbers above has changed.
    changed: Notify,
}

impl ReplyGate {
    pub(super) fn set_paused(&self, paused: bool) {
        self.orders.send_modify(|orders| {
            orders.paused = paused;
            orders.tickets = 0;
        });
    }

    pub(super) fn release(&self, replies: usize) {
        self.orders.send_modify(|orders| orders.tickets += replies);
    }

    pub(super) fn hang_up(&self) {
        self.orders.send_modify(|orders| orders.hang_ups += 1);
    }

    /// How many of `ready` replies may leave now.
    pub(super) fn admit(&self, ready: usize) -> usize {
        if !self.orders.borrow().paused {
            return ready;
        }
        let mut admitted = 0;
        self.orders.send_if_modified(|orders| {
            admitted = if orders.paused {
                ready.min(orders.tickets)
            } else {
                ready
            };
            orders.tickets -= admitted.min(orders.tickets);
            // Other connections need not learn of fewer tickets.
            false
        });
        admitted
    }

    pub(super) fn is_paused(&self) -> bool {
        self.orders.borrow().paused
    }

    /// What a connection listens to.
    pub(super) fn subscribe(&self) -> Subscription {
        let mut orders = self.orders.subscribe();
        let hang_ups = orders.borrow_and_update().hang_ups;
        let news = stream::unfold(orders, move |mut orders| async move {
            orders.changed().await.ok()?;
            let hang_up = orders.borrow_and_update().hang_ups != hang_ups;
            Some((hang_up, orders))
        });
        Subscription(news.boxed())
    }

    pub(super) fn add_held(&self, replies: usize) {
        self.held.fetch_add(replies, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(super) fn sub_held(&self, replies: usize) {
        self.held.fetch_sub(replies, Ordering::SeqCst);
    }

    pub(super) fn add_received(&self, requests: usize) {
        self.received.fetch_add(requests, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn enter(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Connected(self)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) async fn wait_held(&self, replies: usize) {
        self.wait(|| self.held.load(Ordering::SeqCst) >= replies)
            .await;
    }

    pub(super) async fn wait_received(&self, requests: usize) {
        self.wait(|| self.received.load(Ordering::SeqCst) >= requests)
            .await;
    }

    pub(super) async fn wait_connections(&self, connections: usize) {
        self.wait(|| self.connections() == connections).await;
    }

    async fn wait(&self, reached: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listening comes before looking: otherwise a change in between would be missed.
            changed.as_mut().enable();
            if reached() {
                return;
            }
            changed.await;
        }
    }
}

/// News from the gate, for one connection.
pub(super) struct Subscription(BoxStream<'static, bool>);

impl Subscription {
    /// Whether there are news, and if so whether they say to hang up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.0.poll_next_unpin(cx) {
            Poll::Ready(Some(hang_up)) => Poll::Ready(hang_up),
            // The gate outlives its connections: the stream does not end before them.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Waits until it is time to hang up.
    pub(super) async fn hang_up(&mut self) {
        while !poll_fn(|cx| self.poll(cx)).await {}
    }
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub(super) struct Connected<'a>(&'a ReplyGate);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_let_that_many_through_and_end_with_the_pause() {
        let gate = ReplyGate::default();
        assert_eq!(gate.admit(5), 5);
        gate.set_paused(true);
        assert_eq!(gate.admit(5), 0);
        gate.release(3);
        assert_eq!((gate.admit(2), gate.admit(2), gate.admit(2)), (2, 1, 0));
        gate.release(3);
        gate.set_paused(false);
        assert_eq!(gate.admit(9), 9);
        gate.set_paused(true);
        assert_eq!(gate.admit(9), 0);
    }

    #[tokio::test]
    async fn news_tell_a_pause_from_a_hang_up() {
        let gate = ReplyGate::default();
        let mut news = gate.subscribe().0;
        gate.set_paused(true);
        assert_eq!(news.next().await, Some(false));
        gate.hang_up();
        assert_eq!(news.next().await, Some(true));
        let mut later = gate.subscribe().0;
        gate.set_paused(false);
        assert_eq!(later.next().await, Some(false));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_number_is_reached() {
        let gate = ReplyGate::default();
        let both = tokio::join!(gate.wait_held(3), async {
            gate.add_held(2);
            tokio::task::yield_now().await;
            gate.add_held(1);
        });
        assert_eq!(both, ((), ()));
        let guard = gate.enter();
        gate.wait_connections(1).await;
        drop(guard);
        gate.wait_connections(0).await;
    }
}
