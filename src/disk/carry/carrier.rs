//! Who carries a change.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::disk::hub::Hub;
use crate::driver::sync::atomic::{AtomicBool, Ordering};
use crate::driver::sync::{Mutex, MutexGuard};
use crate::error::{Error, Result};

/// The work on a change. It has no result if nothing was sent, because the caller has given up.
type Work<T> = Pin<Box<dyn Future<Output = Option<Result<T>>> + Send>>;

/// What a change and its caller tell each other.
#[derive(Debug, Default)]
pub(super) struct Signs {
    is_begun: AtomicBool,
    is_given_up: AtomicBool,
}

impl Signs {
    /// Records that the change may be sent from now on. Returns whether the caller has given up
    /// before.
    pub(super) fn begin(&self) -> bool {
        // Whoever gives up says so, and then looks whether it has begun.
        !self.is_begun.swap(true, Ordering::SeqCst) && self.is_given_up()
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::SeqCst)
    }

    fn is_begun(&self) -> bool {
        self.is_begun.load(Ordering::SeqCst)
    }

    /// Returns whether the change was given up before anything was sent.
    fn is_void(&self) -> bool {
        self.is_given_up() && !self.is_begun()
    }
}

/// Something that is carried by its caller, until somebody else waits for it.
pub(in crate::disk) trait Carried: fmt::Debug + Send + Sync {
    /// Has a task carry it from now on, since its caller may not poll.
    fn hand_over(self: Arc<Self>);
}

/// Carries a change. The caller's future does the work, which costs no task; once somebody else waits
/// for the change, or the caller has given up what was sent, a task does it.
pub(super) struct Carrier<T> {
    hub: Arc<Hub>,
    /// The work has this carrier, too, for its signs. It ends, or is taken from here, before the
    /// caller's future is gone: so they do not keep each other.
    signs: Signs,
    core: Mutex<Core<T>>,
}

struct Core<T> {
    /// The work, if nobody is at it.
    work: Option<Work<T>>,
    /// Whether a task does the work, or is to do it as soon as the caller puts it down.
    is_handed_over: bool,
    /// What the task has found, for the caller.
    result: Option<Result<T>>,
    is_over: bool,
    caller: Option<Waker>,
    task: Option<Waker>,
}

impl<T: Send + 'static> Carrier<T> {
    pub(super) fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            signs: Signs::default(),
            core: Mutex::new(Core {
                work: None,
                is_handed_over: false,
                result: None,
                is_over: false,
                caller: None,
                task: None,
            }),
        })
    }

    pub(super) const fn signs(&self) -> &Signs {
        &self.signs
    }

    fn core(&self) -> MutexGuard<'_, Core<T>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the work down, for whoever is to go on with it.
    pub(super) fn put(self: &Arc<Self>, work: Work<T>, caller: Option<&Waker>) {
        let mut core = self.core();
        if let Some(caller) = caller {
            match &mut core.caller {
                Some(old) => old.clone_from(caller),
                none => *none = Some(caller.clone()),
            }
        }
        if core.is_handed_over {
            drop(core);
            self.spawn(work);
        } else {
            core.work = Some(work);
        }
    }

    fn spawn(self: &Arc<Self>, work: Work<T>) {
        let carrier = self.clone();
        self.hub.spawn(Task { carrier, work });
    }

    /// Works on the change for its caller, or waits for the task that does.
    pub(super) fn poll(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let closed = || Err(Error::closed());
        let mut core = self.core();
        // The lock is not held while there is work: it calls wakers.
        let Some(mut work) = core.work.take() else {
            if let Some(result) = core.result.take() {
                return Poll::Ready(result);
            }
            if core.is_over {
                return Poll::Ready(closed());
            }
            core.caller = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(core);
        match work.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.unwrap_or_else(closed)),
            Poll::Pending => {
                self.put(work, Some(cx.waker()));
                Poll::Pending
            }
        }
    }

    /// The caller gives up. What may have been sent is carried on by a task. Returns whether
    /// anything may have been.
    pub(super) fn give_up(self: &Arc<Self>) -> bool {
        self.signs.is_given_up.store(true, Ordering::SeqCst);
        let is_begun = self.signs.is_begun();
        let (work, task) = {
            let mut core = self.core();
            core.caller = None;
            core.is_handed_over = true;
            (core.work.take(), core.task.take())
        };
        if let Some(work) = work.filter(|_| is_begun) {
            self.spawn(work);
        }
        if let Some(task) = task {
            task.wake();
        }
        is_begun
    }
}

impl<T: Send + 'static> Carried for Carrier<T> {
    fn hand_over(self: Arc<Self>) {
        let mut core = self.core();
        core.is_handed_over = true;
        let work = core.work.take();
        drop(core);
        if let Some(work) = work {
            self.spawn(work);
        }
    }
}

impl<T> fmt::Debug for Carrier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("signs", &self.signs)
            .finish_non_exhaustive()
    }
}

/// Carries a change in place of its caller.
struct Task<T: Send + 'static> {
    carrier: Arc<Carrier<T>>,
    work: Work<T>,
}

impl<T: Send + 'static> Future for Task<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.carrier.core().task = Some(cx.waker().clone());
        if self.carrier.signs.is_void() {
            return Poll::Ready(());
        }
        let Poll::Ready(result) = self.work.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.carrier.core().result = result;
        Poll::Ready(())
    }
}

/// The caller is told, even if the task ends without a result because its runtime does.
impl<T: Send + 'static> Drop for Task<T> {
    fn drop(&mut self) {
        let caller = {
            let mut core = self.carrier.core();
            core.is_over = true;
            core.task = None;
            core.caller.take()
        };
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}
