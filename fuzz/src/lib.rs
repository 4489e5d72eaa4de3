//! What the fuzz targets do with their input. `tests/fuzz` includes this file and runs the same
//! without a fuzzer.

mod answers;
mod connection;
mod script;
mod seeds;
mod server_bytes;
mod session;
mod uri;
mod wire;

pub use script::server_script;
pub use seeds::seeds;
pub use server_bytes::server_bytes;
pub use session::session;
pub use uri::uri;
pub use wire::{chunk, greeting, info, option_reply, reply, request};

/// A fuzz target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("greeting", greeting),
    ("option_reply", option_reply),
    ("info", info),
    ("reply", reply),
    ("chunk", chunk),
    ("request", request),
    ("uri", uri),
    ("session", session),
    ("server_bytes", server_bytes),
    ("server_script", server_script),
];

/// Text that goes to a log or a terminal drives neither.
fn assert_printable(text: &str) {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(hides), "{text:?}");
}
