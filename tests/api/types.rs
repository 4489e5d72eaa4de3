//! What the types of this crate promise, and what its package does.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::process::Command;

use nbd_client as nbd;

const fn shared<T: Send + Sync + Unpin + 'static>() {}
const fn sent<T: Send + Unpin + 'static>() {}
const fn unwinds<T: UnwindSafe + RefUnwindSafe>() {}

/// A type of future, without making one.
fn sent_value<T: Send + 'static>(_: impl FnOnce(&nbd::Connection) -> T) {}

#[test]
fn k17_handles_futures_and_errors_go_wherever_they_are_wanted() {
    shared::<nbd::Connection>();
    shared::<nbd::Builder>();
    shared::<nbd::Error>();
    shared::<nbd::Export>();
    shared::<nbd::Extent>();
    shared::<nbd::BlockStatus>();
    shared::<nbd::Chunk>();
    shared::<nbd::Uri>();
    shared::<nbd::UriError>();
    shared::<nbd::ListedExport>();
    shared::<nbd::testing::Server>();
    shared::<nbd::testing::Export>();
    shared::<nbd::Connecting>();
    shared::<nbd::Connector>();
    shared::<nbd::Program>();
    shared::<nbd::Request<nbd::op::Write>>();
    shared::<nbd::Pending<nbd::op::Read>>();
    shared::<nbd::Pending<nbd::op::Write>>();
    shared::<nbd::Pending<nbd::op::Status>>();
    shared::<nbd::Chunks>();
    shared::<nbd::Extents>();
    shared::<nbd::JointExtents>();
    shared::<nbd::Disconnect>();
    sent::<nbd::testing::Peer>();
    sent_value(|conn| conn.read(0, 1));
    sent_value(|conn| conn.write(0, "x"));
    sent_value(|conn| conn.flush());
    sent_value(|conn| conn.block_status(0, 1));
    sent_value(|conn| conn.disconnect().into_future());
    sent_value(|conn| conn.extents("base:allocation", ..));
    // Not `Error`: `io::Error`, which it may hold, is none either.
    unwinds::<nbd::Export>();
    unwinds::<nbd::Uri>();
}

const fn is_key<T: Copy + Eq + std::hash::Hash + std::fmt::Debug>() {}

#[test]
fn small_values_can_be_keys_of_a_map() {
    is_key::<nbd::AddressFamily>();
    is_key::<nbd::BlockSize>();
    is_key::<nbd::Delivery>();
    is_key::<nbd::ErrorKind>();
    is_key::<nbd::Extent>();
    is_key::<nbd::Handshake>();
    is_key::<nbd::KeepAlive>();
    is_key::<nbd::Limits>();
    is_key::<nbd::Phase>();
    is_key::<nbd::Protocol>();
    is_key::<nbd::State>();
    is_key::<nbd::Strict>();
    is_key::<nbd::TlsMode>();
    is_key::<nbd::TlsVersion>();
    is_key::<nbd::UriPolicy>();
}

/// Compiles only if the type is not `IntoSocket`: otherwise it is not clear which
/// implementation is meant.
macro_rules! owns_nothing {
    ($($type:ty),*) => {{
        trait Ambiguous<A> {
            fn assert() {}
        }
        impl<T> Ambiguous<()> for T {}
        struct Owning;
        impl<T: nbd::IntoSocket> Ambiguous<Owning> for T {}
        $(<$type as Ambiguous<_>>::assert();)*
    }};
}

#[test]
fn k27_a_socket_cannot_be_handed_over_twice() {
    // `connect_socket` takes what owns a descriptor, so the caller has it no more: what may be
    // copied does not do.
    owns_nothing!(
        RawFd,
        BorrowedFd<'static>,
        &'static OwnedFd,
        &'static std::os::unix::net::UnixStream,
        &'static std::net::TcpStream
    );
}

/// Looks at every source file of the library.
fn sources(dir: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, look);
        } else {
            look(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

fn package(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn k52_no_clock_that_can_be_set_is_asked() {
    let mut files = 0;
    sources(&package("src"), &mut |path, text| {
        files += 1;
        for clock in ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime"] {
            assert!(!text.contains(clock), "{clock} in {}", path.display());
        }
    });
    assert!(files > 50, "{files}");
}

/// Runs Cargo on this package; what it builds goes to a directory of its own.
fn cargo(directory: &str, arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .arg("--target-dir")
        .arg(package("target").join(directory))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
}

#[test]
#[ignore = "builds everything once more: tests/long runs it"]
fn k14_a_program_that_ends_at_the_first_panic_works_as_well() {
    let abort = r#"profile.dev.panic="abort""#;
    let build = ["build", "--example", "quickstart", "--config", abort];
    cargo("abort", &build);
    let program = package("target/abort/debug/examples/quickstart");
    let output = Command::new(program).args(["--seconds", "2"]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    println!("reached: {}", text.lines().last().unwrap());
}

#[test]
#[ignore = "needs other targets of the compiler: tests/long runs it"]
fn k53_the_library_compiles_for_32_bits_and_for_the_other_order_of_bytes() {
    // Without TLS: that would take a C compiler for them, too.
    let check = ["check", "--lib", "--no-default-features", "--target"];
    for target in ["i686-unknown-linux-gnu", "s390x-unknown-linux-gnu"] {
        cargo("targets", &[&check[..], &[target]].concat());
        println!("reached: {target}");
    }
}

/// The first versions without the faults that are known, of what this crate stands on.
const SOUND: &[(&str, [u64; 3])] = &[
    ("tokio", [1, 44, 2]),
    ("bytes", [1, 11, 1]),
    ("slab", [0, 4, 11]),
    ("tokio-rustls", [0, 26, 0]),
    ("openssl", [0, 10, 72]),
];

/// The numbers of a version; those that are left out are 0.
fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

#[test]
fn k54_no_version_with_a_known_fault_can_be_chosen() {
    let manifest = fs::read_to_string(package("Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    for &(name, sound) in SOUND {
        let mut lines = dependencies.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        let least = line.and_then(|line| line.split('"').nth(1)).unwrap();
        assert!(numbers(least) >= sound, "{name} may be {least}");
    }
}
