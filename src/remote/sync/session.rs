//! One sync, from its opening to its end: straight-line code on a thread of its own.
//!
//! Invariant: until the command says `Apply`, nothing in the workspace changes; then each file, link
//! and folder appears whole or not at all, and a sync that is cut short leaves what is old or new.

use super::plan::{Plan, Tree, plan};
use super::receiver::Receiver;
use super::{Answer, Job, SyncFailure, Turn};
use crate::limits::{PAGE_ROWS_MAX, SYNC_ENTRIES_MAX, SYNC_PROBLEMS_MAX};
use crate::remote::Consent;
use crate::remote::hashing::{Hashed, hash};
use crate::remote::workspace::index::Known;
use crate::remote::workspace::root::{Found, FoundKind, mode, set_modified, stamp_of};
use crate::remote::workspace::{Workspace, Workspaces};
use crate::types::{ContentId, TreePath, WorkspaceName};
use crate::wire::sync::{DifferenceKind, Placed, SyncFrame, TreeEntry, TreeItem};
use crate::wire::transfer::TransferFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use tokio::sync::mpsc;

/// What a link or a copy is called in staging until it is put in place.
const NEXT: &str = "next";

/// Runs one sync; says itself what went wrong.
///
/// # Errors
/// Why it ended early.
pub fn run(
    consent: &Consent,
    name: &WorkspaceName,
    jobs: mpsc::Receiver<Job>,
    answers: mpsc::Sender<Answer>,
) -> Result<(), SyncFailure> {
    let mut session = Session { jobs, answers, in_contents: false };
    let ended = session.run(consent, name);
    if let Err(error) = &ended {
        let (code, message) = (error.code(), error.words());
        let frame = match session.in_contents {
            true => Answer::Transfer(TransferFrame::Failed { code, message }),
            false => Answer::Sync(SyncFrame::Failed { code, message }),
        };
        let _ = session.answers.blocking_send(frame);
    }
    ended
}

struct Session {
    jobs: mpsc::Receiver<Job>,
    answers: mpsc::Sender<Answer>,
    in_contents: bool,
}

/// What the command says about the plan.
#[derive(Default)]
struct Orders {
    placed: BTreeMap<u32, Placed>,
    remove: BTreeSet<u32>,
}

impl Session {
    fn run(&mut self, consent: &Consent, name: &WorkspaceName) -> Result<(), SyncFailure> {
        let mut workspace = Workspaces::open(consent)?.take(name)?;
        self.say(SyncFrame::Opened)?;
        self.turn(Turn::Command)?;
        let (tree, checksum) = self.hear_tree()?;
        let there = workspace.root.list(SYNC_ENTRIES_MAX)?;
        let says = read_links(&mut workspace, &there);
        workspace.index.keep(&there);
        self.look_again(&mut workspace, &tree, &there, checksum)?;
        let plan = plan(&tree.entries, &there, &says, &workspace.index, checksum);
        let is_opaque = |found: &Found| found.kind == FoundKind::Folder { opaque: true };
        let opaque =
            there.iter().filter(|(_, found)| is_opaque(found)).map(|(path, _)| path.clone()).collect();
        drop((there, says));
        self.say_plan(&plan)?;
        let mut stored = BTreeMap::new();
        let mut orders = Orders::default();
        loop {
            match self.hear()? {
                SyncFrame::Working => {}
                SyncFrame::Contents => stored = self.take_contents(&mut workspace)?,
                SyncFrame::Placed { files } => {
                    for file in files {
                        orders.placed.insert(file.at, file);
                    }
                }
                SyncFrame::Remove { surplus } => orders.remove.extend(surplus),
                SyncFrame::Apply => break,
                _ => return Err(SyncFailure::Refused("a frame out of place")),
            }
            let (placed, remove) = (orders.placed.len(), orders.remove.len());
            if placed > tree.entries.len() || remove > plan.surplus.len() {
                return Err(SyncFailure::Refused("more orders than there is to do"));
            }
        }
        self.turn(Turn::Sync)?;
        workspace.root.begin_changes();
        let mut apply = Apply { workspace: &mut workspace, stored, opaque, problems: Vec::new() };
        apply.run(&tree.entries, &plan, &orders);
        let problems = std::mem::take(&mut apply.problems);
        workspace.root.restore_modes();
        workspace.staging.clear()?;
        workspace.save_index()?;
        for (path, message) in problems {
            self.say(SyncFrame::Problem { path, message })?;
        }
        self.say(SyncFrame::Applied)?;
        self.turn(Turn::Command)?;
        if let Err(error) = workspace.root.empty_trash() {
            tracing::warn!(workspace = %name, %error, "what was removed could not all be deleted");
        }
        Ok(())
    }

    fn say(&self, frame: SyncFrame) -> Result<(), SyncFailure> {
        self.answers.blocking_send(Answer::Sync(frame)).map_err(|_| SyncFailure::Gone)
    }

    fn turn(&self, turn: Turn) -> Result<(), SyncFailure> {
        self.answers.blocking_send(Answer::Turn(turn)).map_err(|_| SyncFailure::Gone)
    }

    fn hear(&mut self) -> Result<SyncFrame, SyncFailure> {
        match self.jobs.blocking_recv() {
            Some(Job::Sync(SyncFrame::Failed { .. })) | None => Err(SyncFailure::Gone),
            Some(Job::Sync(frame)) => Ok(frame),
            Some(Job::Transfer(..)) => Err(SyncFailure::Refused("a frame out of place")),
        }
    }

    fn hear_tree(&mut self) -> Result<(Tree, bool), SyncFailure> {
        let mut tree = Tree::default();
        loop {
            match self.hear()? {
                SyncFrame::Tree { entries } => tree.extend(entries).map_err(SyncFailure::Refused)?,
                SyncFrame::TreeEnd { checksum } => {
                    self.turn(Turn::Sync)?;
                    return Ok((tree, checksum));
                }
                SyncFrame::Working => {}
                _ => return Err(SyncFailure::Refused("a frame out of place")),
            }
        }
    }

    /// Hashes files of the tree of which nothing is known, or all of them: so what is in them is
    /// found again, and the command can tell whether they are different at all.
    fn look_again(
        &self,
        workspace: &mut Workspace,
        tree: &Tree,
        there: &BTreeMap<TreePath, Found>,
        all: bool,
    ) -> Result<(), SyncFailure> {
        let mut buffer = Vec::new();
        for entry in tree.entries.iter().filter(|entry| matches!(entry.item, TreeItem::File { .. })) {
            let Some(found) = there.get(&entry.path).filter(|found| found.kind == FoundKind::File) else {
                continue;
            };
            let known = workspace.index.valid(&entry.path, &found.stamp);
            if known.is_some() && !all {
                continue;
            }
            let young = known.is_some_and(|known| known.young);
            if self.answers.is_closed() {
                return Err(SyncFailure::Gone);
            }
            let Ok(mut file) = workspace.root.open_file(&entry.path) else {
                workspace.index.forget(&entry.path);
                continue;
            };
            let before = stamp_of(&file)?;
            let hashed = hash(&mut file, &mut buffer)?;
            if before == stamp_of(&file)? {
                let known = Known { stamp: before, content: hashed.content, young, chunks: hashed.chunks };
                workspace.index.insert(entry.path.clone(), known);
            } else {
                workspace.index.forget(&entry.path);
            }
        }
        Ok(())
    }

    fn say_plan(&self, plan: &Plan) -> Result<(), SyncFailure> {
        for page in plan.differences.chunks(PAGE_ROWS_MAX) {
            self.say(SyncFrame::Plan { differences: page.to_vec(), surplus: Vec::new() })?;
        }
        // Paths may be long: so many are below a frame's limit whatever they are.
        for page in plan.surplus.chunks(PAGE_ROWS_MAX / 4) {
            self.say(SyncFrame::Plan { differences: Vec::new(), surplus: page.to_vec() })?;
        }
        self.say(SyncFrame::PlanEnd)?;
        self.turn(Turn::Command)
    }

    /// Takes contents until the command says that there are no more; gives what is in staging.
    fn take_contents(
        &mut self,
        workspace: &mut Workspace,
    ) -> Result<BTreeMap<ContentId, Hashed>, SyncFailure> {
        self.in_contents = true;
        self.turn(Turn::Transfer)?;
        let mut receiver = Receiver::new(workspace)?;
        loop {
            let (frame, payload, _room) = match self.jobs.blocking_recv() {
                Some(Job::Transfer(frame, payload, room)) => (frame, payload, room),
                Some(Job::Sync(_)) => return Err(SyncFailure::Refused("a frame out of place")),
                None => return Err(SyncFailure::Gone),
            };
            if frame == TransferFrame::ContentsEnd {
                break;
            }
            if let TransferFrame::Failed { .. } = frame {
                return Err(SyncFailure::Gone);
            }
            for answer in receiver.take(workspace, frame, &payload)? {
                self.answers.blocking_send(Answer::Transfer(answer)).map_err(|_| SyncFailure::Gone)?;
            }
        }
        if !receiver.is_done() {
            return Err(SyncFailure::Refused("an end before all contents had come"));
        }
        let end = Answer::Transfer(TransferFrame::ContentsEnd);
        self.answers.blocking_send(end).map_err(|_| SyncFailure::Gone)?;
        self.turn(Turn::Command)?;
        self.in_contents = false;
        Ok(receiver.into_stored())
    }
}

fn read_links(workspace: &mut Workspace, there: &BTreeMap<TreePath, Found>) -> BTreeMap<TreePath, Vec<u8>> {
    let links = there.iter().filter(|(_, found)| found.kind == FoundKind::Symlink);
    let read = links.filter_map(|(path, _)| Some((path.clone(), workspace.root.read_link(path).ok()?)));
    read.collect()
}

/// The last step: makes the workspace equal.
struct Apply<'w> {
    workspace: &'w mut Workspace,
    stored: BTreeMap<ContentId, Hashed>,
    /// Folders with something in them that has no path.
    opaque: BTreeSet<TreePath>,
    problems: Vec<(TreePath, Box<str>)>,
}

impl Apply<'_> {
    fn run(&mut self, tree: &[TreeEntry], plan: &Plan, orders: &Orders) {
        let mut uses: BTreeMap<ContentId, u32> = BTreeMap::new();
        for placed in orders.placed.values() {
            *uses.entry(placed.content).or_default() += 1;
        }
        let mut folders = Vec::new();
        for difference in &plan.differences {
            let Some(entry) = usize::try_from(difference.at).ok().and_then(|at| tree.get(at)) else {
                continue;
            };
            let done = match (&entry.item, difference.kind) {
                (TreeItem::Folder { mode }, kind) => {
                    folders.push((&entry.path, *mode));
                    match kind {
                        DifferenceKind::Attributes => Ok(()),
                        DifferenceKind::New | DifferenceKind::Content => {
                            self.workspace.root.make_folder(&entry.path)
                        }
                    }
                }
                (TreeItem::Symlink { target }, _) => self.link(&entry.path, target),
                (TreeItem::File { mode, modified_ns, .. }, DifferenceKind::Attributes) => {
                    self.attributes(&entry.path, *mode, *modified_ns)
                }
                (TreeItem::File { mode, young, .. }, _) => match orders.placed.get(&difference.at) {
                    Some(placed) => self.place(&entry.path, placed, *mode, *young, &mut uses),
                    None => Ok(()),
                },
            };
            self.note(&entry.path, done);
        }
        // From the last: what is in a folder goes before the folder.
        for at in orders.remove.iter().rev() {
            let Some(surplus) = usize::try_from(*at).ok().and_then(|at| plan.surplus.get(at)) else {
                continue;
            };
            let done = self.remove(&surplus.path);
            self.note(&surplus.path, done);
        }
        for (path, mode) in folders.into_iter().rev() {
            let done = self.workspace.root.set_folder_mode(path, mode);
            self.note(path, done);
        }
    }

    fn note(&mut self, path: &TreePath, done: io::Result<()>) {
        if let Err(error) = done
            && self.problems.len() < SYNC_PROBLEMS_MAX
        {
            self.problems.push((path.clone(), error.to_string().into()));
        }
    }

    fn link(&mut self, path: &TreePath, target: &[u8]) -> io::Result<()> {
        let Workspace { root, staging, index, .. } = &mut *self.workspace;
        staging.link(NEXT, target)?;
        index.forget(path);
        root.place(path, staging.folder(), NEXT.as_bytes())
    }

    fn attributes(&mut self, path: &TreePath, bits: u16, modified_ns: i64) -> io::Result<()> {
        let Workspace { root, index, .. } = &mut *self.workspace;
        let before = root.look(path)?.and_then(|found| index.valid(path, &found.stamp)).cloned();
        let stamp = root.set_attributes(path, bits, modified_ns)?;
        if let Some(known) = before {
            index.insert(path.clone(), Known { stamp, ..known });
        }
        Ok(())
    }

    fn place(
        &mut self,
        path: &TreePath,
        placed: &Placed,
        bits: u16,
        young: bool,
        uses: &mut BTreeMap<ContentId, u32>,
    ) -> io::Result<()> {
        let content = placed.content;
        let left = uses.get_mut(&content).map_or(0, |uses| {
            *uses -= 1;
            *uses
        });
        let Workspace { root, staging, index, .. } = &mut *self.workspace;
        let found = root.look(path)?.filter(|found| found.kind == FoundKind::File && found.names == 1);
        let known = found.and_then(|found| index.valid(path, &found.stamp)).cloned();
        if let Some(known) = known.filter(|known| known.content == content) {
            let stamp = root.set_attributes(path, bits, placed.modified_ns)?;
            index.insert(path.clone(), Known { stamp, young, ..known });
            return Ok(());
        }
        let Some(hashed) = self.stored.get(&content) else {
            return Err(io::Error::other("its content did not come"));
        };
        let (file, name) = if left == 0 {
            let name = content.to_string();
            (staging.file(&name)?, name)
        } else {
            (staging.copy(content, NEXT)?, NEXT.to_owned())
        };
        index.forget(path);
        rustix::fs::fchmod(&file, mode(bits))?;
        set_modified(&file, placed.modified_ns)?;
        root.place(path, staging.folder(), name.as_bytes())?;
        let chunks = hashed.chunks.clone();
        index.insert(path.clone(), Known { stamp: stamp_of(&file)?, content, young, chunks });
        Ok(())
    }

    fn remove(&mut self, path: &TreePath) -> io::Result<()> {
        let Workspace { root, index, .. } = &mut *self.workspace;
        index.forget(path);
        match root.remove(path) {
            // What the command wants to keep is in it, or what has come meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                if self.opaque.contains(path) {
                    root.discard(path)
                } else {
                    Ok(())
                }
            }
            // It went with its folder, which was in the way of something.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                Ok(())
            }
            removed => removed,
        }
    }
}
