//! The comparisons, by the servers they need.

mod nbd_server;
mod nbdkit;
mod qemu;

use crate::run::{Compared, QUESTIONS};

/// Everything that can be asked of an export.
fn compare_all(compared: &Compared, contexts: &[&str]) {
    compared.json(&["--json"]);
    compared.json(&["--json", "--no-content"]);
    compared.json(&["--json", "--list"]);
    compared.lines(&["--no-content"]);
    compared.lines(&["--list"]);
    compared.exactly(&["--size"]);
    compared.exactly(&["--map"]);
    for context in contexts {
        let map = format!("--map={context}");
        compared.json(&[&map, "--json"]);
        compared.json(&[&map, "--json", "--totals"]);
        compared.exactly(&[&map]);
        compared.exactly(&[&map, "--totals"]);
    }
    for (option, word) in QUESTIONS {
        compared.exactly(&[option, word]);
    }
}
