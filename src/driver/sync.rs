//! The locks and atomics that callers and the driver share, and the tasks of a disk.
//!
//! With `--cfg shuttle`, unit tests use those of shuttle instead, which decides at each of them
//! which thread goes on: see `driver::races` and `disk::races`.

use std::future::Future;
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
use tokio::runtime::Handle;

/// Runs a task in the background.
#[cfg(not(all(test, shuttle)))]
pub(crate) fn spawn(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
    drop(runtime.spawn(task));
}

/// Runs a task in the background. It must end before the race does.
#[cfg(all(test, shuttle))]
pub(crate) fn spawn(_: &Handle, task: impl Future<Output = ()> + Send + 'static) {
    std::mem::forget(shuttle::future::spawn(task));
}
