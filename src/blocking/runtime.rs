//! The thread that drives the connections of blocking disks, and what may wait for it.
//!
//! Calls are not sent to that thread: a request is awaited on the thread of its caller, and its
//! connection lives on this one. So callers do not wait for each other, and each copies its own
//! data.

use std::future::{Future as _, IntoFuture, pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::coop::consume_budget;

use crate::error::{Error, InvalidUse, Phase, Result};

/// The process that has the thread; zero if there is none yet.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The runtime, once its thread was started. It runs until the process ends.
static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// A blocking call, and what an async program uses in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) twin: &'static str,
}

/// Waits for what `begin` begins, on this thread.
pub(super) fn wait<T, E, F>(call: Call, begin: impl FnOnce() -> F) -> Result<T, E>
where
    E: From<Error>,
    F: IntoFuture<Output = Result<T, E>>,
{
    check_process()?;
    check_thread(call).map_err(Error::from)?;
    let runtime = runtime()?;
    runtime.block_on(async { begin().into_future().await })
}

/// Returns the runtime. The first call starts its thread.
fn runtime() -> Result<&'static Handle> {
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let started = start().map_err(unstarted)?;
    Ok(RUNTIME.get_or_init(|| started))
}

/// Starts the thread.
fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let serve = move || runtime.block_on(pending::<()>());
    thread::Builder::new()
        .name("nbd-blocking".into())
        .spawn(serve)?;
    Ok(handle)
}

fn unstarted(error: io::Error) -> Error {
    let text = format!("cannot start the thread for blocking disks: {error}");
    Error::io(Phase::Connect, io::Error::new(error.kind(), text))
}

/// Checks that the thread is one of this process, or can be.
///
/// This comes before any lock is taken: in a forked process, locks can be held by threads that
/// are not there.
pub(super) fn check_process() -> Result<()> {
    let this = process::id();
    match OWNER.compare_exchange(0, this, Ordering::Relaxed, Ordering::Relaxed) {
        Err(owner) if owner != this => Err(InvalidUse::Forked.into()),
        _ => Ok(()),
    }
}

/// Returns whether this process was forked from one that has blocking disks. What belongs to them
/// must not be dropped here: that can take locks.
pub(super) fn was_forked() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && owner != process::id()
}

/// Checks that this thread may wait.
fn check_thread(call: Call) -> Result<(), InvalidUse> {
    let handle = match Handle::try_current() {
        Ok(handle) => handle,
        Err(error) if error.is_missing_context() => return Ok(()),
        Err(_) => return Err(InvalidUse::NoRuntime(ENDING)),
    };
    if is_async(&handle) {
        let Call { name, twin } = call;
        return Err(InvalidUse::InRuntime { call: name, twin });
    }
    Ok(())
}

const ENDING: &str = "this thread is ending: a destructor of a thread-local variable cannot wait";

/// As many steps as no task of Tokio may take without yielding: it counts them in eight bits.
const STEPS: usize = 256;

/// Returns whether this thread, which has a runtime, runs a task or `block_on`. If not, it is a
/// thread for blocking code, or was taken out of the runtime by `block_in_place`.
///
/// Tokio has no function that says so. But it limits how many steps a task takes before it yields,
/// and blocking code has no such limit. A task that is found out this way yields once more than it
/// would have.
///
/// Tasks that are `unconstrained` have no limit either, nor has what `block_on` of the multi-thread
/// runtime runs after `block_in_place`. For those and for what a later Tokio may
/// change, `block_on` is tried, which panics in async code. The panic is caught; the panic hook of
/// the program sees it.
fn is_async(handle: &Handle) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let has_limit = (0..STEPS).any(|_| pin!(consume_budget()).poll(&mut cx).is_pending());
    has_limit || catch_unwind(AssertUnwindSafe(|| handle.block_on(ready(())))).is_err()
}

/// Lets this process be one that was forked, until the value is dropped.
#[cfg(test)]
pub(super) fn pretend_to_be_forked() -> impl Drop {
    struct Forked(u32);

    impl Drop for Forked {
        fn drop(&mut self) {
            OWNER.store(self.0, Ordering::Relaxed);
        }
    }

    // The parent of a process is never the process.
    Forked(OWNER.swap(std::os::unix::process::parent_id(), Ordering::Relaxed))
}
