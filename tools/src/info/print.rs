//! Writing it out, for people and for programs.

use std::fmt::Write;

use nbd_client::wire::Text;

use super::fields::{Fields, Report, Value};
use super::style::Style;

pub(crate) fn report(report: &Report, json: bool, style: &Style, out: &mut String) {
    let _ = if json {
        as_json(report, out)
    } else {
        as_text(report, *style, out)
    };
}

fn as_text(report: &Report, style: Style, out: &mut String) -> std::fmt::Result {
    let protocol = report.protocol.handshake.name();
    let tls = if report.tls { "with" } else { "without" };
    let packets = match (
        report.protocol.extended_headers,
        report.protocol.structured_replies,
    ) {
        (true, _) => "extended",
        (false, true) => "structured",
        (false, false) => "simple",
    };
    writeln!(
        out,
        "{}: {protocol} {tls} TLS, using {packets} packets",
        style.heading("protocol")
    )?;
    for export in &report.exports {
        export_as_text(export, style, out)?;
    }
    Ok(())
}

/// Prints an export. The texts are from the server, and on their way to a terminal.
fn export_as_text(export: &Fields, style: Style, out: &mut String) -> std::fmt::Result {
    let Fields { name, fields } = export;
    let heading = format!("export={}", Text::from(&*quoted(name)));
    writeln!(out, "{}:", style.heading(&heading))?;
    for (key, value) in fields {
        let key = style.key(key);
        match value {
            Value::Text(text) => writeln!(out, "\t{key}: {}", Text::from(&**text))?,
            Value::Flag(flag) => writeln!(out, "\t{key}: {}", style.flag(*flag))?,
            Value::Number(number) => writeln!(out, "\t{key}: {number}")?,
            Value::Size(size) => match human(*size) {
                short if short.ends_with(char::is_alphabetic) => {
                    writeln!(out, "\t{key}: {size} ({short})")?;
                }
                _ => writeln!(out, "\t{key}: {size}")?,
            },
            Value::List(items) => {
                writeln!(out, "\t{key}:")?;
                for item in items {
                    writeln!(out, "\t\t{}", Text::from(&**item))?;
                }
            }
        }
    }
    Ok(())
}

fn as_json(report: &Report, out: &mut String) -> std::fmt::Result {
    let protocol = report.protocol;
    writeln!(
        out,
        "{{\n\"protocol\": {},",
        quoted(protocol.handshake.name())
    )?;
    writeln!(out, "\"TLS\": {},", report.tls)?;
    writeln!(out, "\"structured\": {},", protocol.structured_replies)?;
    writeln!(out, "\"extended\": {},", protocol.extended_headers)?;
    writeln!(out, "\"exports\": [")?;
    for (number, export) in report.exports.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(
            out,
            "{comma}\t{{\n\t\"export-name\": {}",
            quoted(&export.name)
        )?;
        for (key, value) in &export.fields {
            write!(out, ",\n\t\"{key}\": ")?;
            match value {
                Value::Text(text) => out.push_str(&quoted(text)),
                Value::Flag(flag) => write!(out, "{flag}")?,
                Value::Number(number) => write!(out, "{number}")?,
                Value::Size(size) => {
                    write!(out, "{size},\n\t\"{key}-str\": {}", quoted(&human(*size)))?;
                }
                Value::List(items) => {
                    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
                    write!(out, "[\n\t\t{}\n\t]", items.join(",\n\t\t"))?;
                }
            }
        }
        out.push_str("\n\t}");
    }
    writeln!(out, " ]\n}}")
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            '\r' => write!(out, "\\r"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)),
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}

/// A size in the largest unit that divides it.
fn human(size: u64) -> String {
    let mut size = size;
    let mut units = ["", "K", "M", "G", "T", "P", "E"].iter();
    let mut unit = units.next();
    while size > 0 && size % 1024 == 0 {
        size /= 1024;
        unit = units.next();
    }
    format!("{size}{}", unit.unwrap_or(&""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_server_does_not_drive_the_terminal() {
        let evil = "\u{1b}]0;owned\u{7}\n\tis_read_only: true\u{202e}";
        let texts = ["description", "contexts"];
        let [text, list] = [Value::Text(evil.into()), Value::List(vec![evil.into()])];
        let export = Fields {
            name: evil.into(),
            fields: texts.into_iter().zip([text, list]).collect(),
        };
        let mut out = String::new();
        export_as_text(&export, Style::new(false), &mut out).unwrap();
        assert_eq!(out.lines().count(), 4, "{out}");
        let is_harmless = |c: char| c == '\n' || c == '\t' || !c.is_control() && c != '\u{202e}';
        assert!(out.chars().all(is_harmless), "{out:?}");
    }
}
