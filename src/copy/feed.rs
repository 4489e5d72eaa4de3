//! Where the tasks of a copy come from.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::plan::{Plan, Unit};
use super::rate::Pace;
use super::survey::Survey;
use super::width::Width;
use super::work::Task;
use crate::error::{CopyFault, Side};
use crate::spans::Spans;

/// Gives one task after the other.
pub(super) struct Feed {
    pub(super) input: Input,
    pub(super) pace: Pace,
    /// How long tasks of data are, and how many are done at a time.
    pub(super) width: Arc<Width>,
    /// What has to be copied again.
    again: VecDeque<Range<u64>>,
    /// What needed no copying, in bytes.
    pub(super) skipped: u64,
    /// How often the source could not say what is there.
    pub(super) failures: u64,
}

/// What is copied.
pub(super) enum Input {
    Disk(Box<Scan>),
    Stream(Incoming),
}

/// A disk of which is known, little by little, where it is zero.
pub(super) struct Scan {
    pub(super) plan: Plan,
    pub(super) survey: Survey,
    /// What is copied already.
    pub(super) kept: Spans<()>,
    pub(super) size: u64,
    /// Up to where tasks were given.
    reached: u64,
    is_over: bool,
}

/// A stream, of which is only known what was read.
pub(super) struct Incoming {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    offset: u64,
    is_over: bool,
}

impl Feed {
    pub(super) const fn new(input: Input, pace: Pace, width: Arc<Width>) -> Self {
        Self {
            input,
            pace,
            width,
            again: VecDeque::new(),
            skipped: 0,
            failures: 0,
        }
    }

    /// Says that a range has to be copied again.
    pub(super) fn repeat(&mut self, range: Range<u64>) {
        self.again.push_back(range);
    }

    /// Returns the next task, `None` if there is none for now. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Task>, CopyFault> {
        self.pace.ready().await;
        let step = self.width.load().step;
        if let Some(range) = self.again.pop_front() {
            let cut = (range.start - range.start % step + step).min(range.end);
            if cut < range.end {
                self.again.push_front(cut..range.end);
            }
            self.pace.spend(cut - range.start);
            return Ok(Some(Task::Again(range.start..cut)));
        }
        let task = match &mut self.input {
            Input::Disk(scan) => {
                let unit = scan.next(step, &mut self.failures).await?;
                let start = unit.as_ref().map_or(scan.size, |unit| unit.range.start);
                self.skipped += start.saturating_sub(scan.reached);
                scan.reached = unit.as_ref().map_or(scan.size, |unit| unit.range.end);
                unit.map(Task::Copy)
            }
            Input::Stream(incoming) => incoming.next(step).await?,
        };
        match &task {
            Some(Task::Copy(unit)) if !unit.is_zero => {
                self.pace.spend(unit.range.end - unit.range.start);
            }
            Some(Task::Store(_, data)) => self.pace.spend(data.len() as u64),
            _ => {}
        }
        Ok(task)
    }
}

impl Scan {
    pub(super) const fn new(plan: Plan, survey: Survey, kept: Spans<()>, size: u64) -> Self {
        Self {
            plan,
            survey,
            kept,
            size,
            reached: 0,
            is_over: false,
        }
    }

    async fn next(&mut self, step: u64, failures: &mut u64) -> Result<Option<Unit>, CopyFault> {
        loop {
            if let Some(unit) = self.plan.next(step) {
                return Ok(Some(unit));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.survey.next().await {
                Some(found) => {
                    let found = found?;
                    *failures += u64::from(found.is_failure);
                    let mut at = found.range.start;
                    let kept: Vec<_> = self.kept.within(&found.range).collect();
                    for (kept, ()) in kept {
                        if at < kept.start {
                            self.plan.push(at..kept.start, found.is_zero);
                        }
                        at = kept.end;
                    }
                    if at < found.range.end {
                        self.plan.push(at..found.range.end, found.is_zero);
                    }
                }
                None => {
                    self.is_over = true;
                    self.plan.finish();
                }
            }
        }
    }
}

impl Incoming {
    pub(super) fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            offset: 0,
            is_over: false,
        }
    }

    async fn next(&mut self, step: u64) -> Result<Option<Task>, CopyFault> {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        while !self.is_over && self.buffer.len() < step {
            let room = step - self.buffer.len();
            self.buffer.reserve(room);
            let at = self.offset + self.buffer.len() as u64;
            let mut part = (&mut self.stream).take(room as u64);
            let read = part.read_buf(&mut self.buffer).await;
            let failed = |error| CopyFault::Io {
                side: Side::Source,
                action: "read",
                range: Some(at..at + room as u64),
                cause: Arc::new(error),
            };
            self.is_over = read.map_err(failed)? == 0;
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let data = self.buffer.split().freeze();
        let offset = self.offset;
        self.offset += data.len() as u64;
        Ok(Some(Task::Store(offset, data)))
    }
}
