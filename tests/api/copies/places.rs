//! What can be copied, and to where.

use super::*;
use nbd_client::{Connector, CopyPhase, Disk, Side};

both_runtimes!(only_data_is_read_and_zeroes_are_not_written_where_they_are);

async fn only_data_is_read_and_zeroes_are_not_written_where_they_are() {
    let (source, destination) = (sparse(1 << 30), Export::new(1 << 30));
    let (from, to) = (connect(&source).await, connect(&destination).await);
    let copied = run(copy(&from, &to)).await.unwrap();
    assert_eq!(copied.size, 1 << 30);
    // Less than a block is read with its block.
    assert_eq!(copied.data, 4096 + 65536 + 4096);
    assert_eq!(copied.zeroes, (1 << 30) - copied.data);
    assert!(source.counters().bytes_read < 1 << 20);
    assert_eq!(destination.counters().zeroes, 0);
    same_start(&source, &destination, 1 << 20);
    assert!(!to.has_unflushed_writes());
}

fn same_start(one: &Export, other: &Export, length: usize) {
    assert!(one.contents(0, length) == other.contents(0, length));
    let end = one.size() - length as u64;
    assert!(one.contents(end, length) == other.contents(end, length));
}

both_runtimes!(old_content_of_the_destination_goes);

async fn old_content_of_the_destination_goes() {
    let (source, destination) = (sparse(4 << 20), Export::new(4 << 20));
    destination.fill(0, 4 << 20, 9);
    let (from, to) = (connect(&source).await, connect(&destination).await);
    let copied = run(copy(&from, &to).verify(true)).await.unwrap();
    same(&source, &destination);
    assert!(copied.verified);
    assert!(destination.counters().zeroes > 0);
    assert_eq!(
        destination.counters().trims,
        0,
        "its content would be undefined"
    );
}

both_runtimes!(servers_without_zeroes_get_them_as_data);

async fn servers_without_zeroes_get_them_as_data() {
    use nbd_client::wire::TransmissionFlags as Flags;

    let source = sparse(1 << 20);
    let destination = Export::new(1 << 20).flags(Flags::HAS_FLAGS | Flags::SEND_FLUSH);
    destination.fill(0, 1 << 20, 9);
    run(copy(&connect(&source).await, &connect(&destination).await))
        .await
        .unwrap();
    same(&source, &destination);
}

both_runtimes!(a_disk_and_an_address_are_places_too);

async fn a_disk_and_an_address_are_places_too() {
    let source = sparse(1 << 20);
    let destination = Export::new(1 << 20);
    let server = Server::new(destination.clone());
    let connector = Connector::stream(move || {
        let server = server.clone();
        async move { Ok(server.connect()) }
    });
    let there = Server::new(source.clone());
    let disk = Disk::open(Connector::stream(move || {
        let there = there.clone();
        async move { Ok(there.connect()) }
    }));
    let disk = watch(disk).await.unwrap();
    run(copy(&disk, connector)).await.unwrap();
    same(&source, &destination);
}

both_runtimes!(nothing_is_a_destination);

async fn nothing_is_a_destination() {
    let source = sparse(1 << 20);
    let copying = copy(connect(&source).await, Destination::nothing());
    let progress = copying.progress();
    let copied = run(copying).await.unwrap();
    assert_eq!(copied.size, 1 << 20);
    let now = progress.now();
    assert_eq!(now.phase, CopyPhase::Complete);
    assert_eq!((now.done, now.total), (1 << 20, Some(1 << 20)));
    assert_eq!(now.fraction(), Some(1.0));
}

both_runtimes!(a_destination_that_is_too_small_is_left_alone);

async fn a_destination_that_is_too_small_is_left_alone() {
    let (source, destination) = (sparse(1 << 20), Export::new(1 << 19));
    destination.fill(0, 1 << 19, 9);
    let (from, to) = (connect(&source).await, connect(&destination).await);
    let error = failure(copy(&from, &to)).await;
    assert_eq!(error.side(), Some(Side::Destination));
    assert_eq!(
        error.to_string(),
        "the destination of the copy is too small: it has 524288 bytes, and the source 1048576"
    );
    assert!(
        destination
            .contents(0, 1 << 19)
            .iter()
            .all(|byte| *byte == 9)
    );
    // A stream tells it only when it has brought more.
    let stream = Source::stream(std::io::Cursor::new(vec![1; 1 << 20]));
    let error = failure(copy(stream, &to).request_size(65536)).await;
    assert!(matches!(error.fault(), CopyFault::TooSmall { .. }));
}

both_runtimes!(a_destination_that_is_read_only_is_named);

async fn a_destination_that_is_read_only_is_named() {
    use nbd_client::wire::TransmissionFlags as Flags;

    let (source, destination) = (sparse(1 << 20), Export::new(1 << 20));
    let destination = destination.flags(Flags::HAS_FLAGS | Flags::READ_ONLY);
    let (from, to) = (connect(&source).await, connect(&destination).await);
    let error = failure(copy(&from, &to)).await;
    assert!(matches!(error.fault(), CopyFault::ReadOnly));
    assert_eq!(error.side(), Some(Side::Destination));
}

both_runtimes!(what_cannot_be_is_refused);

async fn what_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, [1; 8192]).unwrap();
    let stream = || Source::stream(std::io::Cursor::new(vec![1; 512]));
    let out = || Destination::stream(tokio::io::sink());
    let other = directory.path().join("other");
    std::fs::write(&other, [2; 16384]).unwrap();
    for copying in [
        copy(Source::file(&file), Destination::file(&file)),
        copy(stream(), Destination::file(directory.path().join("new"))).verify(true),
        copy(Source::file(&file), out()).verify(true),
        copy(Source::file(&file), out()).only("qemu:dirty-bitmap:b"),
        copy(Source::file(&file), Destination::nothing()).only("qemu:dirty-bitmap:b"),
        copy(Source::file(&file), Destination::file(&other)).only("qemu:dirty-bitmap:b"),
        copy(stream(), Destination::file(&other)).only("qemu:dirty-bitmap:b"),
    ] {
        let error = failure(copying).await;
        assert!(matches!(error.fault(), CopyFault::Impossible(_)), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), [1; 8192], "it is left alone");
    let kept = std::fs::read(&other).unwrap();
    assert_eq!(kept, [2; 16384], "it is left alone");

    let error = failure(copy("ndb://host", Destination::nothing())).await;
    assert_eq!(error.side(), Some(Side::Source));
    let error = failure(copy(Source::file(directory.path()), Destination::nothing())).await;
    assert!(error.io().is_some(), "{error}");
}

both_runtimes!(what_cannot_be_opened_has_the_error_of_the_system);

async fn what_cannot_be_opened_has_the_error_of_the_system() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("file"), [1; 8192]).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    let long = "x".repeat(300);
    for (place, why, number) in [
        (
            "no/file",
            "no such file or directory: create its directory",
            2,
        ),
        ("socket", "no such device or address", 6),
        ("file/file", "not a directory", 20),
        ("", "is a directory: name a file in it", 21),
        (&long, "file name too long", 36),
        (
            "/dev/full",
            "it is a character device, which has no size: copy it as a stream",
            29,
        ),
    ] {
        let place = path(place);
        let source = Source::file(path("file"));
        let to = run(copy(source, Destination::file(&place))).await;
        let from = run(copy(Source::file(&place), Destination::nothing())).await;
        for (error, side) in [(to, "destination"), (from, "source")] {
            let error = error.unwrap_err();
            let start = format!("cannot open the {side} of the copy: {}: ", place.display());
            let why = match side {
                "source" => why.trim_end_matches(": create its directory"),
                _ => why,
            };
            let text = format!("{start}{why}");
            assert_eq!(error.to_string(), text);
            assert_eq!(error.errno(), Some(number), "{text}");
            assert_eq!(error.kind(), ErrorKind::Copy);
        }
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), [1; 8192]);
}
