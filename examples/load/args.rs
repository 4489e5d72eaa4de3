//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: load (--unix PATH | --tcp HOST:PORT | --uri URI | -- COMMAND ARGS...) [options]

  --op read|write|randread|randwrite   what to do                [randread]
  --bs SIZE          bytes of one request (k, M, G)              [4k]
  --qd N             requests in flight on each connection       [64]
  --conns N          connections                                 [1]
  --seconds S | --ops N | --bytes SIZE   how long                [--seconds 5]
  --region SIZE      use only so much of the export              [all]
  --runtime current|multi   the Tokio runtime                    [current]
  --export NAME      export name
  --verify           mix reads and writes of up to --bs bytes and check every byte
  --beside SIZE      on each connection, read so much at a time beside the load
  --payload SIZE     bytes of one message; longer requests are sent as several
  --idle             read once per --qd, wait for memory to be given back, and report it
  --reuse            read into the same buffers again
  --simple           do not ask for structured replies
  --no-extended      do not ask for extended headers
  --busy-poll US     look for replies this many microseconds before sleeping (0: not at all)
  --no-latency       look at the clock at the end only
  --json             one line of JSON

Ctrl-C ends the load early: what was done until then is reported as usual, and the exit code is that
of a load that has ended by itself. A second Ctrl-C ends the program at once, with exit code 130.
";

pub(crate) struct Args {
    pub(crate) server: Server,
    pub(crate) op: Op,
    pub(crate) bs: usize,
    pub(crate) qd: usize,
    pub(crate) conns: usize,
    pub(crate) time: Option<Duration>,
    pub(crate) ops: u64,
    pub(crate) region: u64,
    pub(crate) runtime: Runtime,
    pub(crate) export: String,
    pub(crate) verify: bool,
    /// Bytes of each large read beside the load; zero for none.
    pub(crate) beside: u64,
    /// Most bytes of payload of one message.
    pub(crate) payload: Option<u32>,
    pub(crate) idle: bool,
    pub(crate) reuse: bool,
    pub(crate) simple: bool,
    pub(crate) extended: bool,
    pub(crate) latency: bool,
    pub(crate) json: bool,
    pub(crate) busy_poll: Option<u64>,
}

pub(crate) enum Server {
    Unix(PathBuf),
    Tcp(String, u16),
    Uri(String),
    Command(Vec<OsString>),
}

#[derive(Clone, Copy)]
pub(crate) enum Op {
    Read,
    Write,
    RandRead,
    RandWrite,
}

pub(crate) enum Runtime {
    Current,
    Multi,
}

impl Args {
    /// Reads the command line; `None` if help is wanted.
    pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut args = Self {
            server: Server::Command(Vec::new()),
            op: Op::RandRead,
            bs: 4096,
            qd: 64,
            conns: 1,
            time: None,
            ops: u64::MAX,
            region: u64::MAX,
            runtime: Runtime::Current,
            export: String::new(),
            verify: false,
            beside: 0,
            payload: None,
            idle: false,
            reuse: false,
            simple: false,
            extended: true,
            latency: true,
            json: false,
            busy_poll: None,
        };
        let mut bytes = None;
        let mut servers = Vec::new();
        while let Some(word) = words.next() {
            let option = word.to_string_lossy().into_owned();
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("{option} needs a value"))
            };
            let mut text = || value().map(|value| value.to_string_lossy().into_owned());
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--verify" => args.verify = true,
                "--beside" => args.beside = size(&text()?)?,
                "--payload" => {
                    let payload = u32::try_from(size(&text()?)?);
                    args.payload = Some(payload.map_err(|e| e.to_string())?);
                }
                "--idle" => args.idle = true,
                "--reuse" => args.reuse = true,
                "--simple" => args.simple = true,
                "--no-extended" => args.extended = false,
                "--no-latency" => args.latency = false,
                "--json" => args.json = true,
                "--unix" => servers.push(Server::Unix(value()?.into())),
                "--tcp" => servers.push(address(&text()?)?),
                "--uri" => servers.push(Server::Uri(text()?)),
                "--op" => args.op = op(&text()?)?,
                "--runtime" => args.runtime = runtime(&text()?)?,
                "--export" => args.export = text()?,
                "--bs" => args.bs = usize::try_from(size(&text()?)?).map_err(|e| e.to_string())?,
                "--qd" => args.qd = number(&option, &text()?)?,
                "--conns" => args.conns = number(&option, &text()?)?,
                "--seconds" => args.time = Some(seconds(&text()?)?),
                "--ops" => args.ops = number(&option, &text()?)?,
                "--bytes" => bytes = Some(size(&text()?)?),
                "--busy-poll" => args.busy_poll = Some(number(&option, &text()?)?),
                "--region" => args.region = size(&text()?)?,
                "--" => servers.push(Server::Command(words.by_ref().collect())),
                _ => return Err(format!("unknown argument {option}")),
            }
        }
        if let Some(bytes) = bytes {
            args.ops = bytes.div_ceil(args.bs.max(1) as u64);
        }
        args.check()?;
        if args.ops == u64::MAX && args.time.is_none() {
            args.time = Some(Duration::from_secs(5));
        }
        match (servers.pop(), servers.pop()) {
            (Some(_), Some(_)) => return Err("more than one server".into()),
            (Some(server), None) => args.server = server,
            (None, _) => {}
        }
        match &args.server {
            Server::Command(argv) if argv.is_empty() => {
                Err("name a server: --unix, --tcp, --uri or -- COMMAND".into())
            }
            _ => Ok(Some(args)),
        }
    }

    /// Refuses numbers with which there is nothing to do.
    fn check(&self) -> Result<(), String> {
        for (option, is_zero) in [
            ("--bs", self.bs == 0),
            ("--qd", self.qd == 0),
            ("--conns", self.conns == 0),
            ("--ops or --bytes", self.ops == 0),
            ("--region", self.region == 0),
            ("--payload", self.payload == Some(0)),
        ] {
            if is_zero {
                return Err(format!("{option} must not be 0"));
            }
        }
        if self.region < self.bs as u64 {
            return Err("--region must not be less than --bs".into());
        }
        if self.conns.checked_mul(self.qd).is_none() {
            return Err("--conns times --qd is too much".into());
        }
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = Duration::try_from_secs_f64(number("--seconds", text)?);
    match seconds {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!("--seconds {text}: a time is needed")),
    }
}

fn address(text: &str) -> Result<Server, String> {
    let (host, port) = text.rsplit_once(':').ok_or("--tcp needs HOST:PORT")?;
    Ok(Server::Tcp(host.to_owned(), number("the port", port)?))
}

fn op(text: &str) -> Result<Op, String> {
    match text {
        "read" => Ok(Op::Read),
        "write" => Ok(Op::Write),
        "randread" => Ok(Op::RandRead),
        "randwrite" => Ok(Op::RandWrite),
        _ => Err(format!("unknown operation {text}")),
    }
}

fn runtime(text: &str) -> Result<Runtime, String> {
    match text {
        "current" => Ok(Runtime::Current),
        "multi" => Ok(Runtime::Multi),
        _ => Err(format!("unknown runtime {text}")),
    }
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{what}: {text} is not a number that can be used"))
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = number("size", digits)?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} is too much"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args, String> {
        let words = words.split_whitespace().map(OsString::from);
        Args::parse(words).map(|args| args.expect("no help was asked for"))
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
            "--unix a --bs 0 --bytes 1",
            "--unix a --qd 8589934592 --conns 8589934592",
            "--unix a --uri nbd://b",
            "--tcp a:1 --unix b",
            "--unix a -- b",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn time_is_counted_in_fractions_of_seconds() {
        let args = parse("--unix a --seconds 0.25 --region 4k --payload 1").unwrap();
        assert_eq!(args.time, Some(Duration::from_millis(250)));
        assert_eq!(
            parse("--unix a").unwrap().time,
            Some(Duration::from_secs(5))
        );
        assert_eq!(parse("--unix a --ops 1").unwrap().time, None);
    }
}
