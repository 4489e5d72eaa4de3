//! The fuzz targets without a fuzzer: on the corpus, and on random inputs made of it.
//!
//! `NBD_SEED=number` says where the random inputs start; they print it.
#![allow(clippy::unwrap_used)]

#[path = "../shared/mod.rs"]
mod shared;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, unnameable_types, unused_imports, dead_code)]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use shared::random::Random;
use targets::{TARGETS, Target};

/// Random inputs for each target.
const INPUTS: usize = 4000;

/// The inputs of a target, sorted by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory:?} is empty");
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    files.iter().map(read).collect()
}

/// Runs a target, and says which input it was that failed.
fn run((_, target): Target, input: &[u8], what: impl Fn() -> String) {
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    if let Err(panic) = result {
        eprintln!("{}: {}", what(), input.escape_ascii());
        resume_unwind(panic);
    }
}

/// Inputs of the corpus, cut, joined and changed.
fn mutated(corpus: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| {
        let (_, input) = &corpus[random.below(corpus.len() as u64) as usize];
        input.clone()
    };
    let mut input = pick(random);
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, random.next() as u8),
            2 => {
                let other = pick(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                input.splice(at.., other[from..].iter().copied());
            }
            3 => input.extend_from_slice(&random.bytes(9)),
            _ if at == input.len() => {}
            4 => input[at] = random.next() as u8,
            _ => input[at] ^= 1 << random.below(8),
        }
    }
    input
}

fn replay(target: Target) {
    let corpus = corpus(target.0);
    for (name, input) in &corpus {
        run(target, input, || format!("{}/{name}", target.0));
    }
    let mut random = Random::new(1);
    for i in 0..INPUTS {
        let input = mutated(&corpus, &mut random);
        run(target, &input, || format!("{} input {i}", target.0));
    }
}

macro_rules! replay {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay((stringify!($name), targets::$name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), replayed);
        }
    };
}

replay!(greeting option_reply info reply chunk request uri session server_bytes server_script);
