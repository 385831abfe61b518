//! Removed files: what goes to the trash and comes back, who empties it, and whose clock counts.
//!
//! The proxy lets removed versions expire, and only while its clock agrees with its peers': time
//! decides nothing else about data. Each holder gives up the bytes of what only the trash names when
//! it needs their room, oldest first, on its own: they are no copies that anybody counts on. An
//! entry whose bytes are gone everywhere stays listed, without copies, until it expires.

use super::Engine;
use super::event::{AskId, Effect, Note};
use super::requests::CommitKind;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{CLOCK_DIFFERENCE_MS_MAX, PAGE_BYTES_TARGET, PAGE_ROWS_MAX, PUT_BATCH_FILES};
use crate::replication::removed::{self, Fate};
use crate::replication::shown;
use crate::types::{ContentId, Dot, FileName, NodeId, Pin, Version};
use crate::wire::message::{Delta, ErrorCode, FileState, Message, Removed, Row};
use std::collections::{BTreeMap, BTreeSet};

/// State of the trash and of the clocks.
#[derive(Debug, Default)]
pub(super) struct Trashing {
    /// The wall clock, milliseconds since 1970, and when it was read.
    wall: Option<(u64, Moment)>,
    /// How far each peer's wall clock is ahead of this node's, in milliseconds.
    ahead: BTreeMap<NodeId, i64>,
    emptied: Moment,
    /// The log says once that the clock is not trusted.
    distrusted: bool,
    /// Bytes held that only the trash names.
    bytes: u64,
}

/// How often the proxy looks for what has expired, in milliseconds.
const EMPTY_INTERVAL_MS: u64 = 5_000;
/// Share of the disk, as a divisor, that holders keep free of the trash, so that a put finds room at once.
const AHEAD_SHARE: u64 = 20;
/// Contents thrown away at a time.
const DISCARD_STEP_MAX: usize = 512;

impl Engine {
    pub(super) fn wall_clock(&mut self, wall_ms: u64) {
        self.trashing.wall = Some((wall_ms, self.now));
        self.me.wall_ms = wall_ms;
    }

    /// The wall clock now, milliseconds since 1970; 0 if it is not known.
    pub(super) fn wall_ms(&self) -> u64 {
        self.trashing.wall.map_or(0, |(wall_ms, at)| wall_ms + self.now.since(at))
    }

    fn wall_s(&self) -> u32 {
        u32::try_from(self.wall_ms() / 1_000).unwrap_or(u32::MAX)
    }

    pub(super) fn clock_heard(&mut self, node: NodeId, wall_ms: u64) {
        if self.trashing.wall.is_some() && wall_ms > 0 {
            let difference = i128::from(wall_ms) - i128::from(self.wall_ms());
            let difference = i64::try_from(difference).unwrap_or(i64::MAX);
            self.trashing.ahead.insert(node, difference);
        }
    }

    /// Whether this node's clock agrees with the median of its peers'; alone it has to be believed.
    pub(super) fn is_clock_trusted(&self) -> bool {
        let up = self.up_nodes().filter_map(|node| self.trashing.ahead.get(&node.node).copied());
        let mut ahead: Vec<i64> = up.collect();
        ahead.sort_unstable();
        let median = ahead.get(ahead.len() / 2).copied().unwrap_or(0);
        self.trashing.wall.is_some() && median.unsigned_abs() <= CLOCK_DIFFERENCE_MS_MAX
    }

    /// What becomes of what a change takes away now.
    pub(super) fn fate(&self) -> Fate {
        if self.config.keep_removed_ms == 0 { Fate::Gone } else { Fate::Trash(self.wall_s()) }
    }

    /// Makes dots for a change; the calls may be many.
    pub(super) fn with_mint<T>(
        &mut self,
        make: impl FnOnce(&crate::replication::Catalog, &mut dyn FnMut() -> Dot) -> T,
    ) -> T {
        let (exchange, instance, catalog) = (&mut self.exchange, self.config.instance, &self.catalog);
        let mut mint = || exchange.mint(instance, catalog.context());
        make(catalog, &mut mint)
    }

    // ---- the proxy ----

    /// Lets expire what is old enough.
    pub(super) fn trash_tick(&mut self) {
        self.trashing.ahead.retain(|node, _| self.members.get(*node).is_some());
        let ready = self.office.as_ref().is_some_and(super::office::Office::is_ready);
        if !ready || self.now.since(self.trashing.emptied) < EMPTY_INTERVAL_MS {
            return;
        }
        self.trashing.emptied = self.now;
        let trusted = self.is_clock_trusted();
        if !trusted && !self.trashing.distrusted && self.trashing.wall.is_some() {
            self.note(Note::ClockDiffers);
        }
        self.trashing.distrusted = !trusted;
        let keep_s = u32::try_from(self.config.keep_removed_ms / 1_000).unwrap_or(u32::MAX);
        let before_s = if trusted { self.wall_s().saturating_sub(keep_s) } else { 0 };
        let old = removed::to_empty(&self.catalog, before_s, PUT_BATCH_FILES);
        if !old.is_empty() {
            let delta = self.empty(&old);
            self.spread(&delta);
        }
    }

    /// The change that takes these versions out of the trash, and out of the world.
    fn empty(&mut self, names_and_dots: &[(FileName, Vec<Dot>)]) -> Delta {
        self.with_mint(|catalog, mint| removed::delta_remove(catalog, names_and_dots, Fate::Gone, mint))
    }

    /// Makes a change that nobody waits for.
    fn spread(&mut self, delta: &Delta) {
        let me = self.config.node;
        let keepers: Vec<NodeId> = self
            .up_nodes()
            .filter(|node| node.pin != Pin::Client && node.node != me)
            .map(|node| node.node)
            .collect();
        let term = self.me.term;
        for node in keepers {
            let message = Message::Delta { term, delta: delta.clone(), ack: None, contents: Vec::new() };
            self.send(node, message);
        }
        self.apply(delta);
    }

    /// What `rm` takes away: of live names what is shown under them, and with `now` also what the
    /// trash has of them. `None` if one of the names is not there; the request is then answered.
    pub(super) fn removals(
        &mut self,
        ask: AskId,
        names: &[FileName],
        now: bool,
    ) -> Option<Vec<(FileName, Vec<Dot>)>> {
        let mut removals: Vec<(FileName, Vec<Dot>)> = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            let live = shown::resolve(&self.catalog, name);
            let trashed = removed::resolve(&self.catalog, name).filter(|_| now);
            let (real, mut dots) = match (live, &trashed) {
                (Some((real, version)), _) => {
                    let dots = shown::behind(&self.catalog, &real, version);
                    (real, dots)
                }
                (None, Some((real, _))) => (real.clone(), Vec::new()),
                (None, None) => {
                    self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`; nothing was removed"));
                    return None;
                }
            };
            if let Some((of, version)) = trashed {
                // Under its plain name all of it; under that of one version this one.
                let whole = of == *name;
                let old = self.catalog.trash().versions(&of).iter();
                dots.extend(old.filter(|old| whole || old.dot == version.dot).map(|old| old.dot));
            }
            dots.retain(|dot| seen.insert(*dot));
            if !dots.is_empty() {
                removals.push((real, dots));
            }
        }
        Some(removals)
    }

    /// Makes removed versions live again.
    pub(super) fn restore(&mut self, ask: AskId, names: &[FileName]) {
        let fate = self.fate();
        let mut delta = Delta::default();
        let mut restored = BTreeSet::new();
        let mut contents = BTreeSet::new();
        for listed in names {
            let Some((name, version)) = removed::resolve(&self.catalog, listed) else {
                let message = format!("no removed file `{listed}`; nothing was restored");
                self.fail(ask, ErrorCode::NotFound, &message);
                return;
            };
            let (dot, body) = (version.dot, version.body.clone());
            if let Some(obstacle) = shown::obstacle(&self.catalog, &name, &body) {
                let message = format!("`{name}` cannot be restored: `{obstacle}` is in its way");
                self.fail(ask, ErrorCode::NameTaken, &message);
                return;
            }
            if let Some((content, _)) = body.content() {
                if self.trash_holders(&content).is_empty() {
                    let message = format!("no machine that is up has the bytes of `{listed}` any more");
                    self.fail(ask, ErrorCode::NoStorage, &message);
                    return;
                }
                contents.insert(content);
            }
            if !restored.insert(name.clone()) {
                let message = format!("`{name}` is to be restored twice");
                self.fail(ask, ErrorCode::Invalid, &message);
                return;
            }
            let change =
                self.with_mint(|catalog, mint| removed::delta_restore(catalog, &name, dot, fate, mint));
            if let Some(change) = change {
                delta.context.extend(change.context);
                delta.names.extend(change.names);
            }
        }
        let (keepers, majority) = self.catalog_keepers();
        let kind = CommitKind::Restore { names: restored.into_iter().collect() };
        self.begin_commit(ask, kind, &delta, keepers, contents.into_iter().collect(), majority);
    }

    pub(super) fn answer_restored(
        &mut self,
        ask: AskId,
        names: &[FileName],
        stored: &BTreeMap<NodeId, BTreeSet<ContentId>>,
    ) {
        let rows: Vec<Row> = names.iter().filter_map(|name| self.row(name)).collect();
        let gone = rows.iter().find(|row| {
            let content = row.body.content().map(|(content, _)| content);
            content.is_some_and(|content| !stored.values().any(|held| held.contains(&content)))
        });
        if let Some(row) = gone {
            let message =
                format!("`{}` is listed again, but nobody has confirmed to have its bytes", row.name);
            self.fail(ask, ErrorCode::Unknown, &message);
            return;
        }
        self.answer_rows(ask, rows, None);
    }

    /// Who is up and has the bytes of something removed.
    fn trash_holders(&self, content: &ContentId) -> Vec<NodeId> {
        let Some(office) = &self.office else {
            return Vec::new();
        };
        let holders = office.inventories.holders(content);
        holders.filter(|node| self.freshness_of(*node) == Freshness::Up).collect()
    }

    /// What `ls --removed` shows.
    pub(super) fn list_removed(&mut self, ask: AskId, prefix: &str, after: Option<&FileName>) {
        let (mut rows, mut bytes, mut more, mut last) = (Vec::new(), 0, None, None);
        let names = self.catalog.trash().names().map(|(name, _)| name);
        for name in names.filter(|name| name.as_str().starts_with(prefix)) {
            if after.is_some_and(|after| name <= after) {
                continue;
            }
            if rows.len() >= PAGE_ROWS_MAX || bytes >= PAGE_BYTES_TARGET {
                more = last;
                break;
            }
            for (listed, version) in removed::listed(&self.catalog, name) {
                let earlier = listed != *name;
                let row = self.removed_row(listed, version, earlier);
                bytes += row.name.as_str().len() + 100 + row.holders.len() * 16;
                rows.push(row);
            }
            last = Some(name.clone());
        }
        self.answer_rows(ask, rows, more);
    }

    fn removed_row(&self, name: FileName, version: &Version, earlier: bool) -> Row {
        let content = version.body.content().map(|(content, _)| content);
        let holders = content.map_or(Vec::new(), |content| self.trash_holders(&content));
        let lost = content.is_some() && holders.is_empty();
        Row {
            name,
            body: version.body.clone(),
            mode: version.mode,
            modified_ns: version.modified_ns,
            wanted: version.wanted.count(),
            holders,
            state: if lost { FileState::Lost } else { FileState::Ok },
            dot: version.dot,
            removed: Some(Removed { at_s: version.removed_s, earlier }),
        }
    }

    // ---- a holder ----

    /// The disk was measured: what the trash takes counts as free, and goes where room is short.
    pub(super) fn measure_trash(&mut self, capacity_bytes: u64, free_bytes: u64) {
        let trash = self.catalog.trash().contents().filter(|(content, _)| self.is_discardable(content));
        self.trashing.bytes = trash.map(|(_, refs)| refs.size).fold(0, u64::saturating_add);
        let short = (capacity_bytes / AHEAD_SHARE).saturating_sub(free_bytes);
        self.discard_oldest(short);
        self.me.free_bytes = free_bytes.saturating_add(self.trashing.bytes);
    }

    /// A put needs this much more room here.
    pub(super) fn room_wanted(&mut self, bytes: u64) {
        self.discard_oldest(bytes);
    }

    /// Bytes held here that only the trash names.
    #[must_use]
    pub fn trash_bytes(&self) -> u64 {
        self.trashing.bytes
    }

    fn is_discardable(&self, content: &ContentId) -> bool {
        self.stays_here(content) && self.catalog.content(content).is_none() && !self.is_promised(content)
    }

    /// Throws away what only the trash names, oldest first, until `bytes` are free.
    fn discard_oldest(&mut self, bytes: u64) {
        // What a change that is not durable yet put into the trash could be live after a restart.
        if bytes == 0 || self.trashing.bytes == 0 || !self.exchange.is_saved() {
            return;
        }
        let trash = self.catalog.trash().contents().filter(|(content, _)| self.is_discardable(content));
        let mut oldest: Vec<(u32, ContentId, u64)> =
            trash.map(|(content, refs)| (refs.removed_s, *content, refs.size)).collect();
        oldest.sort_unstable();
        let mut freed = 0_u64;
        for (_, content, size) in oldest.into_iter().take(DISCARD_STEP_MAX) {
            if freed >= bytes {
                break;
            }
            freed = freed.saturating_add(size);
            self.discard(content);
        }
    }

    /// Throws away a copy that nothing live names; the shell refuses while a put is using it.
    pub(super) fn discard(&mut self, content: ContentId) {
        self.keeper.garbage.insert(content);
        self.effects.push_back(Effect::Drop { content, until: None });
    }
}
