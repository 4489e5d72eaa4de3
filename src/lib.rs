//! An async NBD client.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builder;
mod chunk;
mod connect;
mod connection;
mod driver;
mod error;
mod export;
mod extent;
mod option;
mod request;
#[cfg(not(feature = "test-util"))]
mod session;
/// For the benches of this crate; not part of its interface.
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod session;
mod stats;
#[cfg(feature = "test-util")]
pub mod testing;
mod timer;
mod transport;
mod uri;
pub mod wire;

pub use builder::Builder;
pub use chunk::Chunk;
pub use connect::Connecting;
pub use connection::{Connection, State};
pub use error::*;
pub use export::{BlockSize, Export, Handshake, ListedExport, MAX_PAYLOAD, Protocol};
pub use extent::{BlockStatus, Extent};
pub use request::{Chunks, Disconnect, Pending, Request, op};
pub use stats::Stats;
pub use transport::tcp::AddressFamily;
pub use uri::{Endpoint, SshRemote, TlsType, Uri, UriBuilder, UriError, UriPolicy, UriTls};
