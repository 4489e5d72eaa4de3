//! Callers and the keeper of a disk against the loss of its links, in many orders: a thread that waits
//! for ever is found as a deadlock, and so is a task that does not end with the disk.
//!
//! All of it is real, but for the servers: each link has a stream of `driver::races`, which answers at
//! once. No timer ever expires. Run with `RUSTFLAGS='--cfg shuttle' cargo test --lib races`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use super::{Changes, Disk, DiskBuilder, Fence, Retry};
use crate::Connection;
use crate::connection::Connector;
use crate::driver::races::{Stream, explore_orders};
use crate::error::{Error, Result};
use crate::wire::option::ExportInfo;
use crate::wire::{Command, TransmissionFlags};

/// A disk has many more steps than a connection.
fn explore(race: fn()) {
    explore_orders(500, race);
}

/// The servers of the links, from the first on.
#[derive(Clone, Default)]
struct Servers(Arc<Mutex<Vec<Stream>>>);

impl Servers {
    fn connector(&self) -> Connector {
        let servers = self.clone();
        Connector::stream(move || {
            let flags = TransmissionFlags::HAS_FLAGS
                | TransmissionFlags::SEND_FLUSH
                | TransmissionFlags::CAN_MULTI_CONN;
            let size = 1 << 20;
            let stream = Stream::greeting(ExportInfo { size, flags });
            servers.0.lock().unwrap().push(stream.clone());
            async move { Ok(stream) }
        })
    }

    fn first(&self) -> Stream {
        self.0.lock().unwrap()[0].clone()
    }

    /// Loses the first link, at any time.
    fn lose(&self) -> thread::JoinHandle<()> {
        let first = self.first();
        thread::spawn(move || first.cut())
    }

    /// What the servers have answered, one after the other.
    fn answered(&self) -> Vec<Vec<Command>> {
        let servers = self.0.lock().unwrap().clone();
        servers.iter().map(Stream::answered).collect()
    }
}

fn builder() -> DiskBuilder {
    // What happens is decided by the order alone, and not by a clock.
    Disk::builder()
        .link(Connection::builder().busy_poll(Duration::ZERO))
        .retry(Retry::default().most(Duration::ZERO))
}

fn open(builder: DiskBuilder) -> (Disk, Servers) {
    let servers = Servers::default();
    let disk = block_on(builder.open(servers.connector())).unwrap();
    (disk, servers)
}

fn write(disk: &Disk, data: &'static str) -> thread::JoinHandle<Result<()>> {
    let write = disk.write(0, data);
    thread::spawn(move || block_on(write.into_future()))
}

/// Polls once, as a caller does that has something else to do then.
fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    block_on(poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    }))
}

/// Closes the disk, of which nothing is left then.
fn close(disk: Disk) {
    // The loss may be noticed while it closes.
    drop(block_on(disk.close()));
    assert_eq!(disk.status().changes, 0);
}

fn position(commands: &[Command], command: Command) -> Option<usize> {
    commands.iter().position(|other| *other == command)
}

#[test]
fn a_loss_meets_a_write_that_is_submitted() {
    explore(|| {
        let (disk, servers) = open(builder());
        let (loss, one) = (servers.lose(), write(&disk, "one"));
        let result = one.join().unwrap();
        match result {
            Ok(()) => block_on(disk.write(0, "two").into_future()).unwrap_or_else(|error| {
                assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
            }),
            Err(Error::OutcomeUnknown(_)) => {
                // The ghost is known before the caller is told.
                let other = block_on(disk.write(0, "two").into_future());
                assert!(matches!(other, Err(Error::Held { .. })), "{other:?}");
                block_on(disk.write(0, "one").into_future()).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        loss.join().unwrap();
        close(disk);
    });
}

// R0, R1: what is repeated is over before a later change of the same bytes begins.
#[test]
fn a_loss_meets_writes_that_are_repeated_and_fenced() {
    explore(|| {
        let fence = Fence::by(|_| async { Ok(()) });
        let (disk, servers) = open(builder().changes(Changes::Repeat).fence(fence));
        let (one, loss, two) = (write(&disk, "one"), servers.lose(), write(&disk, "two"));
        one.join().unwrap().unwrap();
        two.join().unwrap().unwrap();
        loss.join().unwrap();
        close(disk);
    });
}

/// A flush that succeeds has covered the write: on the server that has it.
fn flush_covers(journal: bool) {
    let mut builder = builder();
    if journal {
        builder = builder.journal(1 << 20);
    }
    let (disk, servers) = open(builder);
    let written = block_on(disk.write(0, "one").into_future());
    written.unwrap();
    let loss = servers.lose();
    let flushed = block_on(disk.flush().into_future());
    loss.join().unwrap();
    let answered = servers.answered();
    let is_covered = |commands: &Vec<Command>| {
        let write = position(commands, Command::WRITE);
        write.is_some() && write < position(commands, Command::FLUSH)
    };
    match flushed {
        Ok(()) => assert!(answered.iter().any(is_covered), "{answered:?}"),
        Err(Error::DurabilityUnknown(_)) if !journal => assert!(answered.len() > 1),
        Err(error) => panic!("{error}"),
    }
    close(disk);
}

#[test]
fn a_loss_meets_a_flush() {
    explore(|| flush_covers(false));
}

#[test]
fn a_loss_meets_a_flush_with_a_journal() {
    explore(|| flush_covers(true));
}

// P7: a flush waits for a change whose caller does not poll any more.
#[test]
fn a_flush_takes_a_write_over_whose_caller_does_not_poll() {
    explore(|| {
        let (disk, _servers) = open(builder());
        let mut one = Box::pin(disk.write(0, "one").into_future());
        let caller = thread::spawn(move || (poll_once(one.as_mut()), one));
        // The first one may meet the poll, and the write may be over after that.
        block_on(disk.flush().into_future()).unwrap();
        let (result, one) = caller.join().unwrap();
        block_on(disk.flush().into_future()).unwrap();
        assert_eq!(disk.status().changes, 0);
        result.unwrap_or_else(|| block_on(one)).unwrap();
        close(disk);
    });
}

#[test]
fn a_loss_meets_a_flush_and_a_write_whose_caller_does_not_poll() {
    explore(|| {
        let (disk, servers) = open(builder());
        let mut one = Box::pin(disk.write(0, "one").into_future());
        assert!(poll_once(one.as_mut()).is_none());
        let loss = servers.lose();
        match block_on(disk.flush().into_future()) {
            Ok(()) | Err(Error::DurabilityUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(disk.status().changes, 0);
        match block_on(one) {
            Ok(()) | Err(Error::OutcomeUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        loss.join().unwrap();
        close(disk);
    });
}

#[test]
fn a_flush_takes_a_write_over_while_its_caller_polls() {
    explore(|| {
        let (disk, servers) = open(builder());
        let first = servers.first();
        first.hold(true);
        let one = write(&disk, "one");
        let flush = disk.flush();
        let flush = thread::spawn(move || block_on(flush.into_future()));
        first.hold(false);
        flush.join().unwrap().unwrap();
        one.join().unwrap().unwrap();
        close(disk);
    });
}

// R0: a change waits for another one that was given up, and that one is followed to its end.
#[test]
fn a_loss_meets_a_write_that_is_dropped() {
    explore(|| {
        let (disk, servers) = open(builder());
        servers.first().hold(true);
        let mut one = Box::pin(disk.write(0, "one").into_future());
        assert!(poll_once(one.as_mut()).is_none());
        let two = write(&disk, "two");
        let given_up = thread::spawn(move || drop(one));
        let loss = servers.lose();
        let two = two.join().unwrap();
        match servers.first().written() {
            0 => two.unwrap(),
            _ => assert!(matches!(two, Err(Error::Held { .. })), "{two:?}"),
        }
        given_up.join().unwrap();
        loss.join().unwrap();
        close(disk);
    });
}

#[test]
fn a_write_that_waits_is_dropped_beside_the_one_that_it_waits_for() {
    explore(|| {
        let (disk, servers) = open(builder());
        servers.first().hold(true);
        let one = write(&disk, "one");
        let mut two = Box::pin(disk.write(0, "two").into_future());
        drop(poll_once(two.as_mut()));
        let given_up = thread::spawn(move || drop(two));
        let three = write(&disk, "three");
        servers.first().hold(false);
        one.join().unwrap().unwrap();
        three.join().unwrap().unwrap();
        given_up.join().unwrap();
        close(disk);
    });
}

#[test]
fn a_loss_meets_closing() {
    explore(|| {
        let (disk, servers) = open(builder());
        let (one, loss) = (write(&disk, "one"), servers.lose());
        drop(block_on(disk.close()));
        match one.join().unwrap() {
            Ok(()) | Err(Error::OutcomeUnknown(_) | Error::Closed(_)) => {}
            Err(error) => panic!("{error}"),
        }
        loss.join().unwrap();
        assert_eq!(disk.status().changes, 0);
    });
}

#[test]
fn a_loss_meets_the_drop_of_the_last_handle() {
    explore(|| {
        let (disk, servers) = open(builder());
        let (one, loss) = (write(&disk, "one"), servers.lose());
        let hub = disk.hub().clone();
        drop(disk);
        match one.join().unwrap() {
            Ok(()) | Err(Error::OutcomeUnknown(_) | Error::Closed(_)) => {}
            Err(error) => panic!("{error}"),
        }
        loss.join().unwrap();
        assert_eq!(hub.status().changes, 0);
    });
}

// R7: where a ghost covers a byte, the older content of the journal is not written again.
#[test]
fn a_loss_meets_a_write_over_what_the_journal_keeps() {
    explore(|| {
        let (disk, servers) = open(builder().journal(1 << 20));
        block_on(disk.write(0, "old").into_future()).unwrap();
        let first = servers.first();
        let before = first.written();
        first.hold(true);
        let mut new = std::pin::pin!(disk.write(0, "new").into_future());
        assert!(poll_once(new.as_mut()).is_none());
        servers.lose().join().unwrap();
        let is_ghost = first.written() > before;
        // A read waits for the next link, to which the journal was written before.
        block_on(disk.read(0, 3).into_future()).unwrap();
        let next = servers.answered().remove(1);
        let again = position(&next, Command::WRITE) < position(&next, Command::READ);
        assert_eq!(
            again && next.contains(&Command::WRITE),
            !is_ghost,
            "{next:?}"
        );
        drop(block_on(new));
        close(disk);
    });
}
