//! A load that checks every byte it reads.

use bytes::{Bytes, BytesMut};
use nbd_client::{Connection, Result};

use super::{Outcome, Plan, Random};

/// What is written and checked as one, at least.
const BLOCK: u32 = 512;
/// Most blocks of one worker.
const BLOCKS: u64 = 1 << 16;

/// A worker with a part of the export to itself: it knows what each block must contain.
pub(crate) struct Worker {
    start: u64,
    block: usize,
    /// How often each block has been written; zero means that its contents are not known.
    generations: Vec<u32>,
    most: usize,
    random: Random,
}

impl Worker {
    /// The worker `number` of those that have `stripe` bytes each, for requests of up to `bs`
    /// bytes; `None` if there is no room for one.
    pub(crate) fn new(number: u64, stripe: u64, bs: usize, minimum: u32) -> Option<Self> {
        let block = u64::from(BLOCK.max(minimum));
        let most = (bs as u64 / block).max(1);
        let blocks = (stripe / block).min(BLOCKS);
        (blocks >= most).then(|| Self {
            start: number * (stripe / block) * block,
            block: block as usize,
            generations: vec![0; blocks as usize],
            most: most as usize,
            random: Random::new(number + 1),
        })
    }

    /// Writes and reads until the plan is done.
    pub(crate) async fn run(mut self, conn: &Connection, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.failure = self.requests(conn, plan, &mut outcome).await.err();
        outcome
    }

    async fn requests(
        &mut self,
        conn: &Connection,
        plan: &Plan,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let mut clock = plan.clock();
        while plan.take() {
            let count = 1 + self.random.below(self.most as u64) as usize;
            let last = self.generations.len() - count;
            let first = self.random.below(last as u64 + 1) as usize;
            let offset = self.start + (first * self.block) as u64;
            let length = count * self.block;
            if self.random.below(2) == 0 {
                conn.write(offset, self.fill(first, count)).await?;
            } else {
                let data = conn.read(offset, length).await?;
                outcome.wrong += self.check(first, &data);
            }
            outcome.count(length);
            plan.note(&mut clock);
        }
        Ok(())
    }

    fn fill(&mut self, first: usize, count: usize) -> Bytes {
        let mut data = BytesMut::with_capacity(count * self.block);
        for block in first..first + count {
            self.generations[block] += 1;
            for word in self.words(block) {
                data.extend_from_slice(&word);
            }
        }
        data.freeze()
    }

    /// How many of the blocks from `first` on have not the contents they must have.
    fn check(&self, first: usize, data: &[u8]) -> u64 {
        let blocks = data.chunks(self.block).enumerate();
        let wrong = blocks.filter(|(i, contents)| {
            let block = first + i;
            self.generations[block] > 0 && !contents.chunks(8).eq(self.words(block))
        });
        wrong.count() as u64
    }

    /// The contents of a block: they tell its place, its generation and each word's position.
    fn words(&self, block: usize) -> impl Iterator<Item = [u8; 8]> + use<> {
        let place = self.start / self.block as u64 + block as u64;
        let seed = place ^ u64::from(self.generations[block]) << 40;
        let first = Random::new(seed).next();
        (0..self.block as u64 / 8).map(move |i| first.wrapping_add(i).to_be_bytes())
    }
}
