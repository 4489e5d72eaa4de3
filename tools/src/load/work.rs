//! The load itself.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nbd_client::{Connection, Result};

use super::args::Op;
use super::{Args, Outcome, Plan, Random};

/// One request after the other, all of one size.
pub(crate) async fn work(conn: &Connection, args: &Args, plan: &Plan, number: u64) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.failure = requests(conn, args, plan, number, &mut outcome).await.err();
    outcome
}

async fn requests(
    conn: &Connection,
    args: &Args,
    plan: &Plan,
    number: u64,
    outcome: &mut Outcome,
) -> Result<()> {
    let writes = matches!(args.op, Op::Write | Op::RandWrite);
    // Each worker has data of its own, as other clients have: it is not all in the cache.
    let payload = Bytes::from(vec![0x55; if writes { args.bs } else { 0 }]);
    let mut buffer = BytesMut::with_capacity(if args.reuse { args.bs } else { 0 });
    let mut random = Random::new(number);
    let mut clock = plan.clock();
    while plan.take() {
        let block = match args.op {
            Op::Read | Op::Write => plan.next(),
            Op::RandRead | Op::RandWrite => plan.any(&mut random),
        };
        let offset = block * args.bs as u64;
        if writes {
            conn.write(offset, payload.clone()).await?;
        } else if args.reuse {
            buffer = conn.read_into(offset, buffer).await?;
        } else {
            drop(conn.read(offset, args.bs).await?);
        }
        outcome.count(args.bs);
        plan.note(&mut clock);
    }
    Ok(())
}

/// Large reads, one after the other, for as long as the others work.
pub(crate) async fn beside(
    conn: Connection,
    args: Arc<Args>,
    plan: Arc<Plan>,
    size: u64,
) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.failure = large_reads(&conn, &args, &plan, size, &mut outcome)
        .await
        .err();
    outcome
}

async fn large_reads(
    conn: &Connection,
    args: &Args,
    plan: &Plan,
    size: u64,
    outcome: &mut Outcome,
) -> Result<()> {
    let length = usize::try_from(args.beside.min(size)).unwrap_or(usize::MAX);
    let places = (size / length as u64).max(1);
    let mut buffer = BytesMut::with_capacity(length);
    while !plan.is_over() {
        let offset = outcome.ops % places * length as u64;
        buffer = conn.read_into(offset, buffer).await?;
        outcome.count(length);
    }
    Ok(())
}
