//! What a copy has under way.

use std::future::Future;
use std::pin::Pin;

use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::work::Done;
use crate::error::{CopyFault, Result};
use crate::spans::Spans;

pub(super) type Working = Pin<Box<dyn Future<Output = Result<Done, CopyFault>> + Send>>;
pub(super) type Flushing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What is under way.
#[derive(Default)]
pub(super) struct State {
    pub(super) working: FuturesUnordered<Working>,
    pub(super) flushing: Option<Flushing>,
    /// What a flush under way makes durable, and what was completed after it began.
    pub(super) covered: Spans<()>,
    pub(super) completed: Spans<()>,
    /// What is being worked on, and the parts of it that may be lost since.
    pub(super) at_work: Spans<()>,
    pub(super) lost: Spans<()>,
    /// What could not be read, and became zeroes.
    pub(super) salvaged: Spans<()>,
    pub(super) completed_bytes: u64,
    pub(super) last_flush: Option<Instant>,
    /// Whether a server has lost what was not flushed.
    pub(super) has_lost: bool,
    /// Whether a flush or a write has failed: the next flush may succeed without what was lost then.
    pub(super) has_failed: bool,
    /// How many units were completed.
    pub(super) units: u64,
    /// Where the last unit ended that was begun, in bytes. What lies between units needs no copying.
    pub(super) begun: u64,
    pub(super) is_over: bool,
}
