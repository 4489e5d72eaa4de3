//! The command line.

use std::ffi::OsString;

use clap::Args;
use nbd_client::{Connection, context};

use super::Result;

const AFTER_HELP: &str = "\
The server is an NBD URI, or a command in brackets that is started by socket
activation: [ nbdkit memory 1M ].

--is, --can and --has print nothing and exit with 0 for yes, 2 for no and 1 for
a failure. All else exits with 0 or 1, as nbdinfo does.";

/// Prints what an NBD server says about itself and its exports, as nbdinfo does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    mode: ModeArgs,
    /// With --map: print how many bytes there are of each type
    #[arg(long, alias = "total", requires = "map")]
    totals: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Look at the first bytes of each export [default: unless with --list]
    #[arg(long, overrides_with = "no_content")]
    content: bool,
    /// Do not look at the first bytes of an export
    #[arg(long, overrides_with = "content")]
    no_content: bool,
    /// Accepted and ignored: the output has no colours
    #[arg(long, aliases = ["colors", "colour", "colours"])]
    color: bool,
    /// Accepted and ignored
    #[arg(long, aliases = ["no-colors", "no-colour", "no-colours"])]
    no_color: bool,
    /// Where the server is
    #[arg(value_name = "URI | [ COMMAND ARG... ]", required = true)]
    server: Vec<OsString>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct ModeArgs {
    /// Print the size of the export in bytes
    #[arg(long)]
    size: bool,
    /// Describe every export that the server lists
    #[arg(short = 'L', long)]
    list: bool,
    /// Print the map of the export in a metadata context [default: base:allocation]
    #[arg(
        long,
        value_name = "CONTEXT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = context::BASE_ALLOCATION,
    )]
    map: Option<String>,
    /// Ask whether the export or the connection is: read-only, rotational, tls
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    is: Option<Question>,
    /// Ask whether one can: connect, read, write, cache, df, fast-zero, flush, fua, multi-conn,
    /// trim, zero, block-status-payload
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    can: Option<Question>,
    /// Ask whether the connection has: structured-reply, extended-headers
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    has: Option<Question>,
}

/// Where the server is.
#[derive(Debug)]
pub(crate) enum Target {
    Uri(String),
    Command(Vec<OsString>),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Mode<'a> {
    Show,
    List,
    Size,
    Map { context: &'a str, totals: bool },
    Question(Question),
}

impl InfoArgs {
    pub(crate) fn mode(&self) -> Mode<'_> {
        match &self.mode {
            ModeArgs { size: true, .. } => Mode::Size,
            ModeArgs { list: true, .. } => Mode::List,
            ModeArgs {
                map: Some(context), ..
            } => Mode::Map {
                context,
                totals: self.totals,
            },
            mode => match mode.is.or(mode.can).or(mode.has) {
                Some(question) => Mode::Question(question),
                None => Mode::Show,
            },
        }
    }

    /// Whether to look at the first bytes of exports, if the caller said so.
    pub(crate) const fn content(&self) -> Option<bool> {
        match (self.content, self.no_content) {
            (false, false) => None,
            (content, _) => Some(content),
        }
    }

    pub(crate) fn target(&self) -> Result<Target> {
        match &self.server[..] {
            [open, command @ .., close] if open == "[" && close == "]" && !command.is_empty() => {
                Ok(Target::Command(command.to_vec()))
            }
            [open, ..] if open == "[" => Err("expected a command between [ and ]".into()),
            [uri] => match uri.to_str() {
                Some(uri) => Ok(Target::Uri(uri.to_owned())),
                None => Err(format!("{uri:?} is not a URI").into()),
            },
            _ => Err("expected one URI or one command in brackets".into()),
        }
    }
}

/// Puts `--` before a command in brackets, so that its options are not taken for ours.
pub(crate) fn separate_command(words: &mut Vec<OsString>) {
    let first = words.iter().position(|word| word == "--" || word == "[");
    if let Some(at) = first.filter(|&at| words[at] == "[") {
        words.insert(at, "--".into());
    }
}

/// A question about a connection or its export that is answered with yes or no.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question(fn(&Connection) -> nbd_client::Result<bool>);

impl Question {
    fn parse(word: &str) -> Result<Self, &'static str> {
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
            _ => return Err("expected a word such as read-only, tls, write or fast-zero"),
        }))
    }

    pub(crate) fn answer(&self, conn: &Connection) -> Result<bool> {
        Ok(self.0(conn)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn separated(words: &str) -> String {
        let mut words = words.split_whitespace().map(OsString::from).collect();
        separate_command(&mut words);
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn options_of_a_command_are_not_ours() {
        for (given, wanted) in [
            ("info [ nbdkit -r ]", "info -- [ nbdkit -r ]"),
            ("info --map -- [ a -- b ]", "info --map -- [ a -- b ]"),
            ("info nbd://a", "info nbd://a"),
        ] {
            assert_eq!(separated(given), wanted);
        }
    }
}
