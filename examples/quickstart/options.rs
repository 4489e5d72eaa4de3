//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nbd_client::Uri;

pub const HELP: &str = "\
Connects to an NBD server, puts a mixed load on it from many tasks at once, and
checks every byte that comes back.

Usage: quickstart [options] [PATH | HOST:PORT | URI | -- COMMAND ARGUMENT...]

Without a server it runs its own, as a child process. PATH is a Unix socket.
COMMAND is a server that speaks on its standard input and output, such as
`nbdkit -s memory 64M`.

Each task uses a range of its own, from the beginning of the export. It is
overwritten, and zeroed at the end. If it contains anything but zeroes, nothing
is written, unless you say --overwrite. A read-only export is only read.

Options:
  --export NAME       export to use [the server's default]; a URI names its own
  --tasks N           tasks, each with one request in flight [64]
  --seconds N         how long to go on, fractions allowed [3]
  --block-size BYTES  size of the largest request [64K]
  --region BYTES      size of the range of each task [1M]
  --seed N            another order of requests, and other data [1]
  --overwrite         destroy what the export contains
  --help              print this

BYTES may end in K, M or G. The exit code is 0 if all went well and every byte
was as written, 1 if not, and 2 if the command line makes no sense.";

/// The hidden argument that makes this program a server.
pub const SERVE: &str = "--serve";

/// What the command line asks for.
pub enum Invocation {
    Run(Options),
    Help,
    Serve,
}

/// How to put the load on what.
pub struct Options {
    pub target: Target,
    pub export: String,
    pub tasks: u32,
    pub duration: Duration,
    /// What was asked for, if anything.
    pub block_size: Option<usize>,
    pub region: Option<usize>,
    pub seed: u64,
    pub overwrite: bool,
}

/// Where the server is.
pub enum Target {
    /// This program, as a child process.
    Own,
    Unix(PathBuf),
    Tcp(String, u16),
    Uri(Box<Uri>),
    Command(Vec<OsString>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("a server of its own"),
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Uri(uri) => uri.fmt(f),
            Self::Command(argv) => f.write_str(&argv[0].to_string_lossy()),
        }
    }
}

pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Invocation, String> {
    let mut options = Options {
        target: Target::Own,
        export: String::new(),
        tasks: 64,
        duration: Duration::from_secs(3),
        block_size: None,
        region: None,
        seed: 1,
        overwrite: false,
    };
    while let Some(arg) = args.next() {
        let name = arg.to_string_lossy().into_owned();
        let mut value = || match args.next().map(OsString::into_string) {
            Some(Ok(value)) => Ok(value),
            Some(Err(value)) => Err(format!("{name} {value:?}: not text")),
            None => Err(format!("{name} needs a value")),
        };
        match &*name {
            "--help" | "-h" => return Ok(Invocation::Help),
            SERVE => return Ok(Invocation::Serve),
            "--export" => options.export = value()?,
            "--tasks" => options.tasks = number(&name, &value()?)?,
            "--seconds" => options.duration = seconds(&name, &value()?)?,
            "--block-size" => options.block_size = Some(bytes(&name, &value()?)?),
            "--region" => options.region = Some(bytes(&name, &value()?)?),
            "--seed" => options.seed = number(&name, &value()?)?,
            "--overwrite" => options.overwrite = true,
            "--" => set_target(&mut options, Target::Command(args.by_ref().collect()))?,
            _ if name.starts_with('-') => return Err(format!("unknown option {name}")),
            _ => {
                let target = address(arg)?;
                set_target(&mut options, target)?;
            }
        }
    }
    if options.tasks == 0 {
        return Err("--tasks 0: at least 1".into());
    }
    Ok(Invocation::Run(options))
}

fn set_target(options: &mut Options, target: Target) -> Result<(), String> {
    if matches!(&target, Target::Command(argv) if argv.is_empty()) {
        return Err("-- needs a command".into());
    }
    if !matches!(options.target, Target::Own) {
        return Err("more than one server".into());
    }
    options.target = target;
    Ok(())
}

/// Tells a path from a host and port: by a slash, by a port, or by looking.
fn address(arg: OsString) -> Result<Target, String> {
    let text = arg.to_string_lossy();
    if Uri::is_uri(&text) {
        let uri = text.parse::<Uri>();
        return uri
            .map(|uri| Target::Uri(Box::new(uri)))
            .map_err(|why| format!("{text}: {why}"));
    }
    if text.contains('/') {
        return Ok(Target::Unix(arg.into()));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        // An IPv6 address stands in brackets.
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        return match port.parse() {
            Ok(port) if !host.is_empty() => Ok(Target::Tcp(host.into(), port)),
            _ => Err(format!("{text} is not a host and a port")),
        };
    }
    if Path::new(&arg).exists() {
        return Ok(Target::Unix(arg.into()));
    }
    Err(format!(
        "{text} is neither a socket that exists nor a host with a port"
    ))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    let number = value.parse();
    number.map_err(|_| format!("{name} {value}: not a number, or too large"))
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    let duration = Duration::try_from_secs_f64(number(name, value)?);
    duration.map_err(|error| format!("{name} {value}: {error}"))
}

fn bytes(name: &str, value: &str) -> Result<usize, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&value[..value.len() - 1], 1 << 30),
        _ => (value, 1),
    };
    let Ok(count) = digits.parse::<usize>() else {
        let expected = "expected a size such as 512, 64K or 1M";
        return Err(format!("{name} {value}: {expected}"));
    };
    match count.checked_mul(unit) {
        Some(0) => Err(format!("{name} {value}: at least 1")),
        Some(bytes) => Ok(bytes),
        None => Err(format!("{name} {value}: too large")),
    }
}
