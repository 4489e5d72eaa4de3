//! The ids of rules and faults: what they mean is in `docs/protocol.md` and `docs/faults.md`.
//!
//! A rule of the protocol is cited as `P-`, `X-` or `U-` and a number, a fault as a letter and two
//! digits. Names of tests begin with the ids of their faults, in lower case.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where rules and faults are cited.
const CITING: &[&str] = &["src", "tests", "fuzz/src", "examples", "benches", "tools"];
/// The letters of rules, and of faults.
const RULES: &str = "PXU";
const FAULTS: &str = "GOILMRCBXWTK";
/// Elliptic curves have such names, too.
const CURVES: &[&str] = &["P-256", "P-384", "P-521"];

pub(super) fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every file of Rust below `top`, with its text. A published package lacks some folders.
pub(super) fn sources(top: &str) -> Vec<(String, String)> {
    let (mut found, mut ahead) = (Vec::new(), vec![package(top)]);
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            ahead.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
            found.push((name.display().to_string(), text));
        }
    }
    found
}

fn is_id(word: &str) -> bool {
    let mut chars = word.chars();
    let letter = chars.next().unwrap_or_default();
    let rest = chars.as_str();
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    match rest.strip_prefix('-') {
        Some(number) => {
            let known = RULES.contains(letter) && !CURVES.contains(&word);
            known && (2..=3).contains(&number.len()) && is_number(number)
        }
        None => FAULTS.contains(letter) && rest.len() == 2 && is_number(rest),
    }
}

/// The words of a text, ids among them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !is_part(c))
        .map(|word| word.trim_matches('-'))
}

/// The faults that a function's name begins with: `c23_c29_an_error…`.
fn faults_of_name(line: &str) -> impl Iterator<Item = String> {
    let name = line.split("fn ").nth(1).unwrap_or_default();
    name.split('_')
        .map(str::to_uppercase)
        .take_while(|part| is_id(part))
}

/// The ids that a line cites.
fn cited(line: &str) -> impl Iterator<Item = String> {
    // Most lines have no digit, and are done with.
    let has_digit = line.bytes().any(|byte| byte.is_ascii_digit());
    let line = if has_digit { line } else { "" };
    let ids = words(line).filter(|word| is_id(word)).map(str::to_owned);
    ids.chain(faults_of_name(line))
}

/// The first cell of each row of the tables in a document, and the whole row.
fn rows(document: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(package(document)).unwrap();
    let rows = text.lines().filter_map(|line| {
        let first = line.strip_prefix("| ")?.split(" | ").next()?;
        is_id(first).then(|| (first.to_owned(), line.to_owned()))
    });
    rows.collect()
}

fn all_rows() -> Vec<(String, String)> {
    [rows("docs/protocol.md"), rows("docs/faults.md")].concat()
}

/// Comments that stand next to each other, as one, with the first line's number and what follows.
fn comments(text: &str) -> Vec<(usize, String, String)> {
    let (mut found, mut block) = (Vec::new(), String::new());
    let end = std::iter::once("");
    for (number, line) in text.lines().map(str::trim).chain(end).enumerate() {
        if let Some(comment) = line.strip_prefix("//") {
            block += comment.trim_start_matches(['/', '!']);
        } else {
            // A comment may also stand behind code.
            if let Some((_, comment)) = line.split_once(" // ") {
                found.push((number + 1, comment.to_owned(), String::new()));
            }
            if !block.is_empty() {
                found.push((number, std::mem::take(&mut block), line.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_id_has_a_row() {
    let known: BTreeSet<_> = all_rows().into_iter().map(|(id, _)| id).collect();
    let mut unknown = Vec::new();
    for (path, text) in CITING.iter().flat_map(|top| sources(top)) {
        for (number, line) in (1..).zip(text.lines()) {
            let ids = cited(line).filter(|id| !known.contains(id));
            unknown.extend(ids.map(|id| format!("{path}:{number}: {id}")));
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_id_has_one_row_and_is_cited() {
    let mut ids: BTreeSet<_> = BTreeSet::new();
    for (id, _) in all_rows() {
        assert!(ids.insert(id.clone()), "{id} has two rows");
    }
    for (_, text) in CITING.iter().flat_map(|top| sources(top)) {
        for id in text.lines().flat_map(cited) {
            ids.remove(&id);
        }
    }
    assert!(ids.is_empty(), "nothing cites {ids:?}");
}

#[test]
fn every_file_in_a_row_exists() {
    for (id, row) in all_rows() {
        let quoted = row.split('`').skip(1).step_by(2);
        for path in quoted.filter(|text| text.ends_with(".rs")) {
            let exists = ["", "src"]
                .iter()
                .any(|top| package(top).join(path).exists());
            assert!(exists, "{id} names {path}");
        }
    }
}

#[test]
fn no_id_stands_alone() {
    let mut alone = Vec::new();
    for (path, text) in ["src", "tests"].iter().flat_map(|top| sources(top)) {
        for (number, comment, _) in comments(&text) {
            let is_word = |word: &&str| word.contains(char::is_alphabetic) && !is_id(word);
            let others = words(&comment).filter(is_word).count();
            if words(&comment).any(is_id) && others < 3 {
                alone.push(format!("{path}:{number}: {comment}"));
            }
        }
    }
    assert!(
        alone.is_empty(),
        "say in words what the rule is: {alone:#?}"
    );
}

/// Whether a doc comment can belong to a public item, by the line that follows it: fields,
/// variants and flags of `bitflags` count as public.
fn is_public(item: &str) -> bool {
    let private = [
        "fn ",
        "async ",
        "struct ",
        "enum ",
        "trait ",
        "static ",
        "type ",
        "mod ",
        "impl ",
        "pub(",
        "macro_rules!",
    ];
    let is_constant = item.starts_with("const ") && !item.contains(" = 1 << ");
    !is_constant && !private.iter().any(|start| item.starts_with(start))
}

#[test]
fn no_id_is_in_public_documentation() {
    let mut public = Vec::new();
    let is_test = |path: &str| path.contains("tests") || path.contains("/races/");
    for (path, text) in sources("src") {
        if is_test(&path) {
            continue;
        }
        let mut block = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.starts_with("///") || line.starts_with("//!") {
                if words(line).any(is_id) {
                    block.push((number, line));
                }
            } else if !line.starts_with('#') {
                let of_module = |line: &str| line.starts_with("//!");
                block.retain(|(_, doc)| of_module(doc) || is_public(line));
                public.extend(
                    block
                        .drain(..)
                        .map(|(at, doc)| format!("{path}:{at}: {doc}")),
                );
            }
        }
    }
    assert!(
        public.is_empty(),
        "say which section of the protocol: {public:#?}"
    );
}
