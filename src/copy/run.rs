//! A copy from its beginning to its end.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::Shared;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::checkpoint::Checkpoint;
use super::cut::{Cut, minimum, sparse};
use super::engine::Engine;
use super::feed::{Feed, Incoming, Input};
use super::hash::Root;
use super::nbd::Nbd;
use super::open::{Outgoing, check, check_sides, open_destination, open_source, prepare, start};
use super::order::InOrder;
use super::place::{Destination, Source};
use super::progress::{CopyPhase, Publisher};
use super::rate::Pace;
use super::report::Copied;
use super::side::Writer;
use super::state::State;
use super::verify;
use super::work::Worker;
use super::{Copying, Keep, Settings};
use crate::error::{CopyFault, Error, Result};
use crate::spans::Spans;

/// How long the blocks are that are read one by one around those that cannot be read, in bytes.
const SALVAGE: u64 = 512;

/// Copies in a task of its own, which ends when this is dropped. On the multi-thread runtime it is done
/// where answers come in: to wake another thread for each takes longer than to handle it.
pub(super) async fn run(copying: Copying) -> Result<Copied> {
    let mut task = JoinSet::new();
    task.spawn(copy(copying));
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends.
        Some(Err(_)) | None => Err(Error::closed()),
    }
}

/// Copies, and says what was done.
async fn copy(copying: Copying) -> Result<Copied> {
    let begun = Instant::now();
    let mut report = Copied::default();
    let progress = &copying.progress;
    let is_kept = Arc::new(AtomicBool::new(false));
    let cancel = copying.cancel.unwrap_or_else(|| Box::pin(pending()));
    let parts = Parts {
        source: copying.source,
        destination: copying.destination,
        settings: copying.settings,
        checkpoint: copying.checkpoint,
        keep: copying.keep.map(|keep| observed(keep, is_kept.clone())),
        cancel: cancel.shared(),
    };
    let result = parts.run(progress, &mut report).await;
    report.elapsed = begun.elapsed();
    match result {
        Ok(()) => {
            progress.enter(CopyPhase::Complete);
            Ok(report)
        }
        Err(fault) => Err(Error::copy(
            fault,
            report.data + report.zeroes + report.skipped,
            is_kept.load(Ordering::Relaxed),
        )),
    }
}

/// Records whether the newest checkpoint was kept.
fn observed(mut keep: Keep, is_kept: Arc<AtomicBool>) -> Keep {
    Box::new(move |checkpoint| {
        let kept = keep(checkpoint);
        is_kept.store(kept.is_ok(), Ordering::Relaxed);
        kept
    })
}

/// Ends when the caller cancels.
pub(super) type Cancelled = Shared<super::Cancel>;

/// What a copy is made of.
struct Parts {
    source: Source,
    destination: Destination,
    settings: Settings,
    checkpoint: Option<Checkpoint>,
    keep: Option<Keep>,
    cancel: Cancelled,
}

/// Both sides, open and compared.
struct Ready {
    worker: Arc<Worker>,
    cut: Cut,
    /// The stream that is read, if it is one; and the one that is written.
    incoming: Option<Incoming>,
    outgoing: Option<Outgoing>,
    /// The size of the destination in bytes, if it is fixed.
    room: Option<u64>,
    /// What is durable at the start.
    begun: Checkpoint,
}

impl Parts {
    async fn run(self, progress: &Publisher, report: &mut Copied) -> Result<(), CopyFault> {
        let Self {
            source,
            destination,
            settings,
            checkpoint,
            keep,
            cancel,
        } = self;
        check(&source, &destination, &settings, checkpoint.as_ref())?;
        let opening = Ready::open(source, destination, &settings, checkpoint);
        let ready = unless(&cancel, opening).await?;
        let (worker, cut) = (ready.worker.clone(), ready.cut);
        report.size = cut.size.unwrap_or_default();
        progress.begin(CopyPhase::Copying, cut.size);
        ready
            .copy(&settings, keep, cancel.clone(), progress, report)
            .await?;
        finish(&worker, cut.size, report, &settings).await?;
        if settings.verifies {
            progress.begin(CopyPhase::Verifying, cut.size);
            let input = cut.scan(worker.reader.as_ref(), &settings, Spans::default())?;
            let pace = Pace::new(settings.rate.as_ref());
            let feed = Feed::new(input, pace, worker.width.clone());
            unless(&cancel, verify::verify(&worker, feed, progress)).await?;
            report.verified = true;
        }
        Ok(())
    }
}

impl Ready {
    async fn open(
        source: Source,
        destination: Destination,
        settings: &Settings,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self, CopyFault> {
        let (reader, incoming) = open_source(source, settings).await?;
        let goes_on = checkpoint.is_some();
        let (target, outgoing) = open_destination(destination, settings, goes_on).await?;
        let mut writer = Writer::new(target, settings.is_allocated)?;
        let cut = Cut::new(reader.as_ref(), &writer, settings)?;
        let room = writer.size()?;
        check_sides(cut.size, room, reader.as_ref(), &writer)?;
        let begun = start(checkpoint, &cut, &writer, settings.only.as_deref())?;
        verify::compare_samples(reader.as_ref(), &writer, &begun).await?;
        prepare(&mut writer, &cut, settings, goes_on).await?;
        let salvage = SALVAGE.max(minimum(reader.as_ref())?);
        let worker = Arc::new(Worker {
            sparse: sparse(&writer, settings)?,
            salvage: settings.salvages.then_some(salvage),
            hash: settings.hash.clone(),
            width: cut.width(),
            reader,
            writer,
        });
        Ok(Self {
            worker,
            cut,
            incoming,
            outgoing,
            room,
            begun,
        })
    }

    async fn copy(
        self,
        settings: &Settings,
        keep: Option<Keep>,
        cancelled: Cancelled,
        progress: &Publisher,
        report: &mut Copied,
    ) -> Result<(), CopyFault> {
        let Self { worker, cut, .. } = self;
        let input = match self.incoming {
            Some(incoming) => Input::Stream(incoming),
            None => cut.scan(worker.reader.as_ref(), settings, self.begun.spans())?,
        };
        let feed = Feed::new(
            input,
            Pace::new(settings.rate.as_ref()),
            worker.width.clone(),
        );
        let root = settings.hash.clone().map(Root::new);
        if let Some(stream) = self.outgoing {
            let copy = InOrder {
                worker,
                feed,
                stream,
                progress,
                report,
                root,
            };
            return unless(&cancelled, copy.run()).await;
        }
        let events = match worker.writer.nbd() {
            Some(Nbd::Disk(disk)) => Some(disk.events()),
            _ => None,
        };
        let engine = Engine {
            worker,
            feed,
            progress,
            report,
            keep,
            cancelled,
            checkpoint: self.begun,
            flushes: settings.flushes,
            room: self.room,
            events,
            root,
            state: State::default(),
        };
        engine.run().await
    }
}

/// Completes the report, and the size of a file that was written from a stream.
async fn finish(
    worker: &Worker,
    size: Option<u64>,
    report: &mut Copied,
    settings: &Settings,
) -> Result<(), CopyFault> {
    if size.is_none() {
        report.size = report.data + report.zeroes;
        if let Some(file) = worker.writer.file().filter(|file| file.is_regular()) {
            file.resize(report.size, false, settings.is_allocated)
                .await?;
            if settings.flushes {
                file.sync().await?;
            }
        }
    }
    // Parts of one place may have come in any order, and with different units.
    let mut salvaged = Spans::default();
    for range in report.salvaged.drain(..) {
        salvaged.add(range);
    }
    report.salvaged = salvaged.iter().map(|(range, ())| range).collect();
    if let Some(nbd) = worker.writer.nbd() {
        report.unfenced = nbd.unfenced();
    }
    Ok(())
}

/// Runs until the caller cancels.
async fn unless<T>(
    cancelled: &Cancelled,
    work: impl Future<Output = Result<T, CopyFault>>,
) -> Result<T, CopyFault> {
    tokio::select! {
        biased;
        result = work => result,
        () = cancelled.clone() => Err(CopyFault::Cancelled),
    }
}
