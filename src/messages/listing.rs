//! What commands do with the folders: list, acknowledge, retry, remove. Needs no node, and works
//! beside one.

use super::disk::{free_name, move_into, names, read_bounded, remove, sync_folder};
use super::folders::{Folders, Place, reason_path};
use super::letter_file::{Document, EXTENSION, LetterFileError, file_name, parse_file_name};
use super::records::HookRecord;
use crate::clock;
use crate::limits::LETTER_FILE_BYTES_MAX;
use crate::types::LetterId;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// Longest reason that is read, in bytes.
const REASON_BYTES_MAX: u64 = 64 << 10;

/// A file of one of the folders, as far as it can be understood.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// By its document or its name.
    pub id: Option<LetterId>,
    /// What it says; an error for what is no letter.
    pub document: Result<Document, LetterFileError>,
    /// Why it failed, of one that did.
    pub reason: Option<String>,
    /// What became of its hook, if it has one.
    pub hook: Option<HookRecord>,
}

/// What became of a failed letter that is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is to be sent.
    Outbox,
    /// It is in the inbox, and its hook is to be run.
    Inbox,
}

/// Whether a name is one of a letter's file, rather than of something in the making or beside it.
pub(super) fn is_letter(name: &str) -> bool {
    name.ends_with(EXTENSION) && !name.starts_with('.')
}

impl Folders {
    /// The names of the letters in a folder, in order; none if it is not there.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self, place: Place) -> io::Result<Vec<String>> {
        let folder = self.place(place);
        let mut names = names(&folder)?;
        names.retain(|name| {
            is_letter(name) && fs::symlink_metadata(folder.join(name)).is_ok_and(|file| file.is_file())
        });
        Ok(names)
    }

    /// Reads one letter of a folder; `None` if it is gone.
    #[must_use]
    pub fn load(&self, place: Place, name: &str) -> Option<Listed> {
        let folder = self.place(place);
        let document = match read_bounded(&folder.join(name), LETTER_FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(LetterFileError::Unreadable(error)),
            Ok(bytes) => Document::parse(&bytes),
        };
        let id = document.as_ref().ok().and_then(|document| LetterId::parse(&document.id));
        let reason = match place {
            Place::Failed => read_bounded(&reason_path(&folder, name), REASON_BYTES_MAX).ok(),
            _ => None,
        };
        let hook = match place {
            Place::Inbox => HookRecord::read(&self.pending().join(name))
                .or_else(|_| HookRecord::read(&self.hooks_done().join(name)))
                .ok(),
            Place::Failed => HookRecord::read(&self.hooks_failed().join(name)).ok(),
            Place::Outbox | Place::Sent => None,
        };
        Some(Listed {
            name: name.to_owned(),
            id: id.or_else(|| parse_file_name(name).map(|(_, id)| id)),
            document,
            reason: reason.map(|reason| String::from_utf8_lossy(&reason).trim_end().to_owned()),
            hook,
        })
    }

    /// All letters of a folder, in order.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn list(&self, place: Place) -> io::Result<Vec<Listed>> {
        Ok(self.names(place)?.iter().filter_map(|name| self.load(place, name)).collect())
    }

    /// Removes a letter from the inbox, with what became of its hook; `false` and nothing done
    /// while the hook is still to be run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn acknowledge(&self, name: &str) -> io::Result<bool> {
        if fs::symlink_metadata(self.pending().join(name)).is_ok() {
            return Ok(false);
        }
        remove(&self.place(Place::Inbox).join(name))?;
        remove(&self.hooks_done().join(name))?;
        Ok(true)
    }

    /// Tries a failed letter again: sends it, with its time of life anew, or runs its hook, with its
    /// tries anew.
    ///
    /// # Errors
    /// When the disk refuses, or it is gone.
    pub fn retry(&self, name: &str) -> io::Result<Retried> {
        let failed = self.place(Place::Failed);
        let record = self.hooks_failed().join(name);
        let retried = if fs::symlink_metadata(&record).is_ok() {
            let bytes = read_bounded(&failed.join(name), LETTER_FILE_BYTES_MAX)?;
            let document = Document::parse(&bytes).map_err(io::Error::other)?;
            // It waits for its hook before it is seen: a kill in between leaves it failed.
            self.save_hook(name, &HookRecord::pending(document))?;
            sync_folder(&self.pending())?;
            fs::rename(failed.join(name), self.place(Place::Inbox).join(name))?;
            sync_folder(&self.place(Place::Inbox))?;
            sync_folder(&failed)?;
            remove(&record)?;
            Retried::Inbox
        } else {
            let outbox = self.place(Place::Outbox);
            let fresh = match parse_file_name(name) {
                Some((_, id)) => file_name(clock::wall_us(), id),
                None => name.to_owned(),
            };
            move_into(&failed.join(name), &outbox, &free_name(&outbox, &fresh)?)?;
            sync_folder(&outbox)?;
            Retried::Outbox
        };
        remove(&reason_path(&failed, name))?;
        Ok(retried)
    }

    /// Removes all letters of a folder, with what lies beside them; gives how many. A hook that is
    /// to be run still is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self, place: Place) -> io::Result<usize> {
        let folder = self.place(place);
        let mut count = 0;
        for name in self.names(place)? {
            count += usize::from(remove(&folder.join(&name))?);
            self.remove_beside(place, &name)?;
        }
        Ok(count)
    }

    fn remove_beside(&self, place: Place, name: &str) -> io::Result<()> {
        match place {
            Place::Inbox => {
                remove(&self.hooks_done().join(name))?;
            }
            Place::Failed => {
                remove(&reason_path(&self.place(place), name))?;
                remove(&self.hooks_failed().join(name))?;
            }
            Place::Outbox | Place::Sent => {}
        }
        Ok(())
    }

    /// Removes what was sent, and what came, longer ago than these; `None`: nothing. What waits for
    /// its hook stays. What became of hooks goes with their letters.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clean(&self, sent_ttl: Option<Duration>, inbox_ttl: Option<Duration>) -> io::Result<usize> {
        let now = Duration::from_millis(clock::wall().0);
        let mut count = 0;
        for (place, ttl) in [(Place::Sent, sent_ttl), (Place::Inbox, inbox_ttl)] {
            let Some(ttl) = ttl else { continue };
            for name in self.names(place)? {
                let written = written_at(self.place(place).join(&name));
                let waits = fs::symlink_metadata(self.pending().join(&name)).is_ok();
                if written.is_some_and(|written| now.saturating_sub(written) > ttl) && !waits {
                    count += usize::from(remove(&self.place(place).join(&name))?);
                }
            }
        }
        for (place, records) in [(Place::Inbox, self.hooks_done()), (Place::Failed, self.hooks_failed())] {
            for name in names(&records)? {
                if fs::symlink_metadata(self.place(place).join(&name)).is_err() {
                    remove(&records.join(&name))?;
                }
            }
        }
        Ok(count)
    }
}

/// When a file was last written, since 1970.
fn written_at(path: PathBuf) -> Option<Duration> {
    fs::symlink_metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()
}
