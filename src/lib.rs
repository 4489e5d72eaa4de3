//! An async client for NBD, the Network Block Device protocol.
//!
//! NBD gives a program the bytes of a disk over a socket: read, write, zero, trim, and ask where
//! data is. This crate speaks it to any server — nbdkit, qemu-nbd, nbd-server, or your own — from
//! any number of Tokio tasks at once over one connection, without `unsafe`.
//!
//! ```
//! use nbd_client::{Connection, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nbd_client::Result<()> {
//! // A server in memory. A real one: Connection::connect("nbd://host/export").await?
//! let server = testing::Server::new(testing::Export::new(1 << 20));
//! let conn = Connection::new();
//! conn.connect_stream(server.connect()).await?;
//!
//! conn.write(4096, "hello").await?;
//! conn.flush().await?;
//! assert_eq!(&conn.read(4096, 5).await?[..], b"hello");
//! conn.disconnect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`Connection`] | The handle: connecting, commands, state. [`Builder`] sets it up. |
//! | [`Request`], [`Pending`] | A command before and after it is sent. [`op`] has the commands as types. |
//! | [`Chunks`], [`Chunk`] | A read that arrives piece by piece. |
//! | [`Extents`], [`Extent`] | Where data is, and where it was changed; [`context`] names the metadata contexts. |
//! | [`Export`] | What the server says about the disk: size, abilities, block sizes. |
//! | [`Limits`] | How much a server may send before it counts as hostile. |
//! | [`Uri`], [`UriPolicy`] | Where a server is, as text, and what such text may ask for. |
//! | [`TlsMode`], [`TlsUpgrade`], [`TlsInfo`] | Encryption: whether, by whose help, and what came of it. |
//! | [`Error`], [`ErrorKind`] | Why something failed, and whose fault it is. |
//! | [`wire`] | The protocol's numbers and messages, for authors of servers and tests. |
//! | `testing` | With the feature `test-util`: an in-process server, and a scripted peer. |
//!
//! # How it behaves
//!
//! **Connecting.** A [`Connection`] is made, then connected once. The `connect_*` calls wait until
//! commands can be sent; their `aio_connect_*` twins return at once, and any task can look at the
//! [`state`](Connection::state) meanwhile. Whatever the server offers is agreed on by itself: see
//! [`Builder`] for what can be left out, and [`opt_mode`](Builder::opt_mode) for doing it by hand.
//!
//! **When a request is sent.** A command makes a [`Request`], which does nothing until it is
//! awaited or polled. Then it is checked against the export; what cannot succeed fails without any
//! traffic. Then it is queued as a whole, and from there it is sent whatever becomes of the future.
//!
//! **Ordering.** The server may carry out the requests of one connection, and answer them, in any
//! order. One that must see the effect of another has to wait for its answer. A
//! [`flush`](Connection::flush) is the exception: it waits for the writes that were begun before it,
//! and covers them.
//!
//! **Durability.** A write that succeeds is acknowledged, and durable only with `fua` or after a
//! [`flush`](Connection::flush) that succeeds. What no flush has covered,
//! [`has_unflushed_writes`](Connection::has_unflushed_writes) tells, also in the
//! [error](Error::has_unflushed_writes) that ends the connection. The README says in full what
//! success means, and what is known when it fails.
//!
//! **Cancellation.** Every future of this crate can be dropped at any time; each says under
//! *Cancel safety* what then happens. A request that was not sent never will be. One that was is
//! finished in the background, its answer checked and thrown away.
//!
//! **Backpressure.** At most [`max_in_flight`](Builder::max_in_flight) requests and
//! [`max_in_flight_bytes`](Builder::max_in_flight_bytes) of payload are in flight; further ones
//! wait in line, holding nothing but their own data, and are sent when it is their turn, whatever
//! their callers are doing then. Answers are read at all times, so a slow caller holds up nobody
//! else.
//!
//! **The end.** [`disconnect`](Connection::disconnect) waits for what is in flight and says
//! goodbye. Dropping the last handle says goodbye at once, in the background. A failure ends the
//! connection once and for all: every request, waiting or new, gets the same cause, and so does
//! [`closed`](Connection::closed). Nothing is repeated or reconnected behind your back.
//!
//! **Errors.** [`Error`] says who is at fault. A mistake of the caller, a request that failed on
//! the server, and a refusal in option mode leave the connection as it is; everything else is its
//! end. [`Error::delivery`] says whether a request may have reached the server, which
//! is what decides whether a write may be repeated.
//!
//! **Runtime.** Connecting needs a Tokio runtime with I/O and time enabled, and runs one task there
//! for each connection. Handles may be used, and requests awaited, on any thread; a
//! [`timeout`](Request::timeout) needs a Tokio runtime there, too.
//!
//! # Logging
//!
//! Events go to [`tracing`](https://docs.rs/tracing); without a subscriber that wants them they
//! cost one comparison each. The task of each connection runs in the span `nbd` (level debug), a
//! child of the span in which it was connected. Its fields are `peer`, the address as it was given,
//! if there is one, and `export`, the name that was asked for.
//!
//! | Level | Event |
//! |---|---|
//! | warn | A connection that was ready is lost, with the cause. |
//! | debug | Connecting, greeted, ready (and what was agreed), ended; a refused option; the end of a server process. |
//! | trace | Each option of the handshake and its reply; each message of a request, in the span of whoever awaits it. |
//!
//! Data is never logged, and what the server says only with control characters escaped.
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
//! | `wire` | off | The messages of the protocol and their codecs, in the module `wire`: for authors of servers and tests. |
//! | `test-util` | off | The module `testing`, without further dependencies; and `wire`. |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod chunk;
mod config;
mod connection;
pub mod context;
mod driver;
mod error;
mod export;
mod extent;
mod extents;
mod limits;
mod platform;
mod request;
#[cfg(not(feature = "__internals"))]
mod session;
/// For the benches and fuzz targets of this crate; not part of its interface.
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod session;
mod state;
mod stats;
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
pub use error::*;
pub use export::{BlockSize, Export, Handshake, ListedExport, Protocol};
pub use extent::{BlockStatus, Extent};
pub use extents::{Extents, JointExtent, JointExtents};
pub use limits::{Limits, MAX_PAYLOAD};
pub use request::{Chunks, Client, Disconnect, Pending, Request, op};
pub use state::State;
pub use stats::Stats;
pub use strict::Strict;
pub use transport::tcp::AddressFamily;
#[cfg(feature = "tls-psk")]
pub use transport::tls::TlsPsk;
pub use transport::tls::{ByteStream, TlsInfo, TlsMode, TlsUpgrade, TlsVersion, Upgrading};
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
pub use transport::tls::{TlsConfig, TlsConfigBuilder};
pub use uri::{Endpoint, SshRemote, TlsType, Uri, UriBuilder, UriError, UriPolicy, UriTls};

/// Runs the examples of the README as tests. One is about TLS, and a README has no lines that
/// only a test sees.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
