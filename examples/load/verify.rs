//! A load that checks every byte it reads.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nbd_client::{Connection, Result};

use super::{Outcome, Plan, Random};

/// What is written and checked as one.
const BLOCK: usize = 4096;

/// A worker with a part of the export to itself: it knows what each block must contain.
pub(crate) struct Worker {
    start: u64,
    /// How often each block has been written; zero means that its contents are not known.
    generations: Vec<u32>,
    most: usize,
    random: Random,
}

impl Worker {
    /// The worker `number` of those that have `stripe` bytes each.
    pub(crate) fn new(number: u64, stripe: u64, bs: usize) -> Self {
        let blocks = (stripe / BLOCK as u64).min(1 << 16) as usize;
        Self {
            start: number * (stripe / BLOCK as u64) * BLOCK as u64,
            generations: vec![0; blocks],
            most: (bs / BLOCK).clamp(1, blocks.max(1)),
            random: Random::new(number + 1),
        }
    }

    /// Writes and reads until the plan is done.
    pub(crate) async fn run(mut self, conn: &Connection, plan: &Plan) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut now = Instant::now();
        while !self.generations.is_empty() && plan.take(now) {
            let count = 1 + self.random.below(self.most as u64) as usize;
            let last = self.generations.len() - count;
            let first = self.random.below(last as u64 + 1) as usize;
            let offset = self.start + (first * BLOCK) as u64;
            if self.random.below(2) == 0 {
                conn.write(offset, self.fill(first, count)).await?;
            } else {
                let data = conn.read(offset, count * BLOCK).await?;
                outcome.wrong += self.check(first, &data);
            }
            let end = Instant::now();
            outcome.count(count * BLOCK, end - now);
            now = end;
        }
        Ok(outcome)
    }

    fn fill(&mut self, first: usize, count: usize) -> Bytes {
        let mut data = BytesMut::with_capacity(count * BLOCK);
        for block in first..first + count {
            self.generations[block] += 1;
            let word = self.word(block);
            (0..BLOCK / 8).for_each(|_| data.extend_from_slice(&word));
        }
        data.freeze()
    }

    fn check(&self, first: usize, data: &[u8]) -> u64 {
        let blocks = data.chunks(BLOCK).enumerate();
        let wrong = blocks.filter(|(i, contents)| {
            let block = first + i;
            let word = self.word(block);
            self.generations[block] > 0 && contents.chunks(8).any(|chunk| chunk != word)
        });
        wrong.count() as u64
    }

    fn word(&self, block: usize) -> [u8; 8] {
        let place = self.start / BLOCK as u64 + block as u64;
        Random::new(place ^ u64::from(self.generations[block]) << 40)
            .next()
            .to_be_bytes()
    }
}
