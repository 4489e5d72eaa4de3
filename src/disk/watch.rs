//! What becomes of a link: it ends, falls silent, or speaks again.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::connect;
use super::hub::{Hub, Link};
use crate::connection::Connection;
use crate::driver::timer;
use crate::error::Error;

/// What has become of a link.
pub(super) enum Turn {
    Ended(Error),
    /// It owes replies, and nothing has come for a while, after so many bytes.
    Silent(u64),
    /// It was silent, and something has come, or nothing is owed any more.
    Heard,
}

/// How many times the bytes are counted within the limit. Silence is noticed late by at most one part
/// in this many.
const LOOKS: u32 = 8;
/// How often the bytes of a silent link are counted.
const TICK: Duration = Duration::from_millis(100);
/// The longest time that links which were silent have to answer after a new connection was made.
const CHANCE: Duration = Duration::from_secs(1);

/// Waits until a link ends, or is silent for as long as the limit says.
pub(super) async fn until_silent(link: Arc<Link>, limit: Option<Duration>) -> (Arc<Link>, Turn) {
    let turn = tokio::select! {
        cause = link.connection.closed() => Turn::Ended(cause),
        heard = silence(&link.connection, limit.unwrap_or_default()), if limit.is_some() => Turn::Silent(heard),
    };
    (link, turn)
}

/// Waits until a link that is silent after so many bytes ends, or speaks again.
pub(super) async fn until_heard(link: Arc<Link>, heard: u64) -> (Arc<Link>, Turn) {
    let turn = tokio::select! {
        cause = link.connection.closed() => Turn::Ended(cause),
        () = speaks(&link.connection, heard, TICK) => Turn::Heard,
    };
    (link, turn)
}

/// Gives links that were silent the chance to be used again instead of a new connection: if one of them
/// answers, the server was not restarted, and nothing that it has acknowledged is lost. The keeper
/// ends this wait when it hears a link.
pub(super) async fn until_used(hub: &Hub, silent: Vec<Arc<Link>>) {
    let limit = hub.settings.stall.unwrap_or_default().min(CHANCE);
    if hub.has_unflushed() && connect::answers(silent, limit).await {
        tokio::time::sleep(CHANCE).await;
    }
}

/// Waits until nothing has come for a while although it is owed. Returns how many bytes came before.
async fn silence(connection: &Connection, limit: Duration) -> u64 {
    loop {
        let heard = received(connection);
        if connection.in_flight() == 0 {
            tokio::time::sleep(limit / LOOKS).await;
            continue;
        }
        // If this process was stopped, what came meanwhile is not read yet: the task of the link
        // gets its turn before the silence is believed.
        let spoken = speaks(connection, heard, limit / LOOKS);
        if timer::until(timer::after(limit), spoken).await.is_none() {
            return heard;
        }
    }
}

/// Waits until a connection has received more than so many bytes, or owes nothing any more: its last
/// bytes are counted before the request they answer is over. Looks at each poll, and after each tick.
async fn speaks(connection: &Connection, heard: u64, tick: Duration) {
    let mut ticks = pin!(async {
        loop {
            tokio::time::sleep(tick).await;
        }
    });
    poll_fn(|cx| {
        let is_silent = received(connection) == heard && connection.in_flight() > 0;
        match is_silent {
            true => ticks.as_mut().poll(cx),
            false => Poll::Ready(()),
        }
    })
    .await;
}

fn received(connection: &Connection) -> u64 {
    connection.stats().bytes_received
}
