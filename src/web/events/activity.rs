//! What happened, in words, from how things stood before and stand now. Pure.
//!
//! Invariant: memory is bounded: of files beyond the first so many it is not known how they were,
//! and a change of theirs is told as one that was stored.

use crate::documents::{FileRow, NodePart, StatusDocument};
use crate::node::insight::Happening;
use serde::Serialize;
use std::collections::BTreeMap;

/// Files of which it is known how they were.
const FILES_MAX: usize = 20_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Activity {
    /// When, RFC 3339.
    pub(super) at: String,
    /// What, for programs.
    pub(super) what: &'static str,
    /// The machine or file.
    pub(super) subject: String,
    /// For people.
    pub(super) text: String,
}

impl Activity {
    /// What this node saw happen, in words.
    pub(super) fn of(at: String, happening: &Happening) -> Activity {
        let (what, subject, text) = match happening {
            Happening::Joined(name) => ("node.joined", name, format!("{name} joined")),
            Happening::Lost { name, left: true } => ("node.lost", name, lost(name, "away")),
            Happening::Lost { name, left: false } => ("node.lost", name, lost(name, "suspect")),
            Happening::Leads(name) => ("proxy.changed", name, format!("{name} leads now")),
            Happening::Stored(name) => ("file.stored", name, format!("{name} was stored")),
            Happening::Arrived(arrival) => {
                let text = format!("a message of {}: {}", arrival.source, arrival.kind);
                ("message", &arrival.source, text)
            }
        };
        Activity { at, what, subject: subject.clone(), text }
    }
}

/// How a file was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Was {
    content: Option<String>,
    wanted: u8,
    whole: bool,
}

/// How things stood.
#[derive(Debug, Default)]
pub(super) struct Before {
    nodes: Option<BTreeMap<String, (String, &'static str)>>,
    proxy: Option<String>,
    files: BTreeMap<String, Was>,
}

impl Before {
    /// Learns how files are, and tells nothing of it.
    pub(super) fn learn(&mut self, rows: impl IntoIterator<Item = FileRow>) {
        for row in rows {
            if self.files.len() >= FILES_MAX {
                return;
            }
            self.files.insert(row.name.clone(), was(&row));
        }
    }

    /// Forgets how files were.
    pub(super) fn forget_files(&mut self) {
        self.files.clear();
    }

    /// What a change of the status means.
    pub(super) fn status(&mut self, at: &str, status: &StatusDocument) -> Vec<Activity> {
        let mut all = Vec::new();
        let mut tell = |what, subject: &str, text: String| {
            all.push(Activity { at: at.to_owned(), what, subject: subject.to_owned(), text });
        };
        let here = |node: &NodePart| (node.id.clone(), (node.name.clone(), node.state));
        let nodes: BTreeMap<String, (String, &'static str)> = status.nodes.iter().map(here).collect();
        if let Some(before) = &self.nodes {
            for (id, (name, state)) in &nodes {
                let is_up = |state: &str| matches!(state, "up" | "draining");
                match before.get(id).map(|(_, state)| *state) {
                    None if is_up(state) => tell("node.joined", name, format!("{name} joined")),
                    Some(was) if !is_up(was) && is_up(state) => {
                        tell("node.joined", name, format!("{name} is back"));
                    }
                    Some(was) if is_up(was) && !is_up(state) => tell("node.lost", name, lost(name, state)),
                    _ => {}
                }
            }
        }
        let proxy = status.cluster.proxy.clone();
        if self.proxy.as_ref().is_some_and(|before| *before != proxy) {
            let name = nodes.get(&proxy).map_or(proxy.as_str(), |(name, _)| name.as_str());
            tell("proxy.changed", name, format!("{name} leads now"));
        }
        self.nodes = Some(nodes);
        self.proxy = Some(proxy);
        all
    }

    /// What a file as it is now means.
    pub(super) fn file(&mut self, at: &str, row: &FileRow) -> Option<Activity> {
        let now = was(row);
        let before = self.files.get(&row.name).cloned();
        if before.is_some() || self.files.len() < FILES_MAX {
            self.files.insert(row.name.clone(), now.clone());
        }
        let name = &row.name;
        let (what, text) = match before {
            None => ("file.stored", format!("{name} was stored")),
            Some(before) if before.content != now.content => ("file.stored", format!("{name} was replaced")),
            Some(before) if before.wanted != now.wanted => {
                let copies = if now.wanted == 1 { "copy" } else { "copies" };
                (
                    "replicas.changed",
                    format!("{name}: {} {copies} wanted, {} before", now.wanted, before.wanted),
                )
            }
            Some(before) if !before.whole && now.whole => {
                ("file.healed", format!("{name} has all its copies"))
            }
            Some(_) => return None,
        };
        Some(Activity { at: at.to_owned(), what, subject: name.clone(), text })
    }

    /// What it means that a file is gone.
    pub(super) fn gone(&mut self, at: &str, name: &str) -> Activity {
        self.files.remove(name);
        let text = format!("{name} was removed");
        Activity { at: at.to_owned(), what: "file.removed", subject: name.to_owned(), text }
    }
}

fn was(row: &FileRow) -> Was {
    Was { content: row.content.clone(), wanted: row.replicas_wanted, whole: row.state == "ok" }
}

fn lost(name: &str, state: &str) -> String {
    match state {
        "away" => format!("{name} said goodbye"),
        _ => format!("{name} has fallen silent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{ClusterPart, FilesPart, MessagesPart};

    fn status(proxy: &str, nodes: &[(&str, &'static str)]) -> StatusDocument {
        let node = |(name, state): &(&str, &'static str)| NodePart {
            id: format!("id-{name}"),
            name: (*name).to_owned(),
            machine: String::new(),
            addr: None,
            roles: vec!["storage"],
            state,
            disk: "ok",
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            contents: 0,
            catalog: None,
            version: String::new(),
        };
        StatusDocument {
            cluster: ClusterPart {
                name: String::new(),
                id: String::new(),
                secured: false,
                term: 1,
                proxy: format!("id-{proxy}"),
            },
            nodes: nodes.iter().map(node).collect(),
            files: FilesPart { count: 0, bytes: 0, ok: 0, healing: 0, degraded: 0, lost: 0 },
            messages: MessagesPart { waiting: 0 },
        }
    }

    fn row(name: &str, content: &str, wanted: u8, state: &'static str) -> FileRow {
        FileRow {
            name: name.to_owned(),
            bytes: 1,
            content: Some(content.to_owned()),
            replicas_wanted: wanted,
            replicas: 1,
            nodes: vec![],
            state,
            modified: String::new(),
        }
    }

    #[test]
    fn machines_come_go_and_lead() {
        let mut before = Before::default();
        let mut told = |proxy: &str, nodes: &[(&str, &'static str)]| -> Vec<String> {
            before.status("", &status(proxy, nodes)).into_iter().map(|one| one.text).collect()
        };
        assert_eq!(told("a", &[("a", "up"), ("b", "up")]), [""; 0], "how it was when the watching began");
        assert_eq!(
            told("a", &[("a", "up"), ("b", "suspect"), ("c", "up")]),
            ["b has fallen silent", "c joined"]
        );
        assert_eq!(told("a", &[("a", "up"), ("b", "down"), ("c", "up")]), [""; 0]);
        assert_eq!(
            told("c", &[("a", "away"), ("b", "up"), ("c", "up")]),
            ["a said goodbye", "b is back", "c leads now"]
        );
    }

    #[test]
    fn files_are_stored_healed_and_removed() {
        let mut before = Before::default();
        before.learn([row("old", "x", 2, "degraded")]);
        let mut told = |row: FileRow| before.file("", &row).map(|one| (one.what, one.text));
        assert_eq!(told(row("new", "x", 2, "ok")), Some(("file.stored", "new was stored".into())));
        assert_eq!(told(row("new", "x", 2, "ok")), None);
        assert_eq!(told(row("new", "y", 2, "ok")), Some(("file.stored", "new was replaced".into())));
        let wanted = "new: 1 copy wanted, 2 before".to_owned();
        assert_eq!(told(row("new", "y", 1, "healing")), Some(("replicas.changed", wanted)));
        assert_eq!(told(row("old", "x", 2, "ok")), Some(("file.healed", "old has all its copies".into())));
        assert_eq!(before.gone("", "old").what, "file.removed");
    }
}
