//! A client for programs that are not async: calls return when they are done.
//!
//! ```no_run
//! use nbd_client::blocking::Disk;
//!
//! fn main() -> nbd_client::Result<()> {
//!     let disk = Disk::open("nbd://storage/vm-17")?;
//!     let mut sector = [0; 512];
//!     disk.read_exact_at(&mut sector, 0)?;
//!     println!("{} bytes, boot signature {:x?}", disk.size(), &sector[510..]);
//!     disk.close()
//! }
//! ```
//!
//! [`Disk`] reads and writes at offsets, from any number of threads. [`Cursor`] is a file with a position,
//! for code that wants [`Read`](std::io::Read), [`BufRead`](std::io::BufRead),
//! [`Write`](std::io::Write) and [`Seek`](std::io::Seek). [`Items`] are the extents of a disk, or any
//! other stream of the async client, as an iterator.
//!
//! A blocking disk is a [`Disk`](crate::Disk) of the async client underneath: when its connection is
//! lost, it connects again, and calls wait meanwhile.
//!
//! Errors are those of the async client, [`Error`](crate::Error). In a function that returns
//! [`io::Result`](std::io::Result), `?` converts them.
//!
//! # How it works
//!
//! The first use starts one thread, `nbd-blocking`, which drives the connections of all disks of the
//! process until the process ends. A caller waits on its own thread. Closures of a
//! [`Connector`](crate::Connector) run on the background thread: while one of them blocks, no disk
//! makes progress.
//!
//! # In async programs
//!
//! A call in an async function would keep its thread from everything else that the runtime has to do,
//! the server or the connection perhaps among it, and then never return. In a task of a Tokio
//! runtime, and in `block_on`, each call therefore fails with
//! [`InvalidUse::InRuntime`](crate::InvalidUse::InRuntime), which names the async twin of the call.
//! Nothing is done then.
//!
//! Where Tokio allows to wait, calls work: in `tokio::task::spawn_blocking`, in `block_in_place`, and
//! on threads that have only entered a runtime. For code that needs such a disk, an async program
//! makes one of its connection, [`Disk::new`]. The runtime of the program must be running meanwhile:
//! nothing is answered over a connection that was made with `block_on` on a current-thread runtime
//! which nobody drives any more.
//!
//! A task that is `tokio::task::unconstrained` gets the same error, and so does code that `block_on` of
//! the multi-thread runtime runs after a `block_in_place`. There the panic hook of the program sees a
//! panic that is caught; a program that aborts on panics ends.
//!
//! Dropping disks is allowed everywhere, and never waits.
//!
//! # Processes
//!
//! A forked process has no background thread. After `fork` without `exec`, every call in the child
//! fails with [`InvalidUse::Forked`](crate::InvalidUse::Forked), if the parent has used this module
//! before; the disks of the parent can be dropped there, which has no effect. A process that forks
//! first and opens disks then, such as a daemon, has no such limit.
//!
//! Open disks do not keep a process from ending. The server then sees the connection break; call
//! [`close`](Disk::close) to say goodbye.
//!
//! A server that this process has started by
//! [`Connector::socket_activation`](crate::Connector::socket_activation) does not see that: it is left
//! running if `main` returns, or the process is ended, without `close`. Call `close` on each disk of such
//! a server before the process ends, or start one that ends with its parent or with its last client, as
//! `nbdkit --exit-with-parent` and `qemu-nbd` without `-t` do.

mod commands;
mod cursor;
mod disk;
mod items;
mod runtime;
#[cfg(test)]
mod tests;

pub use cursor::Cursor;
pub use disk::Disk;
pub use items::Items;
