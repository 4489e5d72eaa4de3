//! One connection, and what is done on it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nbd_client::Connection;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::content::{WRITTEN, ZEROED, content, reach};
use crate::fleet::Fleet;
use crate::lane::{Lane, Tally, check};
use crate::shape::{Command, Load, Place, Shape, Threads};
use crate::shared::random::Random;
use crate::watch::{Step, Watch};
use crate::{Outcome, ensure};

/// How the callers share tasks and threads, where they are tasks.
#[derive(Clone, Copy, Debug)]
enum Arrangement {
    /// A task each.
    Tasks,
    /// The first is in `block_on`, the others are tasks.
    Main,
    /// All are in `block_on`, as by `join_all`.
    Joined,
}

const ARRANGEMENTS: [Arrangement; 3] = [Arrangement::Tasks, Arrangement::Main, Arrangement::Joined];

const ZEROES: [u8; 4096] = [0; 4096];

/// Who makes a connection, uses it, and ends it.
pub(crate) struct Visitor {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) random: Random,
    /// Grows, so that each load writes something else.
    pub(crate) generation: u64,
    /// When all is to end.
    pub(crate) end: Instant,
}

impl Visitor {
    /// Connects, runs these loads one after the other, each for this time, and disconnects. Once
    /// all is to end, no further load is begun.
    pub(crate) fn visit(
        &mut self,
        place: Place,
        loads: &[Load],
        each: Duration,
        mut done: impl FnMut(Load, Tally),
    ) -> Outcome<()> {
        let shape = |load: &Load| Shape { place, load: *load };
        let Some(first) = loads.first() else {
            return Ok(());
        };
        let home = runtime(match place.threads {
            Threads::Current => None,
            Threads::Multi(workers) => Some(workers),
            _ => Some(1),
        });
        let reach = loads.iter().map(|load| reach(load.size)).max();
        let failed = |error| format!("{}: before: {error}", shape(first));
        self.fleet.start(place.way);
        let conn = {
            self.watch.set(&shape(first), "first load", None);
            let _waiting = self.watch.step(Step::Connect);
            let connect = self.fleet.connect(place.way);
            home.block_on(connect).map_err(failed)?
        };
        self.watch.set(&shape(first), "first load", Some(&conn));
        let reach = reach.unwrap_or_default();
        let fill = self.fleet.fill(&conn, place.way, reach, &self.watch);
        home.block_on(fill).map_err(failed)?;
        let end = self.end;
        for load in loads.iter().take_while(|_| Instant::now() < end) {
            let arrangement = ARRANGEMENTS[self.random.below(3) as usize];
            let shape = shape(load);
            self.watch
                .set(&shape, &format!("{arrangement:?}"), Some(&conn));
            let tally = self.load(&home, &conn, shape, arrangement, each);
            let tally = tally.map_err(|error| format!("{arrangement:?}: {error}"))?;
            done(*load, tally);
        }
        {
            let _waiting = self.watch.step(Step::Disconnect);
            home.block_on(conn.disconnect().into_future())?;
        }
        self.watch.forget();
        Ok(())
    }

    fn load(
        &mut self,
        home: &Runtime,
        conn: &Connection,
        shape: Shape,
        arrangement: Arrangement,
        each: Duration,
    ) -> Outcome<Tally> {
        self.generation += 1;
        let generation = self.generation;
        let Load {
            command,
            size,
            depth,
        } = shape.load;
        let failed = |error| format!("{shape}: before or after: {error}; {conn:?}");
        if command == Command::WriteZeroes {
            let _waiting = self.watch.step(Step::Prepare);
            let write = conn.write(ZEROED, content(generation, ZEROED, size));
            home.block_on(write.into_future())
                .map_err(|error| failed(error.into()))?;
        }
        let until = Instant::now() + each;
        let lanes = (0..depth).map(|number| Lane {
            shape,
            number,
            conn: conn.clone(),
            watch: self.watch.clone(),
            generation,
            random: self.random.fork(),
            until,
            buffer: BytesMut::new(),
        });
        let lanes: Vec<_> = lanes.collect();
        let tally = run(home, shape.place.threads, arrangement, lanes)?;
        // The first request of the first caller has been there.
        let _waiting = self.watch.step(Step::ReadBack);
        match command {
            Command::Write | Command::WriteFua => {
                let data = home.block_on(conn.read(WRITTEN, size).into_future());
                let data = data.map_err(|error| failed(error.into()))?;
                check(generation, WRITTEN, &data).map_err(failed)?;
            }
            Command::WriteZeroes => {
                let data = home.block_on(conn.read(ZEROED, size).into_future());
                let data = data.map_err(|error| failed(error.into()))?;
                let is_zero = data
                    .chunks(ZEROES.len())
                    .all(|part| part == &ZEROES[..part.len()]);
                ensure(is_zero, || "not zero".to_owned()).map_err(failed)?;
            }
            _ => {}
        }
        Ok(tally)
    }
}

/// A runtime with so many workers, or a current-thread one.
fn runtime(workers: Option<usize>) -> Runtime {
    let mut builder = match workers {
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_current_thread(),
    };
    builder.enable_all().build().unwrap()
}

/// Lets all callers run, and waits for them.
fn run(
    home: &Runtime,
    threads: Threads,
    arrangement: Arrangement,
    lanes: Vec<Lane>,
) -> Outcome<Tally> {
    let tallies = match threads {
        Threads::Current | Threads::Multi(_) => home.block_on(arranged(arrangement, lanes)),
        Threads::Other => runtime(Some(2)).block_on(arranged(arrangement, lanes)),
        Threads::Handle => on_threads(lanes, |lane| home.handle().block_on(lane.run())),
        Threads::Plain => on_threads(lanes, |lane| block_on(lane.run())),
    };
    let mut sum = Tally::default();
    for tally in tallies {
        sum.add(tally?);
    }
    Ok(sum)
}

async fn arranged(arrangement: Arrangement, lanes: Vec<Lane>) -> Vec<Outcome<Tally>> {
    let mut lanes = lanes.into_iter();
    let mut tasks = JoinSet::new();
    let mut tallies = match arrangement {
        Arrangement::Tasks => Vec::new(),
        Arrangement::Main => {
            let first = lanes.next();
            for lane in lanes.by_ref() {
                tasks.spawn(lane.run());
            }
            match first {
                Some(lane) => vec![lane.run().await],
                None => Vec::new(),
            }
        }
        Arrangement::Joined => futures::future::join_all(lanes.by_ref().map(Lane::run)).await,
    };
    for lane in lanes {
        tasks.spawn(lane.run());
    }
    tallies.extend(tasks.join_all().await);
    tallies
}

fn on_threads(
    lanes: Vec<Lane>,
    run: impl Fn(Lane) -> Outcome<Tally> + Sync,
) -> Vec<Outcome<Tally>> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = lanes
            .into_iter()
            .map(|lane| scope.spawn(move || run(lane)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().map(join).collect()
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The simplest executor there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
