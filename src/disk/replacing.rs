//! When a link that was lost beside others is replaced.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::policy::Retry;

/// How long it takes at least until a link that could not be replaced is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// How many links there were at once since there was none: one that is lost is replaced.
#[derive(Debug)]
pub(super) struct Replacing {
    most: usize,
    /// How often a link could not be replaced.
    refused: u32,
    /// When that is tried again.
    again: Option<Pin<Box<Sleep>>>,
}

impl Replacing {
    pub(super) const fn new() -> Self {
        Self {
            most: 1,
            refused: 0,
            again: None,
        }
    }

    /// No link is left: all others will be opened on demand.
    pub(super) fn start_again(&mut self) {
        *self = Self::new();
    }

    /// Records that a link was put to use, and that there are so many now.
    pub(super) fn used(&mut self, links: usize) {
        self.most = self.most.max(links);
        self.refused = 0;
    }

    /// Returns whether to replace a link now, if there are so many.
    pub(super) const fn is_due(&self, links: usize) -> bool {
        0 < links && links < self.most && self.again.is_none()
    }

    /// Records that a further connection could not be made beside so many links. Returns whether one is
    /// to be replaced, and will be tried again.
    pub(super) fn refused(&mut self, links: usize, retry: &Retry) -> bool {
        let is_missing = links < self.most;
        if is_missing {
            self.refused = self.refused.saturating_add(1);
            let delay = retry.bound(self.refused).max(AGAIN);
            self.again = Some(Box::pin(sleep(delay)));
        }
        is_missing
    }

    /// Waits until it is time to try again, if one could not be replaced.
    pub(super) async fn again(&mut self) {
        poll_fn(|cx| match &mut self.again {
            Some(again) => again.as_mut().poll(cx),
            None => Poll::Pending,
        })
        .await;
        self.again = None;
    }
}
