//! The public interface against the in-process server.
#![allow(clippy::unwrap_used)]

mod logging;
mod extents;
mod smoke;
mod uri;
