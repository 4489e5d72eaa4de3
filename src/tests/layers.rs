//! Which module may import which: the table of ARCHITECTURE.md.

use std::fs;
use std::path::Path;

/// A module, and the others that it may import; `lib.rs` may import all.
const LAYERS: &[(&str, &[&str])] = &[
    // What things are: no behaviour.
    ("chunk", &["wire"]),
    ("context", &[]),
    ("extent", &["context"]),
    ("state", &[]),
    ("stats", &["wire"]),
    ("strict", &[]),
    ("limits", &["wire"]),
    ("spans", &[]),
    ("names", &[]),
    ("export", &["extent", "limits", "wire"]),
    ("config", &["limits", "strict", "transport", "uri", "wire"]),
    // From bytes to messages, and what differs between operating systems.
    ("wire", &[]),
    ("platform", &[]),
    ("error", &["names", "platform", "state", "uri", "wire"]),
    ("uri", &["error", "platform", "wire"]),
    ("serial", &["export", "extent", "stats", "uri", "wire"]),
    // The rules of the protocol, without I/O; and I/O, without the protocol.
    (
        "session",
        &["chunk", "error", "extent", "limits", "stats", "wire"],
    ),
    ("transport", &["error", "names", "platform", "wire"]),
    // The task of a connection.
    (
        "driver",
        &[
            "chunk",
            "config",
            "error",
            "export",
            "extent",
            "limits",
            "platform",
            "session",
            "state",
            "stats",
            "strict",
            "transport",
            "uri",
            "wire",
        ],
    ),
    // What callers hold.
    (
        "connection",
        &[
            "config",
            "driver",
            "error",
            "export",
            "extents",
            "limits",
            "platform",
            "request",
            "state",
            "stats",
            "strict",
            "transport",
            "uri",
            "wire",
        ],
    ),
    (
        "request",
        &[
            "chunk",
            "connection",
            "driver",
            "error",
            "export",
            "extent",
            "limits",
            "session",
            "state",
            "strict",
            "wire",
        ],
    ),
    (
        "extents",
        &[
            "connection",
            "context",
            "error",
            "extent",
            "request",
            "wire",
        ],
    ),
    (
        "stream",
        &[
            "chunk",
            "connection",
            "context",
            "error",
            "extent",
            "extents",
            "request",
            "wire",
        ],
    ),
    (
        "cursor",
        &["chunk", "connection", "error", "request", "stream", "wire"],
    ),
    (
        "blocking",
        &[
            "connection",
            "cursor",
            "disk",
            "error",
            "export",
            "extents",
            "request",
            "wire",
        ],
    ),
    (
        "disk",
        &[
            "chunk",
            "connection",
            "cursor",
            "driver",
            "error",
            "export",
            "extent",
            "extents",
            "request",
            "spans",
            "stats",
            "stream",
            "wire",
        ],
    ),
    (
        "copy",
        &[
            "connection",
            "context",
            "disk",
            "error",
            "export",
            "extent",
            "extents",
            "platform",
            "request",
            "spans",
            "uri",
            "wire",
        ],
    ),
    // The other side.
    ("testing", &["wire"]),
    ("tests", &[]),
];

/// The source of a module without its unit tests, by file.
fn files(module: &str) -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut ahead = vec![src.join(module), src.join(format!("{module}.rs"))];
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path.display().to_string(), text));
        }
    }
    assert!(!found.is_empty(), "there is no module {module}");
    let is_test = |path: &str| {
        let rest = path.trim_start_matches(&*src.to_string_lossy());
        rest.contains("/tests/") || rest.contains("/races/") || rest.ends_with("/tests.rs")
    };
    found.retain(|(path, _)| !is_test(path));
    for (_, text) in &mut found {
        if let Some(tests) = text.find("#[cfg(test)]\nmod ") {
            text.truncate(tests);
        }
    }
    found
}

/// The modules that one line of code names by `crate::`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn modules_import_only_what_their_layer_may() {
    let mut wrong = Vec::new();
    for &(module, may) in LAYERS {
        for (path, text) in files(module) {
            for (number, line) in (1..).zip(text.lines()) {
                wrong.extend(
                    imports(line)
                        .filter(|import| !import.starts_with(char::is_uppercase))
                        .filter(|import| *import != module && !may.contains(import))
                        .map(|import| format!("{path}:{number}: {module} imports {import}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_layer() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let known = LAYERS.iter().any(|(layer, _)| *layer == module);
        assert!(known || module == "lib", "{module} is not in the table");
    }
}

#[test]
fn architecture_has_the_same_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(path).unwrap();
    for &(module, may) in LAYERS.iter().filter(|(module, _)| *module != "tests") {
        let names: Vec<_> = may.iter().map(|name| format!("`{name}`")).collect();
        let imports = match names.is_empty() {
            true => "–".to_owned(),
            false => names.join(", "),
        };
        let row = format!("| `{module}` | {imports} |");
        assert!(text.lines().any(|line| line == row), "no row {row}");
    }
}
