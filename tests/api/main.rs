//! The public interface against the in-process server.
#![allow(clippy::unwrap_used)]

mod extents;
mod logging;
mod smoke;
mod uri;
