//! What is asked of a connection, and what comes of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use nbd_client::{BlockStatus, Connection, Result};

use crate::harness::CONTEXTS;

/// What is asked of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// 512 bytes at 4096.
    Read,
    /// The same in one piece.
    ReadUnfragmented,
    /// So many bytes at 4096.
    ReadOf(usize),
    /// 512 bytes at 4096.
    Write,
    Flush,
    /// 512 bytes at 4096, as the next two.
    Trim,
    Cache,
    Zero,
    /// More than a compact header can say.
    ZeroOf(u64),
    /// 64 KiB at 4096 in one context.
    Status,
    /// The same for one extent.
    StatusOne,
    /// The same in two contexts.
    StatusTwo,
    /// The same in the first of two contexts.
    StatusChosen,
}

/// Every command that is answered without content.
pub(crate) const BARE: [Ask; 5] = [Ask::Write, Ask::Flush, Ask::Trim, Ask::Cache, Ask::Zero];

/// What came of a request that succeeded.
#[derive(Debug)]
pub(crate) enum Got {
    Done,
    Data(Bytes),
    Status(BlockStatus),
}

impl Got {
    pub(crate) fn is_data(&self, data: &[u8]) -> bool {
        matches!(self, Self::Data(got) if got[..] == *data)
    }

    /// The extents of the first context, as (offset, length, flags).
    pub(crate) fn extents(&self) -> Vec<(u64, u64, u64)> {
        let Self::Status(status) = self else {
            panic!("no status: {self:?}");
        };
        let extents = status.get(CONTEXTS[0].1).unwrap().iter();
        extents.map(|e| (e.offset, e.length, e.flags)).collect()
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<Got>> + Send>>;

impl Ask {
    /// How many contexts must have been negotiated for it.
    pub(crate) const fn contexts(self) -> usize {
        match self {
            Self::Status | Self::StatusOne => 1,
            Self::StatusTwo | Self::StatusChosen => 2,
            _ => 0,
        }
    }

    pub(crate) fn of(self, conn: &Connection, patience: Duration) -> Asked {
        let conn = conn.clone();
        Box::pin(async move {
            let conn = &conn;
            let data = |data| Got::Data(data);
            let done = |()| Got::Done;
            let status = || conn.block_status(4096, 65536).timeout(patience);
            match self {
                Self::Read => conn.read(4096, 512).timeout(patience).await.map(data),
                Self::ReadOf(length) => conn.read(4096, length).timeout(patience).await.map(data),
                Self::ReadUnfragmented => {
                    let read = conn.read(4096, 512).dont_fragment();
                    read.timeout(patience).await.map(data)
                }
                Self::Write => {
                    let write = conn.write(4096, vec![7; 512]);
                    write.timeout(patience).await.map(done)
                }
                Self::Flush => conn.flush().timeout(patience).await.map(done),
                Self::Trim => conn.trim(4096, 512).timeout(patience).await.map(done),
                Self::Cache => conn.cache(4096, 512).timeout(patience).await.map(done),
                Self::Zero => {
                    let zero = conn.write_zeroes(4096, 512);
                    zero.timeout(patience).await.map(done)
                }
                Self::ZeroOf(length) => {
                    let zero = conn.write_zeroes(4096, length);
                    zero.timeout(patience).await.map(done)
                }
                Self::Status | Self::StatusTwo => status().await.map(Got::Status),
                Self::StatusOne => status().req_one().await.map(Got::Status),
                Self::StatusChosen => {
                    let chosen = status().contexts([CONTEXTS[0].1]);
                    chosen.await.map(Got::Status)
                }
            }
        })
    }
}
