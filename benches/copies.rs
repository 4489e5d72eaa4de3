//! Copies of whole disks, beside nbdcopy and `qemu-img convert`.
//!
//! `cargo bench --bench copies [-- --rounds N] [--size MIB] [--only NAME] [--dir DIRECTORY]`. Servers
//! are nbdkit (for qcow2: qemu-nbd) over Unix sockets, on files in the directory (by default /dev/shm,
//! so that the disk of this machine is not measured). Every copy is a process of its own, without a sync at the end, since
//! the others have none by default. All are measured in turns and compared by the medians of their
//! rounds: only the ratios mean anything. The first round is not counted, and its results are compared
//! with the source.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nbd_client::{Destination, Source, copy};

/// What copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tool {
    Ours,
    Nbdcopy,
    QemuImg,
    /// `-W -m 16`: out of order, sixteen at a time.
    QemuImgWide,
}

const TOOLS: [Tool; 4] = [Tool::Ours, Tool::Nbdcopy, Tool::QemuImg, Tool::QemuImgWide];

/// What a disk looks like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Data all over.
    Dense,
    /// A sixteenth is data, in extents of 16 MiB.
    Sparse,
    /// A quarter is data, in extents of 4 KiB.
    Fine,
}

/// Where a side is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    File,
    Nbd,
    /// Served by qemu-nbd from a qcow2 image.
    Qcow2,
    /// Each request takes 20 ms.
    FarNbd,
    Nothing,
}

struct Workload {
    name: &'static str,
    shape: Shape,
    /// How much larger, or smaller if negative, than the size that was asked for, in powers of two.
    scale: i32,
    from: Side,
    to: Side,
}

const fn workload(name: &'static str, shape: Shape, scale: i32, from: Side, to: Side) -> Workload {
    Workload {
        name,
        shape,
        scale,
        from,
        to,
    }
}

const WORKLOADS: &[Workload] = &[
    workload("nbd-nothing", Shape::Dense, 0, Side::Nbd, Side::Nothing),
    workload("nbd-file", Shape::Dense, 0, Side::Nbd, Side::File),
    workload("file-nbd", Shape::Dense, 0, Side::File, Side::Nbd),
    workload("nbd-nbd", Shape::Dense, 0, Side::Nbd, Side::Nbd),
    workload("sparse", Shape::Sparse, 4, Side::Nbd, Side::Nbd),
    workload("fine", Shape::Fine, 2, Side::Nbd, Side::Nbd),
    workload("fine-file", Shape::Fine, 2, Side::Nbd, Side::File),
    workload("qcow2-file", Shape::Sparse, 2, Side::Qcow2, Side::File),
    workload("qcow2-nbd", Shape::Dense, 0, Side::Qcow2, Side::Nbd),
    workload("far", Shape::Dense, 0, Side::FarNbd, Side::File),
    workload("far-far", Shape::Dense, -1, Side::FarNbd, Side::FarNbd),
];

struct Options {
    rounds: usize,
    size: u64,
    only: Option<String>,
    dir: PathBuf,
}

fn word(name: &str) -> Option<String> {
    let mut words = std::env::args();
    words.find(|word| word == name)?;
    words.next()
}

fn options() -> Options {
    let number = |name: &str, default: u64| {
        word(name).map_or(default, |value| value.parse().expect("a number is needed"))
    };
    Options {
        rounds: usize::try_from(number("--rounds", 5)).unwrap(),
        size: number("--size", 256) << 20,
        only: word("--only"),
        dir: word("--dir").unwrap_or_else(|| "/dev/shm".into()).into(),
    }
}

/// A server that is stopped when this is dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(file: &Path, side: Side) -> io::Result<Self> {
        let socket = file.with_extension("socket");
        let _ = fs::remove_file(&socket);
        let (path, at) = (file.to_str().unwrap(), socket.to_str().unwrap());
        let mut command;
        match side {
            Side::Qcow2 => {
                command = Command::new("qemu-nbd");
                command.args(["-r", "-t", "-e", "0", "-f", "qcow2", "-k", at]);
                command.arg(image(file));
            }
            Side::FarNbd => {
                command = Command::new("nbdkit");
                command.args(["-f", "-U", at, "--filter=delay", "file", path]);
                command.args(["rdelay=20ms", "wdelay=20ms"]);
            }
            _ => {
                command = Command::new("nbdkit");
                command.args(["-f", "-U", at, "file", path]);
            }
        }
        let child = command.spawn()?;
        let begin = Instant::now();
        while !socket.exists() && begin.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { child, socket })
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the qcow2 image of a disk is.
fn image(file: &Path) -> PathBuf {
    file.with_extension("qcow2")
}

/// Makes the qcow2 image of a disk.
fn convert(file: &Path) -> io::Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "qcow2"]);
    let status = command.arg(file).arg(image(file)).status()?;
    assert!(status.success(), "{command:?}");
    Ok(())
}

/// Makes a disk, and returns its size.
fn make(path: &Path, workload: &Workload, size: u64) -> io::Result<u64> {
    let size = match workload.scale {
        scale if scale < 0 => size >> -scale,
        scale => size << scale,
    };
    let file = File::create(path)?;
    file.set_len(size)?;
    let (length, every) = match workload.shape {
        Shape::Dense => (1 << 20, 1 << 20),
        Shape::Sparse => (16 << 20, 256 << 20),
        Shape::Fine => (4096, 16384),
    };
    let mut data = vec![0; length];
    for at in (0..size).step_by(every) {
        // No two extents are alike.
        for (number, word) in data.chunks_exact_mut(8).enumerate() {
            let word_number = (at + number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            word.copy_from_slice(&word_number.to_le_bytes());
        }
        file.write_all_at(&data, at)?;
    }
    Ok(size)
}

fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = one.read(&mut a)?;
        if read == 0 {
            return Ok(other.read(&mut b)? == 0);
        }
        other.read_exact(&mut b[..read])?;
        if a[..read] != b[..read] {
            return Ok(false);
        }
    }
}

fn command(tool: Tool, from: &str, to: &str) -> Command {
    let is_nbd = to.starts_with("nbd");
    let mut command;
    match tool {
        Tool::Ours => {
            command = Command::new(std::env::current_exe().unwrap());
            command.args(["--from", from, "--to", to]);
        }
        Tool::Nbdcopy => {
            command = Command::new("nbdcopy");
            command.args([from, to]);
        }
        Tool::QemuImg | Tool::QemuImgWide => {
            command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", "raw"]);
            if tool == Tool::QemuImgWide {
                command.args(["-W", "-m", "16"]);
            }
            if is_nbd {
                command.arg("-n");
            }
            command.args([from, to]);
        }
    }
    command
}

/// Copies as the program that this bench runs for itself.
#[tokio::main]
async fn copy_one(from: &str, to: &str) {
    let source = match from.starts_with("nbd") {
        true => Source::from(from),
        false => Source::file(from),
    };
    let destination = match to {
        "null:" => Destination::nothing(),
        uri if uri.starts_with("nbd") => Destination::from(uri),
        path => Destination::file(path),
    };
    let mut copying = copy(source, destination).flush(false);
    if let Ok(size) = std::env::var("COPY_REQUEST") {
        copying = copying.request_size(size.parse::<usize>().unwrap() << 10);
    }
    if let Ok(requests) = std::env::var("COPY_REQUESTS") {
        copying = copying.requests(requests.parse().unwrap());
    }
    if let Ok(connections) = std::env::var("COPY_CONNECTIONS") {
        copying = copying.connections(connections.parse().unwrap());
    }
    copying.await.unwrap();
}

/// Measures one copy. `None` if the tool cannot do it.
fn measure(
    tool: Tool,
    workload: &Workload,
    dir: &Path,
    is_checked: bool,
) -> io::Result<Option<Duration>> {
    let (source, target) = (dir.join("source"), dir.join("target"));
    let _ = fs::remove_file(&target);
    let start = |file: &Path, side: Side| match side {
        Side::Nbd | Side::Qcow2 | Side::FarNbd => Server::start(file, side).map(Some),
        Side::File | Side::Nothing => Ok(None),
    };
    let size = fs::metadata(&source)?.len();
    if matches!(workload.to, Side::Nbd | Side::FarNbd) {
        File::create(&target)?.set_len(size)?;
    }
    let from = start(&source, workload.from)?;
    let to = start(&target, workload.to)?;
    let name = |server: &Option<Server>, file: &Path| match server {
        Some(server) => server.uri(),
        None => file.to_str().unwrap().to_owned(),
    };
    let there = match workload.to {
        Side::Nothing if matches!(tool, Tool::QemuImg | Tool::QemuImgWide) => return Ok(None),
        Side::Nothing => "null:".into(),
        _ => name(&to, &target),
    };
    let mut command = command(tool, &name(&from, &source), &there);
    let begin = Instant::now();
    let status = command.stdin(Stdio::null()).status()?;
    let time = begin.elapsed();
    assert!(status.success(), "{command:?}");
    if is_checked && workload.to != Side::Nothing {
        assert!(same(&source, &target)?, "a wrong copy: {command:?}");
    }
    Ok(Some(time))
}

fn main() -> io::Result<()> {
    if let (Some(from), Some(to)) = (word("--from"), word("--to")) {
        copy_one(&from, &to);
        return Ok(());
    }
    let options = options();
    let dir = tempfile::tempdir_in(&options.dir)?;
    println!("| workload | MiB/s | nbdcopy | qemu-img | qemu-img -W -m 16 | over the best |");
    println!("|---|---|---|---|---|---|");
    for workload in WORKLOADS {
        if options
            .only
            .as_ref()
            .is_some_and(|only| only != workload.name)
        {
            continue;
        }
        let source = dir.path().join("source");
        let size = make(&source, workload, options.size)?;
        if workload.from == Side::Qcow2 {
            convert(&source)?;
        }
        let mut times = TOOLS.map(|_| Vec::new());
        for round in 0..=options.rounds {
            for (tool, times) in TOOLS.iter().zip(&mut times) {
                match measure(*tool, workload, dir.path(), round == 0) {
                    Ok(Some(time)) if round > 0 => times.push(time),
                    Ok(_) => {}
                    Err(error) => println!("{tool:?} is left out: {error}"),
                }
            }
        }
        report(workload.name, size, times);
    }
    Ok(())
}

fn report(name: &str, size: u64, mut times: [Vec<Duration>; 4]) {
    let speeds = times.each_mut().map(|times| {
        times.sort();
        let median = times.get(times.len() / 2)?.as_secs_f64();
        Some((size >> 20) as f64 / median)
    });
    let [ours, others @ ..] = speeds;
    let best = others.iter().flatten().copied().fold(0.0, f64::max);
    let show = |speed: &Option<f64>| speed.map_or_else(|| "–".into(), |it| format!("{it:.0}"));
    let others = others.map(|it| show(&it)).join(" | ");
    let ratio = ours.map_or(0.0, |ours| ours / best);
    println!("| {name} | {} | {others} | {ratio:.2} |", show(&ours));
}
