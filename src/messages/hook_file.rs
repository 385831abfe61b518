//! Which program is the hook of a type, and whether it may be run.
//!
//! A peer chooses the type, so it chooses among the files of one folder: types are no paths, a link
//! counts only if it stays in the folder, and what others could have written is not run.

use crate::types::LetterType;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The hook of letters whose type has none.
pub const DEFAULT: &str = "default";

/// What there is for a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Nothing.
    None,
    /// This program.
    Program(PathBuf),
    /// Something that is not run, and why.
    Refused(String),
}

/// Whether there is anything for a type: cheap, one or two looks at the folder.
#[must_use]
pub fn is_present(folder: &Path, kind: &LetterType) -> bool {
    place(folder, kind).is_some()
}

/// `hooks/<type>`; for types that are not thorp's own, else `hooks/default`.
fn place(folder: &Path, kind: &LetterType) -> Option<PathBuf> {
    let names = std::iter::once(kind.as_str()).chain((!kind.is_own()).then_some(DEFAULT));
    names.map(|name| folder.join(name)).find(|path| fs::symlink_metadata(path).is_ok())
}

/// The hook of a type.
#[must_use]
pub fn find(folder: &Path, kind: &LetterType) -> Hook {
    let Some(path) = place(folder, kind) else { return Hook::None };
    match check(folder, &path) {
        Ok(None) => Hook::Program(path),
        Ok(Some(reason)) => Hook::Refused(format!("the hook `{}` is not run: {reason}", path.display())),
        Err(error) => Hook::Refused(format!("the hook `{}` cannot be looked at: {error}", path.display())),
    }
}

/// Why it is not run, if so.
fn check(folder: &Path, path: &Path) -> io::Result<Option<&'static str>> {
    let user = rustix::process::geteuid().as_raw();
    let others_write = |file: &fs::Metadata| file.mode() & 0o022 != 0;
    let folder = fs::canonicalize(folder)?;
    let target = fs::canonicalize(path)?;
    if target.parent() != Some(&folder) {
        return Ok(Some("it is a link to a file outside the hooks folder; put the program itself there"));
    }
    let (hooks, file) = (fs::metadata(&folder)?, fs::metadata(&target)?);
    Ok(if !file.is_file() {
        Some("it is no plain file")
    } else if file.uid() != user {
        Some("it belongs to another user; give it to the user that thorp runs as")
    } else if hooks.uid() != user || others_write(&hooks) {
        Some("others can write to the hooks folder; `chmod go-w` it")
    } else if others_write(&file) {
        Some("others can write to it; `chmod go-w` it")
    } else if file.mode() & 0o100 == 0 {
        Some("it is not executable; `chmod u+x` it")
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn kind(text: &str) -> LetterType {
        LetterType::parse(text).expect("a type")
    }

    fn put(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    fn refusal(folder: &Path, name: &str) -> String {
        match find(folder, &kind(name)) {
            Hook::Refused(reason) => reason,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_type_has_its_own_hook_or_the_default_and_thorps_types_no_default() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        assert_eq!(find(path, &kind("hello")), Hook::None);
        assert!(!is_present(path, &kind("hello")));
        put(&path.join("default"), 0o700);
        assert_eq!(find(path, &kind("hello")), Hook::Program(path.join("default")));
        assert_eq!(find(path, &kind("thorp.node.lost")), Hook::None);
        put(&path.join("hello"), 0o755);
        put(&path.join("thorp.node.lost"), 0o500);
        assert_eq!(find(path, &kind("hello")), Hook::Program(path.join("hello")));
        assert_eq!(find(path, &kind("thorp.node.lost")), Hook::Program(path.join("thorp.node.lost")));
    }

    #[test]
    fn what_others_could_have_written_is_not_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for (name, mode, word) in [
            ("group", 0o720, "others can write"),
            ("all", 0o702, "others can write"),
            ("text", 0o600, "chmod u+x"),
        ] {
            put(&path.join(name), mode);
            assert!(refusal(path, name).contains(word), "{name}");
        }
        fs::create_dir(path.join("folder")).expect("made");
        assert!(refusal(path, "folder").contains("no plain file"));
        symlink("/bin/sh", path.join("out")).expect("linked");
        assert!(refusal(path, "out").contains("outside the hooks folder"));
        symlink("nothing", path.join("dangling")).expect("linked");
        assert!(refusal(path, "dangling").contains("cannot be looked at"));
        put(&path.join("good"), 0o700);
        symlink("good", path.join("alias")).expect("linked");
        assert_eq!(find(path, &kind("alias")), Hook::Program(path.join("alias")));
        // Only the superuser can make a file of another user.
        if rustix::process::geteuid().is_root() {
            put(&path.join("theirs"), 0o700);
            std::os::unix::fs::chown(path.join("theirs"), Some(12_345), None).expect("given away");
            assert!(refusal(path, "theirs").contains("another user"));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
        assert!(refusal(path, "good").contains("the hooks folder"));
    }
}
