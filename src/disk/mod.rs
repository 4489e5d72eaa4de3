//! One export over any number of connections.
mod state;
