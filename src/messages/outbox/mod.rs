//! Sends what users put into the outbox.
//!
//! A file is read as soon as it changes. One that is a letter is renamed to the time and an id, which
//! is drawn once: the name is durable before the letter is given to the node, so after a kill it is
//! given again under the same id, and sent once. One that is no letter may be half written; once
//! nobody has changed it for a while it is put aside with the reason. What cannot be sent now
//! stays and is tried again until it expires.
//!
//! The system's word about changes only saves time: the folder is listed now and then as well.

use crate::clock::{self, Moment};
use crate::limits::{
    LETTER_FILE_BYTES_MAX, OUTBOX_BATCH_MAX, OUTBOX_POSTS_MAX, OUTBOX_RESCAN, OUTBOX_RESCAN_UNWATCHED,
    OUTBOX_RETRY_FIRST_MS, OUTBOX_RETRY_MS_MAX, OUTBOX_SETTLE_MS,
};
use crate::messages::disk::{move_into, read_bounded, sync_folder};
use crate::messages::folders::{Folders, Place};
use crate::messages::hooks::blocking;
use crate::messages::letter_file::{
    Document, LetterFileError, Outgoing, file_name, format_time, parse_file_name, parse_outgoing,
};
use crate::messages::stopped;
use crate::messages::watching::{Change, Watching, watch as watch_folder};
use crate::types::{LetterId, NewLetter, Priority};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// What became of a letter that was given to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The cluster has it.
    Done,
    /// It can never be sent, for this reason.
    Refused(String),
    /// Not now, for this reason.
    Later(String),
}

/// Watches the outbox until `stopping` is true or gone. `post` is called for letters that wait
/// together in order of priority, then of name, and what it gives is awaited for up to
/// [`OUTBOX_POSTS_MAX`] at once; each is polled first in the order of the calls. It must take a letter
/// of the same id twice as one. `nudge` makes what waits be tried again at once: there is a proxy now.
pub async fn run<P, F>(
    folders: Folders,
    own_name: Box<str>,
    post: P,
    nudge: Arc<Notify>,
    mut stopping: watch::Receiver<bool>,
) where
    P: FnMut(NewLetter) -> F + Send + 'static,
    F: Future<Output = Posted> + Send + 'static,
{
    let (sender, mut changes) = mpsc::channel(OUTBOX_BATCH_MAX * 4);
    let missed = Arc::new(AtomicBool::new(true));
    let watcher = watch_outbox(&folders, sender, Arc::clone(&missed));
    let listing = if watcher.is_some() { OUTBOX_RESCAN } else { OUTBOX_RESCAN_UNWATCHED };
    let mut outbox = Outbox::new(folders, own_name, post);
    let mut listed = clock::now();
    loop {
        if missed.swap(false, Ordering::Relaxed) || clock::now().since(listed) >= ms(listing) {
            outbox.list().await;
            listed = clock::now();
        }
        outbox.settle().await;
        outbox.start().await;
        let until_listing = ms(listing).saturating_sub(clock::now().since(listed));
        let wait = Duration::from_millis(outbox.next_wakeup_ms().min(until_listing));
        tokio::select! {
            () = stopped(&mut stopping) => return,
            Some(name) = changes.recv() => {
                let mut names = BTreeSet::from([name]);
                while names.len() < OUTBOX_BATCH_MAX && let Ok(name) = changes.try_recv() {
                    names.insert(name);
                }
                outbox.look_at(names).await;
            }
            landed = next_landed(&mut outbox.flights) => outbox.land(landed),
            () = nudge.notified() => outbox.pauses = Default::default(),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Has the system tell of files that were made or changed. `None` if it cannot.
fn watch_outbox(
    folders: &Folders,
    sender: mpsc::Sender<String>,
    missed: Arc<AtomicBool>,
) -> Option<Watching> {
    let tell = move |change| {
        let kept = match change {
            Change::Letter(name) => sender.try_send(name).is_ok(),
            Change::Missed => false,
        };
        if !kept {
            missed.store(true, Ordering::Relaxed);
        }
    };
    watch_folder(&folders.place(Place::Outbox), tell)
        .inspect_err(|error| {
            tracing::warn!(error, "the outbox cannot be watched; it is listed each second instead")
        })
        .ok()
}

/// A letter's place among those that wait: the most urgent first, then by name.
type Order = (Priority, String);

/// A letter that is being given to the node.
struct Flight {
    order: Order,
    letter: Outgoing,
    landing: Pin<Box<dyn Future<Output = Posted> + Send>>,
}

/// The next flight that is over; never, if there is none. Polls them in order, so that what was
/// called first also begins first.
async fn next_landed(flights: &mut Vec<Flight>) -> (Flight, Posted) {
    std::future::poll_fn(|context| {
        for at in 0..flights.len() {
            if let Poll::Ready(posted) = flights[at].landing.as_mut().poll(context) {
                return Poll::Ready((flights.remove(at), posted));
            }
        }
        Poll::Pending
    })
    .await
}

/// How long letters of one priority wait after one could not be sent.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    until: Moment,
    next_ms: u64,
}

/// A file that is no letter, or not yet.
#[derive(Debug)]
struct Unsettled {
    /// Length, time and number of the file: while they stay, nobody writes.
    seen: (u64, i64, i64, u64),
    since: Moment,
}

struct Outbox<P> {
    folders: Folders,
    own_name: Box<str>,
    post: P,
    /// Those that wait. What they say is kept of the first ones only; the others are read again.
    waiting: BTreeMap<Order, Option<Outgoing>>,
    /// Names of those that wait or are on their way.
    known: BTreeSet<String>,
    unsettled: BTreeMap<String, Unsettled>,
    flights: Vec<Flight>,
    pauses: BTreeMap<Priority, Pause>,
    /// The last time that a name was given, in microseconds: no two are the same.
    last_us: u64,
}

/// What a file turned out to be.
enum Looked {
    Letter { name: String, letter: Outgoing },
    NoLetter { name: String, seen: (u64, i64, i64, u64), error: LetterFileError },
}

impl<P, F> Outbox<P>
where
    P: FnMut(NewLetter) -> F + Send + 'static,
    F: Future<Output = Posted> + Send + 'static,
{
    fn new(folders: Folders, own_name: Box<str>, post: P) -> Outbox<P> {
        Outbox {
            folders,
            own_name,
            post,
            waiting: BTreeMap::new(),
            known: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            flights: Vec::new(),
            pauses: BTreeMap::new(),
            last_us: 0,
        }
    }

    /// Looks at every file that is not known.
    async fn list(&mut self) {
        let folders = self.folders.clone();
        let names = match blocking(move || folders.names(Place::Outbox)).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be listed");
                return;
            }
        };
        let there: BTreeSet<String> = names.into_iter().collect();
        self.unsettled.retain(|name, _| there.contains(name));
        let unknown: Vec<String> = there.into_iter().filter(|name| !self.known.contains(name)).collect();
        for batch in unknown.chunks(OUTBOX_BATCH_MAX) {
            self.look_at(batch.iter().cloned().collect()).await;
        }
    }

    /// Looks again at files that nobody has changed for a while.
    async fn settle(&mut self) {
        let now = clock::now();
        let due = |unsettled: &Unsettled| now.since(unsettled.since) >= OUTBOX_SETTLE_MS;
        let due: BTreeSet<String> =
            self.unsettled.iter().filter(|(_, file)| due(file)).map(|(name, _)| name.clone()).collect();
        if !due.is_empty() {
            self.look_at(due).await;
        }
    }

    /// Reads files and gives letters their lasting names.
    async fn look_at(&mut self, mut names: BTreeSet<String>) {
        names.retain(|name| !self.known.contains(name));
        if names.is_empty() {
            return;
        }
        let (folders, last_us, asked) = (self.folders.clone(), self.last_us, names.clone());
        let (looked, last_us) = match blocking(move || look(&folders, asked, last_us)).await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(%error, "files of the outbox cannot be looked at");
                return;
            }
        };
        self.last_us = last_us;
        let mut unsettled = Vec::new();
        for looked in looked {
            match looked {
                Looked::Letter { name, letter } => {
                    self.known.insert(name.clone());
                    let kept = self.waiting.len() < OUTBOX_POSTS_MAX;
                    self.waiting.insert((letter.priority, name), kept.then_some(letter));
                }
                Looked::NoLetter { name, seen, error } => unsettled.push((name, seen, error)),
            }
        }
        let now = clock::now();
        for (name, seen, error) in unsettled {
            names.remove(&name);
            let file = self.unsettled.entry(name.clone()).or_insert(Unsettled { seen, since: now });
            if file.seen != seen {
                *file = Unsettled { seen, since: now };
            } else if now.since(file.since) >= OUTBOX_SETTLE_MS {
                self.unsettled.remove(&name);
                self.put_aside(&name, error.to_string()).await;
            }
        }
        for name in names {
            self.unsettled.remove(&name);
        }
    }

    /// Moves a file to `failed/`.
    async fn put_aside(&mut self, name: &str, reason: String) {
        tracing::warn!(file = name, reason, "a message cannot be sent");
        let (folders, path) = (self.folders.clone(), self.folders.place(Place::Outbox).join(name));
        match blocking(move || folders.move_to_failed(&path, &reason)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = name, %error, "a file cannot be moved to `failed`");
            }
            _ => {}
        }
    }

    /// Gives to the node what waits and may go.
    async fn start(&mut self) {
        let now = clock::now();
        while self.flights.len() < OUTBOX_POSTS_MAX {
            let may_go =
                |priority: &Priority| self.pauses.get(priority).is_none_or(|pause| now >= pause.until);
            let next = Priority::ALL.into_iter().filter(may_go).find_map(|priority| self.first_of(priority));
            let next = next.cloned();
            let Some(order) = next else { return };
            let kept = self.waiting.remove(&order).flatten();
            let letter = match kept {
                Some(letter) => Some(letter),
                None => self.read_again(&order.1).await,
            };
            match letter {
                Some(letter) => self.launch(order, letter).await,
                // It was changed or taken away meanwhile; if it is there, it is found by listing.
                None => {
                    self.known.remove(&order.1);
                }
            }
        }
    }

    /// The first that waits of a priority.
    fn first_of(&self, priority: Priority) -> Option<&Order> {
        let (order, _) = self.waiting.range((priority, String::new())..).next()?;
        (order.0 == priority).then_some(order)
    }

    async fn read_again(&mut self, name: &str) -> Option<Outgoing> {
        let path = self.folders.place(Place::Outbox).join(name);
        let bytes = blocking(move || read_bounded(&path, LETTER_FILE_BYTES_MAX)).await.ok()?;
        parse_outgoing(&bytes).ok()
    }

    async fn launch(&mut self, order: Order, letter: Outgoing) {
        let name = order.1.clone();
        let Some((created_us, id)) = parse_file_name(&name) else { return };
        let expires_ms = (created_us / 1_000).saturating_add(letter.lives_ms);
        let lives_ms = expires_ms.saturating_sub(clock::wall().0).min(letter.lives_ms);
        if lives_ms == 0 {
            self.put_aside(&name, "it expired before it could be sent; `thorp retry` sends it anew".into())
                .await;
            self.known.remove(&name);
            return;
        }
        let posted = (self.post)(NewLetter {
            id,
            kind: letter.kind.clone(),
            target: letter.target.clone(),
            priority: letter.priority,
            lives_ms,
            payload: letter.payload.clone(),
            attachments: letter.attachments.clone(),
        });
        let document = self.document_of(id, created_us, expires_ms, &letter);
        let folders = self.folders.clone();
        let landing = Box::pin(async move { put_away(folders, name, document, posted.await).await });
        self.flights.push(Flight { order, letter, landing });
    }

    fn document_of(&self, id: LetterId, created_us: u64, expires_ms: u64, letter: &Outgoing) -> Document {
        let payload = serde_json::value::RawValue::from_string(letter.payload.clone().into());
        Document {
            id: id.to_string().into(),
            kind: letter.kind.as_str().into(),
            source: self.own_name.clone(),
            target: letter.target.clone(),
            priority: letter.priority.as_str().into(),
            created_at: format_time(created_us).into(),
            expires_at: format_time(expires_ms.saturating_mul(1_000)).into(),
            payload: payload.unwrap_or_default(),
            attachments: letter.attachments.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    /// A letter is sent, refused, or waits again.
    fn land(&mut self, (flight, posted): (Flight, Posted)) {
        let priority = flight.order.0;
        match posted {
            Posted::Done | Posted::Refused(_) => {
                self.known.remove(&flight.order.1);
                self.pauses.entry(priority).or_default().next_ms = 0;
            }
            Posted::Later(reason) => {
                let pause = self.pauses.entry(priority).or_default();
                let now = clock::now();
                // Those that were on their way together are one failure.
                if now >= pause.until {
                    let wait_ms = pause.next_ms.clamp(OUTBOX_RETRY_FIRST_MS, OUTBOX_RETRY_MS_MAX);
                    *pause = Pause { until: now.plus(wait_ms), next_ms: wait_ms * 2 };
                    tracing::debug!(message = flight.order.1, reason, wait_ms, "a message waits");
                }
                self.waiting.insert(flight.order, Some(flight.letter));
            }
        }
    }

    /// When something waits that only time brings.
    fn next_wakeup_ms(&self) -> u64 {
        let now = clock::now();
        let settled = self.unsettled.values().map(|file| file.since.plus(OUTBOX_SETTLE_MS));
        let pauses = self
            .pauses
            .iter()
            .filter(|(priority, pause)| pause.until > now && self.first_of(**priority).is_some());
        let first = settled.chain(pauses.map(|(_, pause)| pause.until)).min();
        first.map_or(u64::MAX, |first| first.since(now))
    }
}

/// Puts a letter where it belongs now. Where the disk refuses, it is given to the node again later,
/// which takes it as the same.
async fn put_away(folders: Folders, name: String, document: Document, posted: Posted) -> Posted {
    let of_disk = posted.clone();
    let moved = blocking(move || match of_disk {
        Posted::Done => folders.move_to_sent(&name, &document),
        Posted::Refused(reason) => {
            match folders.move_to_failed(&folders.place(Place::Outbox).join(&name), &reason) {
                // Taken away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                moved => moved.map(|_| ()),
            }
        }
        Posted::Later(_) => Ok(()),
    });
    match moved.await {
        Ok(()) => posted,
        Err(error) => {
            tracing::warn!(%error, "a message that was dealt with stays in the outbox");
            Posted::Later(error.to_string())
        }
    }
}

/// Reads files; renames letters to the time and their id, durably where the id is our choice. Gives
/// also the last time that was used in a name.
fn look(folders: &Folders, names: BTreeSet<String>, mut last_us: u64) -> io::Result<(Vec<Looked>, u64)> {
    let outbox = folders.place(Place::Outbox);
    let (mut looked, mut chosen) = (Vec::new(), false);
    for name in names {
        let path = outbox.join(&name);
        // Folders, links and pipes are none of ours.
        let Ok(file) = fs::symlink_metadata(&path) else { continue };
        if !file.is_file() {
            continue;
        }
        let letter = match read_bounded(&path, LETTER_FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(LetterFileError::Unreadable(error)),
            Ok(bytes) if bytes.len() as u64 > LETTER_FILE_BYTES_MAX => Err(LetterFileError::TooLarge),
            Ok(bytes) => parse_outgoing(&bytes),
        };
        let letter = match letter {
            Ok(letter) => letter,
            Err(error) => {
                let seen = (file.len(), file.mtime(), file.mtime_nsec(), file.ino());
                looked.push(Looked::NoLetter { name, seen, error });
                continue;
            }
        };
        let named = parse_file_name(&name);
        let id = match letter.id.or(named.map(|(_, id)| id)) {
            Some(id) => id,
            None => {
                chosen = true;
                LetterId::from_random(clock::entropy()?)
            }
        };
        let us = named.map_or_else(|| clock::wall_us().max(last_us + 1), |(us, _)| us);
        let lasting = file_name(us, id);
        if lasting != name {
            last_us = last_us.max(us);
            match move_into(&path, &outbox, &lasting) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let seen = (file.len(), file.mtime(), file.mtime_nsec(), file.ino());
                    looked.push(Looked::NoLetter { name, seen, error: LetterFileError::Unreadable(error) });
                    continue;
                }
            }
        }
        looked.push(Looked::Letter { name: lasting, letter });
    }
    if chosen {
        sync_folder(&outbox)?;
    }
    Ok((looked, last_us))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
