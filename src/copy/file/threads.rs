//! Threads that do the I/O of one file.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// How many threads a file has. A disk needs several requests at a time to be fast; a page cache is as
/// fast with one.
const THREADS: usize = 4;

type Job = Box<dyn FnOnce(&File) + Send>;

/// A file, and the threads that read and write it. They end when this is dropped and they have done
/// what they are at.
///
/// They are threads of this file, and not those of the runtime for work that blocks: such a task for
/// each request costs more than the request where the page cache has the data.
#[derive(Debug)]
pub(super) struct Threads {
    jobs: Sender<Job>,
}

impl Threads {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (jobs, taken) = channel();
        // The lock is held while a thread waits for a job, and not while it does it.
        let taken = Arc::new(Mutex::new(taken));
        let file = Arc::new(file);
        for _ in 0..THREADS {
            let (taken, file) = (taken.clone(), file.clone());
            let thread = thread::Builder::new().name("nbd-copy".into());
            thread.spawn(move || work(&taken, &file))?;
        }
        Ok(Self { jobs })
    }

    /// Does something with the file, unless its threads have ended. If the future is dropped before it
    /// is begun, it is not done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&File) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = oneshot::channel();
        let job = move |file: &File| {
            if !sender.is_closed() {
                let _ = sender.send(job(file));
            }
        };
        self.jobs.send(Box::new(job)).ok()?;
        result.await.ok()
    }
}

fn work(taken: &Mutex<Receiver<Job>>, file: &File) {
    loop {
        let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(file),
            Err(_) => return,
        }
    }
}
