//! One caller: one request after the other, and a look at what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::TryStreamExt as _;
use nbd_client::{Chunk, Connection};

use crate::content::{READ, WRITTEN, ZEROED, content, place};
use crate::shape::{COMMANDS, Command, Load, Shape};
use crate::shared::random::Random;
use crate::watch::Watch;
use crate::{Outcome, ensure};

/// Buffers larger than this are not kept between two requests.
const KEPT: usize = 1 << 20;

/// What a caller has done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) slowest: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.slowest = self.slowest.max(other.slowest);
    }
}

pub(crate) struct Lane {
    pub(crate) shape: Shape,
    pub(crate) number: usize,
    pub(crate) conn: Connection,
    pub(crate) watch: Arc<Watch>,
    /// That of what is written.
    pub(crate) generation: u64,
    pub(crate) random: Random,
    pub(crate) until: Instant,
    pub(crate) buffer: BytesMut,
}

impl Lane {
    /// Makes requests until the time is over, and at least one.
    pub(crate) async fn run(mut self) -> Outcome<Tally> {
        let mut tally = Tally::default();
        let watch = self.watch.clone();
        let mut now = Instant::now();
        loop {
            let done = {
                let _waiting = watch.begin(self.number, tally.requests);
                self.request(tally.requests).await
            };
            done.map_err(|error| {
                let Self {
                    shape,
                    number,
                    conn,
                    ..
                } = &self;
                let request = tally.requests;
                format!("{shape}: request {request} of lane {number}: {error}; {conn:?}")
            })?;
            let then = std::mem::replace(&mut now, Instant::now());
            tally.requests += 1;
            tally.slowest = tally.slowest.max(now - then);
            if now > self.until {
                return Ok(tally);
            }
        }
    }

    async fn request(&mut self, number: u64) -> Outcome<()> {
        let Load {
            command,
            size,
            depth,
        } = self.shape.load;
        if command == Command::Mixed {
            return self.any(size).await;
        }
        let at = place(number * depth as u64 + self.number as u64, size);
        self.one(command, at, size).await
    }

    /// Any command, of any size up to this.
    async fn any(&mut self, size: usize) -> Outcome<()> {
        let commands = &COMMANDS[..COMMANDS.len() - 1];
        let style = self.shape.place.way.style;
        let command = loop {
            let command = commands[self.random.below(commands.len() as u64) as usize];
            if command.exists_in(style) {
                break command;
            }
        };
        let size = match self.random.below(2) {
            0 => size,
            _ => 1 + self.random.below(size as u64) as usize,
        };
        let size = size.min(command.largest());
        let at = place(self.random.next(), size);
        self.one(command, at, size).await?;
        // Whoever writes there writes the same.
        if matches!(command, Command::Write | Command::WriteFua) {
            let data = self.conn.read(WRITTEN + at, size).await?;
            self.check(self.generation, WRITTEN + at, &data)?;
        }
        Ok(())
    }

    async fn one(&mut self, command: Command, at: u64, size: usize) -> Outcome<()> {
        let conn = &self.conn;
        let length = size as u64;
        match command {
            Command::Read => {
                let data = conn.read(READ + at, size).await?;
                ensure(data.len() == size, || format!("{} bytes came", data.len()))?;
                self.check(0, READ + at, &data)?;
            }
            Command::ReadUnfragmented => {
                let data = conn.read(READ + at, size).dont_fragment().await?;
                ensure(data.len() == size, || format!("{} bytes came", data.len()))?;
                self.check(0, READ + at, &data)?;
            }
            Command::ReadInto => {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(size, 0);
                let buffer = self.conn.read_into(READ + at, buffer).await?;
                ensure(buffer.len() == size, || {
                    format!("{} bytes came", buffer.len())
                })?;
                self.check(0, READ + at, &buffer)?;
                if size <= KEPT {
                    self.buffer = buffer;
                }
            }
            Command::ReadStructured => self.read_structured(READ + at, size).await?,
            Command::Write | Command::WriteFua => {
                let offset = WRITTEN + at;
                let write = conn.write(offset, content(self.generation, offset, size));
                match command {
                    Command::Write => write.await?,
                    _ => write.fua().await?,
                }
            }
            Command::WriteZeroes => conn.write_zeroes(ZEROED + at, length).await?,
            Command::Trim => conn.trim(ZEROED + at, length).await?,
            Command::Cache => conn.cache(READ + at, length).await?,
            Command::Flush => conn.flush().await?,
            Command::BlockStatus => {
                let status = conn.block_status(READ + at, length).await?;
                let extents = status.get("base:allocation").unwrap_or_default();
                let first = extents.first().ok_or("no extent")?;
                ensure(first.offset == READ + at && first.length > 0, || {
                    format!("{extents:?}")
                })?;
            }
            Command::Mixed => unreachable!("it is one of the others"),
        }
        Ok(())
    }

    async fn read_structured(&self, offset: u64, size: usize) -> Outcome<()> {
        let mut chunks = self.conn.read_structured(offset, size);
        let mut came = 0;
        while let Some(chunk) = chunks.try_next().await? {
            match chunk {
                Chunk::Data { offset, data } => {
                    came += data.len();
                    self.check(0, offset, &data)?;
                }
                hole => return Err(format!("there is no hole: {hole:?}").into()),
            }
        }
        ensure(came == size, || format!("{came} bytes came"))
    }

    fn check(&self, generation: u64, offset: u64, data: &[u8]) -> Outcome<()> {
        check(generation, offset, data)
    }
}

/// Whether that is there what belongs there.
pub(crate) fn check(generation: u64, offset: u64, data: &[u8]) -> Outcome<()> {
    let expected = content(generation, offset, data.len());
    ensure(expected == data, || {
        let differs = |at: &usize| expected[*at] != data[*at];
        let first = (0..data.len()).find(differs);
        format!("at {offset}, wrong from byte {first:?} on")
    })
}
