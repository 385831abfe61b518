//! Removes, now and then, what was kept for long enough.

use super::folders::Folders;
use super::{Options, stopped};
use crate::limits::LETTERS_CLEAN_INTERVAL;
use tokio::sync::watch;

/// Cleans the folders every [`LETTERS_CLEAN_INTERVAL`] until `stopping` is true or gone.
pub async fn run(folders: Folders, options: Options, mut stopping: watch::Receiver<bool>) {
    loop {
        let of_task = folders.clone();
        let cleaned = tokio::task::spawn_blocking(move || of_task.clean(options.sent_ttl, options.inbox_ttl));
        match cleaned.await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::debug!(count, "messages were kept for long enough"),
            Ok(Err(error)) => tracing::warn!(%error, "old messages cannot be removed"),
        }
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(LETTERS_CLEAN_INTERVAL) => {}
        }
    }
}
