//! Calls that fail, for tests: the `k`-th that matches, once or from then on.
//!
//! A failing write is torn: half of it reaches the file. A call may also fail after it was done, as
//! a disk does whose answer is lost. Which calls were made, and where from, is counted.

use super::{Call, Room};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Plan {
    /// The number of the call, from 1; of those that `only` allows.
    pub(in crate::store) at: u64,
    /// All later ones too.
    pub(in crate::store) for_ever: bool,
    /// After it was done, not before.
    pub(in crate::store) after: bool,
    pub(in crate::store) errno: Errno,
    pub(in crate::store) only: fn(Call, &Path) -> bool,
}

/// A call that was made to fail: what, and on which kind of file.
pub(in crate::store) type Site = (Call, String);

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    calls: u64,
    failed: Vec<Site>,
    room: Option<Room>,
}

/// What the calls of one folder's store come to.
#[derive(Debug, Default)]
pub(in crate::store) struct Faults {
    state: Mutex<State>,
}

/// The faults of the folders that are, or will be, open in this process.
static FOLDERS: Mutex<BTreeMap<PathBuf, Arc<Faults>>> = Mutex::new(BTreeMap::new());

impl Faults {
    /// The faults of the store in `folder`, now and when it is opened anew.
    pub(in crate::store) fn of(folder: &Path) -> Arc<Faults> {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(folders.entry(folder.to_owned()).or_default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on: this fails; calls are counted from 1 again.
    pub(in crate::store) fn set(&self, plan: Option<Plan>) {
        let mut state = self.state();
        state.plan = plan;
        state.calls = 0;
        state.failed.clear();
    }

    /// The file system says that it has this much room, or what is true.
    pub(in crate::store) fn set_room(&self, room: Option<Room>) {
        self.state().room = room;
    }

    /// What was made to fail since [`Faults::set`].
    pub(in crate::store) fn failed(&self) -> Vec<Site> {
        self.state().failed.clone()
    }

    pub(in crate::store) fn room(&self) -> Option<Room> {
        self.state().room
    }

    pub(in crate::store) fn around<T>(
        &self,
        call: Call,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let error = {
            let mut state = self.state();
            match state.plan {
                Some(plan) if (plan.only)(call, path) => {
                    state.calls += 1;
                    let fails = state.calls == plan.at || (plan.for_ever && state.calls > plan.at);
                    if fails {
                        state.failed.push((call, kind_of(path)));
                    }
                    fails.then_some((io::Error::from(plan.errno), plan.after))
                }
                _ => None,
            }
        };
        match error {
            None => work(),
            Some((error, after)) => {
                if after {
                    // What it came to is lost on the way.
                    drop(work());
                }
                Err(error)
            }
        }
    }

    /// How many of `bytes` bytes a write that is about to fail still writes.
    pub(in crate::store) fn torn(&self, call: Call, path: &Path, bytes: usize) -> Option<usize> {
        let state = self.state();
        let plan = state.plan.filter(|plan| (plan.only)(call, path))?;
        let next = state.calls + 1;
        (next == plan.at || (plan.for_ever && next > plan.at)).then_some(bytes / 2)
    }
}

/// What kind of file a path names: without ids.
fn kind_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let above = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.split_once('.') {
        Some((stem, end)) if hex(stem) => format!("incoming/*.{end}"),
        _ if hex(&name) && name.len() == 62 => "contents/*/*".into(),
        _ if hex(&name) && name.len() == 64 => "quarantine/*".into(),
        _ if hex(&name) && name.len() == 2 && above.as_deref() == Some("contents") => "contents/*".into(),
        _ if name.starts_with(".tmp") => "folder".into(),
        _ => name,
    }
}
