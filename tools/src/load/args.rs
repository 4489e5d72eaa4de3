//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::size::size;
use crate::stall::StallArgs;

/// How long to go on if the command line does not say.
const DEFAULT_TIME: Duration = Duration::from_secs(5);

/// The most requests that a load can have in flight.
const MOST_IN_FLIGHT: usize = 1 << 20;

/// clap leaves out the two dashes before a command.
const USAGE: &str =
    "nbd load [OPTIONS] <--unix <PATH> | --tcp <HOST:PORT> | --uri <URI> | -- <COMMAND>...>";

const AFTER_HELP: &str = "\
SIZE is a number of bytes, such as 512, 64K or 1M.

Ctrl-C, SIGTERM and SIGHUP end the load early: what was done until then is
reported as usual, and the exit code is that of a load that has ended by itself.
A second Ctrl-C or SIGTERM ends it at once, with exit code 130 or 143.";

/// Puts a load on a server and reports speed and latencies, as fio does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What to do
    #[arg(long, value_enum, default_value = "randread")]
    pub(crate) op: Op,
    /// Bytes of one request
    #[arg(long, value_name = "SIZE", default_value = "4k", value_parser = size::<usize>)]
    pub(crate) bs: usize,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) qd: usize,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) conns: usize,
    /// Seconds until the load ends [default: 5, unless with --ops or --bytes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Requests after which the load ends
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// Bytes after which the load ends
    #[arg(long, value_name = "SIZE", value_parser = size::<u64>, conflicts_with = "ops")]
    bytes: Option<u64>,
    /// Use only the first SIZE bytes of the export [default: all]
    #[arg(long, value_name = "SIZE", value_parser = size::<u64>)]
    pub(crate) region: Option<u64>,
    /// The Tokio runtime
    #[arg(long, value_enum, default_value = "current")]
    pub(crate) runtime: Runtime,
    /// Name of the export, unless it is in the URI [default: the default export of the server]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "uri"
    )]
    pub(crate) export: String,
    /// Mix reads and writes of up to --bs bytes and check every byte
    #[arg(long)]
    pub(crate) verify: bool,
    /// On each connection, read SIZE bytes at a time beside the load
    #[arg(long, value_name = "SIZE", default_value = "0", hide_default_value = true, value_parser = size::<u64>)]
    pub(crate) beside: u64,
    /// Payload of one message in bytes; longer requests are sent as several
    #[arg(long, value_name = "SIZE", value_parser = size::<u32>)]
    pub(crate) payload: Option<u32>,
    /// Read once per --qd, wait for memory to be given back, and report memory
    #[arg(long)]
    pub(crate) idle: bool,
    /// Read into the same buffers again
    #[arg(long)]
    pub(crate) reuse: bool,
    /// Do not ask for structured replies
    #[arg(long)]
    pub(crate) simple: bool,
    /// Do not ask for extended headers
    #[arg(long)]
    pub(crate) no_extended: bool,
    /// Poll for replies for this many microseconds before sleeping (0: never poll)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) busy_poll: Option<u64>,
    /// Do not measure latencies: look at the clock at the end only
    #[arg(long)]
    pub(crate) no_latency: bool,
    #[command(flatten)]
    pub(crate) stall: StallArgs,
    /// Print the report as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct ServerArgs {
    /// Connect to a Unix socket
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Connect over TCP
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    tcp: Option<(String, u16)>,
    /// Connect to an NBD URI
    #[arg(long, value_name = "URI")]
    uri: Option<String>,
    /// Run a server that speaks on its standard input and output
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Where the server is.
pub(crate) enum Server<'a> {
    Unix(&'a Path),
    Tcp(&'a str, u16),
    Uri(&'a str),
    Command(&'a [OsString]),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Op {
    Read,
    Write,
    RandRead,
    RandWrite,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Runtime {
    Current,
    Multi,
}

impl LoadArgs {
    pub(crate) fn server(&self) -> Server<'_> {
        match &self.server {
            ServerArgs {
                unix: Some(path), ..
            } => Server::Unix(path),
            ServerArgs {
                tcp: Some((host, port)),
                ..
            } => Server::Tcp(host, *port),
            ServerArgs { uri: Some(uri), .. } => Server::Uri(uri),
            ServerArgs { command, .. } => Server::Command(command),
        }
    }

    /// After how many requests the load ends; `u64::MAX` if only time counts.
    pub(crate) fn ops(&self) -> u64 {
        let from_bytes = self
            .bytes
            .map(|bytes| bytes.div_ceil(self.bs.max(1) as u64));
        from_bytes.or(self.ops).unwrap_or(u64::MAX)
    }

    /// After what time the load ends, if time counts.
    pub(crate) fn time(&self) -> Option<Duration> {
        match self.seconds {
            None if self.ops() == u64::MAX => Some(DEFAULT_TIME),
            seconds => seconds,
        }
    }

    /// Refuses numbers with which there is nothing to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (option, is_zero) in [
            ("--bs", self.bs == 0),
            ("--qd", self.qd == 0),
            ("--conns", self.conns == 0),
            ("--ops or --bytes", self.ops() == 0),
            ("--region", self.region == Some(0)),
            ("--payload", self.payload == Some(0)),
        ] {
            if is_zero {
                return Err(format!("{option} must not be 0"));
            }
        }
        if self.region.is_some_and(|region| region < self.bs as u64) {
            return Err("--region must not be less than --bs".into());
        }
        let in_flight = self.conns.checked_mul(self.qd);
        if in_flight.is_none_or(|requests| requests > MOST_IN_FLIGHT) {
            return Err(format!(
                "--conns times --qd must not be more than {MOST_IN_FLIGHT}"
            ));
        }
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let time = text.parse().ok().map(Duration::try_from_secs_f64);
    match time {
        Some(Ok(time)) if !time.is_zero() => Ok(time),
        _ => Err("expected a number of seconds such as 5 or 0.5"),
    }
}

fn address(text: &str) -> Result<(String, u16), &'static str> {
    let address = text.rsplit_once(':');
    let address = address.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    address.ok_or("expected HOST:PORT")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn parse(words: &str) -> Result<LoadArgs, String> {
        let words = std::iter::once("load").chain(words.split_whitespace());
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        program.args.check().map(|()| program.args)
    }

    #[test]
    fn errors_name_the_option_its_value_and_what_is_expected() {
        for (words, option, why) in [
            (
                "--bs K",
                "'K' for '--bs <SIZE>'",
                "expected a size such as 512, 64K or 1M",
            ),
            ("--payload 4G", "'4G' for '--payload <SIZE>'", "too large"),
            (
                "--region 99999999999G",
                "for '--region <SIZE>'",
                "too large",
            ),
            (
                "--seconds nan",
                "'nan' for '--seconds <SECONDS>'",
                "expected a number of seconds",
            ),
            (
                "--tcp host",
                "'host' for '--tcp <HOST:PORT>'",
                "expected HOST:PORT",
            ),
        ] {
            let error = parse(&format!("--unix a {words}")).unwrap_err();
            assert!(error.contains(option) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn sizes_may_end_in_a_unit() {
        for (text, bytes) in [
            ("512", 512),
            ("4k", 4096),
            ("64K", 65536),
            ("1M", 1 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(size::<u64>(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "",
            "--",
            "--unix a --seconds -5",
            "--unix a --seconds nan",
            "--unix a --seconds inf",
            "--unix a --seconds 1e400",
            "--unix a --seconds 0",
            "--unix a --region 0",
            "--unix a --region 512",
            "--unix a --payload 0",
            "--unix a --payload 4G",
            "--unix a --ops 0",
            "--unix a --bytes 0",
            "--unix a --ops 1 --bytes 1",
            "--unix a --bs 0 --bytes 1",
            "--unix a --qd 8589934592 --conns 8589934592",
            "--unix a --uri nbd://b",
            "--uri nbd://b --export c",
            "--tcp a:1 --unix b",
            "--unix a -- b",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn time_is_counted_in_fractions_of_seconds() {
        let args = parse("--unix a --seconds 0.25 --region 4k --payload 1").unwrap();
        assert_eq!(args.time(), Some(Duration::from_millis(250)));
        assert_eq!(
            parse("--unix a").unwrap().time(),
            Some(Duration::from_secs(5))
        );
        assert_eq!(parse("--unix a --ops 1").unwrap().time(), None);
    }
}
