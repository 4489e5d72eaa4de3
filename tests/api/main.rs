//! The public interface against the in-process server and the scripted one.
#![allow(clippy::unwrap_used)]

mod buffering;
mod controls;
mod disconnect;
mod extents;
mod flow;
mod logging;
mod options;
mod smoke;
mod strict;
mod support;
mod timeouts;
mod uri;
