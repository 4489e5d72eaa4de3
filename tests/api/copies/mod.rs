//! Copies of whole disks.

mod checkpoints;
mod faults;
mod hashes;
mod places;
mod random;
mod settings;

use std::future::IntoFuture;
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{
    Builder, Connection, Copied, CopyError, CopyFault, Copying, Destination, Error, ErrorKind,
    Result, Source, context, copy,
};

/// Fails a test that waits for ever.
async fn watch<T>(future: impl IntoFuture<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), future);
    waited.await.expect("it waits for ever")
}

/// A connection that knows where the export is zero.
async fn connect(export: &Export) -> Connection {
    connect_with(&Server::new(export.clone()), builder()).await
}

fn builder() -> Builder {
    Connection::builder().meta_context(context::BASE_ALLOCATION)
}

async fn connect_with(server: &Server, builder: Builder) -> Connection {
    let connection = builder.build();
    connection.connect_stream(server.connect()).await.unwrap();
    connection
}

/// Copies, and fails the test if that waits for ever.
async fn run(copying: Copying) -> Result<Copied> {
    watch(copying).await
}

/// The error of a copy that fails.
async fn failure(copying: Copying) -> CopyError {
    match run(copying).await {
        Err(Error::Copy(error)) => *error,
        other => panic!("{other:?}"),
    }
}

/// An export with data at the start, in the middle and at the end.
fn sparse(size: u64) -> Export {
    let export = Export::new(size);
    export.fill(0, 4096, 1);
    export.fill(size / 2, 65536, 2);
    export.fill(size - 512, 512, 3);
    export
}

fn same(one: &Export, other: &Export) {
    let size = usize::try_from(one.size()).unwrap();
    assert!(
        one.contents(0, size) == other.contents(0, size),
        "not equal"
    );
}

/// A future that is `Send`, for spawning.
fn spawn(copying: Copying) -> tokio::task::JoinHandle<Result<Copied>> {
    tokio::spawn(copying.into_future())
}
