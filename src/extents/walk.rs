//! A walk through the extents of some contexts, side by side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::survey::{Position, Survey};
use crate::error::{InvalidRequest, Result};
use crate::extent::{BlockStatus, Extent};
use crate::request::Client;

/// The extents of one context or of all, as the server sends them.
#[derive(Debug)]
pub(super) struct Walk<C: Client> {
    survey: Survey<C>,
    /// The only context of the walk; `None` for all.
    only: Option<String>,
    names: Arc<[Arc<str>]>,
    /// Whether the export has contexts that do not belong to the walk.
    has_others: bool,
    /// The known extents of each context, from the current position on.
    known: Vec<VecDeque<Extent>>,
}

impl<C: Client> Walk<C> {
    pub(super) fn new(survey: Survey<C>, only: Option<String>) -> Self {
        Self {
            survey,
            only,
            names: Arc::default(),
            has_others: false,
            known: Vec::new(),
        }
    }

    pub(super) const fn set_timeout(&mut self, timeout: Duration) {
        self.survey.set_timeout(timeout);
    }

    /// Returns the names of the contexts.
    pub(super) const fn names(&self) -> &Arc<[Arc<str>]> {
        &self.names
    }

    /// Returns the flags of the piece that was returned last, in the order of the names.
    pub(super) fn flags(&self) -> impl Iterator<Item = u64> {
        let firsts = self.known.iter().filter_map(VecDeque::front);
        firsts.map(|extent| extent.flags)
    }

    /// Returns offset and length of the next piece over which no status changes.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(u64, u64)>>> {
        loop {
            let position = self.position()?;
            if position.at >= position.end {
                return Poll::Ready(None);
            }
            if let Some(end) = self.known_until(position) {
                self.survey.advance(end);
                return Poll::Ready(Some(Ok((position.at, end - position.at))));
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
            let chooses = position.filters && (some || self.has_others);
            let contexts = || {
                let asked = self.names.iter().zip(&self.known);
                let asked = asked.filter(|(_, known)| known.is_empty());
                chooses.then(|| asked.map(|(name, _)| name.to_string()).collect())
            };
            let answer = ready!(self.survey.poll_ask(cx, end, contexts))?;
            if !self.fill(answer, position) {
                return Poll::Ready(Some(Err(self.survey.stuck())));
            }
        }
    }

    /// Returns the position of the walk. The first call also looks up the contexts.
    fn position(&mut self) -> Result<Position> {
        let position = self.survey.position()?;
        if self.known.is_empty() {
            let export = self.survey.client().exported()?;
            let all: Arc<[Arc<str>]> = export.contexts().map(Arc::from).collect();
            self.names = match &self.only {
                Some(name) => {
                    let found = all.iter().find(|known| ***known == **name);
                    let unknown = || InvalidRequest::unknown_context(name, export.contexts());
                    Arc::new([found.ok_or_else(unknown)?.clone()])
                }
                None if all.is_empty() => return Err(InvalidRequest::NoContexts.into()),
                None => all.clone(),
            };
            self.has_others = self.names.len() < all.len();
            self.known.resize_with(self.names.len(), VecDeque::new);
        }
        Ok(position)
    }

    /// Drops the extents before the position, and returns the end of the piece that is known in all
    /// contexts, if there is one.
    fn known_until(&mut self, position: Position) -> Option<u64> {
        let mut end = Some(position.end);
        for known in &mut self.known {
            while known
                .front()
                .is_some_and(|first| first.end() <= position.at)
            {
                known.pop_front();
            }
            let reach = known.front().map(Extent::end);
            end = end.zip(reach).map(|(end, reach)| end.min(reach));
        }
        end
    }

    /// Adds an answer to the known extents. Returns whether there was progress.
    fn fill(&mut self, mut answer: BlockStatus, position: Position) -> bool {
        let mut progress = true;
        for (name, known) in self.names.iter().zip(&mut self.known) {
            if known.is_empty() {
                let mut extents = answer.take(name).unwrap_or_default();
                // There is progress if the answer reaches beyond what is known.
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
