//! Holds the shape of the crate: who may import whom, who may use which library, and the rules of
//! every file. The tables are those of `docs/architecture.md`; this reads them there.
//!
//! Sources are read as text, with comments, literals and `#[cfg(test)]` items blanked: an import is
//! any path that starts with `crate::`, `super::` or the name of a guarded library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Longest file, in lines.
const LINES_MAX: usize = 800;
/// What pure code never touches: the world outside.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix",
    "tempfile",
];

/// The rules, as the document states them.
struct Rules {
    /// Module → kind and the modules that it may import.
    modules: BTreeMap<String, Module>,
    /// Library → modules that may use it.
    libraries: BTreeMap<String, BTreeSet<String>>,
}

struct Module {
    is_pure: bool,
    may_import: BTreeSet<String>,
}

/// A source file: its path under `src` and its text.
struct Source {
    path: String,
    text: String,
}

/// A broken rule: where, and what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offence {
    place: String,
    what: String,
}

// ---- the rules ----

impl Rules {
    fn parse(document: &str) -> Rules {
        let mut modules = BTreeMap::new();
        for row in table(document, "modules") {
            let [name, kind, imports] = row.as_slice() else { panic!("three columns in {row:?}") };
            assert!(matches!(kind.as_str(), "pure" | "ground" | "shell"), "the kind in {row:?}");
            let module = Module { is_pure: kind == "pure", may_import: names(imports) };
            modules.insert(names(name).pop_first().expect("a module"), module);
        }
        let libraries = table(document, "libraries");
        let libraries =
            libraries.iter().flat_map(|row| names(&row[0]).into_iter().map(|name| (name, names(&row[1]))));
        Rules { modules, libraries: libraries.collect() }
    }

    /// The row under which `path` falls: the one with the longest matching start.
    fn row_of(&self, path: &[String]) -> Option<&str> {
        (1..=path.len()).rev().find_map(|length| {
            self.modules.get_key_value(&path[..length].join("::")).map(|(name, _)| name.as_str())
        })
    }

    fn check(&self, sources: &[Source]) -> Vec<Offence> {
        let tests = test_files(sources);
        let mut offences = Vec::new();
        for source in sources {
            check_form(source, &mut offences);
            if tests.contains(&source.path) {
                continue;
            }
            let code = blank_tests(&blank_comments_and_literals(&source.text));
            check_unwraps(source, &code, &mut offences);
            let here = module_path(&source.path);
            if here.is_empty() {
                continue; // lib.rs is the map, main.rs hands over to cli
            }
            let Some(row) = self.row_of(&here) else {
                let what = "this module has no row in the import table of docs/architecture.md".to_owned();
                offences.push(Offence { place: format!("src/{}:1", source.path), what });
                continue;
            };
            self.check_imports(source, &code, &here, row, &mut offences);
        }
        offences.sort();
        offences
    }

    fn check_imports(&self, source: &Source, code: &str, here: &[String], row: &str, out: &mut Vec<Offence>) {
        let module = &self.modules[row];
        let mut offend = |at: usize, what: String| out.push(Offence { place: place(source, at), what });
        for (at, path) in paths(code) {
            let (first, joined) = (path[0].as_str(), path.join("::"));
            if let Some(inner) = resolve(&path, here) {
                // An item of lib.rs itself, or this very module.
                let Some(target) = self.row_of(&inner) else { continue };
                if target != row && !module.may_import.contains(target) {
                    offend(
                        at,
                        format!("`{row}` imports `{target}` ({joined}), which its row does not allow"),
                    );
                }
                continue;
            }
            if let Some(users) = self.libraries.get(first)
                && !users.contains(row)
            {
                let users = users.iter().cloned().collect::<Vec<_>>().join(", ");
                offend(at, format!("`{row}` uses `{first}` ({joined}), which only {users} may"));
            }
            let is_outside =
                |outside: &&&str| joined == ***outside || joined.starts_with(&format!("{outside}::"));
            if let Some(outside) = OUTSIDE.iter().find(is_outside).filter(|_| module.is_pure) {
                offend(at, format!("`{row}` is pure and uses `{outside}` ({joined})"));
            }
        }
    }
}

/// Rows of the table after `<!-- table: NAME -->`, without its head.
fn table(document: &str, name: &str) -> Vec<Vec<String>> {
    let mark = format!("<!-- table: {name} -->");
    let (_, after) = document.split_once(&mark).unwrap_or_else(|| panic!("no {mark} in the document"));
    let lines = after.lines().map(str::trim).skip_while(|line| line.is_empty());
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "the table {name} is empty");
    rows
}

/// What stands between backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What every file keeps: it says what it is, and stays readable.
fn check_form(source: &Source, out: &mut Vec<Offence>) {
    if !source.text.starts_with("//!") {
        let what = "the file does not start with `//!`: what it is, its invariant, why".to_owned();
        out.push(Offence { place: place(source, 0), what });
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        let what = format!("{lines} lines are more than {LINES_MAX}: split the file");
        out.push(Offence { place: place(source, source.text.len() - 1), what });
    }
}

fn check_unwraps(source: &Source, code: &str, out: &mut Vec<Offence>) {
    for call in [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("] {
        for (at, _) in code.match_indices(call) {
            let what = format!("`{call}` outside tests: return an error, or show that it cannot fail");
            out.push(Offence { place: place(source, at), what });
        }
    }
}

fn place(source: &Source, at: usize) -> String {
    format!("src/{}:{}", source.path, source.text[..at].matches('\n').count() + 1)
}

// ---- reading sources ----

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` and `main.rs` are the root.
fn module_path(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// An import of this crate as a path from its root; `None` for a library's.
fn resolve(path: &[String], here: &[String]) -> Option<Vec<String>> {
    match path[0].as_str() {
        "crate" | "thorp" => Some(path[1..].to_vec()),
        "self" => Some([here, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let stem = &here[..here.len().saturating_sub(ups)];
            Some([stem, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// The same text with comments and the inside of literals turned into spaces, line ends kept.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if at == 0 || !is_word(bytes[at - 1]) => prefixed_literal_end(bytes, at),
            b'\'' => char_end(text, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Comments nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `b".."`, `c".."`, `r#".."#`, `br".."`; the start itself for a mere word.
fn prefixed_literal_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() && matches!(bytes[at], b'r' | b'b' | b'c') && at < start + 2 {
        at += 1;
    }
    let is_raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    match bytes.get(at + hashes) {
        Some(b'"') if is_raw => {
            let mut close = vec![b'"'];
            close.resize(1 + hashes, b'#');
            let from = at + hashes + 1;
            let found = bytes[from..].windows(close.len()).position(|part| part == close);
            found.map_or(bytes.len(), |length| from + length + close.len())
        }
        Some(b'"') if hashes == 0 => string_end(bytes, at),
        _ => start,
    }
}

/// A character literal's end; the start itself for a lifetime.
fn char_end(text: &str, start: usize) -> usize {
    let mut characters = text[start + 1..].char_indices();
    match characters.next() {
        Some((_, '\\')) => {
            let rest = text[start + 3..].find('\'').map_or(text.len(), |length| start + 3 + length + 1);
            rest.min(text.len())
        }
        Some((_, _)) => match characters.next() {
            Some((length, '\'')) => start + 1 + length + 1,
            _ => start,
        },
        None => start,
    }
}

/// The same code with every item under `#[cfg(test)]` blanked.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    for (start, _) in code.match_indices(MARK) {
        let end = item_end(code.as_bytes(), start + MARK.len());
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// The end of the item that starts at `at`: its closing brace, or a semicolon outside brackets.
fn item_end(code: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < code.len() {
        match code[at] {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && code[at] == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

/// Files that are modules declared under `#[cfg(test)]`, and those in their folders.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for source in sources {
        let code = blank_comments_and_literals(&source.text);
        for (start, mark) in code.match_indices("#[cfg(test)]") {
            let mut words = code[start + mark.len()..].split_whitespace();
            let name = words.next().filter(|word| *word == "mod").and_then(|_| words.next());
            if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                let stem =
                    module_path(&source.path).iter().map(|part| format!("{part}/")).collect::<String>();
                files.insert(format!("{stem}{name}.rs"));
                let folder = format!("{stem}{name}/");
                files.extend(
                    sources
                        .iter()
                        .map(|source| &source.path)
                        .filter(|path| path.starts_with(&folder))
                        .cloned(),
                );
            }
        }
    }
    files
}

/// Every path of at least two parts, and every `use`, with groups taken apart; with its place.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let is_start = is_word(bytes[at]) && !bytes[at].is_ascii_digit();
        if !is_start {
            at += 1;
            continue;
        }
        let end = word_end(bytes, at);
        if code[at..end] == *"use" {
            at = end;
            let first = skip_space(bytes, at);
            let first = if bytes[first..].starts_with(b"::") { first + 2 } else { first };
            at = tree(code, first, &[], &mut found).max(at);
        } else if bytes[skip_space(bytes, end)..].starts_with(b"::") {
            at = tree(code, at, &[], &mut found).max(end);
        } else {
            at = end;
        }
    }
    found
}

/// Reads a path or a group of paths at `at`; gives where it ends.
fn tree(code: &str, at: usize, stem: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let bytes = code.as_bytes();
    let start = skip_space(bytes, at);
    let mut path = stem.to_vec();
    let mut at = start;
    loop {
        at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b'{') {
            at += 1;
            loop {
                at = skip_space(bytes, at);
                match bytes.get(at) {
                    Some(b'}') => return at + 1,
                    Some(b',') => at += 1,
                    Some(_) => {
                        let next = tree(code, at, &path, found);
                        if next == at {
                            return at; // not a group of imports
                        }
                        at = skip_alias(code, next);
                    }
                    None => return at,
                }
            }
        }
        if bytes.get(at) == Some(&b'*') && !path.is_empty() {
            found.push((start, path));
            return at + 1;
        }
        let end = word_end(bytes, at);
        if end == at {
            break;
        }
        // `self` in a group is the group's own stem.
        if code[at..end] != *"self" || path.is_empty() {
            path.push(code[at..end].trim_start_matches("r#").to_owned());
        }
        at = end;
        let next = skip_space(bytes, at);
        if !bytes[next..].starts_with(b"::") {
            break;
        }
        at = next + 2;
    }
    if path.len() > stem.len() || (at > start && !path.is_empty()) {
        found.push((start, path));
    }
    at
}

/// Steps over ` as name`.
fn skip_alias(code: &str, at: usize) -> usize {
    let next = skip_space(code.as_bytes(), at);
    match code[next..].strip_prefix("as ") {
        Some(_) => word_end(code.as_bytes(), skip_space(code.as_bytes(), next + 3)),
        None => at,
    }
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

// ---- the crate ----

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rules() -> Rules {
    Rules::parse(&fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let (mut found, mut folders) = (Vec::new(), vec![src.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source in UTF-8");
                let path = path.strip_prefix(&src).expect("under src").to_str().expect("UTF-8").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

#[test]
fn the_crate_keeps_its_rules() {
    let offences = rules().check(&sources());
    let lines: Vec<String> =
        offences.iter().map(|offence| format!("{}: {}", offence.place, offence.what)).collect();
    assert!(offences.is_empty(), "{} broken rules:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn the_import_table_names_modules_that_exist_and_has_no_cycle() {
    let rules = rules();
    let files: BTreeSet<Vec<String>> = sources().iter().map(|source| module_path(&source.path)).collect();
    for (name, module) in &rules.modules {
        let path: Vec<String> = name.split("::").map(str::to_owned).collect();
        assert!(files.contains(&path), "the table has a row `{name}`, and there is no such module");
        for import in &module.may_import {
            assert!(rules.modules.contains_key(import), "`{name}` may import `{import}`, which has no row");
        }
    }
    // Take away what imports nothing that is left, until nothing is left.
    let mut left: BTreeMap<&String, BTreeSet<&String>> =
        rules.modules.iter().map(|(name, module)| (name, module.may_import.iter().collect())).collect();
    while !left.is_empty() {
        let free: BTreeSet<&String> =
            left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
        assert!(!free.is_empty(), "these rows import each other in a circle: {:?}", left.keys());
        left.retain(|name, _| !free.contains(name));
        left.values_mut().for_each(|needs| needs.retain(|need| !free.contains(need)));
    }
}

// ---- the checker itself ----

const SMALL: &str = "
<!-- table: modules -->
| module | kind | may import |
|---|---|---|
| `limits` | ground | |
| `wire` | pure | `limits` |
| `discovery::membership` | pure | `limits`, `wire` |
| `discovery` | shell | `limits`, `discovery::membership` |
| `cli` | shell | `discovery` |

<!-- table: libraries -->
| library | used by |
|---|---|
| `bincode` | `wire` |
| `tokio` | `discovery`, `cli` |
";

/// What the checker says of one file.
fn judge(path: &str, code: &str) -> Vec<(String, String)> {
    let source = Source { path: path.to_owned(), text: format!("//! A file.\n{code}") };
    let offences = Rules::parse(SMALL).check(&[source]);
    offences.into_iter().map(|offence| (offence.place, offence.what)).collect()
}

#[track_caller]
fn assert_found(path: &str, code: &str, line: usize, words: &[&str]) {
    let found = judge(path, code);
    let place = format!("src/{path}:{line}");
    let hit = found.iter().any(|(at, what)| *at == place && words.iter().all(|word| what.contains(word)));
    assert!(hit, "{words:?} at {place} not among {found:?}");
}

#[test]
fn planted_imports_are_found_in_every_form() {
    let both = ["`wire`", "`discovery::membership`"];
    assert_found("wire/mod.rs", "use crate::discovery::membership::View;", 2, &both);
    assert_found("wire/codec.rs", "use crate::{limits::X, discovery::{membership::{self, View}}};", 2, &both);
    assert_found("wire/codec.rs", "\nfn f(x: &crate::discovery::membership::View) {}", 3, &both);
    assert_found("wire/codec.rs", "use crate::\n    discovery::membership::*;", 2, &both);
    assert_found("wire/codec.rs", "use super::super::discovery::membership;", 2, &both);
    assert_found("discovery/membership.rs", "use super::socket::Socket;", 2, &["`discovery`"]);
    assert_found("discovery/membership.rs", "use super::Facade;", 2, &["`discovery`"]);
    assert_found("limits.rs", "pub use crate::wire as bytes;", 2, &["`limits`", "`wire`"]);
}

#[test]
fn planted_libraries_are_found_in_every_form() {
    assert_found("cli/mod.rs", "#[derive(bincode::Encode)]\nstruct S;", 2, &["`bincode`", "wire"]);
    assert_found("wire/mod.rs", "#[tokio::test]\nasync fn f() {}", 2, &["`tokio`"]);
    assert_found("wire/mod.rs", "use tokio;", 2, &["`tokio`"]);
    assert_found("wire/mod.rs", "use ::tokio::{net, time};", 2, &["`tokio`"]);
    assert_found("wire/mod.rs", "fn f() { std::fs::read(1); }", 2, &["pure", "std::fs"]);
    assert_found("wire/mod.rs", "use std::{io, net::{IpAddr, UdpSocket}};", 2, &["pure", "UdpSocket"]);
}

#[test]
fn planted_faults_of_form_are_found() {
    let bare = Source { path: "cli/mod.rs".to_owned(), text: "fn f() {}\n".to_owned() };
    assert!(Rules::parse(SMALL).check(&[bare])[0].what.contains("//!"));
    assert_found("cli/mod.rs", &"\n".repeat(LINES_MAX), LINES_MAX + 1, &["lines"]);
    assert_found("cli/mod.rs", "fn f() { g().unwrap(); }", 2, &["unwrap"]);
    assert_found("cli/mod.rs", "// \"\nfn f() { g().expect(\"it works\"); }", 3, &["expect"]);
    assert_found("cli/mod.rs", "fn f(c: char) { c == '\"' || g().unwrap() }", 2, &["unwrap"]);
    assert_found("elsewhere.rs", "", 1, &["no row"]);
    let code = "#[cfg(test)]\nmod tests {}\nfn f() { g().unwrap(); }";
    assert_found("cli/mod.rs", code, 4, &["unwrap"]);
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (path, code) in [
        ("discovery/membership.rs", "use crate::{limits, wire::{A, b::*}};\nuse std::net::SocketAddr;"),
        ("discovery/mod.rs", "pub mod membership;\npub use membership::View;\nuse self::membership as m;"),
        ("discovery/socket.rs", "use super::membership::View;\nuse tokio::net::UdpSocket;"),
        (
            "wire/mod.rs",
            "/// [`crate::discovery`] and `x.unwrap()`\nconst A: &str = \"crate::cli .unwrap()\";",
        ),
        ("wire/mod.rs", "/* tokio::x /* nested */ crate::cli */ const B: &str = r#\"crate::cli \" \"#;"),
        ("wire/mod.rs", "fn f<'a>(x: &'a str) -> &'a str { x }\nmod tokio_like {}\nlet z = b'\\'';"),
        ("wire/mod.rs", "#[expect(dead_code)]\nfn f() { x.unwrap_or(1); x.unwrap_or_default(); }"),
        ("wire/mod.rs", "#[cfg(test)]\nmod tests {\n  use crate::cli;\n  fn f() { x[0].unwrap(); }\n}"),
        ("wire/mod.rs", "fn f() { match x { A { b } => b::c(), _ => {} } }\nlet r#use = 1;"),
    ] {
        assert_eq!(judge(path, code), [], "{path}: {code}");
    }
    let parent = "//! A file.\n#[cfg(test)]\nmod tests;\n".to_owned();
    let tests = "//! Tests.\nuse crate::cli;\nfn f() { x.unwrap(); }\n".to_owned();
    let files = [("wire/mod.rs", parent), ("wire/tests.rs", tests)];
    let sources = files.map(|(path, text)| Source { path: path.to_owned(), text });
    assert_eq!(Rules::parse(SMALL).check(&sources), []);
}
