//! An async NBD client.

mod connection;
mod error;
mod transport;
pub mod wire;

pub use connection::State;
pub use error::*;
