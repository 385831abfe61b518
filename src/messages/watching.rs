//! The system's word about files of letters that appear or change. It saves time and is not relied on.

use super::listing::is_letter;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::Path;

/// What the system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The letter of this name was made or changed.
    Letter(String),
    /// Something was missed: list the folder.
    Missed,
}

/// A folder is watched as long as this lives.
#[derive(Debug)]
pub struct Watching {
    _watcher: RecommendedWatcher,
}

/// Has `tell` called, on a thread of its own, when a letter's file in `folder` is made or changed.
///
/// # Errors
/// When the system cannot watch it, in words.
pub fn watch(folder: &Path, mut tell: impl FnMut(Change) + Send + 'static) -> Result<Watching, String> {
    let of_watcher = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return tell(Change::Missed) };
        if event.need_rescan() {
            return tell(Change::Missed);
        }
        // Not that somebody read one: we do that ourselves.
        let changed = matches!(
            event.kind,
            EventKind::Create(_)
                | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Name(_) | ModifyKind::Any)
                | EventKind::Access(AccessKind::Close(AccessMode::Write))
        );
        for path in event.paths.iter().filter(|_| changed) {
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|name| is_letter(name)) {
                tell(Change::Letter(name.to_owned()));
            }
        }
    };
    let mut watcher = notify::recommended_watcher(of_watcher).map_err(|error| error.to_string())?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
    Ok(Watching { _watcher: watcher })
}
