//! The hub of channels: holds them while this node leads, asks the proxy while another does. Shell.
//!
//! Invariants: whoever asks gets "no update" when the proxy is not known, not reached or new, never
//! an error and never an empty list, which would be taken for "all have left". A list that is
//! being sent takes room of [`CHANNEL_LISTS_BYTES_MAX`] until it is gone.
//!
//! | file | what it does |
//! |---|---|
//! | `following` | followers: one copy of a channel for all that follow it here |
//! | `serving` | answers other nodes and commands |
//! | `upstream` | requests to the proxy |

mod following;
mod serving;
mod upstream;

pub use crate::channels::feed::Changes;
pub use following::{Follow, Happening, Room};
pub(super) use serving::serve;

use crate::channels::body::Body;
use crate::channels::{Beginning, Channels, Heard};
use crate::clock::{self, Moment};
use crate::limits::{CHANNEL_LISTS_BYTES_MAX, CHANNELS_HEARD_INTERVAL_MS, CHANNELS_IDLE_INTERVAL_MS};
use crate::transfer::connection::Endpoint;
use crate::types::{ChannelKey, NodeRoute};
use crate::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply};
use bytes::Bytes;
use following::Tap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use upstream::Upstream;

/// What is counted as one permit for a list that is being sent.
const ROOM_UNIT: usize = 1 << 10;
/// What was heard of a proxy's channels is of no use this long after the last of them has expired.
const HEARD_KEEP_MS: u64 = 60_000;

/// Who leads, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// This node.
    pub(super) leads: bool,
    /// Another one.
    pub(super) proxy: Option<NodeRoute>,
}

/// The channels, wherever they are held.
pub struct Hub {
    inner: Mutex<Inner>,
    standing: watch::Sender<Standing>,
    /// Something is to be swept earlier than the sweeper knows.
    earlier: Notify,
    /// For lists, and for what followers are told.
    room: [Arc<Semaphore>; 2],
    upstream: Upstream,
    strict: bool,
}

#[derive(Default)]
struct Inner {
    /// While this node leads.
    table: Option<Channels>,
    /// From the proxy, and when.
    heard: Option<(Heard, Moment)>,
    /// When the proxy's possible successors were last told, and how many they were.
    told: Option<(Moment, usize)>,
    /// Nothing is given out yet, and followers wait for it.
    closed: bool,
    taps: BTreeMap<ChannelKey, Arc<Tap>>,
    /// When the sweeper comes.
    planned: Option<Moment>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What it is.
    pub reply: ChannelReply,
    /// The JSON list that goes with [`ChannelReply::Bodies`].
    pub list: List,
}

/// A JSON list, and the room that it takes.
#[derive(Debug, Default)]
pub struct List {
    text: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for List {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl From<ChannelReply> for Answer {
    fn from(reply: ChannelReply) -> Answer {
        Answer { reply, list: List::default() }
    }
}

impl From<ChannelRefusal> for Answer {
    fn from(refusal: ChannelRefusal) -> Answer {
        ChannelReply::Refused { refusal }.into()
    }
}

fn take_room(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).ok()?;
    Arc::clone(room).try_acquire_many_owned(units).ok()
}

/// Keep what you have.
fn no_update() -> Answer {
    ChannelReply::NoUpdate { late: false, token: None }.into()
}

impl Hub {
    /// A hub that does not know yet who leads. `strict`: while it leads, each client must show its
    /// token from its second post on.
    pub(super) fn new(endpoint: Arc<Endpoint>, strict: bool) -> Hub {
        Hub {
            inner: Mutex::default(),
            standing: watch::Sender::default(),
            earlier: Notify::new(),
            room: [(); 2].map(|()| Arc::new(Semaphore::new(CHANNEL_LISTS_BYTES_MAX / ROOM_UNIT))),
            upstream: Upstream::new(endpoint),
            strict,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request, here or at the proxy. Following is [`Hub::follow`]'s.
    pub async fn ask(&self, ask: ChannelAsk) -> Answer {
        if let Some(answer) = self.answer(&ask) {
            return answer;
        }
        let Some(route) = self.standing.borrow().proxy.clone() else { return no_update() };
        match self.upstream.ask(&route, &ask).await {
            Some((ChannelReply::NotProxy { .. }, _)) | None => no_update(),
            Some((reply, list)) => self.with_room(reply, list),
        }
    }

    /// Answers a request while this node leads.
    fn answer(&self, ask: &ChannelAsk) -> Option<Answer> {
        if !self.standing.borrow().leads {
            return None;
        }
        // Reading it takes longer than all the rest: not under the lock.
        let body = match ask {
            ChannelAsk::Post { body, .. } => match Body::parse(body) {
                Ok(body) => Some(body),
                Err(refusal) => return Some(refusal.into()),
            },
            _ => None,
        };
        let mut inner = self.lock();
        let now = clock::now();
        let table = inner.table.as_mut()?;
        let plain = |reply| (reply, String::new());
        let answered = match (ask, &body) {
            (ChannelAsk::Post { channel, says, expiry_ms, drawn, .. }, Some(body)) => {
                table.post(now, (channel, body), says, *expiry_ms, *drawn)
            }
            (ChannelAsk::Get { channel, says, known }, _) => Ok(table.get(now, channel, says, *known)),
            (ChannelAsk::List, _) => Ok(plain(table.list(now))),
            (ChannelAsk::Leave { channel, client, token }, _) => {
                table.leave(now, channel, client, *token).map(plain)
            }
            (ChannelAsk::Post { .. } | ChannelAsk::Follow { .. }, _) => Err(ChannelRefusal::Busy),
        };
        self.after_change(&mut inner);
        drop(inner);
        Some(match answered {
            Ok((reply, list)) => self.with_room(reply, list.into()),
            Err(refusal) => refusal.into(),
        })
    }

    /// Takes room for a list, which comes back when it is gone.
    fn with_room(&self, reply: ChannelReply, text: Bytes) -> Answer {
        if text.is_empty() {
            return reply.into();
        }
        match take_room(&self.room[0], text.len()) {
            Some(room) => Answer { reply, list: List { text, _room: Some(room) } },
            None => match reply {
                // It was stored, and who does not hear its token now cannot post again.
                ChannelReply::Bodies { token: token @ Some(_), .. } => {
                    ChannelReply::NoUpdate { late: false, token }.into()
                }
                _ => ChannelRefusal::Busy.into(),
            },
        }
    }

    /// Wakes those who follow what changed, and the sweeper if it would come too late.
    fn after_change(&self, inner: &mut Inner) {
        let Some(table) = &mut inner.table else { return };
        let next = table.next_expiry();
        for key in table.take_changed() {
            if let Some(tap) = inner.taps.get(&key) {
                tap.ring();
            }
        }
        if next.is_some_and(|next| inner.planned.is_none_or(|planned| next < planned)) {
            inner.planned = next;
            self.earlier.notify_one();
        }
    }

    /// Lets clients go when their time has come, for as long as the node runs.
    pub(super) async fn sweep(self: Arc<Hub>) {
        loop {
            let wait = {
                let mut inner = self.lock();
                let now = clock::now();
                let mut next = None;
                let mut opens = None;
                if let Some(table) = &mut inner.table {
                    table.sweep(now);
                    opens = Some(table.grace_until()).filter(|opens| *opens > now);
                    next = table.next_expiry().into_iter().chain(opens).min();
                }
                if opens.is_none() && std::mem::take(&mut inner.closed) {
                    inner.taps.values().for_each(|tap| tap.ring());
                }
                inner.planned = next;
                self.after_change(&mut inner);
                next.map(|next| Duration::from_millis(next.since(now)))
            };
            tokio::select! {
                () = self.earlier.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Somebody else leads than before, or is elsewhere.
    pub(super) fn stand(&self, standing: Standing) {
        if *self.standing.borrow() == standing {
            return;
        }
        let mut inner = self.lock();
        let now = clock::now();
        match (&inner.table, standing.leads) {
            (None, true) => {
                let heard = inner.heard_now(now);
                // Without entropy nothing else works; a fixed epoch still tells states apart.
                let epoch = clock::entropy().map_or(1, u64::from_le_bytes) | 1;
                let beginning = Beginning { epoch, heard, strict: self.strict };
                inner.table = Some(Channels::begin_lead(now, beginning));
                inner.closed = true;
            }
            (Some(table), false) => {
                inner.heard = Some((table.heard(now), now));
                inner.table = None;
            }
            (Some(_), true) | (None, false) => {}
        }
        self.standing.send_replace(standing);
        inner.taps.values().for_each(|tap| tap.ring());
        drop(inner);
        self.earlier.notify_one();
    }

    /// Whether somebody leads, as far as this node knows.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        let standing = self.standing.borrow();
        standing.leads || standing.proxy.is_some()
    }

    /// Whether that is what is known already, without making a route of it.
    pub(super) fn stands(&self, leads: bool, proxy: Option<crate::types::NodeId>) -> bool {
        let standing = self.standing.borrow();
        standing.leads == leads && standing.proxy.as_ref().map(|route| route.node) == proxy
    }

    /// What the proxy tells of its channels.
    pub(super) fn hear(&self, heard: Heard) {
        let mut inner = self.lock();
        let now = clock::now();
        let server_time_ms = inner.heard_now(now).server_time_ms.max(heard.server_time_ms);
        inner.heard = Some((Heard { server_time_ms, ..heard }, now));
    }

    /// What is to be told to the `others`, of whom there are so many: once a second while there is a
    /// channel, else now and then and when somebody comes, as answers carry the time without one, too.
    pub(super) fn due(&self, now: Moment, others: usize) -> Option<Heard> {
        let mut inner = self.lock();
        let heard = inner.table.as_ref()?.heard(now);
        let is_idle = heard.expiry_ms_max == 0;
        let pause_ms = if is_idle { CHANNELS_IDLE_INTERVAL_MS } else { CHANNELS_HEARD_INTERVAL_MS };
        if inner.told.is_some_and(|(told, them)| them == others && now.since(told) < pause_ms) {
            return None;
        }
        inner.told = Some((now, others));
        Some(heard)
    }
}

impl Inner {
    /// What was heard, as it would be now: the time has gone on.
    fn heard_now(&self, now: Moment) -> Heard {
        let Some((heard, at)) = self.heard else { return Heard::default() };
        let passed = now.since(at);
        let of_use = passed < heard.expiry_ms_max.saturating_add(HEARD_KEEP_MS);
        Heard {
            server_time_ms: heard.server_time_ms.saturating_add(passed),
            expiry_ms_max: if of_use { heard.expiry_ms_max } else { 0 },
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
