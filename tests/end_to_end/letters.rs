//! Messages of a village: sending them, hooks, and what lies in the folders, read as any program would.

use crate::process::{Output, s, wait_until};
use crate::village::{Village, number, word};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One run of a hook that [`Village::note_hook`] put there.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `THORP_MESSAGE_ID`.
    pub id: String,
    /// `THORP_MESSAGE_TYPE`.
    pub kind: String,
    /// `THORP_MESSAGE_SOURCE`.
    pub source: String,
    /// What it read.
    pub document: Value,
}

impl Village {
    /// One of the folders of a node.
    pub fn letters(&self, node: &str, folder: &str) -> PathBuf {
        self.data(node).join("messages").join(folder)
    }

    /// Runs `thorp` with the data folder of a node.
    #[track_caller]
    pub fn run_at(&self, node: &str, args: &[&str]) -> Output {
        let what = format!("{} at {node}", args.join(" "));
        self.spawn(self.command(&self.data(node), args), &what).wait(s(40))
    }

    /// The same, which must end with 0; gives its JSON.
    #[track_caller]
    pub fn json_at(&self, node: &str, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        self.run_at(node, &args).ended(0).json()
    }

    /// Puts a file into the outbox of a node, whole.
    #[track_caller]
    pub fn post(&self, node: &str, name: &str, text: &str) {
        put_whole(&self.letters(node, "outbox").join(name), text);
    }

    /// The documents in a folder, in the order of their names.
    #[track_caller]
    pub fn documents(&self, node: &str, folder: &str) -> Vec<Value> {
        documents(&self.letters(node, folder)).into_iter().map(|(_, document)| document).collect()
    }

    /// What the payloads in the inbox have under `n`, in the order of the files' names.
    #[track_caller]
    pub fn inbox_numbers(&self, node: &str) -> Vec<u64> {
        self.documents(node, "inbox").iter().map(|document| number(&document["payload"]["n"])).collect()
    }

    /// Waits until so many files are in a folder, and gives their documents.
    #[track_caller]
    pub fn wait_for_documents(&self, node: &str, folder: &str, count: usize, limit: Duration) -> Vec<Value> {
        wait_until(limit, &format!("{count} messages in {folder} of {node}"), || {
            let found = self.documents(node, folder);
            if found.len() == count { Ok(found) } else { Err(format!("{}: {:?}", found.len(), found.last())) }
        })
    }

    /// Puts a shell script where the hook of `kind` belongs; the node may not have started yet.
    #[track_caller]
    pub fn hook(&self, node: &str, kind: &str, script: &str) {
        let folder = self.letters(node, "hooks");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).expect("a folder");
        let path = self.path(&format!("hook-{node}-{kind}"));
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o700).open(&path).expect("a hook");
        std::io::Write::write_all(&mut &file, format!("#!/bin/sh\n{script}\n").as_bytes()).expect("written");
        drop(file);
        fs::rename(path, folder.join(kind)).expect("moved");
    }

    /// A hook that notes what it was given, for [`Village::ran`].
    #[track_caller]
    pub fn note_hook(&self, node: &str, kind: &str) {
        let log = self.path(&format!("ran-{node}"));
        let script = format!(
            "document=$(cat)\nprintf '%s %s %s %s\\n' \"$THORP_MESSAGE_ID\" \"$THORP_MESSAGE_TYPE\" \
             \"$THORP_MESSAGE_SOURCE\" \"$document\" >> '{}'",
            log.display()
        );
        self.hook(node, kind, &script);
    }

    /// What the noting hooks of a node were given so far.
    #[track_caller]
    pub fn ran(&self, node: &str) -> Vec<Ran> {
        let noted = fs::read_to_string(self.path(&format!("ran-{node}"))).unwrap_or_default();
        // A hook may be writing.
        let whole = noted.rfind('\n').map_or("", |end| &noted[..end]);
        whole.lines().map(Ran::read).collect()
    }

    /// Waits until the noting hooks of a node have run so often.
    #[track_caller]
    pub fn wait_for_runs(&self, node: &str, count: usize, limit: Duration) -> Vec<Ran> {
        wait_until(limit, &format!("{count} runs of hooks at {node}"), || {
            let ran = self.ran(node);
            if ran.len() >= count { Ok(ran) } else { Err(format!("{}: {:?}", ran.len(), ran.last())) }
        })
    }
}

impl Ran {
    #[track_caller]
    fn read(line: &str) -> Ran {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let [id, kind, source, document] = parts.as_slice() else { panic!("not a note: {line}") };
        let document: Value =
            serde_json::from_str(document).unwrap_or_else(|error| panic!("{error}: {line}"));
        let ran = Ran { id: (*id).into(), kind: (*kind).into(), source: (*source).into(), document };
        for (key, value) in [("id", &ran.id), ("type", &ran.kind), ("source", &ran.source)] {
            assert_eq!(word(&ran.document[key]), *value, "the document and the environment differ: {line}");
        }
        ran
    }
}

/// The files `*.json` of a folder with their documents, in the order of their names. One that a program
/// takes away meanwhile is left out.
#[track_caller]
pub fn documents(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        if !name.ends_with(".json") || name.starts_with('.') {
            continue;
        }
        let Ok(text) = fs::read(entry.path()) else { continue };
        let document = serde_json::from_slice(&text);
        found.push((name, document.unwrap_or_else(|error| panic!("{error}: half a file is shown"))));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Whether these are 0, 1, … up to `count`, each once and in order; shows the first that is not.
#[track_caller]
pub fn assert_each_once(numbers: &[u64], count: u64, what: &str) {
    let wanted: Vec<u64> = (0..count).collect();
    let differs = (0..numbers.len().max(wanted.len())).find(|at| numbers.get(*at) != wanted.get(*at));
    if let Some(at) = differs {
        let near = &numbers[at.saturating_sub(3).min(numbers.len())..(at + 12).min(numbers.len())];
        panic!("{what}: {} of {count}; from {at} on not as sent: … {near:?}", numbers.len());
    }
}

/// Writes a file under another name and renames it.
#[track_caller]
pub fn put_whole(path: &Path, text: &str) {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    let scratch = path.with_file_name(format!(".{name}.new"));
    fs::write(&scratch, text).expect("written");
    fs::rename(&scratch, path).expect("renamed");
}
