//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use nbd_client::{BlockHash, Retry};

use super::hash;
use super::progress::Show;
use super::resume;
use crate::place::Place;
use crate::size::size;
use crate::stall::Stall;

const AFTER_HELP: &str = "\
SOURCE and DESTINATION are an NBD URI; a file or block device; - for the standard
input or output; or a command in brackets that is started by socket activation:
[ qemu-nbd -f qcow2 disk.qcow2 ]. DESTINATION may also be null:, which throws
everything away. SIZE is in bytes, and may end in K, M, G or T.

Success means that every byte was copied and is durable; with --salvage, but for
those that are named. Ctrl-C, SIGTERM and SIGHUP end the copy in order; a second
Ctrl-C or SIGTERM ends it at once.

Exit codes: 0 success, 1 failure, 2 a wrong command line, 130 after Ctrl-C, 143
after SIGTERM, 129 after SIGHUP.";

/// The most that a request can ask for, in bytes, by nbdcopy's rule.
const LONGEST_REQUEST: usize = 32 << 20;
/// The least, in bytes.
const SHORTEST_REQUEST: usize = 4096;
/// More threads than this help no machine.
const MOST_THREADS: usize = 1024;
/// The longest delay before connecting again.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// The shortest block that can be looked at whether it is zero, in bytes.
const SHORTEST_BLOCK: u64 = 512;

/// Copies a disk from or to an NBD server, as nbdcopy does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, infer_long_args = true, args_override_self = true)]
pub(crate) struct CopyArgs {
    /// Give the destination room for all bytes, zeroes too
    #[arg(long)]
    pub(crate) allocated: bool,
    /// Print the hash of the disk, as nbdcopy 1.24 does [default: sha256/64k]
    #[arg(long, value_name = "FUNCTION[/SIZE]", num_args = 0..=1, require_equals = true, default_missing_value = hash::DEFAULT, value_parser = hash::parse)]
    pub(crate) blkhash: Option<BlockHash>,
    /// Write the hash to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) blkhash_file: Option<PathBuf>,
    /// Connect so many times to each server that allows it
    #[arg(short = 'C', long, value_name = "N", value_parser = positive, default_value = "4")]
    connections: usize,
    /// Take the destination for zero already, and write no zeroes
    #[arg(long, alias = "target-is-zero")]
    pub(crate) destination_is_zero: bool,
    /// Make the copy durable before ending [this is the default]
    #[arg(long, overrides_with = "no_flush")]
    flush: bool,
    /// Do not make the copy durable
    #[arg(long, overrides_with = "flush")]
    pub(crate) no_flush: bool,
    /// Read everything, whatever the source says to be zero
    #[arg(long)]
    pub(crate) no_extents: bool,
    /// Show how far the copy is: a bar; to a file descriptor lines such as 42/100; or JSON lines on
    /// the standard error output
    #[arg(short = 'p', long, value_name = "FD|json", num_args = 0..=1, require_equals = true, default_missing_value = "bar", value_parser = Show::parse)]
    pub(crate) progress: Option<Show>,
    /// Hold so many bytes of data for each connection [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size::<u64>, default_value = "16M", hide_default_value = true)]
    queue_size: u64,
    /// Read and write so many bytes at a time, 4K to 32M [default: 256K, or 1M from far away]
    #[arg(long, value_name = "SIZE", value_parser = request_size)]
    pub(crate) request_size: Option<usize>,
    /// Have so many requests in flight on each connection
    #[arg(short = 'R', long, value_name = "N", value_parser = positive, default_value = "16")]
    requests: usize,
    /// Look for zeroes in blocks of this size, and write none of them as data; 0 for never
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = sparse, default_value = "4096")]
    pub(crate) sparse: u64,
    /// Have one request in flight only, and copy in order
    #[arg(long)]
    synchronous: bool,
    /// Use so many threads; 0 for one for each processor
    #[arg(short = 'T', long, value_name = "N", value_parser = threads, default_value = "0")]
    pub(crate) threads: usize,
    /// Say on the standard error output what happens
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Keep in FILE what is copied so far, and go on from there if it exists; the source must not
    /// have been written since
    #[arg(long, value_name = "FILE", help_heading = "Not in nbdcopy")]
    pub(crate) resume: Option<PathBuf>,
    /// Read at most so many bytes a second
    #[arg(long, value_name = "SIZE", value_parser = rate, help_heading = "Not in nbdcopy")]
    pub(crate) rate: Option<u64>,
    /// Read both sides again at the end and compare them
    #[arg(long, help_heading = "Not in nbdcopy")]
    pub(crate) verify: bool,
    /// Connect again to a server that is lost for so long; 0 for never. A server in brackets is started
    /// again only if it is the source
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        help_heading = "Not in nbdcopy"
    )]
    retry: u64,
    /// Take a server for lost that owes replies and is silent for so long; 0 for never
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = Stall::parse,
        default_value = "0",
        help_heading = "Not in nbdcopy"
    )]
    pub(crate) stall: Stall,
    /// Write zeroes where the source cannot be read, and say where
    #[arg(long, help_heading = "Not in nbdcopy")]
    pub(crate) salvage: bool,
    /// Copy only what is dirty in a metadata context of the source, such as
    /// qemu:dirty-bitmap:NAME
    #[arg(long, value_name = "CONTEXT", help_heading = "Not in nbdcopy")]
    pub(crate) only: Option<String>,
    /// Print as JSON what was done
    #[arg(long, help_heading = "Not in nbdcopy")]
    pub(crate) json: bool,

    /// What is read
    #[arg(value_parser = OsStringValueParser::new().try_map(Place::parse))]
    pub(crate) source: Place,
    /// What is written
    #[arg(value_parser = OsStringValueParser::new().try_map(Place::parse))]
    pub(crate) destination: Place,
}

impl CopyArgs {
    /// Refuses what does not go together.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let is_stream = |place: &Place| matches!(place, Place::Stdio | Place::Nothing);
        Err(if matches!(self.source, Place::Nothing) {
            "null: can only be the destination"
        } else if matches!(self.source, Place::Uri(_)) && self.source == self.destination {
            "source and destination are the same export: name another destination"
        } else if self.resume.is_some() && (is_stream(&self.source) || is_stream(&self.destination))
        {
            "--resume needs a source and a destination with positions: no - and no null:"
        } else if [&self.source, &self.destination]
            .iter()
            .any(|place| self.spoils(place))
        {
            "--resume and --blkhash-file need files that are neither source nor destination"
        } else if self.blkhash_file.is_some() && self.blkhash.is_none() {
            "--blkhash-file needs --blkhash"
        } else if self.blkhash.is_some() && (self.resume.is_some() || self.only.is_some()) {
            "--blkhash needs the whole disk: no --resume and no --only"
        } else if self.blkhash.is_some()
            && self.blkhash_file.is_none()
            && matches!(self.destination, Place::Stdio)
        {
            "the standard output cannot have both the copy and the hash: use --blkhash-file"
        } else if self.json && matches!(self.destination, Place::Stdio) {
            "the standard output cannot have both the copy and --json"
        } else if self.progress == Some(Show::Descriptor(1))
            && matches!(self.destination, Place::Stdio)
        {
            "the standard output cannot have both the copy and --progress=1"
        } else {
            return Ok(());
        })
    }

    /// Whether a file with facts about the copy would be put in the place of the disk.
    fn spoils(&self, place: &Place) -> bool {
        let Place::File(disk) = place else {
            return false;
        };
        let new = self.resume.as_deref().map(resume::new_path);
        let files = [&self.resume, &new, &self.blkhash_file];
        files.into_iter().flatten().any(|file| {
            file == disk || resolved(file).is_some_and(|file| resolved(disk) == Some(file))
        })
    }

    /// How many connections there are to a server.
    pub(crate) const fn connections(&self) -> usize {
        if self.synchronous {
            1
        } else {
            self.connections
        }
    }

    /// How many requests are in flight on each.
    pub(crate) const fn requests(&self) -> usize {
        if self.synchronous { 1 } else { self.requests }
    }

    /// How many bytes of data are held at a time.
    pub(crate) const fn memory(&self) -> u64 {
        self.queue_size.saturating_mul(self.connections() as u64)
    }

    pub(crate) fn retry(&self) -> Retry {
        match self.retry {
            0 => Retry::never(),
            // A server that is never up for long has to be found in time to flush what it was sent.
            seconds => Retry::default()
                .most(LONGEST_DELAY)
                .outage(Duration::from_secs(seconds)),
        }
    }
}

/// Returns the path of a file in one spelling, also if it is not there yet.
fn resolved(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().or_else(|| {
        // The parent of a bare name is empty, which is no path.
        let folder = Path::new(".").join(path.parent()?);
        Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
    })
}

fn positive(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or("expected a number of at least 1")
}

fn threads(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| *number <= MOST_THREADS);
    number.ok_or("expected a number from 0 to 1024")
}

fn request_size(text: &str) -> Result<usize, &'static str> {
    let bytes = size(text)?;
    match (SHORTEST_REQUEST..=LONGEST_REQUEST).contains(&bytes) {
        true => Ok(bytes),
        false => Err("expected a size from 4K to 32M"),
    }
}

fn sparse(text: &str) -> Result<u64, &'static str> {
    let bytes: u64 = size(text)?;
    match bytes == 0 || bytes >= SHORTEST_BLOCK && bytes.is_power_of_two() {
        true => Ok(bytes),
        false => Err("expected 0 or a power of 2 of at least 512"),
    }
}

fn rate(text: &str) -> Result<u64, &'static str> {
    let bytes = size(text)?;
    match bytes {
        0 => Err("expected at least 1 byte a second"),
        _ => Ok(bytes),
    }
}
