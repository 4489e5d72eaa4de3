//! Copies that are interrupted, and go on.

use std::sync::{Arc, Mutex};

use super::*;
use nbd_client::Checkpoint;
use nbd_client::wire::{Command, Errno};

/// Keeps the newest checkpoint.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Option<Checkpoint>>>);

impl Keeper {
    fn keep(&self, copying: Copying) -> Copying {
        let last = self.0.clone();
        copying.checkpoints(move |checkpoint| {
            *last.lock().unwrap() = Some(checkpoint.clone());
            Ok(())
        })
    }

    fn take(&self) -> Checkpoint {
        self.0
            .lock()
            .unwrap()
            .take()
            .expect("there is a checkpoint")
    }
}

fn full(size: u64) -> Export {
    let export = Export::new(size);
    for block in 0..size / 65536 {
        export.fill(block * 65536, 65536, 1 + (block % 200) as u8);
    }
    export
}

/// A source that cannot be read from an offset on.
async fn broken_from(export: &Export, offset: u64) -> Connection {
    let server = Server::builder()
        .export("", export.clone())
        .fail_with(move |request| {
            let reads = request.command == Command::READ && request.offset >= offset;
            reads.then(|| (Errno::EIO, "bad sector".into()))
        })
        .build();
    connect_with(&server, builder()).await
}

both_runtimes!(a_copy_that_failed_goes_on_where_it_was);

async fn a_copy_that_failed_goes_on_where_it_was() {
    let (source, destination) = (full(4 << 20), Export::new(4 << 20));
    let to = connect(&destination).await;
    let keeper = Keeper::default();
    let copying = copy(broken_from(&source, 3 << 20).await, &to).request_size(65536);
    let error = failure(keeper.keep(copying)).await;
    assert!(error.nbd().is_some(), "{error}");
    let checkpoint = keeper.take();
    assert!(checkpoint.done() > 0 && checkpoint.done() <= 3 << 20);
    assert_eq!(checkpoint.source_size(), 4 << 20);
    assert!(!to.has_unflushed_writes(), "only what is flushed is kept");
    for range in checkpoint.ranges() {
        let length = (range.end - range.start) as usize;
        let both = [&source, &destination].map(|it| it.contents(range.start, length));
        assert!(both[0] == both[1]);
    }
    #[cfg(feature = "serde")]
    let checkpoint: Checkpoint =
        serde_json::from_str(&serde_json::to_string(&checkpoint).unwrap()).unwrap();

    let again = full(4 << 20);
    let done = checkpoint.done();
    let copying = copy(connect(&again).await, &to).request_size(65536);
    let copied = run(keeper.keep(copying).resume(checkpoint)).await.unwrap();
    same(&source, &destination);
    assert_eq!(copied.skipped, done);
    let most = (4 << 20) - done + 64 * 4096; // and the samples
    assert!(
        again.counters().bytes_read <= most,
        "what is kept is not read again"
    );
    assert_eq!(keeper.take().done(), 4 << 20);
}

both_runtimes!(a_copy_that_is_cancelled_leaves_a_checkpoint);

async fn a_copy_that_is_cancelled_leaves_a_checkpoint() {
    let (source, destination) = (full(4 << 20), Export::new(4 << 20));
    let server = Server::builder()
        .export("", source.clone())
        .latency(Duration::from_millis(1));
    let from = connect_with(&server.build(), builder()).await;
    let to = connect(&destination).await;
    let keeper = Keeper::default();
    let copying = copy(from, &to).request_size(4096).requests(1);
    let mut progress = Box::pin(copying.progress().updates(Duration::ZERO));
    let half = async move {
        use futures::StreamExt;
        while progress.next().await.is_some_and(|now| now.done < 1 << 20) {}
    };
    let error = failure(keeper.keep(copying).cancel_on(half)).await;
    assert!(matches!(error.fault(), CopyFault::Cancelled));
    assert!(error.done() >= 1 << 20);
    let next = "a checkpoint was kept, and `Copying::resume` goes on from there";
    assert!(error.to_string().ends_with(next), "{error}");
    let checkpoint = keeper.take();
    assert!(checkpoint.done() >= 1 << 20 && checkpoint.done() < 4 << 20);
    run(copy(connect(&source).await, &to).resume(checkpoint))
        .await
        .unwrap();
    same(&source, &destination);
}

both_runtimes!(a_checkpoint_of_another_copy_is_refused);

async fn a_checkpoint_of_another_copy_is_refused() {
    let (source, destination) = (full(2 << 20), Export::new(2 << 20));
    let keeper = Keeper::default();
    let copying = copy(connect(&source).await, connect(&destination).await);
    run(keeper.keep(copying)).await.unwrap();
    let checkpoint = keeper.take();
    let (longer, other) = (full(3 << 20), Export::new(2 << 20));
    other.fill(0, 2 << 20, 9);
    for (from, to, why) in [
        (
            &longer,
            &Export::new(3 << 20),
            "the source had 2097152 bytes, and has 3145728",
        ),
        (
            &source,
            &Export::new(3 << 20),
            "the destination had 2097152 bytes, and has 3145728",
        ),
        (
            &other,
            &destination,
            "source and destination are different at offset",
        ),
    ] {
        let writes = to.counters().writes;
        let copying = copy(connect(from).await, connect(to).await);
        let error = failure(copying.resume(checkpoint.clone())).await;
        assert!(
            matches!(error.fault(), CopyFault::OtherCopy { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(to.counters().writes, writes);
    }
}

both_runtimes!(zeroes_that_are_not_there_are_noticed);

async fn zeroes_that_are_not_there_are_noticed() {
    let (source, destination) = (Export::new(2 << 20), Export::new(2 << 20));
    let keeper = Keeper::default();
    let copying = copy(connect(&source).await, connect(&destination).await);
    run(keeper.keep(copying)).await.unwrap();
    let checkpoint = keeper.take();
    destination.fill(0, 2 << 20, 7);
    let copying = copy(connect(&source).await, connect(&destination).await);
    let error = failure(copying.resume(checkpoint)).await;
    assert!(
        matches!(error.fault(), CopyFault::OtherCopy { .. }),
        "{error}"
    );
}

both_runtimes!(a_file_that_is_gone_or_shorter_is_another_one);

async fn a_file_that_is_gone_or_shorter_is_another_one() {
    let (source, directory) = (full(1 << 20), tempfile::tempdir().unwrap());
    let path = directory.path().join("disk");
    let keeper = Keeper::default();
    let copying = copy(connect(&source).await, Destination::file(&path));
    run(keeper.keep(copying)).await.unwrap();
    let checkpoint = keeper.take();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(4096).unwrap();
    for why in [
        "the destination had 1048576 bytes, and has 4096",
        "the file of the destination is gone",
    ] {
        let copying = copy(connect(&source).await, Destination::file(&path));
        let error = failure(copying.resume(checkpoint.clone())).await;
        assert!(
            matches!(error.fault(), CopyFault::OtherCopy { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(why), "{error}");
        let _ = std::fs::remove_file(&path);
    }
    assert!(!path.exists());
}

both_runtimes!(a_checkpoint_that_cannot_be_kept_ends_the_copy);

async fn a_checkpoint_that_cannot_be_kept_ends_the_copy() {
    let (source, destination) = (full(1 << 20), Export::new(1 << 20));
    let copying = copy(connect(&source).await, connect(&destination).await);
    let copying = copying.checkpoints(|_| Err(std::io::Error::other("no luck")));
    let error = failure(copying).await;
    assert!(matches!(error.fault(), CopyFault::Checkpoint(_)));
    assert!(error.to_string().contains("no luck"), "{error}");
}

#[cfg(feature = "serde")]
#[test]
fn a_checkpoint_that_contradicts_itself_is_refused() {
    let read = |done: &str| {
        let text = format!(
            r#"{{"source_size": 100, "destination_size": null, "done": {done}, "samples": [0]}}"#
        );
        serde_json::from_str::<Checkpoint>(&text)
    };
    assert_eq!(read("[[0, 10], [20, 100]]").unwrap().done(), 90);
    for wrong in [
        "[[0, 101]]",
        "[[10, 10]]",
        "[[10, 20], [15, 30]]",
        "[[50, 60], [0, 10]]",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

both_runtimes!(what_was_salvaged_is_tried_again_by_the_next_copy);

async fn what_was_salvaged_is_tried_again_by_the_next_copy() {
    let (source, destination) = (full(1 << 20), Export::new(1 << 20));
    let to = connect(&destination).await;
    let keeper = Keeper::default();
    let server = Server::builder()
        .export("", source.clone())
        .fail_with(|request| {
            let is_bad = request.offset <= 4096 && 4096 < request.offset + request.length;
            let is_read = request.command == Command::READ;
            (is_read && is_bad).then(|| (Errno::EIO, "bad sector".into()))
        })
        .hang_up_on(|request| request.command == Command::READ && request.offset >= 1 << 19)
        .build();
    let from = connect_with(&server, builder()).await;
    let copying = copy(from, &to).request_size(65536).requests(1);
    failure(keeper.keep(copying).salvage(true)).await;
    let checkpoint = keeper.take();
    assert_eq!(checkpoint.ranges(), [0..4096, 4608..1 << 19]);

    let from = connect(&source).await;
    run(copy(from, &to).resume(checkpoint)).await.unwrap();
    same(&source, &destination);
}
