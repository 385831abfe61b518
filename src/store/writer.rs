//! The one thread that writes to the database: takes whatever has queued up, commits it with one
//! sync, then tells each caller. Ten thousand small contents so cost some dozens of syncs.
//!
//! Invariant: nobody is told "durable" before the commit's sync returned. A commit that failed may
//! or may not be on disk, so after one the store is suspect and refuses every later write until it
//! is opened again.
//!
//! One failure is none of the disk: no room. Contents are then refused, for their senders to take
//! elsewhere; what the catalog and the term say cannot be refused, because they are in memory
//! already. So that is written with the room of the [`Reserve`], and if that is not enough it waits
//! here, unacknowledged, until there is some.

use super::change::Change;
use super::database::Catalog;
use super::error::StoreError;
use super::health::Health;
use super::reserve::Reserve;
use crate::limits::{COMMIT_BYTES_TARGET, DATABASE_QUEUE_MAX, ROOM_LOOK_INTERVAL, SAVES_WAITING_MAX};
use crate::types::{Dot, FileName, InstanceId, Version};
use crate::wire::mail::{MailKey, MailRow, MailWrite};
use crate::wire::record::CatalogWrite;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Called once with the outcome, on the writer's thread, or at once on the caller's where nothing
/// was queued. It must not block, and not write to the store.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A change, and who waits for it.
struct Job {
    change: Change,
    done: Vec<Done>,
}

impl Job {
    /// Whether it is about what is in memory already, so that it can wait but not be refused.
    fn is_kept(&self) -> bool {
        matches!(self.change, Change::Catalog(_) | Change::Term(_))
    }

    fn end(self, result: &Result<(), StoreError>) {
        for done in self.done {
            done(match result {
                Ok(()) => Ok(()),
                Err(StoreError::Full { .. }) => Err(full()),
                Err(StoreError::Database { source }) => Err(StoreError::database(source)),
                Err(_) => Err(StoreError::Suspect),
            });
        }
    }
}

fn full() -> StoreError {
    StoreError::Full { needed_bytes: 0, free_bytes: 0 }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// Whether a job that can be refused has to wait for its place.
    fn is_long(&self) -> bool {
        self.jobs.len() >= DATABASE_QUEUE_MAX
    }

    /// Makes one job of all that the catalog and the term say. Each write is the whole state of its
    /// name, so the last one counts, and together they are never more than the catalog.
    fn fold(&mut self) {
        let (kept, others): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut self.jobs).into_iter().partition(Job::is_kept);
        let mut folded = Folded::default();
        kept.into_iter().for_each(|job| folded.add(job));
        self.jobs.extend(folded.into_jobs());
        self.jobs.extend(others);
    }

    fn waiting(&self) -> usize {
        self.jobs.iter().map(|job| job.done.len()).sum()
    }
}

/// Changes of the catalog and of the term, folded.
#[derive(Default)]
struct Folded {
    names: BTreeMap<FileName, Vec<Version>>,
    prefixes: BTreeMap<InstanceId, u64>,
    extra: Option<Vec<Dot>>,
    mail: BTreeMap<MailKey, MailWrite>,
    catalog_done: Vec<Done>,
    term: Option<Job>,
}

impl Folded {
    fn add(&mut self, job: Job) {
        let Change::Catalog(writes) = job.change else {
            let mut done = self.term.take().map(|job| job.done).unwrap_or_default();
            done.extend(job.done);
            self.term = Some(Job { change: job.change, done });
            return;
        };
        self.catalog_done.extend(job.done);
        for write in writes {
            match write {
                CatalogWrite::Name { name, versions } => drop(self.names.insert(name, versions)),
                CatalogWrite::Prefix { instance, counter } => {
                    self.prefixes.insert(instance, counter);
                }
                CatalogWrite::Extra { dots } => self.extra = Some(dots),
                CatalogWrite::Mail(write) => drop(self.mail.insert(write.key(), write)),
            }
        }
    }

    fn into_jobs(self) -> impl Iterator<Item = Job> {
        let names = self.names.into_iter().map(|(name, versions)| CatalogWrite::Name { name, versions });
        let prefixes =
            self.prefixes.into_iter().map(|(instance, counter)| CatalogWrite::Prefix { instance, counter });
        let extra = self.extra.map(|dots| CatalogWrite::Extra { dots });
        let mail = self.mail.into_values().map(CatalogWrite::Mail);
        let writes: Vec<CatalogWrite> = names.chain(prefixes).chain(extra).chain(mail).collect();
        let job = Job { change: Change::Catalog(writes), done: self.catalog_done };
        let catalog = (!job.done.is_empty()).then_some(job);
        self.term.into_iter().chain(catalog)
    }
}

/// What the thread and its callers share.
struct Work {
    queue: Mutex<Queue>,
    /// Something is to be done, or the store closes.
    due: Condvar,
    /// There is a place in the queue.
    place: Condvar,
    catalog: Arc<Catalog>,
    reserve: Arc<Reserve>,
    health: Arc<Health>,
}

/// The queue to the writer's thread.
pub(super) struct Writer {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        catalog: Arc<Catalog>,
        reserve: Arc<Reserve>,
        health: Arc<Health>,
    ) -> std::io::Result<Writer> {
        let work = Arc::new(Work {
            queue: Mutex::default(),
            due: Condvar::new(),
            place: Condvar::new(),
            catalog,
            reserve,
            health,
        });
        let shared = Arc::clone(&work);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || shared.run())?;
        Ok(Writer { work, thread: Some(thread) })
    }

    /// Queues a change; blocks while the queue is full, unless it is one of catalog or term.
    pub(super) fn submit(&self, change: Change, done: Done) {
        let work = &self.work;
        if work.health.is_suspect() {
            return done(Err(StoreError::Suspect));
        }
        let job = Job { change, done: vec![done] };
        let mut queue = work.queue();
        if !job.is_kept() {
            while queue.is_long() && !queue.closed {
                queue = work.place.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        } else if queue.is_long() && queue.jobs.len().is_multiple_of(DATABASE_QUEUE_MAX) {
            queue.fold();
            if queue.waiting() >= SAVES_WAITING_MAX {
                drop(queue);
                return job.end(&Err(full()));
            }
        }
        if queue.closed {
            drop(queue);
            return job.end(&Err(StoreError::Suspect));
        }
        queue.jobs.push_back(job);
        work.due.notify_one();
    }

    /// Queues a change and waits until it is durable.
    pub(super) fn write(&self, change: Change) -> Result<(), StoreError> {
        let (sender, outcome) = sync_channel(1);
        self.submit(
            change,
            Box::new(move |result| {
                // The receiver waits below for as long as the sender lives.
                let _ = sender.send(result);
            }),
        );
        outcome.recv().unwrap_or(Err(StoreError::Suspect))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work.queue().closed = true;
        self.work.due.notify_all();
        if let Some(thread) = self.thread.take()
            // A callback may have held the last handle to the store: a thread cannot await itself.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(batch) = self.next_batch() {
            match self.apply(&batch) {
                Err(StoreError::Full { .. }) if !self.health.is_suspect() => self.without_room(batch),
                result => self.end(batch, &result),
            }
        }
    }

    /// Waits for something to do; `None` once the store closes and nothing is left.
    fn next_batch(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue();
        while queue.jobs.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.due.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < DATABASE_QUEUE_MAX && bytes < COMMIT_BYTES_TARGET {
            let Some(job) = queue.jobs.pop_front() else { break };
            bytes += size_of_change(&job.change);
            batch.push(job);
        }
        drop(queue);
        self.place.notify_all();
        Some(batch)
    }

    fn apply(&self, batch: &[Job]) -> Result<(), StoreError> {
        self.health.check()?;
        // The library may panic over damaged pages; who waits must hear of it all the same.
        let changes = AssertUnwindSafe(|| self.catalog.apply(batch.iter().map(|job| &job.change)));
        catch_unwind(changes).unwrap_or(Err(StoreError::Suspect))?;
        self.health.count_commit();
        Ok(())
    }

    fn end(&self, batch: Vec<Job>, result: &Result<(), StoreError>) {
        if let Err(error) = result
            && !matches!(error, StoreError::Full { .. })
        {
            self.health.set_suspect(&format!("a commit failed: {error}"));
        }
        batch.into_iter().for_each(|job| job.end(result));
    }

    /// A commit found no room: nothing of it is durable, or all. Contents are refused; the rest,
    /// which says the same when it is written twice, is tried with the reserve.
    fn without_room(&self, batch: Vec<Job>) {
        self.health.set_full("a commit found no room");
        let is_content = |job: &Job| matches!(job.change, Change::Content(_) | Change::Blob(..));
        let (contents, mut kept): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(is_content);
        self.end(contents, &Err(full()));
        self.reserve.release();
        loop {
            let result = self.catalog.reopen().and_then(|()| self.apply(&kept));
            if !matches!(result, Err(StoreError::Full { .. })) || self.health.is_suspect() {
                self.health.set_stuck(false);
                return self.end(kept, &result);
            }
            self.health.set_stuck(true);
            let (waiting, refused): (Vec<Job>, Vec<Job>) = kept.into_iter().partition(Job::is_kept);
            self.end(refused, &Err(full()));
            let Some(more) = self.wait_for_room(waiting) else { return };
            kept = more;
        }
    }

    /// Waits a little, and refuses what comes meanwhile and can be refused. Gives all that waits;
    /// `None` once the store closes.
    fn wait_for_room(&self, waiting: Vec<Job>) -> Option<Vec<Job>> {
        let queue = self.queue();
        let until = |queue: &mut Queue| !queue.closed && queue.jobs.iter().all(Job::is_kept);
        let (mut queue, _) = self
            .due
            .wait_timeout_while(queue, ROOM_LOOK_INTERVAL, until)
            .unwrap_or_else(PoisonError::into_inner);
        let closed = queue.closed;
        let (more, refused): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut queue.jobs).into_iter().partition(Job::is_kept);
        drop(queue);
        self.place.notify_all();
        self.end(refused, &Err(full()));
        let mut folded = Folded::default();
        waiting.into_iter().chain(more).for_each(|job| folded.add(job));
        let kept: Vec<Job> = folded.into_jobs().collect();
        if closed {
            self.end(kept, &Err(full()));
            return None;
        }
        Some(kept)
    }
}

/// Roughly how many bytes a change writes.
fn size_of_change(change: &Change) -> usize {
    match change {
        Change::Catalog(writes) => writes.iter().map(size_of_write).sum(),
        Change::Content(new) => {
            new.inline.as_ref().map_or(0, Vec::len) + new.record.chunks as usize * 128 + 256
        }
        Change::Blob(_, bytes) => bytes.len(),
        Change::Verified(contents) => contents.len() * 256,
        Change::ForgetAsides(contents) => contents.len() * 256,
        Change::Term(_) | Change::Remove(_) | Change::Aside(..) | Change::Readopt(..) | Change::Stopped => {
            256
        }
    }
}

fn size_of_write(write: &CatalogWrite) -> usize {
    match write {
        CatalogWrite::Mail(MailWrite::Put(row)) => match row.as_ref() {
            MailRow::Letter { letter, .. } => letter.payload.len() + 512,
            _ => 256,
        },
        _ => 256,
    }
}
