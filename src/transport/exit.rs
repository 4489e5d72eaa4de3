//! Learning that a child process has ended.

use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time;

use super::process::Process;

/// Between two looks at a child that cannot be waited for.
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A descriptor that becomes readable when the process ends.
///
/// There is none on old kernels, on other systems, and when the program has too many: the
/// process is then looked at now and again.
#[derive(Debug)]
pub(super) struct Exit {
    #[cfg(target_os = "linux")]
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Exit {
    /// Must be called inside a Tokio runtime, while the process is not reaped.
    #[cfg(target_os = "linux")]
    pub(super) fn new(pid: Pid) -> Self {
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok();
        // Deprecated for descriptors that lie about what they are. An `OwnedFd` does not, and
        // the replacement is newer than the Tokio we ask for.
        #[allow(deprecated)]
        let watch = |fd| AsyncFd::with_interest(fd, Interest::READABLE).ok();
        Self {
            fd: fd.and_then(watch),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_pid: Pid) -> Self {
        Self {}
    }

    #[cfg(test)]
    pub(super) fn without_descriptor() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            fd: None,
        }
    }

    /// Waits for the end and reaps. Can be dropped and called again.
    pub(super) async fn wait(&self, process: &Process) -> Option<ExitStatus> {
        #[cfg(target_os = "linux")]
        while let Some(fd) = &self.fd {
            let Ok(mut readable) = fd.readable().await else {
                // Its runtime is gone.
                break;
            };
            match process.poll() {
                Poll::Ready(status) => return status,
                Poll::Pending => readable.clear_ready(),
            }
        }
        let mut pause = MIN_PAUSE;
        loop {
            match process.poll() {
                Poll::Ready(status) => return status,
                Poll::Pending => time::sleep(pause).await,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}
