//! The command line.

use std::ffi::OsString;

use nbd_client::{Connection, context};

use crate::Result;

pub(crate) const USAGE: &str = "\
usage: info [--json] NBD-URI | [ CMD ARGS ... ]
       info --size NBD-URI | [ CMD ARGS ... ]
       info --is read-only|rotational|tls NBD-URI | [ CMD ARGS ... ]
       info --can connect|cache|df|fast-zero|... NBD-URI | [ CMD ARGS ... ]
       info --has structured-reply|extended-headers NBD-URI | [ CMD ARGS ... ]
       info --map[=CONTEXT] [--totals] [--json] NBD-URI | [ CMD ARGS ... ]
       info -L|--list [--json] NBD-URI | [ CMD ARGS ... ]

  --content, --no-content   whether to look at the first bytes of an export
                            (by default with everything but --list)
  --color, --no-color       taken and ignored: the output has no colours
  --help, -V, --version

--is, --can and --has print nothing and exit with 0 for yes, 2 for no and 1 for
a failure.
";

/// Where the server is.
#[derive(Debug)]
pub(crate) enum Target {
    Uri(String),
    Command(Vec<OsString>),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Mode {
    Show,
    List,
    Size,
    Map { context: String, totals: bool },
    Question(Question),
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) json: bool,
    pub(crate) content: Option<bool>,
    pub(crate) target: Target,
}

/// What the command line asks for.
pub(crate) enum Command {
    Help,
    Version,
    Run(Args),
}

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command> {
        let mut args = args.peekable();
        let (mut json, mut content, mut totals) = (false, None, false);
        let mut modes = Vec::new();
        let mut targets = Vec::new();
        while let Some(arg) = args.next() {
            let text = arg.to_str().unwrap_or_default();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (text, None),
            };
            match name {
                "--help" => return Ok(Command::Help),
                "-V" | "--version" => return Ok(Command::Version),
                "--json" => json = true,
                "--content" => content = Some(true),
                "--no-content" => content = Some(false),
                "--total" | "--totals" => totals = true,
                "--color" | "--colors" | "--colour" | "--colours" => {}
                "--no-color" | "--no-colors" | "--no-colour" | "--no-colours" => {}
                "-L" | "--list" => modes.push(Mode::List),
                "--size" => modes.push(Mode::Size),
                "--map" => modes.push(Mode::Map {
                    context: value.unwrap_or(context::BASE_ALLOCATION).to_owned(),
                    totals: false,
                }),
                "--is" | "--can" | "--has" => {
                    let next = || args.next().and_then(|next| next.into_string().ok());
                    let word = value.map(str::to_owned).or_else(next);
                    let word = word.ok_or_else(|| format!("{name} needs to know what"))?;
                    modes.push(Mode::Question(Question::parse(name, &word)?));
                }
                "--" => {}
                "[" => {
                    let mut command: Vec<_> = args.by_ref().collect();
                    if command.pop().is_none_or(|end| end != "]") || command.is_empty() {
                        return Err("a command stands between [ and ]".into());
                    }
                    targets.push(Target::Command(command));
                }
                _ if name.starts_with('-') => return Err(format!("no option {name:?}").into()),
                _ => match arg.into_string() {
                    Ok(uri) => targets.push(Target::Uri(uri)),
                    Err(arg) => return Err(format!("{arg:?} is no URI").into()),
                },
            }
        }
        if modes.len() > 1 {
            return Err("only one thing can be asked for at a time".into());
        }
        let mut mode = modes.pop().unwrap_or(Mode::Show);
        match &mut mode {
            Mode::Map { totals: wanted, .. } => *wanted = totals,
            _ if totals => return Err("--totals goes with --map".into()),
            _ => {}
        }
        match (targets.pop(), targets.pop()) {
            (Some(target), None) => Ok(Command::Run(Self {
                mode,
                json,
                content,
                target,
            })),
            _ => Err("exactly one URI or command is needed".into()),
        }
    }
}

/// A question about a connection or its export that is answered with yes or no.
#[derive(Debug)]
pub(crate) struct Question(fn(&Connection) -> nbd_client::Result<bool>);

impl Question {
    fn parse(option: &str, word: &str) -> Result<Self> {
        // Hyphens and underscores are as good as nothing.
        let plain = word.replace(['-', '_'], "").to_ascii_lowercase();
        Ok(Self(match plain.as_str() {
            "connect" | "read" => |_| Ok(true),
            "tls" => |conn| Ok(conn.is_tls()),
            "structuredreply" | "structuredreplies" => {
                |conn| Ok(conn.protocol()?.structured_replies)
            }
            "extendedheaders" | "extendedheader" => |conn| Ok(conn.protocol()?.extended_headers),
            "readonly" => |conn| Ok(conn.export()?.is_read_only()),
            "write" => |conn| Ok(!conn.export()?.is_read_only()),
            "rotational" => |conn| Ok(conn.export()?.is_rotational()),
            "cache" => |conn| Ok(conn.export()?.can_cache()),
            "df" => |conn| Ok(conn.export()?.can_df()),
            "fastzero" => |conn| Ok(conn.export()?.can_fast_zero()),
            "flush" => |conn| Ok(conn.export()?.can_flush()),
            "fua" => |conn| Ok(conn.export()?.can_fua()),
            "multiconn" => |conn| Ok(conn.export()?.can_multi_conn()),
            "trim" => |conn| Ok(conn.export()?.can_trim()),
            "zero" => |conn| Ok(conn.export()?.can_zero()),
            "blockstatuspayload" => |conn| Ok(conn.export()?.can_block_status_payload()),
            _ => return Err(format!("nothing is known of {option} {word}").into()),
        }))
    }

    pub(crate) fn answer(&self, conn: &Connection) -> Result<bool> {
        Ok(self.0(conn)?)
    }
}
