//! The locks and atomics that callers and the driver share.
//!
//! With `--cfg shuttle`, unit tests use those of shuttle instead, which decides at each of them
//! which thread goes on: see `driver::races`.

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
