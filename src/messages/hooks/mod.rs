//! Runs the hook of each letter that lies in the inbox, at least once, and hooks for thorp's own events.
//!
//! The truth is on the disk: [`Folders::reveal`] notes a letter as waiting before it is seen, and the
//! note goes when the hook is done or has given up. What is told to [`Hooks::tell`] only saves
//! the wait for the next listing. A hook that runs when the node is killed is run again. Letters of
//! one sender are handled in order, the more urgent that wait first, one after the other; those of
//! different senders at once, as many as allowed.

use crate::clock;
use crate::limits::{
    HOOK_EVENTS_MAX, HOOK_RETRY_FIRST, HOOK_RETRY_MAX, HOOKS_RESCAN, HOOKS_TOLD_MAX, LETTER_LIVES_DEFAULT,
};
use crate::messages::folders::{Folders, Waiting};
use crate::messages::hook_file::{self, Hook};
use crate::messages::letter_file::{Document, format_time};
use crate::messages::process::{Ended, Run};
use crate::messages::records::{Attempt, HookRecord, HookState};
use crate::messages::{Options, disk, stopped};
use crate::types::{LetterId, LetterType, Priority};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// Each wait before a hook is tried again is this many times the last.
const RETRY_FACTOR: u32 = 5;

/// Tells the hooks of letters and events. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Hooks {
    folders: Folders,
    told: mpsc::Sender<Waiting>,
    events: mpsc::Sender<(LetterType, serde_json::Value)>,
    /// Whether it was said that events are dropped.
    dropping: Arc<AtomicBool>,
}

/// Runs the hooks.
#[derive(Debug)]
pub struct HooksTask {
    runner: Runner,
    told: mpsc::Receiver<Waiting>,
    events: mpsc::Receiver<(LetterType, serde_json::Value)>,
}

impl Hooks {
    /// Hooks of the node that others know as `own_name`, and what runs them.
    #[must_use]
    pub fn new(folders: Folders, own_name: &str, options: Options) -> (Hooks, HooksTask) {
        let (told, told_receiver) = mpsc::channel(HOOKS_TOLD_MAX);
        let (events, events_receiver) = mpsc::channel(HOOK_EVENTS_MAX);
        let runner = Runner {
            folders: folders.clone(),
            own_name: own_name.into(),
            options,
            slots: Arc::new(Semaphore::new(options.hooks_at_once.max(1) as usize)),
        };
        let task = HooksTask { runner, told: told_receiver, events: events_receiver };
        (Hooks { folders, told, events, dropping: Arc::default() }, task)
    }

    /// These letters wait for their hook, as [`Folders::reveal`] says.
    pub fn tell(&self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            // What finds no room is found by listing.
            let _ = self.told.try_send(waiting);
        }
    }

    /// Whether somebody has put a hook there for one of thorp's own events. Looks at the folder once.
    #[must_use]
    pub fn wants(&self, kind: &LetterType) -> bool {
        hook_file::is_present(&self.folders.hooks(), kind)
    }

    /// Something happened that a hook may be there for. It is run once, and nothing is kept; when
    /// too many wait, this one is dropped.
    pub fn event(&self, kind: LetterType, payload: serde_json::Value) {
        if !kind.is_own() || !self.wants(&kind) {
            return;
        }
        let told = self.events.try_send((kind, payload));
        let dropped = matches!(told, Err(mpsc::error::TrySendError::Full(_)));
        if dropped && !self.dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!("hooks for events are too slow; some events are dropped");
        } else if told.is_ok() {
            self.dropping.store(false, Ordering::Relaxed);
        }
    }
}

/// Letters that wait, by sender.
#[derive(Debug, Default)]
struct Lanes {
    /// Of each sender that has a hook running: what comes next. Names sort by time.
    next: BTreeMap<Box<str>, BTreeSet<(Priority, String)>>,
    /// Waiting or running, so that none is taken twice.
    known: BTreeSet<String>,
}

impl Lanes {
    /// Takes a letter in; gives it back if it can be run at once.
    fn add(&mut self, waiting: Waiting) -> Option<Waiting> {
        if !self.known.insert(waiting.name.clone()) {
            return None;
        }
        match self.next.get_mut(&waiting.source) {
            Some(next) => {
                next.insert((waiting.priority, waiting.name));
                None
            }
            None => {
                self.next.insert(waiting.source.clone(), BTreeSet::new());
                Some(waiting)
            }
        }
    }

    /// One is over; gives the sender's next.
    fn over(&mut self, over: &Over) -> Option<Waiting> {
        if over.settled {
            self.known.remove(&over.waiting.name);
        }
        let source = &over.waiting.source;
        match self.next.get_mut(source).and_then(BTreeSet::pop_first) {
            Some((priority, name)) => Some(Waiting { name, source: source.clone(), priority }),
            None => {
                self.next.remove(source);
                None
            }
        }
    }
}

/// A letter's hook is done or has given up.
#[derive(Debug)]
struct Over {
    waiting: Waiting,
    /// Whether that is on the disk. If not, it is run again, but not before the next start.
    settled: bool,
}

impl HooksTask {
    /// Runs hooks until `stopping` is true or gone; then ends those that run, which are run again
    /// next time.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let folders = self.runner.folders.clone();
        let forgotten = blocking(move || folders.forget_ended_hooks()).await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "messages that wait for their hook cannot be listed");
        }
        let of_events = tokio::spawn(self.runner.clone().run_events(self.events, stopping.clone()));
        let (mut lanes, mut running) = (Lanes::default(), JoinSet::new());
        let mut listing = tokio::time::interval(HOOKS_RESCAN);
        listing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ready: Vec<Waiting> = tokio::select! {
                () = stopped(&mut stopping) => break,
                Some(waiting) = self.told.recv() => lanes.add(waiting).into_iter().collect(),
                Some(Ok(over)) = running.join_next() => lanes.over(&over).into_iter().collect(),
                _ = listing.tick() => {
                    let found = self.runner.list(&lanes.known).await;
                    found.into_iter().filter_map(|waiting| lanes.add(waiting)).collect()
                }
            };
            for waiting in ready {
                running.spawn(self.runner.clone().handle(waiting, stopping.clone()));
            }
        }
        while running.join_next().await.is_some() {}
        let _ = of_events.await;
    }
}

/// What every run of a hook needs.
#[derive(Clone, Debug)]
struct Runner {
    folders: Folders,
    own_name: Box<str>,
    options: Options,
    slots: Arc<Semaphore>,
}

impl Runner {
    /// Letters on the disk that wait and are not known yet.
    async fn list(&self, known: &BTreeSet<String>) -> Vec<Waiting> {
        let (folders, known) = (self.folders.clone(), known.clone());
        let listed = blocking(move || {
            let (pending, staged) = (folders.pending(), folders.staged());
            let mut found = Vec::new();
            for name in disk::names(&pending)?.into_iter().filter(|name| !known.contains(name)) {
                // Not in the inbox yet: it will be told of, or is found next time.
                if std::fs::symlink_metadata(staged.join(&name)).is_ok() {
                    continue;
                }
                if let Ok(record) = HookRecord::read(&pending.join(&name)) {
                    found.extend(record.letter.map(|letter| Waiting::of(&name, &letter)));
                }
            }
            found.sort_by_key(|waiting| waiting.priority);
            Ok(found)
        });
        listed.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "messages that wait for their hook cannot be listed");
            Vec::new()
        })
    }

    /// Runs a letter's hook until it is done, has given up, or the node ends.
    async fn handle(self, waiting: Waiting, mut stopping: watch::Receiver<bool>) -> Over {
        let settled = self.try_all(&waiting.name, &mut stopping).await;
        if let Err(error) = &settled {
            tracing::warn!(message = waiting.name, %error, "what became of a hook cannot be written down");
        }
        Over { waiting, settled: settled.is_ok() }
    }

    async fn try_all(&self, name: &str, stopping: &mut watch::Receiver<bool>) -> io::Result<()> {
        let path = self.folders.pending().join(name);
        let mut record = match blocking(move || HookRecord::read(&path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            record => record?,
        };
        let Some(letter) = record.letter.take() else { return Ok(()) };
        let mut wait = HOOK_RETRY_FIRST;
        loop {
            let Ok(slot) = self.slots.acquire().await else { return Ok(()) };
            let Some(over) = self.try_once(name, &letter, &mut record, stopping).await? else {
                return Ok(());
            };
            drop(slot);
            if over {
                return self.settle(name, letter, record).await;
            }
            tokio::select! {
                () = stopped(stopping) => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * RETRY_FACTOR).min(HOOK_RETRY_MAX);
        }
    }

    /// One try. `None`: the node ends; else whether it was the last.
    async fn try_once(
        &self,
        name: &str,
        letter: &Document,
        record: &mut HookRecord,
        stopping: &mut watch::Receiver<bool>,
    ) -> io::Result<Option<bool>> {
        if *stopping.borrow() {
            return Ok(None);
        }
        let hook = match LetterType::parse(&letter.kind) {
            Some(kind) => hook_file::find(&self.folders.hooks(), &kind),
            None => Hook::None,
        };
        let refused = |reason| Attempt {
            started_at: format_time(clock::wall_us()),
            error: Some(reason),
            ..Attempt::default()
        };
        let (attempt, last) = match hook {
            // Taken away meanwhile: there is nothing to do.
            Hook::None => {
                record.state = HookState::Done;
                return Ok(Some(true));
            }
            Hook::Refused(reason) => (refused(reason), true),
            Hook::Program(program) => {
                record.state = HookState::Running;
                // It is running already while that is written down.
                let run = self.run_of(program, letter);
                let (ended, saved) = tokio::join!(run.run(stopping), self.save(name, letter, record));
                saved?;
                match ended {
                    Ended::Stopped => return Ok(None),
                    Ended::Over(attempt) => (attempt, false),
                }
            }
        };
        let succeeded = attempt.succeeded();
        record.attempts.push(attempt);
        let tries = usize::try_from(self.options.hook_tries).unwrap_or(usize::MAX);
        let last = last || succeeded || record.attempts.len() >= tries;
        record.state = match (succeeded, last) {
            (true, _) => HookState::Done,
            (false, true) => HookState::Failed,
            (false, false) => HookState::Pending,
        };
        if !last {
            self.save(name, letter, record).await?;
        }
        Ok(Some(last))
    }

    async fn save(&self, name: &str, letter: &Document, record: &HookRecord) -> io::Result<()> {
        let (folders, name) = (self.folders.clone(), name.to_owned());
        let record = HookRecord { letter: Some(letter.clone()), ..record.clone() };
        blocking(move || folders.save_hook(&name, &record)).await
    }

    /// Writes down how it ended.
    async fn settle(&self, name: &str, letter: Document, record: HookRecord) -> io::Result<()> {
        let (folders, name) = (self.folders.clone(), name.to_owned());
        blocking(move || {
            if record.state == HookState::Done {
                return folders.end_hook(&name, &record);
            }
            let outcome = record.attempts.last().map(Attempt::outcome).unwrap_or_default();
            let tries = record.attempts.len();
            let reason = format!(
                "its hook failed ({tries} {}): {outcome}; `thorp retry {}` runs it again",
                if tries == 1 { "try" } else { "tries" },
                letter.id
            );
            tracing::warn!(message = name, reason, "a hook has given up");
            folders.fail_hook(&name, &record, &letter, &reason)
        })
        .await
    }

    fn run_of(&self, program: std::path::PathBuf, letter: &Document) -> Run {
        let text = |text: &str| OsString::from(text);
        Run {
            program,
            folder: self.folders.root().to_path_buf(),
            variables: vec![
                ("THORP_MESSAGE_ID", text(&letter.id)),
                ("THORP_MESSAGE_TYPE", text(&letter.kind)),
                ("THORP_MESSAGE_SOURCE", text(&letter.source)),
                ("THORP_DATA_DIR", self.folders.data_dir().as_os_str().to_owned()),
            ],
            input: letter.to_text(),
            timeout: self.options.hook_timeout,
        }
    }

    /// Runs hooks of events, one after the other, until the node ends.
    async fn run_events(
        self,
        mut events: mpsc::Receiver<(LetterType, serde_json::Value)>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let (kind, payload) = tokio::select! {
                () = stopped(&mut stopping) => return,
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return,
                },
            };
            let Ok(_slot) = self.slots.acquire().await else { return };
            let program = match hook_file::find(&self.folders.hooks(), &kind) {
                Hook::Program(program) => program,
                Hook::Refused(reason) => {
                    tracing::warn!(event = %kind, "{reason}");
                    continue;
                }
                Hook::None => continue,
            };
            let run = self.run_of(program, &self.document_of(&kind, &payload));
            if let Ended::Over(attempt) = run.run(&mut stopping).await
                && !attempt.succeeded()
            {
                let (outcome, output) = (attempt.outcome(), attempt.output);
                tracing::warn!(event = %kind, outcome, output, "the hook of an event failed");
            }
        }
    }

    fn document_of(&self, kind: &LetterType, payload: &serde_json::Value) -> Document {
        let now = clock::wall_us();
        // An id that is not random is still better than no event.
        let id = LetterId::from_random(clock::entropy().unwrap_or_default());
        let lives = u64::try_from(LETTER_LIVES_DEFAULT.as_micros()).unwrap_or(0);
        Document {
            id: id.to_string().into(),
            kind: kind.as_str().into(),
            source: self.own_name.clone(),
            target: None,
            priority: Priority::Normal.as_str().into(),
            created_at: format_time(now).into(),
            expires_at: format_time(now.saturating_add(lives)).into(),
            payload: serde_json::value::to_raw_value(payload).unwrap_or_default(),
            attachments: Vec::new(),
        }
    }
}

/// Runs something that blocks.
pub(in crate::messages) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
