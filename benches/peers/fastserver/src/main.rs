//! A very cheap NBD server: everything it does is meant to cost less than any
//! client, so that the client is what a benchmark measures.
//!
//! * fixed newstyle, `NBD_OPT_GO`/`INFO`/`EXPORT_NAME`/`LIST`, `NO_ZEROES`,
//!   optional structured replies; `READ`, `WRITE`, `FLUSH`, `DISC`.
//! * one blocking thread for each connection: no readiness calls at all. All the
//!   requests that one `read` brings are answered with one `writev`.
//! * default backend: reads give zeros, writes are dropped (no copy in user
//!   space). `--memory`: a real in-memory disk, to check data with.
#![forbid(unsafe_code)]

mod handshake;
mod transmission;

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::exit;
use std::sync::{Arc, RwLock};

/// Largest READ or WRITE that is served.
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// What is served; shared by all connections.
pub struct Export {
    pub size: u64,
    pub offer_structured: bool,
    /// `None`: zeros for reads, writes dropped.
    pub memory: Option<RwLock<Vec<u8>>>,
    /// Source of zeros for reads. Never written, so every page of it is the
    /// kernel's one zero page: reading it stays in the first-level cache.
    pub zeros: Vec<u8>,
}

fn serve<S: Read + Write>(mut stream: S, export: &Export) {
    let result = handshake::negotiate(&mut stream, export).and_then(|session| match session {
        Some(session) => transmission::run(&mut stream, export, session),
        None => Ok(()),
    });
    match result {
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
        {
            eprintln!("fastserver: connection: {e}")
        }
        _ => {}
    }
}

const USAGE: &str =
    "usage: fastserver (--unix PATH | --tcp ADDR:PORT) [--size BYTES[K|M|G]] [--memory] [--simple]
  --size    export size (default 1G)
  --memory  keep an in-memory disk (default: reads are zeros, writes are dropped)
  --simple  do not offer structured replies";

fn usage(problem: &str) -> ! {
    eprintln!("fastserver: {problem}\n{USAGE}");
    exit(2)
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn main() -> io::Result<()> {
    let (mut unix, mut tcp) = (None, None);
    let (mut size, mut memory, mut offer_structured) = (1u64 << 30, false, true);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| usage(&format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--unix" => unix = Some(value()),
            "--tcp" => tcp = Some(value()),
            "--size" => size = parse_size(&value()).unwrap_or_else(|| usage("bad --size")),
            "--memory" => memory = true,
            "--simple" => offer_structured = false,
            _ => usage(&format!("unknown argument {arg}")),
        }
    }
    let export = Arc::new(Export {
        size,
        offer_structured,
        memory: memory.then(|| RwLock::new(vec![0; size as usize])),
        zeros: vec![0; MAX_PAYLOAD as usize],
    });
    match (unix, tcp) {
        (Some(path), None) => {
            let _ = std::fs::remove_file(&path);
            for stream in UnixListener::bind(&path)?.incoming() {
                let (stream, export) = (stream?, export.clone());
                std::thread::spawn(move || serve(stream, &export));
            }
        }
        (None, Some(address)) => {
            for stream in TcpListener::bind(&address)?.incoming() {
                let (stream, export) = (stream?, export.clone());
                stream.set_nodelay(true)?;
                std::thread::spawn(move || serve(stream, &export));
            }
        }
        _ => usage("give one of --unix and --tcp"),
    }
    Ok(())
}
