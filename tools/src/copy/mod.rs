//! `nbd copy` copies disks from and to NBD servers, as `nbdcopy` of libnbd does: the same options and
//! the same places, and some more.
//!
//! ```text
//! nbd copy nbd://localhost disk.img
//! nbd copy -p --resume copy.json nbd://storage/vm-17 nbd://backup/vm-17
//! nbd copy [ qemu-nbd -r -f qcow2 disk.qcow2 ] - | gzip >disk.img.gz
//! ```

mod args;
mod hash;
mod open;
mod progress;
mod report;
mod resume;
mod stream;

use std::process::ExitCode;

use indicatif::ProgressBar;
use nbd_client::{Copied, CopyFault, Disk, Error, RateLimit, copy};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::filter::LevelFilter;

pub(crate) use args::CopyArgs as Args;

use crate::out::{complain, say};
use crate::program::{Signals, run_in_order};
use hash::HashFile;
use progress::Display;
use resume::Resume;

/// Why there is no copy.
type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn main(args: &Args) -> ExitCode {
    if let Err(why) = args.check() {
        complain!("nbd copy: {why}\nTry nbd copy --help.");
        return ExitCode::from(crate::USAGE);
    }
    // Before anything else is opened.
    let display = match args.progress.map(progress::Show::open).transpose() {
        Ok(display) => display,
        Err(error) => {
            complain!("nbd copy: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.verbose {
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
        log.with_ansi(false)
            .with_max_level(LevelFilter::DEBUG)
            .init();
    }
    run_in_order("nbd copy", runtime(args), async |signals| {
        run(args, display, &signals).await?;
        Ok::<_, Failure>(ExitCode::SUCCESS)
    })
}

fn runtime(args: &Args) -> std::io::Result<Runtime> {
    match args.threads {
        0 => Builder::new_multi_thread().enable_all().build(),
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    }
}

async fn run(args: &Args, display: Option<Display>, signals: &Signals) -> Result<(), Failure> {
    let resume = args.resume.as_deref();
    let resume = resume.map(|path| Resume::new(path, &args.source, &args.destination));
    let resume = resume.transpose()?;
    let opening = async {
        let hash_file = match &args.blkhash_file {
            Some(path) => Some(HashFile::open(path).await?),
            None => None,
        };
        let (source, destination) = (open::source(args).await?, open::destination(args).await?);
        Ok::<_, Failure>((hash_file, source, destination))
    };
    let (hash_file, (source, from), (destination, to)) = signals.clone().unless(opening).await?;
    if args.verbose {
        describe(args, from.as_ref(), to.as_ref());
    }
    let mut copying = copy(source, destination)
        .allocated(args.allocated)
        .connections(args.connections())
        .destination_is_zero(args.destination_is_zero)
        .flush(!args.no_flush)
        .extents(!args.no_extents)
        .memory(args.memory())
        .requests(args.requests())
        .sparse(args.sparse)
        .salvage(args.salvage)
        .verify(args.verify)
        .cancel_on(cancelled(
            signals.clone(),
            display.as_ref().and_then(Display::bar),
        ));
    if let Some(bytes) = args.request_size {
        copying = copying.request_size(bytes);
    }
    if let Some(rate) = args.rate {
        copying = copying.rate(&RateLimit::new(rate));
    }
    if let Some(hash) = &args.blkhash {
        copying = copying.hash(hash.clone());
    }
    if let Some(context) = &args.only {
        copying = copying.only(context);
    }
    if let Some(resume) = &resume {
        if let Some(checkpoint) = resume.read()? {
            copying = copying.resume(checkpoint);
        }
        let keeper = resume.clone();
        copying = copying.checkpoints(move |checkpoint| keeper.write(checkpoint));
    }
    let showing = display.map(|display| tokio::spawn(display.run(copying.progress(), args.verify)));
    let result = copying.await;
    if let Some(showing) = showing {
        // A panic has been reported.
        let _ = showing.await;
    }
    let copied = result.map_err(|error| explain(error, resume.as_ref()))?;
    finish(args, &copied, [from, to], resume.as_ref()).await?;
    match (&copied.hash, hash_file) {
        (Some(hash), Some(file)) => file.write(hash),
        (Some(hash), None) if !args.json => {
            say!("{}", hash::hex(hash));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Waits for the signal that cancels the copy.
async fn cancelled(signals: Signals, bar: Option<ProgressBar>) {
    signals.first().await;
    let say = || complain!("nbd copy: ends in order; a second signal ends it at once");
    match bar {
        // It would clear the line when it is drawn again.
        Some(bar) => bar.suspend(say),
        None => say(),
    }
}

/// Ends the connections of a copy that has succeeded, and prints what was done.
async fn finish(
    args: &Args,
    copied: &Copied,
    disks: [Option<Disk>; 2],
    resume: Option<&Resume>,
) -> Result<(), Failure> {
    for disk in disks.into_iter().flatten() {
        // All is copied and durable: a server that ends badly changes nothing.
        if let Err(error) = disk.close().await {
            complain!("nbd copy: the copy is complete; {error}");
        }
    }
    if let Some(resume) = resume {
        resume.remove()?;
    }
    report::warn(copied);
    if args.verbose {
        report::sum_up(copied);
    }
    if args.json {
        report::print_json(copied);
    }
    Ok(())
}

/// Says what to do next, if something was kept.
fn explain(error: Error, resume: Option<&Resume>) -> Failure {
    let Error::Copy(copy) = &error else {
        return error.into();
    };
    // The text of the whole error names a method, which helps nobody here.
    let fault = copy.fault();
    let said = match copy.done() {
        0 => fault.to_string(),
        done => format!("{fault}; {done} bytes were copied"),
    };
    if matches!(fault, CopyFault::TooSmall { .. }) {
        return format!("{said}: make the destination larger").into();
    }
    let Some(resume) = resume else {
        return said.into();
    };
    let path = resume.path().display();
    match (fault, resume.failure()) {
        (CopyFault::OtherCopy { .. }, _) => format!("{said}: remove {path}").into(),
        (CopyFault::Different { .. }, _) if resume.exists() => {
            format!("{said}; remove {path} to copy from the start").into()
        }
        (fault, Some(why)) if !matches!(fault, CopyFault::Checkpoint(_)) => {
            format!("{said}; {path} could not be written: {why}").into()
        }
        _ if !resume.exists() => said.into(),
        _ => format!("{said}; the same command goes on from what is in {path}").into(),
    }
}

/// Says what is copied, and how.
fn describe(args: &Args, from: Option<&Disk>, to: Option<&Disk>) {
    let sides = [
        ("source", &args.source, from),
        ("destination", &args.destination, to),
    ];
    for (side, place, disk) in sides {
        match disk.map(|disk| disk.export().size()) {
            Some(size) => complain!("nbd copy: {side}: {place}, {size} bytes"),
            None => complain!("nbd copy: {side}: {place}"),
        }
    }
    complain!(
        "nbd copy: up to {} connections, {} requests on each",
        args.connections(),
        args.requests()
    );
}
