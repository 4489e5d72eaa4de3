//! What a request can look like, from where it is made and to whom: all the combinations.

use std::fmt;

use nbd_client::wire::ReplyStyle;

/// What polls the connection, and what its callers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Threads {
    /// A current-thread runtime for both.
    Current,
    /// A multi-thread runtime with so many workers for both.
    Multi(usize),
    /// Two runtimes: callers are tasks of the other one.
    Other,
    /// Callers are plain threads in `Handle::block_on`.
    Handle,
    /// Callers are plain threads with an executor that knows nothing of Tokio.
    Plain,
}

/// The way to the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    Duplex,
    Unix,
    Tcp,
    /// A child process: on its standard input, or by socket activation.
    Child,
    /// TLS over TCP, with certificates.
    Tls,
}

/// The server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    Nbdkit,
    Qemu,
    /// `testing::Server`, on a runtime of its own.
    InProcess,
    /// The same, with replies to reads in many chunks, those of several reads mixed.
    InPieces,
}

/// Where a connection leads, and how it gets there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    pub(crate) transport: Transport,
    pub(crate) program: Program,
    pub(crate) style: ReplyStyle,
}

/// What one connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) threads: Threads,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    Read,
    ReadInto,
    ReadStructured,
    /// With `DF`.
    ReadUnfragmented,
    Write,
    WriteFua,
    WriteZeroes,
    Trim,
    Cache,
    Flush,
    BlockStatus,
    /// Any of them, at random.
    Mixed,
}

pub(crate) const COMMANDS: [Command; 12] = [
    Command::Read,
    Command::ReadInto,
    Command::ReadStructured,
    Command::ReadUnfragmented,
    Command::Write,
    Command::WriteFua,
    Command::WriteZeroes,
    Command::Trim,
    Command::Cache,
    Command::Flush,
    Command::BlockStatus,
    Command::Mixed,
];

pub(crate) const DEPTHS: [usize; 5] = [1, 2, 3, 16, 64];

pub(crate) const THREADS: [Threads; 7] = [
    Threads::Current,
    Threads::Multi(1),
    Threads::Multi(2),
    Threads::Multi(4),
    Threads::Other,
    Threads::Handle,
    Threads::Plain,
];

/// Where the code or a server does something else with what is one byte longer: the smallest
/// buffer, what is sent in line, what is staged, the input and its growth, bulk data, `DF`, what
/// TLS and a duplex stream hold, what is asked for ahead, the largest buffer kept, the largest
/// payload.
const THRESHOLDS: [usize; 12] = [
    1 << 10,
    2 << 10,
    4 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    32 << 20,
];

pub(crate) const LARGEST: usize = 64 << 20;

/// More than this is not asked for at once: it is more than twice what a connection lets in flight.
const MOST: usize = 320 << 20;

/// What is done on a connection for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Load {
    pub(crate) command: Command,
    pub(crate) size: usize,
    pub(crate) depth: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) place: Place,
    pub(crate) load: Load,
}

impl Command {
    /// Whether the payload goes over the wire.
    pub(crate) const fn carries(self) -> bool {
        !matches!(
            self,
            Self::WriteZeroes | Self::Trim | Self::Cache | Self::Flush | Self::BlockStatus
        )
    }

    /// The largest size that every server takes in one message.
    pub(crate) const fn largest(self) -> usize {
        match self {
            Self::Flush => 1,
            Self::ReadUnfragmented => 64 << 10,
            Self::ReadStructured | Self::Cache => 32 << 20,
            _ => LARGEST,
        }
    }

    /// Whether there is such a thing with this style of replies.
    pub(crate) const fn exists_in(self, style: ReplyStyle) -> bool {
        !matches!(self, Self::ReadUnfragmented | Self::BlockStatus)
            || !matches!(style, ReplyStyle::Simple)
    }
}

/// Every way there is.
pub(crate) fn ways() -> Vec<Way> {
    use Program::{InPieces, InProcess, Nbdkit, Qemu};
    use Transport::{Child, Duplex, Tcp, Tls, Unix};
    let mut ways = Vec::new();
    for (transport, programs) in [
        (Duplex, &[InProcess, InPieces][..]),
        (Unix, &[Nbdkit, Qemu, InProcess, InPieces]),
        (Tcp, &[Nbdkit, Qemu, InProcess, InPieces]),
        (Child, &[Nbdkit, Qemu]),
        (Tls, &[Nbdkit, Qemu]),
    ] {
        for &program in programs {
            for style in [
                ReplyStyle::Simple,
                ReplyStyle::Structured,
                ReplyStyle::Extended,
            ] {
                // nbdkit has no extended headers, nor has an old qemu-nbd; simple replies are whole.
                let has = match (program, style) {
                    (Nbdkit, ReplyStyle::Extended) | (InPieces, ReplyStyle::Simple) => false,
                    (Qemu, ReplyStyle::Extended) => std::env::var_os("NBD_PLAIN_WITHOUT").is_none(),
                    _ => true,
                };
                if has {
                    ways.push(Way {
                        transport,
                        program,
                        style,
                    });
                }
            }
        }
    }
    ways
}

pub(crate) fn sizes() -> Vec<usize> {
    let around = THRESHOLDS.iter().flat_map(|&size| size - 1..=size + 1);
    let mut sizes = vec![1, 512];
    sizes.extend(around);
    sizes.extend([LARGEST - 1, LARGEST]);
    sizes
}

pub(crate) fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    for command in COMMANDS {
        for size in sizes() {
            for depth in DEPTHS {
                let fits = !command.carries() || depth * size <= MOST;
                if size <= command.largest() && fits {
                    loads.push(Load {
                        command,
                        size,
                        depth,
                    });
                }
            }
        }
    }
    loads
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            program,
            style,
        } = self;
        write!(f, "{transport:?}, {program:?}, {style:?}")
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            size,
            depth,
        } = self;
        write!(f, "{command:?} of {size} bytes, depth {depth}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, load } = self;
        write!(f, "{:?}, {}, {load}", place.threads, place.way)
    }
}
