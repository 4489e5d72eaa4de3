//! What differs from one operating system to the next, under the same names on all of them.
//!
//! Transports that a system does not have are left out where they would be: see `transport`.

#[cfg(all(unix, not(any(target_os = "android", target_os = "linux"))))]
mod bsd;
mod file;
#[cfg(any(target_os = "android", target_os = "linux"))]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(all(unix, not(any(target_os = "android", target_os = "linux"))))]
pub(crate) use bsd::*;
pub(crate) use file::*;
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) use linux::*;
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
