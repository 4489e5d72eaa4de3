//! The copy to a place that can be written anywhere: many units at a time.

use std::future::pending;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

use super::Keep;
use super::checkpoint::Checkpoint;
use super::feed::Feed;
use super::hash::Root;
use super::progress::{CopyPhase, Publisher};
use super::report::Copied;
use super::run::Cancelled;
use super::state::State;
use super::work::{Done, Task, Worker};
use crate::disk::{Event, Events};
use crate::error::{CopyFault, Error, Result, Side};
use crate::spans::Spans;

/// How often a checkpoint is kept, and after how many bytes at the latest.
const EVERY: Duration = Duration::from_secs(30);
const AT_LEAST_EVERY: u64 = 4 << 30;

/// How often what is copied is flushed once a server has lost what was not: one that is never up for
/// long, such as a second, could lose the same again and again.
const AFTER_LOSS: Duration = Duration::from_millis(250);

/// How long a copy that fails waits for what is in flight, and for a last flush.
const SETTLE: Duration = Duration::from_secs(10);

/// A copy under way.
pub(super) struct Engine<'a> {
    pub(super) worker: Arc<Worker>,
    pub(super) feed: Feed,
    pub(super) progress: &'a Publisher,
    pub(super) report: &'a mut Copied,
    pub(super) keep: Option<Keep>,
    pub(super) cancelled: Cancelled,
    /// What is durable, and where it is compared before a later copy goes on from it.
    pub(super) checkpoint: Checkpoint,
    pub(super) flushes: bool,
    /// The size of the destination in bytes, if it is fixed.
    pub(super) room: Option<u64>,
    /// What a destination that connects again has to tell.
    pub(super) events: Option<Events>,
    pub(super) root: Option<Root>,
    pub(super) state: State,
}

enum Next {
    Task(Result<Option<Task>, CopyFault>),
    Done(Result<Done, CopyFault>),
    Flushed(Result<()>),
    Due,
    /// More can be done at a time.
    Widened,
    Cancelled,
}

impl Engine<'_> {
    /// Copies until all is done and durable.
    pub(super) async fn run(mut self) -> Result<(), CopyFault> {
        self.state.last_flush = Some(Instant::now());
        let result = self.copy().await;
        self.report.hash = self.root.as_mut().map(Root::finish);
        if result.is_err() {
            // A server that does not answer must not hold up the end.
            let _ = timeout(SETTLE, self.settle()).await;
        }
        result
    }

    async fn copy(&mut self) -> Result<(), CopyFault> {
        loop {
            while !(self.state.is_over && self.state.working.is_empty()) {
                let next = self.next().await;
                self.handle(next)?;
                // Nothing may have to be waited for, in a hole of any length.
                consume_budget().await;
            }
            self.progress.enter(CopyPhase::Flushing);
            if !self.flushes {
                return Ok(());
            }
            self.finish_flush().await?;
            let mut is_flushed = false;
            while self.state.is_over && !(is_flushed && self.state.completed.len() == 0) {
                self.begin_flush();
                self.finish_flush().await?;
                is_flushed = true;
            }
            if self.state.is_over {
                return Ok(());
            }
            self.progress.enter(CopyPhase::Copying);
        }
    }

    /// Waits for the flush under way, whatever else happens meanwhile.
    async fn finish_flush(&mut self) -> Result<(), CopyFault> {
        while self.state.flushing.is_some() {
            let next = self.next().await;
            self.handle(next)?;
        }
        Ok(())
    }

    /// Waits for something to happen.
    async fn next(&mut self) -> Next {
        let state = &mut self.state;
        let width = self.feed.width.clone();
        let has_room = !state.is_over && state.working.len() < width.load().most;
        let every = match state.has_lost {
            true => Some(AFTER_LOSS),
            false => self.keep.as_ref().map(|_| EVERY),
        };
        let can_flush = state.flushing.is_none() && state.completed.len() > 0;
        let since = state.last_flush.filter(|_| can_flush);
        let due = since.zip(every).map(|(last, every)| last + every);
        tokio::select! {
            biased;
            () = self.cancelled.clone() => Next::Cancelled,
            Some(done) = state.working.next(), if !state.working.is_empty() => Next::Done(done),
            flushed = maybe(&mut state.flushing) => Next::Flushed(flushed),
            task = self.feed.next(), if has_room => Next::Task(task),
            () = at(due) => Next::Due,
            () = width.widened(), if !has_room => Next::Widened,
        }
    }

    fn handle(&mut self, next: Next) -> Result<(), CopyFault> {
        match next {
            Next::Task(task) => match task? {
                Some(task) => self.start(task),
                None => {
                    self.state.is_over = true;
                    self.skip_to(self.checkpoint.source_size);
                    self.account(&Done::default());
                    Ok(())
                }
            },
            Next::Done(done) => {
                let done = done.inspect_err(|fault| self.has_failed(fault))?;
                self.complete(done);
                let is_due = self.keep.is_some() && self.state.completed_bytes >= AT_LEAST_EVERY;
                if is_due && self.state.flushing.is_none() {
                    self.begin_flush();
                }
                Ok(())
            }
            Next::Flushed(result) => {
                self.state.flushing = None;
                self.flushed(result)
            }
            Next::Due => {
                self.begin_flush();
                Ok(())
            }
            Next::Widened => Ok(()),
            Next::Cancelled => Err(CopyFault::Cancelled),
        }
    }

    fn start(&mut self, task: Task) -> Result<(), CopyFault> {
        if let (Task::Store(offset, data), Some(room)) = (&task, self.room) {
            let source = offset + data.len() as u64;
            if source > room {
                return Err(CopyFault::TooSmall {
                    source,
                    destination: room,
                });
            }
        }
        if let Task::Copy(unit) = &task {
            self.skip_to(unit.range.start);
            self.state.begun = unit.range.end;
        }
        let range = task.range();
        if !range.is_empty() {
            self.state.at_work.add(range);
        }
        let work = self.worker.clone().work(task);
        self.state.working.push(Box::pin(work));
        Ok(())
    }

    /// Takes for completed what lies between two units.
    fn skip_to(&mut self, start: u64) {
        let state = &mut self.state;
        if state.begun < start {
            state.completed.add(state.begun..start);
            state.begun = start;
        }
    }

    fn complete(&mut self, mut done: Done) {
        if let (Some(root), Some(hashes)) = (&mut self.root, done.hashes.take()) {
            root.add(&done.range, hashes);
        }
        let state = &mut self.state;
        // What was zero is compared, too: it may be so at the source alone.
        if !done.range.is_empty() {
            state.units += 1;
            if state.units.is_power_of_two() {
                self.checkpoint.samples.push(done.range.start);
            }
        }
        state.completed_bytes += done.range.end - done.range.start;
        state.completed.add(done.range.clone());
        state.at_work.remove(&done.range);
        for range in &done.salvaged {
            state.salvaged.add(range.clone());
        }
        let lost: Vec<_> = state.lost.within(&done.range).collect();
        for (range, ()) in lost {
            self.state.lost.remove(&range);
            self.repeat(range);
        }
        self.account(&done);
    }

    /// Notes a write that a file has failed: the next flush may succeed without what was written before.
    fn has_failed(&mut self, fault: &CopyFault) {
        let side = Side::Destination;
        self.state.has_failed |= matches!(fault, CopyFault::Io { side: of, .. } if *of == side);
    }

    /// Adds to the report and tells of it.
    fn account(&mut self, done: &Done) {
        let report = &mut *self.report;
        report.data += done.data;
        report.zeroes += done.zeroes;
        report.repeated += done.repeated + repeats(&mut self.events);
        report.salvaged.extend(done.salvaged.iter().cloned());
        report.skipped = self.feed.skipped;
        report.status_failures = self.feed.failures;
        self.progress.update(|progress| {
            progress.data = report.data;
            progress.zeroes = report.zeroes;
            progress.skipped = report.skipped;
            progress.repeated = report.repeated;
            progress.done = report.data + report.zeroes + report.skipped;
        });
    }

    fn begin_flush(&mut self) {
        let state = &mut self.state;
        state.covered = std::mem::take(&mut state.completed);
        state.completed_bytes = 0;
        let worker = self.worker.clone();
        state.flushing = Some(Box::pin(async move { worker.writer.flush().await }));
    }

    /// Takes what is durable into the checkpoint.
    fn flushed(&mut self, result: Result<()>) -> Result<(), CopyFault> {
        let covered = std::mem::take(&mut self.state.covered);
        self.state.last_flush = Some(Instant::now());
        match result {
            Ok(()) => {}
            // A stream cannot be read again.
            Err(Error::DurabilityUnknown(lost))
                if !lost.ranges().is_empty() && self.worker.reader.is_some() =>
            {
                self.lost(covered, lost.ranges());
                return Ok(());
            }
            Err(error) => {
                self.state.has_failed = true;
                return Err(match error {
                    Error::Copy(copy) => copy.fault().clone(),
                    error => error.of_side(Side::Destination),
                });
            }
        }
        let mut all = self.checkpoint.spans();
        for (range, ()) in covered.iter() {
            all.add(range);
        }
        // A later copy tries to read it again, and reports it again.
        for (range, ()) in self.state.salvaged.iter() {
            all.remove(&range);
        }
        self.checkpoint.done = all.iter().map(|(range, ())| range).collect();
        self.keep_checkpoint()
    }

    /// Copies again what may be lost with the server, and takes the rest for completed, to be flushed
    /// once more. What was completed since the flush began may be lost, too, and a part of what is
    /// being worked on.
    fn lost(&mut self, covered: Spans<()>, ranges: &[Range<u64>]) {
        self.state.has_lost = true;
        for (range, ()) in covered.iter() {
            self.state.completed.add(range);
        }
        for range in ranges {
            let lost: Vec<_> = self.state.completed.within(range).collect();
            for (range, ()) in lost {
                self.repeat(range);
            }
            for (range, ()) in self.state.at_work.within(range) {
                self.state.lost.add(range);
            }
        }
    }

    /// Copies again what was completed.
    fn repeat(&mut self, range: Range<u64>) {
        self.state.completed.remove(&range);
        self.feed.repeat(range);
        self.state.is_over = false;
    }

    fn keep_checkpoint(&mut self) -> Result<(), CopyFault> {
        let Some(keep) = &mut self.keep else {
            return Ok(());
        };
        keep(&self.checkpoint).map_err(|error| CopyFault::Checkpoint(Arc::new(error)))
    }

    /// After a failure: waits for what is in flight, since a later copy may write to the same place, and
    /// keeps what can be made durable.
    async fn settle(&mut self) {
        while let Some(done) = self.state.working.next().await {
            match done {
                Ok(done) => self.complete(done),
                Err(fault) => self.has_failed(&fault),
            }
        }
        if let Some(flushing) = self.state.flushing.take() {
            let _ = self.flushed(flushing.await);
        }
        if self.state.has_failed || self.keep.is_none() {
            return;
        }
        self.begin_flush();
        if let Some(flushing) = self.state.flushing.take() {
            let _ = self.flushed(flushing.await);
        }
    }
}

/// Waits for a future, if there is one.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits until a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Returns how many bytes a disk has written again since the last call.
fn repeats(events: &mut Option<Events>) -> u64 {
    let mut repeated = 0;
    while let Some(event) = events
        .as_mut()
        .and_then(|events| events.next().now_or_never())
    {
        match event {
            Some(Event::Repeated { range }) => repeated += range.end - range.start,
            Some(_) => {}
            None => *events = None,
        }
    }
    repeated
}
