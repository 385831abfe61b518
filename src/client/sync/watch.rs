//! Waits until something in a folder has changed and then has settled.

use crate::clock;
use crate::limits::{SYNC_SETTLE, SYNC_SETTLE_MAX, SYNC_WATCH_LOOK};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::Path;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The changes of a folder.
pub struct Changes {
    heard: mpsc::Receiver<()>,
    /// Kept alive: it ends with this.
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// From now on.
    ///
    /// # Errors
    /// In the system's words: mostly that it watches too many folders already.
    pub fn of(folder: &Path) -> Result<Changes, String> {
        let (tell, heard) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // One that waits is as good as many.
                let _ = tell.try_send(());
            }
        })
        .map_err(|error| error.to_string())?;
        watcher.watch(folder, RecursiveMode::Recursive).map_err(|error| error.to_string())?;
        Ok(Changes { heard, _watcher: watcher })
    }

    /// Waits until something has changed and nothing more does for a moment. Comes back after a
    /// long time in any case, because the system may have lost what it should have told.
    pub async fn settled(&mut self) {
        if timeout(SYNC_WATCH_LOOK, self.heard.recv()).await.is_err() {
            return;
        }
        let begun = clock::now();
        let most = u64::try_from(SYNC_SETTLE_MAX.as_millis()).unwrap_or(u64::MAX);
        while timeout(SYNC_SETTLE, self.heard.recv()).await.is_ok() && clock::now().since(begun) < most {}
    }
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
