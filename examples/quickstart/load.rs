//! The load: many tasks, each with a range of the export to itself and a copy of what it holds.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use nbd_client::{Connection, Export};
use tokio::task::JoinSet;

use crate::Result;
use crate::latency::Latencies;
use crate::options::Options;

/// The range of one task, in bytes, if nobody asks for another.
const REGION: usize = 1 << 20;
/// The largest request, in bytes, if nobody asks for another.
const BLOCK: usize = 64 << 10;
/// Reads per hundred operations; what remains after all shares are writes.
const READS: usize = 55;
const ZEROES: usize = 8;
const TRIMS: usize = 2;

/// What to do, fitted to an export.
#[derive(Clone)]
pub struct Load {
    tasks: u32,
    duration: Duration,
    /// The range of one task, in bytes.
    region: usize,
    /// The largest request, in bytes.
    block: usize,
    /// Offset and length of every request are multiples of this many bytes.
    unit: usize,
    seed: u64,
    overwrite: bool,
    can_write: bool,
    can_zero: bool,
    can_trim: bool,
    can_flush: bool,
}

/// What is asked for, if it is possible; what nobody asked for is made to fit.
fn fit(option: &str, asked: Option<usize>, default: usize, most: usize) -> Result<usize> {
    match asked {
        Some(asked) if asked > most => {
            Err(format!("{option} {asked}: at most {most} bytes here, see --tasks").into())
        }
        asked => Ok(asked.unwrap_or(default).min(most)),
    }
}

/// What was done.
#[derive(Default)]
pub struct Tally {
    pub reads: u64,
    pub writes: u64,
    pub zeroes: u64,
    pub trims: u64,
    pub flushes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub bytes_verified: u64,
    pub latencies: Latencies,
    pub elapsed: Duration,
}

impl Tally {
    pub fn operations(&self) -> u64 {
        self.reads + self.writes + self.zeroes + self.trims + self.flushes
    }

    fn merge(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.zeroes += other.zeroes;
        self.trims += other.trims;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.bytes_verified += other.bytes_verified;
        self.latencies.merge(&other.latencies);
    }
}

impl Load {
    /// Fits what is asked for to the export.
    pub fn new(export: &Export, options: &Options) -> Result<Self> {
        let unit = export
            .block_size()
            .map_or(1, |sizes| sizes.minimum as usize);
        let align = |bytes| bytes - bytes % unit;
        let share = usize::try_from(export.size() / u64::from(options.tasks))?;
        let region = align(fit("--region", options.region, REGION, share)?);
        if region == 0 {
            let (size, tasks) = (export.size(), options.tasks);
            return Err(format!("{size} bytes are too few for {tasks} tasks, see --tasks").into());
        }
        let most = region.min(export.max_payload() as usize);
        let block = align(fit("--block-size", options.block_size, BLOCK, most)?);
        Ok(Self {
            tasks: options.tasks,
            duration: options.duration,
            region,
            block: block.max(unit),
            unit,
            seed: options.seed,
            overwrite: options.overwrite,
            can_write: !export.is_read_only(),
            can_zero: export.can_zero(),
            can_trim: export.can_trim(),
            can_flush: export.can_flush(),
        })
    }

    /// Runs all tasks. The first error ends them.
    pub async fn run(&self, conn: &Connection) -> Result<Tally> {
        let workers = (0..self.tasks).map(|number| Worker::new(self, conn, number));
        // Nobody writes before everybody has looked.
        let workers = all(workers.map(Worker::look)).await?;

        let start = Instant::now();
        let workers = all(workers.into_iter().map(Worker::work)).await?;
        let mut tally = Tally::default();
        if self.can_write && self.can_flush {
            // All writes are answered, so this makes all of them durable.
            conn.flush().await?;
            tally.flushes = 1;
        }
        tally.elapsed = start.elapsed();

        for worker in all(workers.into_iter().map(Worker::finish)).await? {
            tally.merge(&worker.tally);
        }
        Ok(tally)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tasks for {:?}, {} to {} bytes a request, {} bytes a task",
            self.tasks, self.duration, self.unit, self.block, self.region
        )
    }
}

/// Runs futures as tasks until all are done or one has failed, which ends the others.
async fn all<F, T>(futures: impl Iterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut tasks: JoinSet<_> = futures.collect();
    let mut results = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        results.push(joined??);
    }
    Ok(results)
}

/// One task.
struct Worker {
    load: Load,
    conn: Connection,
    /// Where its range begins in the export.
    start: u64,
    /// What its range holds.
    copy: Vec<u8>,
    random: Random,
    tally: Tally,
}

impl Worker {
    fn new(load: &Load, conn: &Connection, number: u32) -> Self {
        Self {
            load: load.clone(),
            conn: conn.clone(),
            start: u64::from(number) * load.region as u64,
            copy: Vec::new(),
            random: Random(load.seed.rotate_left(32) ^ u64::from(number)),
            tally: Tally::default(),
        }
    }

    /// Reads what is there. Longer reads than the server takes are split by the client.
    async fn look(mut self) -> Result<Self> {
        self.copy = self.conn.read(self.start, self.load.region).await?.into();
        let used = self.copy.iter().position(|&byte| byte != 0);
        if let (Some(at), true) = (used, self.load.can_write && !self.load.overwrite) {
            let at = self.start + at as u64;
            let why = "nothing was written; --overwrite replaces its contents";
            return Err(format!("the export is not empty (data at byte {at}): {why}").into());
        }
        Ok(self)
    }

    /// One operation after the other until the time is over.
    async fn work(mut self) -> Result<Self> {
        let deadline = Instant::now() + self.load.duration;
        let Load {
            region,
            block,
            unit,
            can_write,
            can_zero,
            can_trim,
            ..
        } = self.load;
        while Instant::now() < deadline {
            let length = (1 + self.random.below(block / unit)) * unit;
            let start = self.random.below((region - length) / unit + 1) * unit;
            let range = start..start + length;
            match self.random.below(100) {
                die if die < READS || !can_write => self.read(range).await?,
                die if die < READS + ZEROES && can_zero => self.zero(range).await?,
                die if die >= 100 - TRIMS && can_trim => {
                    self.trim(range.clone()).await?;
                    // What it holds is undefined until it is written.
                    self.write(range).await?;
                }
                _ => self.write(range).await?,
            }
        }
        Ok(self)
    }

    async fn read(&mut self, range: Range<usize>) -> Result<()> {
        let request = self.conn.read(self.offset(&range), range.len());
        let data = self.timed(request).await?;
        self.tally.reads += 1;
        self.tally.bytes_read += data.len() as u64;
        self.verify(range.start, &data)
    }

    async fn write(&mut self, range: Range<usize>) -> Result<()> {
        let mut data = vec![0; range.len()];
        self.random.fill(&mut data);
        self.copy[range.clone()].copy_from_slice(&data);
        let request = self.conn.write(self.offset(&range), data);
        self.timed(request).await?;
        self.tally.writes += 1;
        self.tally.bytes_written += range.len() as u64;
        Ok(())
    }

    async fn zero(&mut self, range: Range<usize>) -> Result<()> {
        self.copy[range.clone()].fill(0);
        let (offset, length) = (self.offset(&range), range.len() as u64);
        self.timed(self.conn.write_zeroes(offset, length)).await?;
        self.tally.zeroes += 1;
        Ok(())
    }

    async fn trim(&mut self, range: Range<usize>) -> Result<()> {
        let (offset, length) = (self.offset(&range), range.len() as u64);
        self.timed(self.conn.trim(offset, length)).await?;
        self.tally.trims += 1;
        Ok(())
    }

    /// Awaits a request and takes the time.
    async fn timed<R, T>(&mut self, request: R) -> nbd_client::Result<T>
    where
        R: IntoFuture<Output = nbd_client::Result<T>>,
    {
        let start = Instant::now();
        let result = request.await;
        self.tally.latencies.add(start.elapsed());
        result
    }

    /// Reads the whole range once more, and leaves zeroes.
    async fn finish(mut self) -> Result<Self> {
        let Load {
            region,
            can_write,
            can_zero,
            ..
        } = self.load;
        let data = self.conn.read(self.start, region).await?;
        self.verify(0, &data)?;
        if can_write && can_zero {
            self.conn.write_zeroes(self.start, region as u64).await?;
        } else if can_write {
            self.conn.write(self.start, vec![0; region]).await?;
        }
        Ok(self)
    }

    fn verify(&mut self, at: usize, data: &[u8]) -> Result<()> {
        let expected = &self.copy[at..at + data.len()];
        if data != expected {
            let differs = |(got, wanted)| got != wanted;
            let wrong = data.iter().zip(expected).position(differs);
            let wrong = wrong.unwrap_or_default();
            let offset = self.start + (at + wrong) as u64;
            let (got, wanted) = (data[wrong], expected[wrong]);
            let why = format!("byte {offset} is {got:#04x}, but {wanted:#04x} was written");
            return Err(why.into());
        }
        self.tally.bytes_verified += data.len() as u64;
        Ok(())
    }

    /// Where a part of the task's range is in the export.
    fn offset(&self, range: &Range<usize>) -> u64 {
        self.start + range.start as u64
    }
}

/// Numbers without pattern, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }

    fn fill(&mut self, data: &mut [u8]) {
        for bytes in data.chunks_mut(8) {
            bytes.copy_from_slice(&self.next().to_le_bytes()[..bytes.len()]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_asked_for_is_cut() {
        assert_eq!(fit("--region", None, REGION, 4096).unwrap(), 4096);
        assert_eq!(fit("--region", None, REGION, 1 << 30).unwrap(), REGION);
        assert_eq!(fit("--region", Some(512), REGION, 4096).unwrap(), 512);
        assert!(fit("--region", Some(1 << 30), REGION, 4096).is_err());
    }
}
