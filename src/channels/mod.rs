//! Channels: live state that clients share. Pure.
//!
//! A client posts its state under its id, gets the others' in return, and is gone when it has not
//! posted for the channel's expiry. Memory only, held by the proxy.
//!
//! Invariants: a client is there exactly from its post until last post + expiry, whatever is asked
//! meanwhile; a channel is there while it has a client; what is given out is what was posted, byte
//! for byte; everything is bounded by `limits`. A new proxy gives nothing out before every client
//! has had the time to post again: an empty list would be taken for "all have left".
//!
//! | file | what it is |
//! |---|---|
//! | [`body`] | what a client may post |
//! | [`feed`] | what a channel says, and what of it is new to a follower |

pub mod body;
pub mod feed;

use crate::clock::Moment;
use crate::limits::{
    CHANNEL_BYTES_MAX, CHANNEL_CLIENT_COST, CHANNEL_CLIENTS_MAX, CHANNEL_EXPIRY_DEFAULT, CHANNEL_EXPIRY_MAX,
    CHANNEL_EXPIRY_MIN, CHANNEL_GRACE_MS_MAX, CHANNEL_POSTS_PER_SECOND, CHANNEL_SERVER_TIME_MAX,
    CHANNELS_BYTES_MAX, CHANNELS_MAX,
};
use crate::types::{ChannelKey, ClientId, ClientTime, ClientToken};
use crate::wire::channel::{ChannelRefusal, ChannelReply, ChannelState, ClientSays};
use body::Body;
use feed::{Changes, Cursor, Feed};
use std::collections::{BTreeMap, BTreeSet};

/// An answer, and the list that goes with it, if one does.
pub type Answer = (ChannelReply, String);

/// What was heard of channels of the proxy before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its server time, as it would be now.
    pub server_time_ms: u64,
    /// The longest expiry of its channels.
    pub expiry_ms_max: u64,
}

/// How a period of leading begins.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// Random; not 0.
    pub epoch: u64,
    /// Of the proxy before.
    pub heard: Heard,
    /// Whether each client must show its token from its second post on.
    pub strict: bool,
}

/// All channels, for as long as a node leads.
#[derive(Debug)]
pub struct Channels {
    beginning: Beginning,
    began: Moment,
    grace_until: Moment,
    /// Of the last change of any channel; so no version ever stands for two states.
    version: u64,
    channels: BTreeMap<ChannelKey, Channel>,
    /// When to look whether a client is gone: not after that moment.
    alarms: BTreeMap<(Moment, u64), (ChannelKey, ClientId)>,
    next_alarm: u64,
    /// Of everything, as counted by [`cost`].
    bytes: usize,
    changed: BTreeSet<ChannelKey>,
}

#[derive(Debug)]
struct Channel {
    expiry_ms: u64,
    feed: Feed<Client>,
}

/// What is kept of a client beside its body.
#[derive(Clone, Debug)]
struct Client {
    posted: Moment,
    time: Option<ClientTime>,
    token: ClientToken,
    /// It has shown its token; nobody else is believed.
    owned: bool,
    allowance: Allowance,
    /// Its key in [`Channels::alarms`].
    alarm: (Moment, u64),
}

/// How much a client may post: a bucket that holds a second's posts and fills steadily.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// In thousandths of a post.
    left: u64,
    at: Moment,
}

impl Allowance {
    const FULL: u64 = CHANNEL_POSTS_PER_SECOND * 1_000;

    fn take(&mut self, now: Moment) -> bool {
        let filled = now.since(self.at).saturating_mul(CHANNEL_POSTS_PER_SECOND);
        self.left = self.left.saturating_add(filled).min(Allowance::FULL);
        self.at = now;
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// What a text of that many bytes costs, with what is kept beside it.
fn cost(bytes: usize) -> usize {
    bytes + CHANNEL_CLIENT_COST
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Client {
    /// Whether somebody who says `token` may speak for it.
    fn admits(&self, token: Option<ClientToken>, strict: bool) -> Result<(), ChannelRefusal> {
        match token {
            Some(token) if self.token.is(token) => Ok(()),
            Some(_) => Err(ChannelRefusal::WrongToken),
            None if self.owned || strict => Err(ChannelRefusal::TokenNeeded),
            None => Ok(()),
        }
    }

    fn is_late(&self, says: &ClientSays) -> bool {
        let time = says.time.filter(|_| says.id.is_some());
        time.zip(self.time).is_some_and(|(time, last)| time < last)
    }

    fn note_time(&mut self, says: &ClientSays) {
        if says.id.is_some() && says.time.is_some() {
            self.time = says.time;
        }
    }
}

impl Channels {
    /// Begins to lead, with no channel. Nothing is given out before all clients had the time to post.
    #[must_use]
    pub fn begin_lead(now: Moment, beginning: Beginning) -> Channels {
        let expiry = millis(CHANNEL_EXPIRY_DEFAULT).max(beginning.heard.expiry_ms_max);
        Channels {
            beginning,
            began: now,
            grace_until: now.plus(expiry.min(CHANNEL_GRACE_MS_MAX)),
            version: 0,
            channels: BTreeMap::new(),
            alarms: BTreeMap::new(),
            next_alarm: 0,
            bytes: 0,
            changed: BTreeSet::new(),
        }
    }

    /// From when on something is given out.
    #[must_use]
    pub fn grace_until(&self) -> Moment {
        self.grace_until
    }

    /// How long this cluster's proxies have served channels, in milliseconds. Never goes back.
    #[must_use]
    pub fn server_time_ms(&self, now: Moment) -> u64 {
        let before = self.beginning.heard.server_time_ms.min(CHANNEL_SERVER_TIME_MAX);
        before.saturating_add(now.since(self.began))
    }

    /// What a successor needs. Without a channel that is the time alone, which answers carry, too.
    #[must_use]
    pub fn heard(&self, now: Moment) -> Heard {
        let expiry_ms_max = self.channels.values().map(|channel| channel.expiry_ms).max().unwrap_or(0);
        Heard { server_time_ms: self.server_time_ms(now), expiry_ms_max }
    }

    /// When to call [`Channels::sweep`]: not after the next client is gone.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Moment> {
        self.alarms.first_key_value().map(|((at, _), _)| *at)
    }

    /// Channels in which something changed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<ChannelKey> {
        std::mem::take(&mut self.changed)
    }

    /// Lets go of whoever has not posted for too long.
    pub fn sweep(&mut self, now: Moment) {
        while let Some(alarm) = self.alarms.first_entry().filter(|alarm| alarm.key().0 <= now) {
            let (key, id) = alarm.remove();
            let Some(channel) = self.channels.get(&key) else { continue };
            let Some(row) = channel.feed.get(&id) else { continue };
            let gone_at = row.more.posted.plus(channel.expiry_ms);
            if gone_at <= now {
                self.remove(&key, &id);
            } else {
                self.set_alarm(gone_at, key, id);
            }
        }
    }

    /// Each client has one alarm. A post does not move it: it looks when it goes off.
    fn set_alarm(&mut self, at: Moment, key: ChannelKey, id: ClientId) {
        let alarm = (at, self.next_alarm);
        self.next_alarm += 1;
        if let Some(client) = self.channels.get_mut(&key).and_then(|channel| channel.feed.get_mut(&id)) {
            client.alarm = alarm;
        }
        self.alarms.insert(alarm, (key, id));
    }

    /// A client posts; `drawn` is random, and its token if it is new and brings none. Who comes again
    /// with what was drawn for it has not heard the answer: it is heard, and told its token anew.
    ///
    /// # Errors
    /// When it may not, or there is no room.
    pub fn post(
        &mut self,
        now: Moment,
        (key, body): (&ChannelKey, &Body),
        says: &ClientSays,
        expiry_ms: Option<u64>,
        drawn: ClientToken,
    ) -> Result<Answer, ChannelRefusal> {
        self.sweep(now);
        if says.id.as_ref().is_some_and(|id| *id != body.client) {
            return Err(ChannelRefusal::OtherClient);
        }
        let expiry_ms = expiry_ms.unwrap_or(millis(CHANNEL_EXPIRY_DEFAULT));
        if !(millis(CHANNEL_EXPIRY_MIN)..=millis(CHANNEL_EXPIRY_MAX)).contains(&expiry_ms) {
            return Err(ChannelRefusal::Expiry);
        }
        let strict = self.beginning.strict;
        let known = self.channels.get_mut(key).and_then(|channel| channel.feed.get_mut(&body.client));
        let is_known = known.is_some();
        let mut is_told = !is_known;
        if let Some(client) = known {
            if says.token.is_none() && client.token.is(drawn) {
                is_told = true;
            } else {
                client.admits(says.token, strict)?;
            }
            client.owned |= says.token.is_some();
            if client.is_late(says) {
                return Ok((ChannelReply::NoUpdate { late: true, token: None }, String::new()));
            }
            if !client.allowance.take(now) {
                return Err(ChannelRefusal::TooFast);
            }
        }
        self.make_room(key, body, is_known)?;
        self.version += 1;
        let version = self.version;
        let channel = self
            .channels
            .entry(key.clone())
            .or_insert_with(|| Channel { expiry_ms, feed: Feed::new(version) });
        let token = says.token.unwrap_or(drawn);
        let mut allowance = Allowance { left: Allowance::FULL, at: now };
        let new = || {
            allowance.take(now);
            let alarm = (now, 0);
            Client { posted: now, time: None, token, owned: says.token.is_some(), allowance, alarm }
        };
        let news = channel.feed.set(&body.client, body.text.clone(), version, new);
        if let Some(client) = channel.feed.get_mut(&body.client) {
            client.posted = now;
            client.note_time(says);
        }
        let gone_at = now.plus(channel.expiry_ms);
        if news {
            self.changed.insert(key.clone());
        }
        if !is_known {
            self.set_alarm(gone_at, key.clone(), body.client.clone());
        }
        let token = is_told.then_some(token);
        Ok(self.bodies(now, key, Some(&body.client), token))
    }

    /// Counts what a post will take, or refuses it.
    fn make_room(&mut self, key: &ChannelKey, body: &Body, is_known: bool) -> Result<(), ChannelRefusal> {
        let channel = self.channels.get(key);
        let before =
            channel.and_then(|channel| channel.feed.get(&body.client)).map_or(0, |row| row.body.len());
        let of_channel = channel.map_or(0, |channel| channel.feed.bytes()) - before + body.text.len();
        let clients = channel.map_or(0, |channel| channel.feed.len()) + usize::from(!is_known);
        let mut bytes = self.bytes - before + body.text.len();
        if !is_known {
            bytes += cost(body.client.as_str().len());
        }
        if channel.is_none() {
            bytes += cost(key.as_str().len());
        }
        let too_many = channel.is_none() && self.channels.len() >= CHANNELS_MAX;
        // Nobody is refused for saying less than before.
        let grows = bytes > self.bytes;
        if too_many
            || clients > CHANNEL_CLIENTS_MAX
            || grows && (of_channel > CHANNEL_BYTES_MAX || bytes > CHANNELS_BYTES_MAX)
        {
            return Err(ChannelRefusal::Full);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Everybody's bodies; of an unknown channel none. Unless the asker has that state already.
    pub fn get(
        &mut self,
        now: Moment,
        key: &ChannelKey,
        says: &ClientSays,
        known: Option<ChannelState>,
    ) -> Answer {
        self.sweep(now);
        let strict = self.beginning.strict;
        let asker = self.channels.get_mut(key).zip(says.id.as_ref());
        if let Some(client) = asker.and_then(|(channel, id)| channel.feed.get_mut(id)) {
            if client.is_late(says) {
                return (ChannelReply::NoUpdate { late: true, token: None }, String::new());
            }
            // Anybody can ask in its name; a time far ahead would lock it out.
            if client.admits(says.token, strict).is_ok() {
                client.note_time(says);
            }
        }
        let state = self.state(key);
        if known == Some(state) && now >= self.grace_until {
            return (
                ChannelReply::Unchanged { state, server_time_ms: self.server_time_ms(now) },
                String::new(),
            );
        }
        self.bodies(now, key, None, None)
    }

    fn state(&self, key: &ChannelKey) -> ChannelState {
        let version = self.channels.get(key).map_or(0, |channel| channel.feed.version());
        ChannelState { epoch: self.beginning.epoch, version }
    }

    fn bodies(
        &self,
        now: Moment,
        key: &ChannelKey,
        except: Option<&ClientId>,
        token: Option<ClientToken>,
    ) -> Answer {
        if now < self.grace_until {
            return (ChannelReply::NoUpdate { late: false, token }, String::new());
        }
        let list =
            self.channels.get(key).map_or_else(|| "[]".to_owned(), |channel| channel.feed.list(except));
        let (state, server_time_ms) = (self.state(key), self.server_time_ms(now));
        (ChannelReply::Bodies { state, server_time_ms, token }, list)
    }

    /// Which channels there are.
    pub fn list(&mut self, now: Moment) -> ChannelReply {
        self.sweep(now);
        if now < self.grace_until {
            return ChannelReply::NoUpdate { late: false, token: None };
        }
        ChannelReply::Channels { channels: self.channels.keys().cloned().collect() }
    }

    /// A client leaves.
    ///
    /// # Errors
    /// When it is not there, or this is not it.
    pub fn leave(
        &mut self,
        now: Moment,
        key: &ChannelKey,
        id: &ClientId,
        token: Option<ClientToken>,
    ) -> Result<ChannelReply, ChannelRefusal> {
        self.sweep(now);
        match self.channels.get(key).and_then(|channel| channel.feed.get(id)) {
            Some(row) => row.more.admits(token, self.beginning.strict)?,
            // It has not posted since the proxy changed.
            None if now < self.grace_until => return Ok(ChannelReply::NoUpdate { late: false, token: None }),
            None => return Err(ChannelRefusal::NoClient),
        }
        self.remove(key, id);
        Ok(ChannelReply::Left)
    }

    fn remove(&mut self, key: &ChannelKey, id: &ClientId) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        self.version += 1;
        if let Some(row) = channel.feed.remove(id, self.version) {
            self.alarms.remove(&row.more.alarm);
            self.bytes -= row.body.len() + cost(row.id.as_str().len());
            self.changed.insert(key.clone());
        }
        if channel.feed.is_empty() {
            self.bytes -= cost(key.as_str().len());
            self.channels.remove(key);
        }
    }

    /// What is new to a follower; `None`: nothing is given out yet.
    pub fn changes(&mut self, now: Moment, key: &ChannelKey, cursor: &mut Cursor) -> Option<Changes> {
        self.sweep(now);
        let feed = self.channels.get(key).map(|channel| &channel.feed);
        (now >= self.grace_until).then(|| cursor.catch_up(feed, self.beginning.epoch, self.version))
    }
}

#[cfg(test)]
mod tests;
