//! An NBD server inside the test process, and a scripted peer that can break every rule.
//!
//! Behind the feature `test-util`. Nothing here needs a program, a port or a file, unless you
//! ask for one:
//!
//! - [`Server`] serves in-memory [`Export`]s: all commands, all three forms of replies, metadata
//!   contexts. Its [`Builder`] has a knob for what real servers do differently — old handshakes,
//!   missing options, latency, errors, replies out of order — and it can hold replies back until
//!   a test lets them go.
//! - [`Peer`] sends and expects single messages: for servers that lie, stall or die.
//!
//! # Examples
//! ```
//! use nbd_client::testing::{Export, Server};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let disk = Export::new(1 << 20);
//! let server = Server::builder()
//!     .export("disk0", disk.clone())
//!     .structured_replies(false)
//!     .build();
//! let stream = server.connect(); // hand this to a client
//! # drop(stream);
//! # });
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builder;
mod command;
mod content;
mod context;
mod counters;
mod export;
mod handshake;
mod listen;
mod pages;
mod peer;
mod reply_gate;
mod reply_queue;
mod server;
mod shaper;
#[cfg(unix)]
mod stdio;
#[cfg(test)]
mod tests;
mod transmission;

pub use builder::{Builder, ReplyOrder};
pub use counters::Counters;
pub use export::Export;
pub use listen::Listening;
pub use peer::Peer;
pub use server::Server;
