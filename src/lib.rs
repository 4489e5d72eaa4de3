//! An async client for NBD, the Network Block Device protocol.
//!
//! NBD gives a program access to the bytes of a disk over a socket: read, write, zero, trim, and
//! find out where data is. This crate talks to any server — nbdkit, qemu-nbd, nbd-server, or your
//! own — from any number of Tokio tasks at once over one connection, without `unsafe`.
//!
//! ```
//! # use nbd_client::testing;
//! use nbd_client::Connection;
//!
//! #[tokio::main]
//! async fn main() -> nbd_client::Result<()> {
//!     # /*
//!     let conn = Connection::connect("nbd://localhost").await?;
//!     # */
//!     # let server = testing::Server::new(testing::Export::new(1 << 20));
//!     # let conn = Connection::new();
//!     # conn.connect_stream(server.connect()).await?;
//!     conn.write(4096, "hello").await?;
//!     conn.flush().await?;
//!     assert_eq!(&conn.read(4096, 5).await?[..], b"hello");
//!     conn.disconnect().await
//! }
//! ```
//!
//! `nbdkit memory 1G` is a server to try it with. The program needs
//! Tokio, with the features `macros` and `rt-multi-thread`. The other examples of these pages run with
//! servers in memory, which are behind the feature `test-util`.
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`Connection`] | The handle: connecting, commands, state. [`Builder`] sets it up. |
//! | [`Request`], [`Pending`] | A command before and after it is sent. [`op`] has the commands as types. |
//! | [`Disk`] | The same commands over connections that come and go, without undoing newer data. |
//! | [`Chunks`], [`Chunk`] | A read that arrives piece by piece. |
//! | [`ReadStream`], [`Pieces`] | The bytes of a range in order, read ahead; with zeroes apart. |
//! | [`WriteSink`] | Data and zeroes to write, a bounded amount at a time. |
//! | [`copy()`] | A whole disk to another place: sparse, parallel, and with checkpoints. |
//! | [`Cursor`] | An export, or a part of it, as a file of Tokio: read, write, seek. |
//! | [`Extents`], [`Extent`] | Where data is, and where it was changed; [`context`] names the metadata contexts. |
//! | [`Export`] | What the server says about the disk: size, features, block sizes. |
//! | [`Limits`] | How much a server may send before it counts as hostile. |
//! | [`Uri`], [`UriPolicy`] | The address of a server as text, and what such text may ask for. |
//! | [`TlsMode`], [`TlsUpgrade`], [`TlsInfo`] | TLS: when to use it, which implementation, and what was negotiated. |
//! | [`Error`], [`ErrorKind`] | What failed, and who is at fault. |
//! | [`wire`] | The protocol's numbers and messages, for authors of servers and tests. |
//! | `blocking` | With the feature `blocking`: a disk for programs that are not async. |
//! | `testing` | With the feature `test-util`: an in-process server, and a scripted peer. |
//!
//! For programs that use libnbd, `docs/libnbd.md` in the repository has a row for each of its functions,
//! constants and tools. The search of this documentation finds items by the names of libnbd, too.
//!
//! # How it behaves
//!
//! **Connecting.** A [`Connection`] is created, and then connected once. The `connect_*` calls wait
//! until commands can be sent; their `aio_connect_*` twins return at once, and any task can look at
//! the [`state`](Connection::state) meanwhile. The handshake negotiates everything that the server
//! offers: [`Builder`] can leave parts out, and in [`opt_mode`](Builder::opt_mode) the program
//! negotiates by hand.
//!
//! **When a request is sent.** A command creates a [`Request`], which does nothing until it is
//! awaited or polled. Then it is checked against the export; a request that cannot succeed fails
//! without any traffic. Then the whole request is queued, and from there it is sent even if its
//! future is dropped; one that is too long for a message is queued [part by part](Pending#cancel-safety).
//!
//! **Ordering.** The server may carry out and answer the requests of one connection in any order. A
//! request that must see the effect of another one must be made after the answer to that one. A
//! [`flush`](Connection::flush) is the exception: it waits for the writes that were begun before
//! it, and covers them.
//!
//! **Durability.** A write that succeeds is acknowledged, and durable only with `fua` or after a
//! [`flush`](Connection::flush) that succeeds.
//! [`has_unflushed_writes`](Connection::has_unflushed_writes) says whether acknowledged writes
//! still lack a flush; the [error](Error::has_unflushed_writes) that ends the connection says so
//! too. The README says in full what success means, and what is known after a failure.
//!
//! **Cancellation.** Every future of this crate can be dropped at any time; the documentation of
//! each says under *Cancel safety* what happens then. A request that was not sent is never sent. A
//! request that was sent is finished in the background, and its answer is checked and thrown away.
//!
//! **Backpressure.** At most [`max_in_flight`](Builder::max_in_flight) requests and
//! [`max_in_flight_bytes`](Builder::max_in_flight_bytes) of payload are in flight. Further requests
//! wait in line, and are sent when it is their turn, even if their callers are not polled then.
//! Answers are read at all times, so a slow caller does not hold up others.
//!
//! **The end.** [`disconnect`](Connection::disconnect) waits for requests in flight, and then
//! disconnects. Dropping the last handle disconnects at once, in the background. A failure ends the
//! connection for good: every request, waiting or new, gets the same cause, and so does
//! [`closed`](Connection::closed). A connection never repeats a request or reconnects by itself: a [`Disk`]
//! does.
//!
//! **Errors.** [`Error`] says who is at fault. A mistake of the caller, a request that failed on
//! the server, and a refusal in option mode leave the connection usable; every other error ends it.
//! [`Error::delivery`] says whether a request may have reached the server, which decides whether a
//! write may be repeated.
//!
//! **Runtime.** Connecting needs a Tokio runtime with I/O and time enabled, and runs one task on it
//! for each connection. Handles can be used, and requests awaited, on any thread; a
//! [`timeout`](Request::timeout) needs a Tokio runtime on that thread, too. It moves to the runtime in
//! which the request is polled; on a thread without one, that of an earlier poll must still live.
//!
//! # Logging
//!
//! Events go to [`tracing`](https://docs.rs/tracing). Without a subscriber that wants them, each
//! costs one comparison. The task of a connection runs in the span `nbd` (level debug), a child of
//! the span in which it was connected. The fields of the span are `peer`, the address as it was
//! given, if there is one; `export`, the requested name; and over TCP `address`, the one that
//! answered.
//!
//! | Level | Event |
//! |---|---|
//! | warn | A connection that was ready is lost, with the cause. |
//! | debug | Connecting, greeted, ready (and what was agreed), ended; a refused option; the end of a server process. |
//! | trace | Each option of the handshake and its reply; each message of a request, in the span of the task that awaits it. |
//!
//! Data is never logged. Text from the server is logged with control characters escaped.
//!
//! # Cargo features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `tls` | on | TLS with certificates: `TlsConfig`, by rustls on ring. |
//! | `tls-aws-lc-rs` | off | The same on aws-lc-rs, in place of ring. |
//! | `tls-native-roots` | off | With either: the authorities that the system trusts, where none is given. |
//! | `tls-psk` | off | TLS with pre-shared keys: `TlsPsk`, by OpenSSL, which must be installed. |
//! | `vsock` | off | `Connection::connect_vsock`, between a virtual machine and its host (Linux). |
//! | `serde` | off | `Serialize` and `Deserialize` for [`Uri`], [`Export`], [`BlockSize`], [`Extent`], [`Checkpoint`] and [`Stats`]: see there for the forms. |
//! | `blocking` | off | The module `blocking`: a disk for programs that are not async. |
//! | `wire` | off | The messages of the protocol and their codecs, in the module `wire`: for authors of servers and tests. |
//! | `test-util` | off | The module `testing`, without further dependencies; and `wire`. |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub mod blocking;
mod chunk;
mod config;
mod connection;
pub mod context;
mod copy;
mod cursor;
mod disk;
mod driver;
mod error;
mod export;
mod extent;
mod extents;
mod limits;
mod names;
mod platform;
mod request;
#[cfg(feature = "serde")]
mod serial;
#[cfg(not(feature = "__internals"))]
mod session;
/// For the benches and fuzz targets of this crate; not part of its interface.
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod session;
mod spans;
mod state;
mod stats;
mod stream;
mod strict;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod uri;
pub mod wire;

pub use chunk::Chunk;
pub use connection::{Builder, Connecting, Connection, Connector, IntoSocket};
#[cfg(unix)]
pub use connection::{IntoCommand, IntoProgram};
pub use copy::{
    BlockHash, Checkpoint, Copied, CopyPhase, CopyProgress, Copying, Destination, Digest, Progress,
    RateLimit, Source, copy,
};
pub use cursor::Cursor;
pub use disk::{Changes, Disk, DiskBuilder, DiskPending, Event, Events, Fence, Retry, Status};
pub use error::*;
pub use export::{BlockSize, Export, Handshake, ListedExport, Protocol};
pub use extent::{Allocation, AllocationExtent, BlockStatus, DirtyExtent, Extent};
pub use extents::{Allocations, DirtyExtents, Extents, JointExtent, JointExtents};
pub use limits::{Limits, MAX_PAYLOAD};
pub use names::UnknownName;
pub use request::{Chunks, Client, Disconnect, Pending, Request, op};
pub use state::State;
pub use stats::{CommandStats, Latency, Stats};
pub use stream::{Pieces, ReadStream, WriteSink};
pub use strict::Strict;
#[cfg(unix)]
pub use transport::program::Program;
pub use transport::tcp::{AddressFamily, KeepAlive};
#[cfg(feature = "tls-psk")]
pub use transport::tls::TlsPsk;
pub use transport::tls::{ByteStream, TlsInfo, TlsMode, TlsUpgrade, TlsVersion, Upgrading};
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
pub use transport::tls::{TlsConfig, TlsConfigBuilder};
pub use uri::{Endpoint, SshRemote, TlsType, Uri, UriBuilder, UriError, UriPolicy, UriTls};

/// Runs the examples of the page for users of libnbd as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/libnbd.md")]
struct MovingFromLibnbd;

/// Runs the examples of the page about disks as tests.
#[cfg(all(doctest, unix))]
#[doc = include_str!("../docs/disk.md")]
struct Disks;

/// Runs the examples of the README as tests. One is about TLS, and a README has no lines that
/// only a test sees.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
