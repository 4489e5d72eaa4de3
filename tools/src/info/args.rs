//! The command line.

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Args};
use nbd_client::{Connection, context};

use super::Result;
use crate::colours::Colours;
use crate::place::Place;
use crate::size::size;
use crate::stall::StallArgs;

const AFTER_HELP: &str = "\
The server is an NBD URI, or a command in brackets that is started by socket
activation: [ nbdkit memory 1M ].

--is, --can and --has print nothing and exit with 0 for yes, 2 for no and 1 for
a failure; --isnt, --cannot and --hasnt exit with 0 for no and 2 for yes. All
else exits with 0 or 1, as nbdinfo does.";

/// What is asked for in place of a map.
const OTHERS: [&str; 9] = [
    "size", "uri", "list", "is", "isnt", "can", "cannot", "has", "hasnt",
];

/// Prints what an NBD server says about itself and its exports, as nbdinfo does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    mode: ModeArgs,
    /// With --map: print how many bytes there are of each type
    #[arg(long, alias = "total", requires = "map", conflicts_with_all = OTHERS)]
    totals: bool,
    /// With --map: begin at this byte
    #[arg(long, value_name = "SIZE", requires = "map", conflicts_with_all = OTHERS, value_parser = size::<u64>, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// With --map: look at so many bytes [default: to the end of the export]
    #[arg(long, value_name = "SIZE", requires = "map", conflicts_with_all = OTHERS, value_parser = size::<u64>)]
    length: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Look at the first bytes of each export [default: unless with --list]
    #[arg(long, overrides_with = "no_content")]
    content: bool,
    /// Do not look at the first bytes of an export
    #[arg(long, overrides_with = "content")]
    no_content: bool,
    #[command(flatten)]
    colours: Colours,
    #[command(flatten)]
    pub(crate) stall: StallArgs,
    /// Where the server is
    #[arg(value_name = "URI | [ COMMAND ARG... ]", value_parser = OsStringValueParser::new().try_map(Place::parse))]
    pub(crate) server: Place,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct ModeArgs {
    /// Print the size of the export in bytes
    #[arg(long)]
    size: bool,
    /// Print the URI of the export in its canonical form
    #[arg(long)]
    uri: bool,
    /// Describe every export that the server lists
    #[arg(short = 'L', long)]
    list: bool,
    /// Print the map of the export in a metadata context [default: base:allocation]; can be given
    /// several times
    #[arg(
        long,
        action = ArgAction::Append,
        value_name = "CONTEXT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = context::BASE_ALLOCATION,
    )]
    map: Vec<String>,
    /// Ask whether the export or the connection is: read-only, rotational, tls
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    is: Option<Question>,
    /// Ask whether it is not
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    isnt: Option<Question>,
    /// Ask whether one can: connect, read, write, cache, df, fast-zero, flush, fua, multi-conn,
    /// trim, zero, block-status-payload
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    can: Option<Question>,
    /// Ask whether one cannot
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    cannot: Option<Question>,
    /// Ask whether the connection has: structured-reply (sr), extended-headers (eh)
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    has: Option<Question>,
    /// Ask whether it has not
    #[arg(long, value_name = "WORD", value_parser = Question::parse)]
    hasnt: Option<Question>,
}

/// What to print a map of.
#[derive(Debug)]
pub(crate) struct MapOf<'a> {
    pub(crate) contexts: &'a [String],
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes; to the end if not given.
    pub(crate) length: Option<u64>,
    pub(crate) totals: bool,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Mode<'a> {
    Show,
    List,
    Size,
    Uri,
    Map(MapOf<'a>),
    /// A question, and the answer that is hoped for.
    Question(Question, bool),
}

impl InfoArgs {
    pub(crate) fn mode(&self) -> Mode<'_> {
        match &self.mode {
            ModeArgs { size: true, .. } => Mode::Size,
            ModeArgs { list: true, .. } => Mode::List,
            ModeArgs { uri: true, .. } => Mode::Uri,
            ModeArgs { map, .. } if !map.is_empty() => Mode::Map(MapOf {
                contexts: map,
                offset: self.offset,
                length: self.length,
                totals: self.totals,
            }),
            mode => {
                let affirmed = mode.is.or(mode.can).or(mode.has);
                let denied = mode.isnt.or(mode.cannot).or(mode.hasnt);
                match (affirmed, denied) {
                    (Some(question), _) => Mode::Question(question, true),
                    (None, Some(question)) => Mode::Question(question, false),
                    (None, None) => Mode::Show,
                }
            }
        }
    }

    /// Whether to look at the first bytes of exports, if the caller said so.
    pub(crate) const fn content(&self) -> Option<bool> {
        match (self.content, self.no_content) {
            (false, false) => None,
            (content, _) => Some(content),
        }
    }

    /// Whether to print in colours.
    pub(crate) fn colours(&self) -> bool {
        self.colours.are_wanted()
    }
}

/// A question about a connection or its export that is answered with yes or no.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question(fn(&Connection) -> nbd_client::Result<bool>);

impl Question {
    fn parse(word: &str) -> Result<Self, &'static str> {
        // Hyphens, underscores and spaces are as good as nothing.
        let plain = word.replace(['-', '_', ' '], "").to_ascii_lowercase();
        Ok(Self(match plain.as_str() {
            "connect" | "read" => |_| Ok(true),
            "tls" => |conn| Ok(conn.is_tls()),
            "sr" | "structured" | "structuredreply" | "structuredreplies" => {
                |conn| Ok(conn.protocol()?.structured_replies)
            }
            "eh" | "extended" | "extendedheader" | "extendedheaders" => {
                |conn| Ok(conn.protocol()?.extended_headers)
            }
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
