//! Followers of channels. Shell.
//!
//! Invariant: of each channel that is followed here there is one copy (a tap), however many follow
//! it; a follower that does not read keeps a cursor, never a queue.

use super::{Hub, Inner, take_room};
use crate::channels::feed::{Changes, Cursor, Mirror};
use crate::clock;
use crate::limits::{
    CHANNEL_BYTES_MAX, CHANNEL_CLIENTS_MAX, CHANNEL_FOLLOW_PACE, CHANNEL_FOLLOW_PATIENCE,
    CHANNEL_FOLLOW_RETRY, CHANNEL_FOLLOW_RETRY_MAX, CHANNEL_ROOM_RETRY, CHANNELS_FOLLOWED_MAX,
};
use crate::transfer::connection::{ConnectionError, dial_any};
use crate::types::{ChannelKey, NodeRoute};
use crate::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply};
use crate::wire::message::Purpose;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// A channel that is followed here.
pub(super) struct Tap {
    key: ChannelKey,
    bell: watch::Sender<()>,
    /// What the proxy tells, while another node leads.
    mirror: Mutex<Mirror>,
    /// Followers that are clients of this node, and not other nodes.
    own: AtomicUsize,
}

impl Tap {
    fn is_for_own(&self) -> bool {
        self.own.load(Ordering::Relaxed) > 0
    }

    /// Wakes the followers.
    pub(super) fn ring(&self) {
        self.bell.send_replace(());
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower hears.
#[derive(Debug)]
pub enum Happening {
    /// Keep what you have; changes that are whole follow.
    Wait,
    /// This is new. It takes that room until it is sent.
    Changes(Changes, Room),
}

/// Room that comes back when this goes.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
}

/// One who follows a channel.
pub struct Follow {
    hub: Arc<Hub>,
    tap: Arc<Tap>,
    bell: watch::Receiver<()>,
    cursor: Cursor,
    waiting: bool,
    is_own: bool,
    /// Until then the first look is waited for in silence: the proxy is being dialled.
    patience: Instant,
    next: Instant,
}

impl Hub {
    /// Follows a channel, whether it is there or not.
    ///
    /// # Errors
    /// `Busy` when too many channels are followed here.
    pub fn follow(self: &Arc<Hub>, key: &ChannelKey) -> Result<Follow, ChannelRefusal> {
        let mut inner = self.lock();
        let is_counted = inner.taps.get(key).is_some_and(|tap| tap.is_for_own());
        let counted = || inner.taps.values().filter(|tap| tap.is_for_own()).count();
        if !is_counted && counted() >= CHANNELS_FOLLOWED_MAX {
            return Err(ChannelRefusal::Busy);
        }
        Ok(self.begin_follow(&mut inner, key, true))
    }

    /// The same for another node or a command. Each has a connection of its own, of which there are few
    /// enough; they do not take the room of our own clients, nor these theirs.
    pub(super) fn follow_for_peer(self: &Arc<Hub>, key: &ChannelKey) -> Follow {
        self.begin_follow(&mut self.lock(), key, false)
    }

    fn begin_follow(self: &Arc<Hub>, inner: &mut Inner, key: &ChannelKey, is_own: bool) -> Follow {
        let tap = inner.taps.get(key).map(Arc::clone).unwrap_or_else(|| {
            let (bell, own) = (watch::Sender::new(()), AtomicUsize::new(0));
            let tap = Arc::new(Tap { key: key.clone(), bell, mirror: Mutex::default(), own });
            inner.taps.insert(key.clone(), Arc::clone(&tap));
            tokio::spawn(mirror(Arc::clone(self), Arc::clone(&tap)));
            tap
        });
        tap.own.fetch_add(usize::from(is_own), Ordering::Relaxed);
        let bell = tap.bell.subscribe();
        let (hub, cursor) = (Arc::clone(self), Cursor::default());
        let (next, patience) = (Instant::now(), Instant::now() + CHANNEL_FOLLOW_PATIENCE);
        Follow { hub, tap, bell, cursor, waiting: false, is_own, patience, next }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.tap.own.fetch_sub(usize::from(self.is_own), Ordering::Relaxed);
    }
}

impl Follow {
    /// What happens next. Cancel-safe: what is given out was not lost before.
    pub async fn next(&mut self) -> Happening {
        loop {
            // What comes meanwhile is told together with it.
            tokio::time::sleep_until(self.next).await;
            self.bell.mark_unchanged();
            match self.look() {
                Some(changes) if !changes.is_empty() => {
                    let bytes = changes.updates.iter().map(|(_, body)| body.len()).sum();
                    if let Some(permit) = take_room(&self.hub.room[1], bytes) {
                        self.waiting = false;
                        self.patience = self.next;
                        self.next = Instant::now() + CHANNEL_FOLLOW_PACE;
                        return Happening::Changes(changes, Room { _permit: permit });
                    }
                    // Others take nothing of what they were told. What it would hold meanwhile goes.
                    self.cursor.begin_anew();
                    self.next = Instant::now() + CHANNEL_ROOM_RETRY;
                    continue;
                }
                None if !self.waiting && Instant::now() >= self.patience => {
                    self.waiting = true;
                    self.cursor.begin_anew();
                    return Happening::Wait;
                }
                Some(_) | None => {}
            }
            tokio::select! {
                // The sender lives in the tap, which we hold.
                _ = self.bell.changed() => {}
                () = tokio::time::sleep_until(self.patience), if Instant::now() < self.patience => {}
            }
        }
    }

    fn look(&mut self) -> Option<Changes> {
        let mut inner = self.hub.lock();
        match &mut inner.table {
            Some(table) => {
                let changes = table.changes(clock::now(), &self.tap.key, &mut self.cursor);
                self.hub.after_change(&mut inner);
                changes
            }
            None => {
                drop(inner);
                self.tap.mirror().changes(&mut self.cursor)
            }
        }
    }
}

/// Keeps the copy of a channel for as long as somebody follows it here.
async fn mirror(hub: Arc<Hub>, tap: Arc<Tap>) {
    let mut standing = hub.standing.subscribe();
    let mut pause = CHANNEL_FOLLOW_RETRY;
    while !forget(&mut hub.lock(), &tap) {
        let now = standing.borrow_and_update().clone();
        let proxy = now.proxy.as_ref().map(|route| route.node);
        let other = standing
            .wait_for(|then| then.leads != now.leads || then.proxy.as_ref().map(|route| route.node) != proxy);
        let followed = async {
            match now.proxy.as_ref().filter(|_| !now.leads) {
                Some(route) => {
                    let mut complete = false;
                    if let Err(error) = follow_proxy(&hub, &tap, route, &mut complete).await {
                        tracing::debug!(channel = %tap.key, %error, "the proxy is not followed");
                    }
                    tap.mirror().lose();
                    tap.ring();
                    if complete {
                        pause = CHANNEL_FOLLOW_RETRY;
                    }
                    tokio::time::sleep(pause).await;
                    // A proxy that refuses is asked less and less often.
                    pause = (2 * pause).min(CHANNEL_FOLLOW_RETRY_MAX);
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = followed => {}
            _ = other => pause = CHANNEL_FOLLOW_RETRY,
            () = tap.bell.closed() => {}
        }
        tap.mirror().lose();
        tap.ring();
    }
}

/// Lets go of a tap that nobody hears. Under the lock, so nobody begins to.
fn forget(inner: &mut Inner, tap: &Tap) -> bool {
    let unheard = tap.bell.receiver_count() == 0;
    if unheard {
        inner.taps.remove(&tap.key);
    }
    unheard
}

/// Follows until the connection ends; `complete` tells whether anything came of it.
async fn follow_proxy(
    hub: &Hub,
    tap: &Tap,
    route: &NodeRoute,
    complete: &mut bool,
) -> Result<(), ConnectionError> {
    let endpoint = hub.upstream.endpoint();
    let connection = dial_any(&route.addresses, endpoint, Purpose::Channels, Some(route.node)).await?;
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(None);
    reader.refuse_payloads();
    writer.write(&ChannelAsk::Follow { channel: tap.key.clone() }, &[]).await?;
    writer.flush().await?;
    while let Some((reply, _)) = reader.read::<ChannelReply>().await? {
        {
            let mut mirror = tap.mirror();
            match reply {
                ChannelReply::Reset => mirror.reset(),
                ChannelReply::Update { client, body } => mirror.update(client, body.into()),
                ChannelReply::Gone { client } => mirror.gone(&client),
                ChannelReply::Complete => {
                    mirror.complete();
                    *complete = true;
                }
                ChannelReply::Wait => mirror.lose(),
                _ => return Ok(()),
            }
            let (bytes, clients) = mirror.room();
            if bytes > CHANNEL_BYTES_MAX || clients > CHANNEL_CLIENTS_MAX {
                return Ok(());
            }
        }
        tap.ring();
    }
    Ok(())
}
