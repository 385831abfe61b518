//! The page's own files: small, whole, with nothing from outside and nothing that reads markup.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of all files together, as promised.
const BYTES_MAX: usize = 150_000;
/// What makes markup or code of a text; and inline styles, which the policy forbids.
const FORBIDDEN: [&str; 14] = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "createContextualFragment",
    "setHTML",
    "DOMParser",
    "eval(",
    "new Function",
    "javascript:",
    "srcdoc",
    "cssText",
    "setTimeout(\"",
    "import(",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page")
}

/// All files of the page by their names.
fn files() -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder()).expect("the page").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read_to_string(entry.path()).expect("text"))
        })
        .collect()
}

/// What is wrong with a file of the page.
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults: Vec<String> =
        FORBIDDEN.iter().filter(|word| text.contains(**word)).map(|word| format!("{name}: {word}")).collect();
    let outside = ["http://", "https://", "url(", "@import", "ws://", "wss://", "src=\"//", "href=\"//"];
    let allowed = ["http://www.w3.org/2000/svg"];
    let text = allowed.iter().fold(text.to_owned(), |text, allowed| text.replace(allowed, ""));
    faults.extend(outside.iter().filter(|word| text.contains(**word)).map(|word| format!("{name}: {word}")));
    if name.ends_with(".html") || name.ends_with(".svg") {
        faults.extend(inline(&text).into_iter().map(|what| format!("{name}: {what}")));
    }
    faults
}

/// Scripts and styles inside of markup.
fn inline(text: &str) -> Vec<String> {
    let tags = text.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    let mut found = Vec::new();
    for tag in tags {
        let name = tag.split_whitespace().next().unwrap_or_default();
        let attributes: Vec<&str> = tag
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.split_once('='))
            .map(|(key, _)| key)
            .collect();
        if name == "style" || (name == "script" && !attributes.contains(&"src")) {
            found.push(format!("<{tag}>"));
        }
        let is_inline = |key: &&&str| **key == "style" || key.starts_with("on");
        found.extend(attributes.iter().filter(is_inline).map(|key| format!("{key}= in <{name}>")));
    }
    found
}

#[test]
fn the_page_is_small_and_brings_all_it_needs() {
    let files = files();
    let bytes: usize = files.values().map(String::len).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    let faults: Vec<String> = files.iter().flat_map(|(name, text)| faults(name, text)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_file_of_the_page_is_served_and_none_is_missing() {
    let files = files();
    let served = fs::read_to_string(folder().with_extension("rs")).expect("what is served");
    for name in files.keys() {
        assert!(served.contains(&format!("include_str!(\"page/{name}\")")), "{name} is not served");
    }
    for (name, text) in &files {
        for path in text.split('"').filter(|word| word.starts_with('/') && word.ends_with(".js")) {
            assert!(files.contains_key(&path[1..]), "{name} needs {path}");
        }
        if name != "index.html" && name.ends_with(".js") && name != "page.js" {
            let wanted = format!("from \"/{name}\"");
            assert!(files.values().any(|text| text.contains(&wanted)), "nobody imports {name}");
        }
    }
}

#[test]
fn every_element_that_a_module_asks_for_is_in_the_page() {
    let files = files();
    let html = &files["index.html"];
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".js")) {
        for call in ["byId(\"", "copyOf(\""] {
            for id in text.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(html.contains(&format!("id=\"{id}\"")), "{name} asks for #{id}");
            }
        }
    }
}

#[test]
fn planted_faults_of_the_page_are_found() {
    for (name, text) in [
        ("a.js", "node.innerHTML = name;"),
        ("a.js", "eval(text)"),
        ("a.js", "fetch(\"https://example.org/\")"),
        ("a.css", "@import \"/more.css\";"),
        ("a.css", "b { background: url(/x.png); }"),
        ("a.html", "<p style=\"color: red\">x</p>"),
        ("a.html", "<p class=\"a\" onclick=\"f()\">x</p>"),
        ("a.html", "<script>f()</script>"),
        ("a.html", "<style>b {}</style>"),
    ] {
        assert!(!faults(name, text).is_empty(), "{name}: {text}");
    }
    assert_eq!(
        faults("a.html", "<script type=\"module\" src=\"/page.js\"></script><p class=\"on\">x</p>"),
        [""; 0]
    );
}
