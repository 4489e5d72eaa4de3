//! Copies from and to qemu-nbd.

use nbd_client::{Destination, Source, copy};

use super::*;
use crate::shared::server;

fn qcow2(dir: &Dir, name: &str, size: &str) -> String {
    let image = dir.path(name);
    server::run("qemu-img", &["create", "-q", "-f", "qcow2", &image, size]);
    image
}

both_runtimes!(an_image_becomes_another_image_and_stays_sparse);
async fn an_image_becomes_another_image_and_stays_sparse() {
    let dir = Dir::new();
    let (source, target) = (qcow2(&dir, "source", "1G"), qcow2(&dir, "target", "1G"));
    let writes = [
        "write -P 1 0 64k",
        "write -P 2 100M 3M",
        "write -P 3 1023M 1M",
        "write -z 101M 64k",
    ];
    let writes = writes.iter().flat_map(|write| ["-c", write]);
    let args: Vec<_> = ["-f", "qcow2"]
        .into_iter()
        .chain(writes)
        .chain([&*source])
        .collect();
    server::run("qemu-io", &args);
    let from = Server::qemu(&["-r", "-f", "qcow2", &source]);
    let to = Server::qemu(&["-f", "qcow2", &target]);
    let copied = run(copy(of(&from), of(&to)).verify(true)).await.unwrap();
    assert!(copied.data < 8 << 20, "{copied:?}");
    from.stop();
    to.stop();
    server::run("qemu-img", &["compare", &source, &target]);
    assert!(room(&target) < 8 << 20);
}

// qemu-nbd hangs up in the middle of an answer that it cannot complete.
both_runtimes!(a_bad_sector_is_salvaged_and_nothing_around_it_is_lost);
async fn a_bad_sector_is_salvaged_and_nothing_around_it_is_lost() {
    let dir = Dir::new();
    let source = sparse(&dir, "source", 4 << 20);
    let rule = "[inject-error]\nevent = \"none\"\nerrno = \"5\"\nsector = \"8\"\n";
    let rules = dir.file("rules", rule);
    let image = format!(
        "driver=raw,file.driver=blkdebug,file.config={rules},\
         file.image.driver=file,file.image.filename={source}"
    );
    let server = Server::qemu(&["-r", "--image-opts", &image]);
    let target = dir.path("target");
    let copying = || copy(of(&server), Destination::file(&target)).request_size(16384);
    let error = run(copying()).await.unwrap_err();
    assert!(
        error.to_string().contains("the source of the copy"),
        "{error}"
    );
    let copied = run(copying().salvage(true)).await.unwrap();
    assert_eq!(copied.salvaged, vec![4096..4608; 1]);
    let mut expected = std::fs::read(&source).unwrap();
    expected[4096..4608].fill(0);
    assert!(std::fs::read(&target).unwrap() == expected);
}

both_runtimes!(only_what_a_bitmap_marks_is_copied);
async fn only_what_a_bitmap_marks_is_copied() {
    let dir = Dir::new();
    let image = qcow2(&dir, "disk", "64M");
    let write = |commands: &[&str]| {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<_> = ["-f", "qcow2"]
            .into_iter()
            .chain(commands)
            .chain([&*image])
            .collect();
        server::run("qemu-io", &args);
    };
    write(&["write -P 0xaa 0 4M"]);
    // The full copy, then a bitmap from there on.
    let full = dir.path("full");
    server::run("qemu-img", &["convert", "-O", "raw", &image, &full]);
    server::run("qemu-img", &["bitmap", "--add", "--enable", &image, "b0"]);
    write(&[
        "write -P 0xbb 2M 64k",
        "write -z 1M 64k",
        "write -P 0xcc 10M 128k",
    ]);
    let server = Server::qemu(&["-r", "-f", "qcow2", "-B", "b0", &image]);
    let copying = copy(of(&server), Destination::file(&full)).only("qemu:dirty-bitmap:b0");
    let kept = std::sync::Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    let copying = copying.checkpoints(move |checkpoint| {
        *keep.lock().unwrap() = Some(checkpoint.clone());
        Ok(())
    });
    let copied = run(copying).await.unwrap();
    assert_eq!((copied.data, copied.zeroes), (3 << 16, 1 << 16));
    // What was clean was not copied.
    let checkpoint = kept.lock().unwrap().take().unwrap();
    let whole = copy(of(&server), Destination::file(&full)).resume(checkpoint);
    let error = run(whole).await.unwrap_err().to_string();
    let why = "it copied what is dirty in \"qemu:dirty-bitmap:b0\", and this one copies everything";
    assert!(error.contains(why), "{error}");
    assert_eq!(copied.skipped, (64 << 20) - (4 << 16));
    let now = dir.path("now");
    run(copy(of(&server), Destination::file(&now)))
        .await
        .unwrap();
    same(&full, &now);
}

both_runtimes!(a_stream_is_copied_into_an_image);
async fn a_stream_is_copied_into_an_image() {
    let dir = Dir::new();
    let (source, target) = (sparse(&dir, "source", 4 << 20), qcow2(&dir, "target", "4M"));
    let server = Server::qemu(&["-f", "qcow2", &target]);
    let bytes = std::io::Cursor::new(std::fs::read(&source).unwrap());
    run(copy(Source::stream(bytes), of(&server))).await.unwrap();
    server.stop();
    server::run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", &source, &target],
    );
}
