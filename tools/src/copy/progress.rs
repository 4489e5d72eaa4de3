//! How far the copy is, for people and for programs.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::time::Duration;

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nbd_client::{CopyPhase, CopyProgress, Progress};
use serde_json::json;

use super::Failure;
use crate::out::complain;

/// How often a bar or a number changes at most.
const OFTEN: Duration = Duration::from_millis(100);
/// How often there is a line of JSON at most.
const SELDOM: Duration = Duration::from_millis(500);

/// What is shown, as the command line says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Show {
    Bar,
    Json,
    Descriptor(u32),
}

impl Show {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "bar" => Ok(Self::Bar),
            "json" => Ok(Self::Json),
            number => {
                let descriptor = number.parse().map(Self::Descriptor);
                descriptor.map_err(|_| "expected a file descriptor or json")
            }
        }
    }

    /// Opens what is written to. To be called before anything else is opened: until then, only the
    /// caller's descriptors are open.
    pub(crate) fn open(self) -> Result<Display, Failure> {
        Ok(match self {
            Self::Bar if io::stderr().is_terminal() => Display::Bar(bar()),
            Self::Bar | Self::Descriptor(2) => Display::lines(io::stderr()),
            Self::Descriptor(1) => Display::lines(io::stdout()),
            Self::Descriptor(number) => Display::lines(descriptor(number).map_err(|error| {
                format!("cannot write to the file descriptor {number} of --progress: {error}")
            })?),
            Self::Json => Display::Json,
        })
    }
}

/// Opens a descriptor once more that the caller has opened. Without unsafe code there is no other way.
fn descriptor(number: u32) -> io::Result<File> {
    let path = format!("/dev/fd/{number}");
    let opened = OpenOptions::new().append(true).open(path);
    opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::new(ErrorKind::NotFound, "it is not open"),
        _ => error,
    })
}

/// Shows how far the copy is.
pub(crate) enum Display {
    Bar(ProgressBar),
    Json,
    Lines(Box<dyn Write + Send>),
}

impl Display {
    fn lines(out: impl Write + Send + 'static) -> Self {
        Self::Lines(Box::new(out))
    }

    /// Returns what a line must not be written into, if there is a bar.
    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        match self {
            Self::Bar(bar) => Some(bar.clone()),
            _ => None,
        }
    }

    /// Shows it until the copy has ended.
    pub(crate) async fn run(mut self, progress: Progress, verifies: bool) {
        let every = if matches!(self, Self::Json) {
            SELDOM
        } else {
            OFTEN
        };
        let mut last = None;
        let mut bar = Bar::default();
        self.percent(0, &mut last);
        let mut updates = Box::pin(progress.updates(every));
        while let Some(now) = updates.next().await {
            match &self {
                Self::Bar(shown) => bar.show(shown, &now),
                Self::Json => line(&now),
                Self::Lines(_) => self.percent(percent(&now, verifies), &mut last),
            }
        }
        if let Self::Bar(shown) = &self {
            shown.abandon();
        }
    }

    /// Writes a line if it says anything new. Who does not read it has seen enough.
    fn percent(&mut self, percent: u8, last: &mut Option<u8>) {
        if let Self::Lines(out) = self {
            if last.is_none_or(|last| percent > last) {
                *last = Some(percent);
                let _ = writeln!(out, "{percent}/100").and_then(|()| out.flush());
            }
        }
    }
}

/// How much of everything is done; 100 only when the copy has succeeded.
fn percent(now: &CopyProgress, verifies: bool) -> u8 {
    let fraction = now.fraction().unwrap_or(0.0);
    let share = match (now.phase, verifies) {
        (CopyPhase::Complete, _) => return 100,
        (CopyPhase::Verifying, _) => 0.5 + fraction / 2.0,
        (_, true) => fraction / 2.0,
        (_, false) => fraction,
    };
    // The type is wide enough for what is between 0 and 99.
    (share * 100.0).clamp(0.0, 99.0) as u8
}

/// Writes a line of JSON.
fn line(now: &CopyProgress) {
    complain!(
        "{}",
        json!({
            "phase": phase(now.phase),
            "total": now.total,
            "done": now.done,
            "data": now.data,
            "zeroes": now.zeroes,
            "skipped": now.skipped,
            "repeated": now.repeated,
            "elapsed": now.elapsed.as_secs_f64(),
            "rate": now.rate(),
            "time_left": now.time_left().map(|left| left.as_secs_f64()),
        })
    );
}

const fn phase(phase: CopyPhase) -> &'static str {
    match phase {
        CopyPhase::Preparing => "preparing",
        CopyPhase::Copying => "copying",
        CopyPhase::Flushing => "flushing",
        CopyPhase::Verifying => "verifying",
        CopyPhase::Complete => "complete",
        _ => "other",
    }
}

fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style(SPINNER))
}

/// Where the size is not known.
const SPINNER: &str = "{spinner} {msg:10} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";
/// Where it is.
const BAR: &str = "{msg:10} {bar:32} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  \
                   {binary_bytes_per_sec}  {eta} left";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("█▉▊▋▌▍▎▏ ")
}

/// What a bar shows.
#[derive(Default)]
struct Bar {
    phase: CopyPhase,
    total: Option<u64>,
    skipped: u64,
}

impl Bar {
    fn show(&mut self, bar: &ProgressBar, now: &CopyProgress) {
        if now.total != self.total {
            bar.set_style(style(if now.total.is_some() { BAR } else { SPINNER }));
            if let Some(total) = now.total {
                bar.set_length(total);
            }
        }
        bar.set_message(phase(now.phase));
        bar.set_position(now.done);
        // What was skipped, or done in another phase, says nothing about the rate.
        if now.skipped != self.skipped || now.phase != self.phase {
            bar.reset_eta();
        }
        *self = Self {
            phase: now.phase,
            total: now.total,
            skipped: now.skipped,
        };
    }
}
