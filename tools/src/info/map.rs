//! The map of an export in one metadata context, or how much there is of each kind.

use std::collections::BTreeMap;
use std::fmt::Write;

use futures::TryStreamExt;
use nbd_client::context::Status;
use nbd_client::{Connection, Extent};

use super::Result;
use super::print::quoted;

pub(crate) enum Map {
    Extents(Vec<(Extent, String)>),
    /// The size of the export, and for each flags how many bytes have them.
    Totals(u64, BTreeMap<u64, (u64, String)>),
}

impl Map {
    pub(crate) async fn of(conn: &Connection, context: &str, totals: bool) -> Result<Self> {
        if !conn.export()?.has_context(context) {
            let why = format!("the server does not have the metadata context {context:?}");
            return Err(why.into());
        }
        let mut extents = conn.extents(context, ..).merged();
        let mut map = if totals {
            Self::Totals(conn.size()?, BTreeMap::new())
        } else {
            Self::Extents(Vec::new())
        };
        while let Some(extent) = extents.try_next().await? {
            let words = match extent.status(context) {
                Status::Other(_) => String::new(),
                known => known.to_string(),
            };
            match &mut map {
                Self::Extents(extents) => extents.push((extent, words)),
                Self::Totals(_, totals) => {
                    totals.entry(extent.flags).or_insert((0, words)).0 += extent.length;
                }
            }
        }
        Ok(map)
    }

    pub(crate) fn print(&self, json: bool, out: &mut String) {
        let entries: Vec<_> = match self {
            Self::Extents(extents) => extents
                .iter()
                .map(|(extent, words)| {
                    let Extent { offset, length, flags, .. } = extent;
                    if json {
                        let words = described(words);
                        format!(r#"{{ "offset": {offset}, "length": {length}, "type": {flags}{words} }}"#)
                    } else {
                        format!("{offset:>10}  {length:>10}  {flags:>3}  {words}")
                    }
                })
                .collect(),
            Self::Totals(size, totals) => totals
                .iter()
                .map(|(flags, (bytes, words))| {
                    let percent = 100.0 * *bytes as f64 / *size as f64;
                    if json {
                        let (percent, words) = (six_digits(percent), described(words));
                        format!(r#"{{ "size": {bytes}, "percent": {percent}, "type": {flags}{words} }}"#)
                    } else {
                        format!("{bytes:>10} {percent:5.1}% {flags:>3} {words}")
                    }
                })
                .collect(),
        };
        let entries: Vec<_> = entries.iter().map(|entry| entry.trim_end()).collect();
        let _ = if json {
            writeln!(out, "[\n{}\n]", entries.join(",\n"))
        } else {
            entries
                .iter()
                .try_for_each(|entry| writeln!(out, "{entry}"))
        };
    }
}

fn described(words: &str) -> String {
    if words.is_empty() {
        return String::new();
    }
    format!(r#", "description": {}"#, quoted(words))
}

/// A number with six significant digits, as C prints it by default.
fn six_digits(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}
