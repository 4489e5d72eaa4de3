//! What is printed at the end.

use std::ops::Range;

use nbd_client::Copied;
use serde_json::{Value, json};

use super::hash;
use crate::out::{complain, say};

/// Prints what was done as JSON.
pub(crate) fn print_json(copied: &Copied) {
    say!(
        "{}",
        json!({
            "size": copied.size,
            "data": copied.data,
            "zeroes": copied.zeroes,
            "skipped": copied.skipped,
            "repeated": copied.repeated,
            "status_failures": copied.status_failures,
            "salvaged": ranges(&copied.salvaged),
            "unfenced": ranges(&copied.unfenced),
            "verified": copied.verified,
            "hash": copied.hash.as_deref().map(hash::hex),
            "elapsed": copied.elapsed.as_secs_f64(),
        })
    );
}

fn ranges(ranges: &[Range<u64>]) -> Value {
    let object =
        |range: &Range<u64>| json!({"offset": range.start, "length": range.end - range.start});
    ranges.iter().map(object).collect()
}

/// Says what a caller must know of a copy that has succeeded.
pub(crate) fn warn(copied: &Copied) {
    for range in &copied.salvaged {
        complain!(
            "nbd copy: {} bytes at offset {} could not be read and are zero in the destination",
            range.end - range.start,
            range.start
        );
    }
    if !copied.unfenced.is_empty() {
        let bytes: u64 = copied
            .unfenced
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        complain!(
            "nbd copy: the server of the destination was lost meanwhile and may write {bytes} bytes \
             once more, the same that are there: restart it before others write them"
        );
    }
}

/// Sums up what was done.
pub(crate) fn sum_up(copied: &Copied) {
    complain!(
        "nbd copy: {} bytes: {} of data, {} of zeroes, {} skipped, {} repeated; {:.1} s",
        copied.size,
        copied.data,
        copied.zeroes,
        copied.skipped,
        copied.repeated,
        copied.elapsed.as_secs_f64()
    );
    if copied.status_failures > 0 {
        complain!(
            "nbd copy: {} times the source could not say where it is zero, and was read",
            copied.status_failures
        );
    }
}
