//! Server processes, on a system where this library starts none: types without a value.

#![allow(
    clippy::needless_pass_by_ref_mut,
    reason = "the methods are those of a child that exists"
)]

use std::process::ExitStatus;
use std::time::Duration;

use crate::error::{ChildReport, Error};

/// A child process, of which there is none.
#[derive(Debug)]
pub(crate) enum Child {}

/// What others may do with it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) words: Words,
}

/// What it has said.
#[derive(Clone, Debug)]
pub(crate) enum Words {}

impl Child {
    pub(crate) fn handle(&self) -> Handle {
        match *self {}
    }

    pub(crate) async fn ended(&self) -> Option<ExitStatus> {
        match *self {}
    }

    pub(crate) async fn deserted(&mut self) {
        match *self {}
    }

    pub(crate) fn close(&mut self, _: Duration) {
        match *self {}
    }

    pub(crate) fn tell(&mut self) {
        match *self {}
    }

    pub(crate) async fn terminate(&mut self) -> Option<ExitStatus> {
        match *self {}
    }

    pub(crate) fn run_failure(&self, _: &ChildReport) -> Option<Error> {
        match *self {}
    }

    pub(crate) async fn report(&mut self) -> ChildReport {
        match *self {}
    }
}

impl Words {
    pub(crate) fn release(&self) {
        match *self {}
    }
}
