//! What the tests of this folder share: letters, folders, hooks, and waiting for a condition.

use super::folders::Folders;
use crate::clock;
use crate::types::{Letter, LetterId, LetterType, Priority};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Folders that go away with the first part.
pub(super) fn folders() -> (tempfile::TempDir, Folders) {
    let folder = tempfile::tempdir().expect("a folder");
    let folders = Folders::open(folder.path()).expect("opened");
    (folder, folders)
}

/// The `number`th letter of a sender.
pub(super) fn letter(source: &str, number: u8) -> Letter {
    let mut id = [number; 16];
    id[0] = source.bytes().fold(0, u8::wrapping_add);
    Letter {
        id: LetterId::from_random(id),
        kind: LetterType::parse("hello").expect("a type"),
        source: source.into(),
        target: None,
        created_us: clock::wall_us() / 1_000_000 * 1_000_000 + u64::from(number),
        expires_ms: clock::wall().0 + 3_600_000,
        payload: format!("{{\"n\":{number}}}").into(),
        attachments: vec![],
        addressees: vec![],
    }
}

/// Stages and reveals letters.
pub(super) fn deliver(folders: &Folders, letters: &[Letter]) -> Vec<super::folders::Waiting> {
    let staged: Vec<_> = letters.iter().map(|letter| (Priority::Normal, letter.clone())).collect();
    folders.stage(&staged).expect("staged");
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    folders.reveal(&ids).expect("revealed")
}

/// Makes a program that /bin/sh runs the hook of a type.
pub(super) fn hook(folders: &Folders, kind: &str, script: &str) {
    // Under another name first, so that nobody runs half of it.
    let (new, path) = (folders.hooks().join(format!(".{kind}")), folders.hooks().join(kind));
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).expect("set");
    fs::rename(new, path).expect("renamed");
}

/// Waits until it is so; fails after 20 seconds.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = clock::now().plus(20_000);
    while !is_so() {
        assert!(clock::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
