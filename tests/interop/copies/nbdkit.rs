//! Copies from and to nbdkit.

use futures::StreamExt;
use nbd_client::{Connection, CopyFault, Destination, Disk, Error, Retry, Source, copy};

use super::*;
use crate::shared::process::times;

both_runtimes!(a_sparse_file_goes_there_and_back_and_stays_sparse);
async fn a_sparse_file_goes_there_and_back_and_stays_sparse() {
    let dir = Dir::new();
    // No multiple of anything.
    let size = (8 << 20) + 12_345;
    let (source, there) = (sparse(&dir, "source", size), dir.disk("there", size as u64));
    let back = dir.path("back");
    let server = Server::nbdkit(&["file", &there]);
    let copied = run(copy(Source::file(&source), &*of(&server)).verify(true))
        .await
        .unwrap();
    assert_eq!(copied.size, size as u64);
    same(&source, &there);
    let copied = run(copy(&*of(&server), Destination::file(&back)))
        .await
        .unwrap();
    assert!(copied.zeroes > copied.data, "{copied:?}");
    same(&source, &back);
    for path in [&there, &back] {
        assert!(room(path) < size as u64 / 2, "{path}");
    }
}

both_runtimes!(every_copy_ends_with_a_flush_and_a_checkpoint);
async fn every_copy_ends_with_a_flush_and_a_checkpoint() {
    const SIZE: u64 = 8 << 20;
    let dir = Dir::new();
    // One short piece of data: nothing else is on its way when it is copied.
    let source = dir.file("source", vec![1; 64 << 10]);
    std::fs::File::options()
        .write(true)
        .open(&source)
        .and_then(|file| file.set_len(SIZE))
        .unwrap();
    let server = Server::nbdkit(&["file", &source]);
    let disk = Disk::open(&*of(&server)).await.unwrap();
    for turn in 0..times(40) {
        let from = match turn % 2 {
            0 => Source::from(&*of(&server)),
            _ => Source::from(&disk),
        };
        let kept = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let keeper = kept.clone();
        let copying = copy(from, Destination::file(dir.path("to"))).checkpoints(move |durable| {
            keeper.store(durable.done(), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        });
        run(copying).await.unwrap();
        let kept = kept.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(kept, SIZE, "turn {turn}");
    }
}

fn quick() -> Retry {
    Retry::default()
        .first(Duration::from_millis(5))
        .most(Duration::from_millis(20))
}

both_runtimes!(servers_that_are_killed_twenty_times_do_not_spoil_the_copy);
async fn servers_that_are_killed_twenty_times_do_not_spoil_the_copy() {
    const SIZE: u64 = 64 << 20;
    let dir = Dir::new();
    let source = sparse(&dir, "source", SIZE as usize);
    let target = dir.file("target", vec![9; SIZE as usize]);
    let mut servers = [
        Mortal::start(
            dir.path("a"),
            &["--filter=delay", "file", &source, "rdelay=1ms"],
        ),
        Mortal::start(
            dir.path("b"),
            &["--filter=delay", "file", &target, "wdelay=1ms"],
        ),
    ];
    let [from, to] = [uri(dir.path("a")), uri(dir.path("b"))];
    eventually_listens(&dir).await;
    let copying = copy(from, to)
        .retry(quick())
        .request_size(16384)
        .requests(4);
    let mut progress = Box::pin(copying.progress().updates(Duration::ZERO));
    let mut kills = 0;
    let kill = async {
        while let Some(now) = progress.next().await {
            if kills < 20 && now.done >= (kills + 1) * SIZE / 40 {
                servers[kills as usize % 2].restart();
                kills += 1;
            }
        }
    };
    let (copied, ()) = tokio::join!(run(copying), kill);
    let copied = copied.unwrap();
    assert_eq!(kills, 20, "{copied:?}");
    assert_eq!(copied.data + copied.zeroes, SIZE);
    same(&source, &target);
}

async fn eventually_listens(dir: &Dir) {
    for name in ["a", "b"] {
        let path = dir.path(name);
        let listens = || std::os::unix::net::UnixStream::connect(&path).is_ok();
        crate::shared::process::eventually("nbdkit listens", listens).await;
    }
}

both_runtimes!(a_server_that_forgets_what_was_not_flushed_gets_it_again);
async fn a_server_that_forgets_what_was_not_flushed_gets_it_again() {
    const SIZE: u64 = 16 << 20;
    let dir = Dir::new();
    let source = sparse(&dir, "source", SIZE as usize);
    let mut server = Mortal::start(
        dir.path("a"),
        &["--filter=delay", "memory", "16M", "wdelay=20ms"],
    );
    let _other = Mortal::start(dir.path("b"), &["null"]);
    eventually_listens(&dir).await;
    let copying = copy(Source::file(&source), uri(dir.path("a")));
    let copying = copying
        .retry(quick())
        .request_size(65536)
        .requests(2)
        .connections(1);
    let mut progress = Box::pin(copying.progress().updates(Duration::ZERO));
    let mut is_killed = false;
    let kill = async {
        while let Some(now) = progress.next().await {
            if !is_killed && now.done >= SIZE / 2 {
                server.restart();
                is_killed = true;
            }
        }
    };
    let (copied, ()) = tokio::join!(run(copying), kill);
    let copied = copied.unwrap();
    assert!(is_killed && copied.repeated > 0, "{copied:?}");
    let back = dir.path("back");
    run(copy(uri(dir.path("a")), Destination::file(&back)))
        .await
        .unwrap();
    same(&source, &back);
}

both_runtimes!(errors_of_servers_never_make_a_wrong_copy);
async fn errors_of_servers_never_make_a_wrong_copy() {
    let dir = Dir::new();
    let source = sparse(&dir, "source", 2 << 20);
    let (mut good, mut bad) = (0, 0);
    for turn in 0..times(20) {
        let target = dir.file("target", vec![9; 2 << 20]);
        // Servers that are started in the same second draw the same random numbers.
        let rate = if turn % 4 == 3 || turn % 8 > 3 {
            "100%"
        } else {
            "20%"
        };
        let what = ["pread", "pwrite", "zero", "extents"][turn as usize % 4];
        let fault = format!("error-{what}-rate={rate}");
        let from = Server::nbdkit(&["--filter=error", "file", &source, &fault]);
        let to = Server::nbdkit(&["--filter=error", "file", &target, &fault]);
        match run(copy(of(&from), of(&to)).request_size(65536)).await {
            Ok(copied) => {
                same(&source, &target);
                assert_eq!(copied.status_failures > 0, what == "extents", "{copied:?}");
                good += 1;
            }
            Err(Error::Copy(error)) => {
                assert!(matches!(error.fault(), CopyFault::Nbd { .. }), "{error}");
                assert!(what != "extents", "{error}");
                bad += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{good} copies, {bad} errors");
    assert!(good > 0 && bad > 0);
}

both_runtimes!(a_disk_of_a_tebibyte_of_holes_is_copied_at_once);
async fn a_disk_of_a_tebibyte_of_holes_is_copied_at_once() {
    let from = Server::nbdkit(&["memory", "1T"]);
    let to = Server::nbdkit(&["memory", "1T"]);
    let ask = || {
        Connection::builder()
            .meta_context("base:allocation")
            .build()
    };
    let (source, target) = (ask(), ask());
    source.connect_unix(from.socket()).await.unwrap();
    target.connect_unix(to.socket()).await.unwrap();
    source.write((1 << 40) - 512, vec![7; 512]).await.unwrap();
    let copied = run(copy(&source, &target)).await.unwrap();
    assert!(copied.data <= 65536, "{copied:?}");
    let end = target.read((1 << 40) - 512, 512).await.unwrap();
    assert_eq!(&end[..], [7; 512]);
}

both_runtimes!(several_connections_are_made_where_the_server_allows_it);
async fn several_connections_are_made_where_the_server_allows_it() {
    let dir = Dir::new();
    let source = sparse(&dir, "source", 16 << 20);
    let server = Server::nbdkit(&["--filter=delay", "file", &source, "rdelay=5ms"]);
    let disk = Disk::builder()
        .connections(4)
        .open(&*of(&server))
        .await
        .unwrap();
    let copying = copy(&disk, Destination::file(dir.path("target")));
    run(copying.request_size(16384)).await.unwrap();
    assert!(disk.status().links > 1, "{disk:?}");
    same(&source, &dir.path("target"));
}
