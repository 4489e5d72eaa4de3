//! The session fed by hand with bytes.
