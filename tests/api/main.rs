//! The public interface against the in-process server and the scripted one.
#![allow(clippy::unwrap_used)]

mod disconnect;
mod extents;
mod flow;
mod logging;
mod buffering;
mod smoke;
mod support;
mod uri;
