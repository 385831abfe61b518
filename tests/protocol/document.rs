//! `docs/protocol.md`, read for what a machine can check: blocks that start with
//! ```` ```hex name=… ```` and tables that follow a comment `<!-- kind name -->`.

use std::collections::BTreeMap;
use std::path::PathBuf;

const FENCE: &str = "```hex name=";
/// Bytes in a line of a block.
const LINE_BYTES: usize = 16;

/// The document's text, line by line.
pub struct Document {
    lines: Vec<String>,
}

/// A labelled run of bytes of an example.
pub type Part = (String, Vec<u8>);

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "docs", "protocol.md"].iter().collect()
}

impl Document {
    pub fn read() -> Document {
        let text = std::fs::read_to_string(path()).expect("docs/protocol.md can be read");
        Document { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The bytes of each example.
    pub fn examples(&self) -> BTreeMap<String, Vec<u8>> {
        let mut examples = BTreeMap::new();
        let mut lines = self.lines.iter();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix(FENCE) else { continue };
            let block: Vec<&String> = lines.by_ref().take_while(|line| *line != "```").collect();
            let bytes = block.iter().flat_map(|line| bytes_of(name, line)).collect();
            let before = examples.insert(name.to_owned(), bytes);
            assert!(before.is_none(), "two examples are called {name}");
        }
        examples
    }

    /// The cells of the table after `<!-- marker -->`, without its head, backticks dropped.
    pub fn table(&self, marker: &str) -> Vec<Vec<String>> {
        let comment = format!("<!-- {marker} -->");
        let mut found = self.lines.iter().skip_while(|line| **line != comment).skip(1);
        let rows = found.by_ref().skip_while(|line| line.is_empty()).take_while(|line| line.starts_with('|'));
        let rows: Vec<Vec<String>> = rows
            .skip(2)
            .map(|line| {
                let inner = line.trim_matches('|').split('|');
                inner.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
            })
            .collect();
        assert!(!rows.is_empty(), "the document has no table {comment}");
        rows
    }

    /// Writes the blocks anew whose bytes are not those given; the others stay as they are.
    pub fn bless(&self, right: &BTreeMap<String, Vec<Part>>) {
        let is = self.examples();
        let mut lines = Vec::new();
        let mut skipping = false;
        for line in &self.lines {
            if skipping && line != "```" {
                continue;
            }
            skipping = false;
            lines.push(line.clone());
            let Some(name) = line.strip_prefix(FENCE) else { continue };
            let Some(parts) = right.get(name) else { continue };
            let bytes: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            if is.get(name) != Some(&bytes) {
                skipping = true;
                lines.extend(parts.iter().flat_map(write_part));
            }
        }
        std::fs::write(path(), lines.join("\n") + "\n").expect("docs/protocol.md can be written");
    }
}

/// The bytes in one line; what follows a semicolon is for people.
fn bytes_of(name: &str, line: &str) -> Vec<u8> {
    let digits = line.split(';').next().unwrap_or_default();
    digits
        .split_whitespace()
        .map(|pair| {
            let byte = (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten();
            byte.unwrap_or_else(|| panic!("`{pair}` in example {name} is no byte"))
        })
        .collect()
}

fn write_part((label, bytes): &Part) -> Vec<String> {
    let rows = bytes.chunks(LINE_BYTES).enumerate().map(|(at, row)| {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.join(" ");
        if at == 0 && !label.is_empty() { format!("{hex:<48}; {label}") } else { hex }
    });
    rows.collect()
}

#[test]
fn a_block_is_read_without_its_words() {
    assert_eq!(bytes_of("x", "00 fF 7a   ; 11 22"), [0x00, 0xff, 0x7a]);
    assert_eq!(bytes_of("x", "; nothing"), Vec::<u8>::new());
    assert_eq!(write_part(&("long".into(), vec![1; 17])).len(), 2);
}
