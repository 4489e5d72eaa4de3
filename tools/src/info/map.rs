//! The map of an export in metadata contexts, or how much there is of each kind.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use futures::TryStreamExt;
use nbd_client::context::Status;
use nbd_client::{Connection, Extent};

use super::Result;
use super::args::MapOf;
use super::print::quoted;
use super::style::Style;

/// The map in one metadata context.
pub(crate) struct Map {
    context: String,
    entries: Entries,
}

enum Entries {
    Extents(Vec<(Extent, String)>),
    /// The size of the range, and for each flags how many bytes have them.
    Totals(u64, BTreeMap<u64, (u64, String)>),
}

/// The map of a range in each of the contexts, one after the other.
pub(crate) async fn all(conn: &Connection, wanted: &MapOf<'_>) -> Result<Vec<Map>> {
    let size = conn.size()?;
    let end = match wanted.length {
        Some(length) => wanted.offset.checked_add(length),
        None => Some(size),
    };
    let Some(end) = end.filter(|end| wanted.offset <= *end && *end <= size) else {
        return Err(format!("the range is outside the export, which has {size} bytes").into());
    };
    let mut maps = Vec::new();
    for context in wanted.contexts {
        let entries = Entries::of(conn, context, wanted.offset..end, wanted.totals).await?;
        let context = context.clone();
        maps.push(Map { context, entries });
    }
    Ok(maps)
}

/// Prints maps: one alone as nbdinfo does; of several, each with its context.
pub(crate) fn print(maps: &[Map], json: bool, style: &Style, out: &mut String) {
    if let [map] = maps {
        map.entries.print(json, *style, out);
        return;
    }
    let mut parts = Vec::new();
    for Map { context, entries } in maps {
        let mut part = String::new();
        entries.print(json, *style, &mut part);
        parts.push(match json {
            true => format!("{}: {}", quoted(context), part.trim_end()),
            false => format!("{}:\n{part}", style.heading(context)),
        });
    }
    let _ = match json {
        true => writeln!(out, "{{\n{}\n}}", parts.join(",\n")),
        false => out.write_str(&parts.concat()),
    };
}

impl Entries {
    async fn of(conn: &Connection, context: &str, range: Range<u64>, totals: bool) -> Result<Self> {
        let mut map = if totals {
            Self::Totals(range.end - range.start, BTreeMap::new())
        } else {
            Self::Extents(Vec::new())
        };
        if range.is_empty() {
            return Ok(map);
        }
        let mut extents = conn.extents(context, range).merged();
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

    fn print(&self, json: bool, style: Style, out: &mut String) {
        let entries = match json {
            true => self.as_json(),
            false => self.as_text(style),
        };
        let _ = match json {
            true => writeln!(out, "[\n{}\n]", entries.join(",\n")),
            false => entries
                .iter()
                .try_for_each(|entry| writeln!(out, "{entry}")),
        };
    }

    fn as_text(&self, style: Style) -> Vec<String> {
        let line = |flags, text: String| style.extent(flags, text.trim_end());
        match self {
            Self::Extents(extents) => extents
                .iter()
                .map(|(extent, words)| {
                    let Extent {
                        offset,
                        length,
                        flags,
                        ..
                    } = *extent;
                    line(
                        flags,
                        format!("{offset:>10}  {length:>10}  {flags:>3}  {words}"),
                    )
                })
                .collect(),
            Self::Totals(size, totals) => totals
                .iter()
                .map(|(&flags, (bytes, words))| {
                    let percent = 100.0 * *bytes as f64 / *size as f64;
                    line(
                        flags,
                        format!("{bytes:>10} {percent:5.1}% {flags:>3} {words}"),
                    )
                })
                .collect(),
        }
    }

    fn as_json(&self) -> Vec<String> {
        match self {
            Self::Extents(extents) => extents
                .iter()
                .map(|(extent, words)| {
                    let Extent {
                        offset,
                        length,
                        flags,
                        ..
                    } = extent;
                    let words = described(words);
                    format!(
                        r#"{{ "offset": {offset}, "length": {length}, "type": {flags}{words} }}"#
                    )
                })
                .collect(),
            Self::Totals(size, totals) => totals
                .iter()
                .map(|(flags, (bytes, words))| {
                    let percent = six_digits(100.0 * *bytes as f64 / *size as f64);
                    let words = described(words);
                    format!(
                        r#"{{ "size": {bytes}, "percent": {percent}, "type": {flags}{words} }}"#
                    )
                })
                .collect(),
        }
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
