//! The scrub: hashes every copy held here anew, again and again, in the background. Shell.
//!
//! `schedule` decides which copy is next and how fast; this waits, reads and reports. Invariants:
//! nothing is read before it is earned by waiting, so a start is no burst; while others read or put
//! here it goes at a quarter of the pace, which the schedule makes up for later; a copy that is found
//! bad is put aside by the store, and the engine hears of it, so the proxy has it mended.

use super::schedule::{Copy, Debt, Plan, cost, pace_max, plan};
use super::{Shared, blocking};
use crate::clock::{self, Moment};
use crate::engine::event::Input;
use crate::limits::{CHUNK_BYTES_MAX, SCRUB_LOOK_MS, SCRUB_SAVE_MS, SCRUB_START_MS};
use crate::store::{StoreError, Verified};
use crate::types::ContentId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// While others are served, the pace is divided by this.
const WAY_TO_OTHERS: f64 = 4.0;

/// A node's scrub.
pub(super) struct Scrub {
    shared: Arc<Shared>,
    /// `None`: only what is doubtful after a crash.
    every_ms: Option<u64>,
    seed: u64,
    plan: Plan,
    planned: Moment,
    saved: Moment,
    debt: Debt,
}

impl Scrub {
    pub(super) fn new(shared: Arc<Shared>, every: Option<Duration>) -> Scrub {
        let mut word = [0; 8];
        word.copy_from_slice(&shared.identity.node.0[..8]);
        Scrub {
            shared,
            every_ms: every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            seed: u64::from_le_bytes(word),
            plan: Plan::default(),
            planned: clock::now(),
            saved: clock::now(),
            debt: Debt::default(),
        }
    }

    /// Runs for as long as the node does; `doubtful` comes first.
    pub(super) async fn run(mut self, doubtful: Vec<ContentId>) {
        if !doubtful.is_empty() {
            tracing::info!(
                contents = doubtful.len(),
                "the last run did not end by itself: its last writes are checked"
            );
            tokio::time::sleep(Duration::from_millis(SCRUB_START_MS)).await;
            self.plan.pace = pace_max();
            for content in doubtful {
                self.look_at(content, false).await;
            }
        }
        let Some(every_ms) = self.every_ms else { return };
        loop {
            self.make_plan(every_ms).await;
            if self.plan.next.is_empty() {
                tokio::time::sleep(Duration::from_millis(look_ms(every_ms))).await;
            }
            for content in std::mem::take(&mut self.plan.next) {
                self.look_at(content, true).await;
                // While a large one was looked at, another plan may have been made.
                let renewed = !self.plan.next.is_empty();
                if renewed || clock::now().since(self.planned) >= look_ms(every_ms) {
                    break;
                }
            }
            self.save().await;
        }
    }

    async fn make_plan(&mut self, every_ms: u64) {
        let (store, seed) = (self.shared.store.clone(), self.seed);
        let made = blocking(move || {
            let copies = store.copies().map(|copy| Copy {
                content: copy.content,
                bytes: copy.size,
                verified_ms: copy.verified_ms,
            });
            plan(copies, clock::wall().0, every_ms, seed)
        });
        self.plan = made.await.unwrap_or_default();
        self.planned = clock::now();
    }

    /// Looks at one copy, a chunk at a time, each when it is earned. With `by_plan` the pace follows
    /// what comes and goes meanwhile.
    async fn look_at(&mut self, content: ContentId, by_plan: bool) {
        let Some(size) = self.shared.store.holds(&content) else { return };
        self.debt.add(cost(size.min(CHUNK_BYTES_MAX as u64)));
        let Ok(mut verification) = self.shared.store.verification(&content) else { return };
        loop {
            self.earn(by_plan).await;
            let step = blocking(move || {
                let result = verification.step(CHUNK_BYTES_MAX as u64);
                (verification, result)
            });
            let Ok((next, result)) = step.await else { return };
            match result {
                Ok(Verified::More) => verification = next,
                Ok(Verified::Whole) | Err(StoreError::NotHeld(_)) => return,
                Ok(Verified::Bad) => {
                    let _ = self.shared.inputs.send(Input::ContentLost { content }).await;
                    return;
                }
                Err(error) => {
                    self.shared
                        .quiet
                        .warn(|| tracing::warn!(%content, %error, "a copy could not be verified"));
                    return;
                }
            }
            self.debt.add(CHUNK_BYTES_MAX as u64);
        }
    }

    /// Waits until nothing is owed.
    async fn earn(&mut self, by_plan: bool) {
        loop {
            let busy = self.shared.holder.transfers.load(Ordering::Relaxed) > 0;
            let pace = if busy { self.plan.pace / WAY_TO_OTHERS } else { self.plan.pace };
            let most_ms = self.every_ms.map_or(SCRUB_LOOK_MS, look_ms).min(SCRUB_LOOK_MS);
            let ms = self.debt.left_ms(pace, most_ms);
            if ms == 0 {
                return;
            }
            let began = clock::now();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            // A machine that slept has not worked, but it has waited.
            self.debt.wait(clock::now().since(began), pace);
            if by_plan
                && let Some(every_ms) = self.every_ms
                && clock::now().since(self.planned) >= look_ms(every_ms)
            {
                self.make_plan(every_ms).await;
                self.save().await;
            }
        }
    }

    /// Writes down what was verified, many at once.
    async fn save(&mut self) {
        let now = clock::now();
        if now.since(self.saved) < SCRUB_SAVE_MS {
            return;
        }
        self.saved = now;
        let store = self.shared.store.clone();
        if let Ok(Err(error)) = blocking(move || store.save_verified()).await {
            tracing::debug!(%error, "what was verified is not written down");
        }
    }
}

/// How often the plan is made anew.
fn look_ms(every_ms: u64) -> u64 {
    (every_ms / 64).clamp(10, SCRUB_LOOK_MS)
}
