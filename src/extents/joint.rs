//! Streams of the extents of several contexts side by side.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::merge::{Merge, Piece};
use super::survey::{Position, Survey};
use crate::connection::Connection;
use crate::error::{InvalidRequest, Result};
use crate::extent::{BlockStatus, Extent};
use crate::request::Client;

/// A range over which the status of no metadata context changes.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct JointExtent {
    /// The start, in bytes from the start of the export.
    pub offset: u64,
    /// The length in bytes; never zero.
    pub length: u64,
    names: Arc<[Arc<str>]>,
    flags: Vec<u64>,
}

impl JointExtent {
    /// Returns the flags in a context, or `None` if the context was not negotiated.
    #[must_use]
    pub fn flags(&self, context: &str) -> Option<u64> {
        self.iter()
            .find_map(|(name, flags)| (name == context).then_some(flags))
    }

    /// Returns the range with its flags in a context, or `None` if the context was not negotiated.
    #[must_use]
    pub fn get(&self, context: &str) -> Option<Extent> {
        let flags = self.flags(context)?;
        Some(Extent::new(self.offset, self.length, flags))
    }

    /// Returns every context with its flags, in the order in which the server selected them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let names = self.names.iter().map(|name| &**name);
        names.zip(self.flags.iter().copied())
    }

    /// Returns the end, in bytes from the start of the export.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

impl fmt::Debug for JointExtent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: BTreeMap<_, _> = self.iter().collect();
        f.debug_struct("JointExtent")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .field("flags", &flags)
            .finish()
    }
}

/// The extents of a range in all metadata contexts, see
/// [`Connection::joint_extents`](crate::Connection::joint_extents).
///
/// # Cancel safety
///
/// Between items, the stream can be dropped, or left unpolled for any time. An answer that comes
/// after it was dropped is thrown away.
#[derive(Debug)]
#[must_use = "nothing is asked for until the stream is polled"]
pub struct JointExtents<C: Client = Connection> {
    walk: Walk<C>,
    merge: Merge<JointExtent>,
}

impl<C: Client> JointExtents<C> {
    pub(super) fn new(survey: Survey<C>) -> Self {
        Self {
            walk: Walk {
                survey,
                names: Arc::default(),
                known: Vec::new(),
            },
            merge: Merge::new(),
        }
    }

    /// Joins neighbours with the same flags in all contexts. An extent is then returned only when
    /// the next one is known.
    pub const fn merged(mut self) -> Self {
        self.merge.merges = true;
        self
    }

    /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.walk.survey.set_timeout(timeout);
        self
    }
}

/// The extents as the server sends them.
#[derive(Debug)]
struct Walk<C: Client> {
    survey: Survey<C>,
    names: Arc<[Arc<str>]>,
    /// The known extents of each context, from the current position on.
    known: Vec<VecDeque<Extent>>,
}

impl<C: Client> Walk<C> {
    /// Returns the position of the walk. The first call also looks up the contexts.
    fn position(&mut self) -> Result<Position> {
        let position = self.survey.position()?;
        if self.known.is_empty() {
            let export = self.survey.client().exported()?;
            self.names = export.contexts().map(Arc::from).collect();
            if self.names.is_empty() {
                return Err(InvalidRequest::NoContexts.into());
            }
            self.known.resize_with(self.names.len(), VecDeque::new);
        }
        Ok(position)
    }

    /// Returns the next piece that is known in all contexts, if there is one.
    fn take(&mut self, position: Position) -> Option<JointExtent> {
        for known in &mut self.known {
            while known
                .front()
                .is_some_and(|first| first.end() <= position.at)
            {
                known.pop_front();
            }
        }
        let mut end = position.end;
        let mut flags = Vec::with_capacity(self.known.len());
        for known in &self.known {
            let first = known.front()?;
            end = end.min(first.end());
            flags.push(first.flags);
        }
        self.survey.advance(end);
        Some(JointExtent {
            offset: position.at,
            length: end - position.at,
            names: self.names.clone(),
            flags,
        })
    }

    fn poll_extent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<JointExtent>>> {
        loop {
            let position = self.position()?;
            if position.at >= position.end {
                return Poll::Ready(None);
            }
            if let Some(extent) = self.take(position) {
                return Poll::Ready(Some(Ok(extent)));
            }
            let lacking = self.known.iter().filter(|known| known.is_empty()).count();
            let some = lacking < self.known.len();
            // If the server cannot leave out known contexts, the request ends where the known
            // extents end, so that little is sent twice.
            let end = if some && !position.filters {
                let ends = self.known.iter().filter_map(VecDeque::back);
                ends.map(Extent::end).fold(position.end, u64::min)
            } else {
                position.end
            };
            let (names, known) = (&self.names, &self.known);
            let contexts = || {
                let empty = names
                    .iter()
                    .zip(known)
                    .filter(|(_, known)| known.is_empty());
                (some && position.filters)
                    .then(|| empty.map(|(name, _)| name.to_string()).collect())
            };
            let answer = std::task::ready!(self.survey.poll_ask(cx, end, contexts))?;
            if !self.fill(answer, position) {
                return Poll::Ready(Some(Err(self.survey.stuck())));
            }
        }
    }

    /// Adds an answer to the known extents. Returns whether there was progress.
    fn fill(&mut self, mut answer: BlockStatus, position: Position) -> bool {
        let mut progress = true;
        for (name, known) in self.names.iter().zip(&mut self.known) {
            if known.is_empty() {
                let mut extents = answer.take(name).unwrap_or_default();
                if extents.last().is_none_or(|last| last.end() <= position.at) {
                    extents = self.survey.rest_of_block(name).into_iter().collect();
                }
                progress &= !extents.is_empty();
                *known = extents.into();
            }
        }
        progress
    }
}

impl Piece for JointExtent {
    fn is_like(&self, next: &Self) -> bool {
        self.flags == next.flags
    }

    fn grow(&mut self, next: &Self) {
        self.length = self.length.saturating_add(next.length);
    }
}

impl<C: Client> Stream for JointExtents<C> {
    type Item = Result<JointExtent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (merge, walk) = (&mut this.merge, &mut this.walk);
        merge.poll(|| walk.poll_extent(cx))
    }
}
