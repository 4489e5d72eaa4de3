//! The public interface against the in-process server.
#![allow(clippy::unwrap_used)]

mod smoke;
mod uri;
