//! The folders of letters, and how one gets into the inbox exactly once.
//!
//! | path under `<data-dir>/messages/` | what |
//! |---|---|
//! | `outbox/`, `inbox/`, `sent/`, `failed/`, `hooks/` | for users |
//! | `.staged/` | letters that came, on their way to the inbox; files in the making |
//! | `.pending/` | letters whose hook is to be run, see [`super::records`] |
//!
//! A letter is staged and synced; its delivery is committed by the node; then it is revealed, by
//! renaming it. After a kill, what is staged and committed is revealed, and what is staged and not
//! committed is thrown away, for it will come again. A revealed letter is staged no more, so it is
//! never revealed twice, even if a program took it out of the inbox at once.
//!
//! All calls block; a node makes them on a thread that may.

use super::MessagesError;
use super::disk::{
    SCRATCH, free_name, move_into, names, read_bounded, remove, sync_folder, write_all_synced, write_whole,
};
use super::hook_file;
use super::letter_file::{Document, file_name, parse_file_name};
use super::records::HookRecord;
use crate::limits::LETTER_FILE_BYTES_MAX;
use crate::types::{Letter, LetterId, LetterType, Priority};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// A folder of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To be sent.
    Outbox,
    /// Came.
    Inbox,
    /// Were sent.
    Sent,
    /// Cannot be sent, or their hook failed.
    Failed,
}

impl Place {
    /// The folder's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Outbox => "outbox",
            Place::Inbox => "inbox",
            Place::Sent => "sent",
            Place::Failed => "failed",
        }
    }
}

/// A letter in the inbox whose hook is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The name of its file.
    pub name: String,
    /// Who sent it: the letters of one sender are handled in order.
    pub source: Box<str>,
    /// How urgent it is: of those that wait, the more urgent ones are handled first.
    pub priority: Priority,
}

impl Waiting {
    pub(super) fn of(name: &str, letter: &Document) -> Waiting {
        let priority = Priority::parse(&letter.priority).unwrap_or_default();
        Waiting { name: name.to_owned(), source: letter.source.clone(), priority }
    }
}

/// The folders of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Folders {
    data_dir: Arc<Path>,
    root: Arc<Path>,
}

/// How long a file in the making lies there before it counts as left behind.
const SCRATCH_KEEP: Duration = Duration::from_secs(60);

impl Folders {
    /// Makes the folders where they are missing, ours alone.
    ///
    /// # Errors
    /// When the disk refuses, something else lies in their place, or they belong to somebody else.
    pub fn open(data_dir: &Path) -> Result<Folders, MessagesError> {
        let folders = Folders::at(data_dir);
        make(&folders.root)?;
        for path in [
            folders.place(Place::Outbox),
            folders.place(Place::Inbox),
            folders.place(Place::Sent),
            folders.place(Place::Failed),
            folders.hooks(),
            folders.staged(),
            folders.pending(),
            folders.hooks_done(),
            folders.hooks_failed(),
        ] {
            make(&path)?;
        }
        let synced = sync_folder(&folders.root).and_then(|()| sync_folder(data_dir));
        synced.map_err(|source| MessagesError::Disk { path: folders.root.to_path_buf(), source })?;
        let root = fs::canonicalize(&folders.root)
            .map_err(|source| MessagesError::Disk { path: folders.root.to_path_buf(), source })?;
        let data_dir = root.parent().unwrap_or(&root).into();
        Ok(Folders { data_dir, root: root.into() })
    }

    /// The folders as they are, or are not: for commands, which make nothing.
    #[must_use]
    pub fn at(data_dir: &Path) -> Folders {
        Folders { data_dir: data_dir.into(), root: data_dir.join("messages").into() }
    }

    /// All state of the node.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder that the others are in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One of those that hold letters.
    #[must_use]
    pub fn place(&self, place: Place) -> PathBuf {
        self.root.join(place.as_str())
    }

    /// Programs, each named after a type.
    #[must_use]
    pub fn hooks(&self) -> PathBuf {
        self.root.join("hooks")
    }

    pub(super) fn staged(&self) -> PathBuf {
        self.root.join(".staged")
    }

    pub(super) fn pending(&self) -> PathBuf {
        self.root.join(".pending")
    }

    pub(super) fn hooks_done(&self) -> PathBuf {
        self.place(Place::Inbox).join(".hooks")
    }

    pub(super) fn hooks_failed(&self) -> PathBuf {
        self.place(Place::Failed).join(".hooks")
    }

    // ---- letters that came ----

    /// Writes letters where nobody looks yet, durably.
    ///
    /// # Errors
    /// When the disk refuses; then none of them counts.
    pub fn stage(&self, letters: &[(Priority, Letter)]) -> io::Result<()> {
        let staged = self.staged();
        let file = |(priority, letter): &(Priority, Letter)| {
            let path = staged.join(file_name(letter.created_us, letter.id));
            (path, Document::of(*priority, letter).to_text().into_bytes())
        };
        write_all_synced(&letters.iter().map(file).collect::<Vec<_>>())?;
        sync_folder(&staged)
    }

    /// Shows staged letters in the inbox, in this order. Those that have a hook are noted as waiting
    /// for it first, durably, so that a kill in between does not lose it. What is not staged (any
    /// more) is left out. Gives those that wait for a hook, to be told to
    /// [`super::hooks::Hooks::tell`].
    ///
    /// # Errors
    /// When the disk refuses; what was not revealed is still staged.
    pub fn reveal(&self, ids: &[LetterId]) -> io::Result<Vec<Waiting>> {
        let staged = names(&self.staged())?;
        let by_id: BTreeMap<LetterId, String> =
            staged.into_iter().filter_map(|name| Some((parse_file_name(&name)?.1, name))).collect();
        let revealed: Vec<&String> = ids.iter().filter_map(|id| by_id.get(id)).collect();
        if revealed.is_empty() {
            return Ok(Vec::new());
        }
        let mut waiting = Vec::new();
        for name in &revealed {
            waiting.extend(self.note_hook(name)?);
        }
        if !waiting.is_empty() {
            sync_folder(&self.pending())?;
        }
        let inbox = self.place(Place::Inbox);
        for name in revealed {
            fs::rename(self.staged().join(name), inbox.join(name))?;
        }
        sync_folder(&inbox)?;
        sync_folder(&self.staged())?;
        Ok(waiting)
    }

    /// Notes that a staged letter waits for its hook, if there is one. A document that cannot be
    /// read (the disk has damaged it) has none.
    fn note_hook(&self, name: &str) -> io::Result<Option<Waiting>> {
        let bytes = read_bounded(&self.staged().join(name), LETTER_FILE_BYTES_MAX)?;
        let Ok(document) = Document::parse(&bytes) else { return Ok(None) };
        let hook = LetterType::parse(&document.kind)
            .is_some_and(|kind| !kind.is_own() && hook_file::is_present(&self.hooks(), &kind));
        if !hook {
            return Ok(None);
        }
        let waiting = Waiting::of(name, &document);
        let record = HookRecord::pending(document);
        write_whole(&self.staged(), &self.pending().join(name), record.to_text().as_bytes())?;
        Ok(Some(waiting))
    }

    /// At the start of a node, before anything else: reveals what is staged and was delivered, and
    /// throws the rest away.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn recover(&self, is_delivered: impl Fn(LetterId) -> bool) -> io::Result<()> {
        let staged = self.staged();
        let mut delivered = Vec::new();
        for name in names(&staged)? {
            let path = staged.join(&name);
            match parse_file_name(&name) {
                Some((_, id)) if is_delivered(id) => delivered.push(id),
                _ if name.starts_with(SCRATCH) && is_recent(&path) => {}
                _ => {
                    remove(&path)?;
                }
            }
        }
        self.reveal(&delivered)?;
        Ok(())
    }

    // ---- letters that go ----

    /// A letter of the outbox was sent: its whole document is in `sent/` now. The same twice is as
    /// good as once.
    ///
    /// # Errors
    /// When the disk refuses; the letter is still in the outbox then.
    pub fn move_to_sent(&self, name: &str, document: &Document) -> io::Result<()> {
        let sent = self.place(Place::Sent);
        write_whole(&self.staged(), &sent.join(name), document.to_text().as_bytes())?;
        sync_folder(&sent)?;
        remove(&self.place(Place::Outbox).join(name))?;
        Ok(())
    }

    /// Moves a file to `failed/`, and the reason beside it. If the name is taken there it gets one
    /// like it. Gives its new name.
    ///
    /// # Errors
    /// When the disk refuses, or the file is gone.
    pub fn move_to_failed(&self, file: &Path, reason: &str) -> io::Result<String> {
        let failed = self.place(Place::Failed);
        let name = file.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        fs::symlink_metadata(file)?;
        let name = free_name(&failed, name)?;
        // The reason first: what lies in `failed/` always has one.
        self.write_reason(&name, reason)?;
        if let Err(error) = move_into(file, &failed, &name) {
            remove(&reason_path(&failed, &name))?;
            return Err(error);
        }
        sync_folder(&failed)?;
        file.parent().map_or(Ok(()), sync_folder)?;
        Ok(name)
    }

    fn write_reason(&self, name: &str, reason: &str) -> io::Result<()> {
        let path = reason_path(&self.place(Place::Failed), name);
        write_whole(&self.staged(), &path, format!("{reason}\n").as_bytes())
    }

    // ---- hooks ----

    /// Keeps how far a hook is, durably.
    pub(super) fn save_hook(&self, name: &str, record: &HookRecord) -> io::Result<()> {
        write_whole(&self.staged(), &self.pending().join(name), record.to_text().as_bytes())
    }

    /// The hook is done: it waits no more, and how it ended lies beside the letter, unless the
    /// letter was taken meanwhile.
    pub(super) fn end_hook(&self, name: &str, record: &HookRecord) -> io::Result<()> {
        let done = self.hooks_done();
        if fs::symlink_metadata(self.place(Place::Inbox).join(name)).is_ok() {
            write_whole(&self.staged(), &done.join(name), record.to_text().as_bytes())?;
            sync_folder(&done)?;
        }
        remove(&self.pending().join(name))?;
        sync_folder(&self.pending())
    }

    /// The hook has given up: the letter moves to `failed/`, from the inbox or, if it was taken,
    /// from the record.
    pub(super) fn fail_hook(
        &self,
        name: &str,
        record: &HookRecord,
        letter: &Document,
        reason: &str,
    ) -> io::Result<()> {
        let (inbox, failed) = (self.place(Place::Inbox), self.place(Place::Failed));
        write_whole(&self.staged(), &self.hooks_failed().join(name), record.to_text().as_bytes())?;
        sync_folder(&self.hooks_failed())?;
        self.write_reason(name, reason)?;
        match fs::rename(inbox.join(name), failed.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&self.staged(), &failed.join(name), letter.to_text().as_bytes())?;
            }
            renamed => renamed?,
        }
        sync_folder(&failed)?;
        sync_folder(&inbox)?;
        remove(&self.pending().join(name))?;
        sync_folder(&self.pending())
    }

    /// At the start: a hook that ended, but whose record waits because of a kill in between, waits
    /// no more.
    pub(super) fn forget_ended_hooks(&self) -> io::Result<()> {
        for name in names(&self.pending())? {
            let lies_in = |folder: PathBuf| fs::symlink_metadata(folder.join(&name)).is_ok();
            // One that is being retried is in the inbox again and waits.
            let gave_up = lies_in(self.hooks_failed()) && lies_in(self.place(Place::Failed));
            if lies_in(self.hooks_done()) || gave_up {
                remove(&self.pending().join(&name))?;
            }
        }
        Ok(())
    }
}

/// Where the reason of a failed letter is.
pub(super) fn reason_path(failed: &Path, name: &str) -> PathBuf {
    failed.join(format!("{name}.reason"))
}

fn is_recent(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|file| file.modified());
    let since_1970 = modified.ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since_1970.is_some_and(|modified| {
        Duration::from_millis(crate::clock::wall().0).saturating_sub(modified) < SCRATCH_KEEP
    })
}

/// Makes a folder that only we can use, or makes sure that it is one.
fn make(path: &Path) -> Result<(), MessagesError> {
    let refused = |source| MessagesError::Disk { path: path.into(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(refused)?;
    if !found.is_dir() {
        return Err(MessagesError::NotFolder { path: path.into() });
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(MessagesError::NotOurs { path: path.into() });
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(refused)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{deliver, folders, hook, letter};
    use super::super::listing::Retried;
    use super::super::records::{Attempt, HookState};
    use super::*;

    fn ids(letters: &[Letter]) -> Vec<LetterId> {
        letters.iter().map(|letter| letter.id).collect()
    }

    fn staged(folders: &Folders, letters: &[Letter]) {
        let letters: Vec<_> = letters.iter().map(|letter| (Priority::Normal, letter.clone())).collect();
        folders.stage(&letters).expect("staged");
    }

    fn inbox(folders: &Folders) -> Vec<LetterId> {
        folders.list(Place::Inbox).expect("listed").iter().filter_map(|listed| listed.id).collect()
    }

    #[test]
    fn the_folders_are_ours_alone_and_nothing_else() {
        let (folder, folders) = folders();
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        for name in ["", "outbox", "inbox", "sent", "failed", "hooks", ".staged", ".pending"] {
            assert_eq!(mode(&folders.root().join(name)), 0o700, "{name}");
        }
        fs::set_permissions(folders.hooks(), fs::Permissions::from_mode(0o777)).expect("set");
        Folders::open(folder.path()).expect("opened again");
        assert_eq!(mode(&folders.hooks()), 0o700, "what was opened up is closed again");
        fs::remove_dir(folders.hooks()).expect("removed");
        std::os::unix::fs::symlink("/tmp", folders.hooks()).expect("linked");
        assert!(matches!(Folders::open(folder.path()), Err(MessagesError::NotFolder { .. })));
        fs::remove_file(folders.hooks()).expect("removed");
        fs::write(folders.hooks(), "").expect("written");
        assert!(matches!(Folders::open(folder.path()), Err(MessagesError::NotFolder { .. })));
    }

    #[test]
    fn letters_are_shown_in_order_and_whole_and_once() {
        let (_folder, folders) = folders();
        let letters: Vec<Letter> = (1..=5).map(|number| letter("a", number)).collect();
        staged(&folders, &letters);
        assert!(inbox(&folders).is_empty(), "nothing is seen before it is revealed");
        assert_eq!(folders.reveal(&ids(&letters)).expect("revealed"), []);
        assert_eq!(inbox(&folders), ids(&letters));
        let first =
            folders.load(Place::Inbox, &folders.names(Place::Inbox).expect("listed")[0]).expect("there");
        assert_eq!(first.document.expect("a document").payload.get(), "{\"n\":1}");
        assert!(folders.acknowledge(&first.name).expect("removed"));
        folders.reveal(&ids(&letters)).expect("nothing to do");
        assert_eq!(inbox(&folders), ids(&letters[1..]), "what was taken does not come back");
    }

    #[test]
    fn a_kill_between_staging_and_revealing_loses_and_doubles_nothing() {
        let (folder, folders) = folders();
        hook(&folders, "hello", "exit 0");
        let letters: Vec<Letter> = (1..=4).map(|number| letter("a", number)).collect();
        staged(&folders, &letters);
        fs::write(folders.staged().join("half"), "{").expect("written");
        // The first two were committed before the kill.
        drop(folders);
        let again = Folders::open(folder.path()).expect("opened");
        let delivered = ids(&letters[..2]);
        again.recover(|id| delivered.contains(&id)).expect("recovered");
        assert_eq!(inbox(&again), delivered);
        assert_eq!(names(&again.staged()).expect("listed"), [""; 0]);
        assert_eq!(names(&again.pending()).expect("listed").len(), 2, "and their hooks wait");
        // A program takes them; after another kill they do not come back.
        assert_eq!(again.flush(Place::Inbox).expect("removed"), 2);
        again.recover(|_| true).expect("recovered");
        assert!(inbox(&again).is_empty());
        assert_eq!(names(&again.pending()).expect("listed").len(), 2, "their hooks still wait");
    }

    #[test]
    fn a_failed_file_has_its_reason_and_never_replaces_another() {
        let (_folder, folders) = folders();
        let path = folders.place(Place::Outbox).join("x.json");
        for text in ["one", "two"] {
            fs::write(&path, text).expect("written");
            folders.move_to_failed(&path, "it is bad").expect("moved");
        }
        let failed = folders.list(Place::Failed).expect("listed");
        let names: Vec<_> = failed.iter().map(|listed| &*listed.name).collect();
        assert_eq!(names, ["x.json", "x~2.json"]);
        assert!(failed.iter().all(|listed| listed.reason.as_deref() == Some("it is bad")));
        assert!(failed.iter().all(|listed| listed.document.is_err()));
        assert!(folders.move_to_failed(&path, "it is gone").is_err());
        assert_eq!(folders.retry("x.json").expect("retried"), Retried::Outbox);
        assert_eq!(folders.names(Place::Outbox).expect("listed"), ["x.json"]);
        assert_eq!(folders.flush(Place::Failed).expect("removed"), 1);
        assert_eq!(
            fs::read_dir(folders.place(Place::Failed)).expect("listed").count(),
            1,
            "the records' folder"
        );
    }

    #[test]
    fn a_letter_whose_hook_failed_goes_back_to_the_inbox() {
        let (_folder, folders) = folders();
        hook(&folders, "default", "exit 1");
        let waiting = deliver(&folders, &[letter("a", 1)]);
        let name = waiting[0].name.clone();
        assert!(!folders.acknowledge(&name).expect("looked"), "its hook is still to be run");
        let mut record = HookRecord::read(&folders.pending().join(&name)).expect("a record");
        let document = record.letter.take().expect("the letter");
        record.state = HookState::Failed;
        record.attempts.push(Attempt { exit: Some(1), ..Attempt::default() });
        folders.fail_hook(&name, &record, &document, "exit code 1").expect("written");
        let failed = folders.load(Place::Failed, &name).expect("there");
        assert_eq!(failed.hook.expect("a record").attempts[0].exit, Some(1));
        assert!(inbox(&folders).is_empty());
        assert_eq!(folders.retry(&name).expect("retried"), Retried::Inbox);
        folders.forget_ended_hooks().expect("done");
        let listed = folders.load(Place::Inbox, &name).expect("there");
        assert_eq!(listed.hook.expect("a record").state, HookState::Pending);
        assert!(folders.names(Place::Failed).expect("listed").is_empty());
    }

    #[test]
    fn cleaning_takes_what_is_old_and_nothing_that_waits() {
        let (_folder, folders) = folders();
        deliver(&folders, &[letter("a", 1)]);
        hook(&folders, "hello", "exit 0");
        deliver(&folders, &[letter("a", 2)]);
        let document = Document::of(Priority::Normal, &letter("a", 3));
        folders.move_to_sent("3.json", &document).expect("moved");
        let (old, hour) = (std::time::SystemTime::UNIX_EPOCH, Duration::from_secs(3_600));
        assert_eq!(folders.clean(Some(hour), Some(hour)).expect("cleaned"), 0);
        for place in [Place::Inbox, Place::Sent] {
            for name in folders.names(place).expect("listed") {
                let file = fs::File::open(folders.place(place).join(name)).expect("opened");
                file.set_modified(old).expect("set");
            }
        }
        assert_eq!(folders.clean(None, None).expect("cleaned"), 0);
        assert_eq!(folders.clean(Some(hour), None).expect("cleaned"), 1);
        assert_eq!(folders.clean(Some(hour), Some(hour)).expect("cleaned"), 1);
        assert_eq!(inbox(&folders), [letter("a", 2).id], "its hook is still to be run");
    }
}
