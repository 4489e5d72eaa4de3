//! `docs/libnbd.md`, "Moving from libnbd": each name of libnbd has a row, and each row names an item
//! of this crate or gives a reason.
//!
//! The names of libnbd are in `docs/libnbd/names.txt`. The items of this crate are read from the
//! source, line by line, as `cargo fmt` lays it out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::rules::{package, sources};

const PAGE: &str = "docs/libnbd.md";
const NAMES: &str = "docs/libnbd/names.txt";
/// How the tables begin that have the names.
const HEAD: &str = "| libnbd | Here | |";

/// A row of a table: a name of libnbd, the items that replace it, and what else there is to say.
struct Row {
    name: String,
    items: Vec<String>,
    notes: String,
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(package(PAGE)).unwrap();
    let (mut rows, mut in_table) = (Vec::new(), false);
    for line in page.lines() {
        in_table = line == HEAD || in_table && line.starts_with('|');
        if !in_table || line == HEAD || line.starts_with("|---") {
            continue;
        }
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, items, ref notes @ ..] = cells[..] else {
            panic!("a row without items: {line}");
        };
        let names: Vec<_> = quoted(name).collect();
        assert!(names.len() == 1, "a row has one name: {line}");
        rows.push(Row {
            name: names.concat(),
            items: quoted(items).collect(),
            notes: notes.concat(),
        });
    }
    rows
}

fn names() -> BTreeSet<String> {
    let text = fs::read_to_string(package(NAMES)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter(|line| !line.is_empty()).map(str::to_owned);
    names.collect()
}

/// The public items of the crate by path, such as `Connection::read`, with their aliases.
type Items = BTreeMap<String, BTreeSet<String>>;

fn items() -> Items {
    let mut items = Items::new();
    for (path, text) in sources("src") {
        if !path.contains("tests") && !path.contains("/races/") {
            items_of(&path, &text, &mut items);
        }
    }
    items
}

/// Finds the public items of a file: functions and constants of the module; types with their
/// methods, fields, variants and flags.
fn items_of(path: &str, text: &str, items: &mut Items) {
    let module = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    let module = module.rsplit('/').next().unwrap_or_default();
    // The type to which indented lines belong.
    let (mut owner, mut is_enum, mut aliases) = ("", false, BTreeSet::new());
    for line in text.lines() {
        let item = line.trim_start();
        if let Some(alias) = item.strip_prefix("#[doc(alias = \"") {
            aliases.insert(alias.split('"').next().unwrap_or_default().to_owned());
        }
        if item.is_empty() || item.starts_with(['#', '/']) {
            continue;
        }
        let mut found = None;
        if let Some(rest) = item.strip_prefix("impl") {
            (owner, is_enum) = (implemented(rest), false);
        } else if let Some(public) = item.strip_prefix("pub ") {
            let (kind, name) = declared(public);
            if ["struct", "enum", "trait", "type"].contains(&kind) {
                (owner, is_enum) = (name, kind == "enum");
                found = Some(name.to_owned());
            } else {
                let of = if item == line { module } else { owner };
                found = Some(format!("{of}::{name}"));
            }
        } else if let Some(flag) = item.strip_prefix("const ") {
            found = Some(format!("{owner}::{}", identifier(flag)))
                .filter(|_| flag.contains(" = 1 << "));
        } else if is_enum && line.starts_with("    ") && !line.starts_with("     ") {
            found = Some(format!("{owner}::{}", identifier(item)));
        }
        if let Some(found) = found {
            items.entry(found).or_default().append(&mut aliases);
        }
        aliases.clear();
    }
}

/// The identifier that a text begins with.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Kind and name of what is declared after `pub`; a field is of no kind.
fn declared(public: &str) -> (&str, &str) {
    let words: Vec<_> = public.split(' ').collect();
    let is_keyword = |word: &&&str| {
        let keywords = [
            "async", "const", "enum", "fn", "mod", "struct", "trait", "type", "use",
        ];
        keywords.contains(*word)
    };
    match words.iter().take_while(is_keyword).count() {
        0 => ("", identifier(public)),
        at => (words[at - 1], identifier(words[at])),
    }
}

/// The type of an `impl`: `Request` in `impl<C: Client> Request<Read, C> {`.
fn implemented(rest: &str) -> &str {
    let mut depth = 0;
    let after_generics = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0 && *c == ' '
    });
    let of = after_generics.map_or(rest, |(at, _)| &rest[at + 1..]);
    identifier(of.split_once(" for ").map_or(of, |(_, of)| of))
}

/// The types and modules that users can name, and more: every word of what the crate exports.
fn exported() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for file in ["src/lib.rs", "src/error/mod.rs"] {
        let text = fs::read_to_string(package(file)).unwrap();
        let public = text.lines().filter(|line| line.starts_with("pub "));
        let split = public.flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
        words.extend(split.map(str::to_owned));
    }
    words
}

/// Whether an item exists: of the crate, or a subcommand such as `nbd info`.
fn exists(path: &str, items: &Items, exported: &BTreeSet<String>) -> bool {
    if let Some(subcommand) = path.strip_prefix("nbd ") {
        let tools = fs::read_to_string(package("tools/src/main.rs"));
        let begins = |line: &str| {
            let variant = line.trim_start().split('(').next().unwrap_or_default();
            line.starts_with("    ") && variant.eq_ignore_ascii_case(subcommand)
        };
        // A published package has no tools.
        return tools.map_or(true, |text| text.lines().any(begins));
    }
    let first = path.split("::").next().unwrap_or_default();
    exported.contains(first) && items.contains_key(without_module(path))
}

/// A path to a number of the protocol, as it is defined.
fn without_module(path: &str) -> &str {
    path.strip_prefix("wire::").unwrap_or(path)
}

#[test]
fn every_name_has_one_row() {
    let mut missing = names();
    for row in rows() {
        let name = &row.name;
        assert!(
            missing.remove(name),
            "{name} has two rows, or is not libnbd's"
        );
    }
    assert!(missing.is_empty(), "{PAGE} has no row for {missing:#?}");
}

#[test]
fn every_row_has_items_that_exist_or_a_reason() {
    let (known, exported) = (items(), exported());
    let mut wrong = Vec::new();
    for Row { name, items, notes } in rows() {
        if items.is_empty() && notes.is_empty() {
            wrong.push(format!("{name}: neither an item nor a reason"));
        }
        let unknown = items.iter().filter(|item| !exists(item, &known, &exported));
        wrong.extend(unknown.map(|item| format!("{name}: there is no {item}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_item_that_the_text_names_exists() {
    let (known, exported) = (items(), exported());
    let page = fs::read_to_string(package(PAGE)).unwrap();
    // Every other part is code.
    let text: String = page.split("```").step_by(2).collect();
    let is_ours = |path: &String| path.starts_with(char::is_uppercase) && path.contains("::");
    let named = quoted(&text).filter(is_ours);
    let unknown: Vec<_> = named
        .map(|path| path.trim_end_matches("()").to_owned())
        // What `bitflags` gives to each set of flags.
        .filter(|path| !path.ends_with("::all") && !exists(path, &known, &exported))
        .collect();
    assert!(unknown.is_empty(), "there are no {unknown:#?}");
}

#[test]
fn every_item_of_a_row_is_found_by_libnbds_name() {
    let known = items();
    let mut lacking = Vec::new();
    for Row { name, items, .. } in rows() {
        // A subcommand has no alias.
        for item in items.iter().filter(|item| !item.starts_with("nbd ")) {
            let aliases = known.get(without_module(item));
            if !aliases.is_some_and(|aliases| aliases.contains(&name)) {
                lacking.push(format!("{item}: #[doc(alias = \"{name}\")]"));
            }
        }
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[test]
fn every_alias_is_a_name_of_libnbd() {
    let names = names();
    let aliases = items().into_values().flatten();
    let is_theirs = |alias: &String| alias.starts_with("nbd_") || alias.starts_with("LIBNBD_");
    let unknown: Vec<_> = aliases
        .filter(|alias| is_theirs(alias) && !names.contains(alias))
        .collect();
    assert!(unknown.is_empty(), "libnbd has no {unknown:#?}");
}
