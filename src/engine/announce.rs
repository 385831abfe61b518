//! What this node says of itself, which cluster it belongs to, and who leads it.

use super::Engine;
use super::event::{Effect, Note, Via};
use crate::clock::Moment;
use crate::discovery::membership::{Freshness, Heard, Membership};
use crate::limits::{
    ADOPTIONS_MAX, ADOPTIONS_WINDOW_MS, BEACON_HURRIED_INTERVAL_MS, BEACON_INTERVAL_MS, COUNTER_LEAP_MAX,
    FOREIGN_MAX, LINEAGE_MAX, NODES_MAX, SUSPECT_AFTER_MS, TERM_LEAP_FREE,
};
use crate::roles::election::{self, Verdict, View};
use crate::types::{DiskState, InstanceId, Lineage, NodeId, NodeRoute, Pin, Presence, Term};
use crate::wire::message::Message;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// State of beacons and of the election.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    beacon_at: Option<Moment>,
    hurried: bool,
    /// What was said last, to notice changes that others want to hear of at once.
    said: Option<(Term, Option<NodeId>, bool, DiskState)>,
    incumbent_at: Option<Moment>,
    /// When this node last woke up: what it did not hear while it slept says nothing.
    awake_at: Moment,
    /// A term that is being made durable.
    pending: Option<Term>,
    heartbeat_at: Option<Moment>,
    gossip_at: Option<Moment>,
    contacted: BTreeMap<(NodeId, SocketAddr), Moment>,
    clone_noted: bool,
    /// Since when, and how often since then, another cluster was joined.
    adoptions: (Moment, u32),
}

/// How often members are told of others they may not hear, in milliseconds.
const GOSSIP_INTERVAL_MS: u64 = 3_000;
/// How often an unknown node that others speak of is dialled, in milliseconds.
const CONTACT_INTERVAL_MS: u64 = 5_000;

impl Engine {
    pub(super) fn announced(&mut self, presence: Presence, source: IpAddr, via: Via) {
        if presence.node == self.config.node {
            if presence.instance != self.config.instance
                && presence.generation >= self.config.generation
                && !self.announcing.clone_noted
            {
                self.announcing.clone_noted = true;
                self.note(Note::NodeCloned { source });
            }
            return;
        }
        if presence.term.number > self.me.term.number.max(TERM_LEAP_FREE).saturating_add(COUNTER_LEAP_MAX) {
            return; // nobody comes by such a term honestly, and after the last there is none
        }
        if !self.is_of_this_cluster(&presence) {
            if via == Via::Link {
                // It may not hear our broadcasts either, and it is for it to join us.
                self.contact(presence.node, SocketAddr::new(source, presence.tcp_port));
            }
            return;
        }
        let (node, name) = (presence.node, presence.name.clone());
        let was = self.freshness_of(node);
        let (wall_ms, draining, disk) = (presence.wall_ms, presence.draining, presence.disk_state);
        let known = self.presence_of(node);
        let stands_otherwise =
            known.is_some_and(|known| known.draining != draining || known.disk_state != disk);
        let heard = self.members.announced(self.now, presence, source, via);
        let back = was > Freshness::Suspect && self.freshness_of(node) == Freshness::Up;
        if heard != Heard::Stale {
            self.clock_heard(node, wall_ms);
            if stands_otherwise {
                self.look_at_all();
            }
        }
        match heard {
            Heard::Stale => return,
            Heard::New | Heard::Restarted => {
                self.hurry_beacon();
                self.void_reports(node);
                self.note(Note::NodeJoined { name, node });
            }
            Heard::Known if back => self.note(Note::NodeJoined { name, node }),
            Heard::Known => return, // what it says anew is looked at with the next tick
        }
        self.refresh_members();
        self.elect();
    }

    /// Compares clusters. A node with no files adopts the cluster it meets; the same key is consent
    /// to merge; two open clusters with files stay apart until somebody says otherwise.
    fn is_of_this_cluster(&mut self, presence: &Presence) -> bool {
        let mine = &self.me.lineage;
        let established = self.me.established || !self.catalog.context().is_empty();
        let meets = presence.lineage.iter().any(|lineage| mine.contains(lineage));
        if meets || (self.config.secured && established && presence.established) {
            if presence.lineage.iter().any(|lineage| !mine.contains(lineage)) {
                let mut union = mine.clone();
                union.extend(&presence.lineage);
                self.set_lineage(union);
            }
            return true;
        }
        // Of two clusters without files the one that has a proxy goes on, so that a newcomer does not
        // unseat it; between equals the lowest uuid decides.
        let theirs_first = match (presence.proxy.is_some(), self.me.proxy.is_some()) {
            (true, false) => true,
            (false, true) => false,
            _ => presence.lineage.iter().min() < mine.iter().min(),
        };
        // A node that has joined those with files does not change sides, or it would mix the two.
        let settled = established || self.up_nodes().any(|node| node.established);
        if !settled && (presence.established || theirs_first) && self.may_adopt() {
            self.adopt(presence.lineage.clone());
            return true;
        }
        if settled
            && presence.established
            && let Some(lineage) = presence.lineage.iter().min()
        {
            if self.foreign.len() >= FOREIGN_MAX {
                self.foreign.clear(); // those that are there speak again within a second
            }
            self.foreign.insert(*lineage, self.now);
        }
        false
    }

    pub(super) fn set_lineage(&mut self, mut lineage: Vec<Lineage>) {
        lineage.sort_unstable();
        lineage.dedup();
        if lineage.len() > LINEAGE_MAX {
            return; // what is known stays: machines that are off know nothing else
        }
        if lineage != self.me.lineage {
            self.me.lineage.clone_from(&lineage);
            self.effects.push_back(Effect::SaveLineage { lineage });
        }
    }

    /// Machines that start together settle in a few steps; more are somebody's game.
    fn may_adopt(&mut self) -> bool {
        let (since, count) = &mut self.announcing.adoptions;
        if *count == 0 || self.now.since(*since) >= ADOPTIONS_WINDOW_MS {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        *count <= ADOPTIONS_MAX
    }

    /// Joins another cluster: terms of the own, empty one mean nothing there.
    fn adopt(&mut self, lineage: Vec<Lineage>) {
        self.set_lineage(lineage);
        self.leave_office();
        self.members = Membership::default();
        self.freshness.clear();
        self.exchange.forget_peers();
        self.me.proxy = None;
        self.me.term = Term::default();
        self.announcing.pending = None;
        self.announcing.incumbent_at = None;
        self.effects.push_back(Effect::SaveTerm { term: Term::default() });
        let lowest = self.me.lineage.first().copied().unwrap_or_default();
        self.note(Note::ClusterJoined { lineage: lowest });
        self.hurry_beacon();
    }

    /// The engine was not called for so long that everybody seems silent: a laptop slept.
    pub(super) fn woke_up(&mut self) {
        self.announcing.awake_at = self.now;
        self.requests_wake_up();
    }

    pub(super) fn goodbye_heard(&mut self, node: NodeId, instance: InstanceId) {
        if self.members.said_goodbye(self.now, node, instance) {
            self.refresh_members();
            self.elect();
        }
    }

    /// Only the proxy answers, and only by its next broadcast.
    pub(super) fn queried(&mut self) {
        if self.leads() {
            self.hurry_beacon();
        }
    }

    pub(super) fn hurry_beacon(&mut self) {
        self.announcing.hurried = true;
    }

    /// The disk was measured. A proxy that can make nothing durable leads nobody; it may again once
    /// it can.
    pub(super) fn usage(
        &mut self,
        (capacity_bytes, used_bytes, free_bytes): (u64, u64, u64),
        disk: DiskState,
        usable: bool,
    ) {
        if !usable && self.leads() {
            self.leave_office();
            self.me.proxy = None;
        }
        let may_store = matches!(self.config.pin, Pin::Auto | Pin::Storage);
        self.me.capacity_bytes = capacity_bytes;
        self.me.used_bytes = used_bytes;
        self.me.disk_state = disk;
        self.me.storage = usable && may_store && !self.exchange.is_broken();
        self.measure_trash(capacity_bytes, free_bytes);
    }

    /// Notices who fell silent, left or came back, and what follows for copies.
    pub(super) fn refresh_members(&mut self) {
        self.members.forget_old(self.now);
        let now = self.now;
        let heal_after_ms = self.config.heal_after_ms;
        let mut changes = Vec::new();
        for (node, member) in self.members.iter() {
            let fresh = member.freshness(now, heal_after_ms);
            let was = self.freshness.insert(*node, fresh);
            if was != Some(fresh) {
                changes.push((*node, was, fresh, member.presence.name.clone()));
            }
        }
        let members = &self.members;
        self.freshness.retain(|node, _| members.get(*node).is_some());
        for (node, was, fresh, name) in changes {
            // Where copies are replaced at once, a silent node is gone without having been a suspect.
            if was == Some(Freshness::Up) {
                self.note(Note::NodeLost { name, node, left: fresh == Freshness::Away });
            }
            self.member_changed(node);
        }
        if let Some(proxy) = self.me.proxy.filter(|proxy| *proxy != self.config.node)
            && !self.is_led_by(proxy)
        {
            self.me.proxy = None;
        }
    }

    /// Whether `proxy` is up and says that it leads.
    fn is_led_by(&self, proxy: NodeId) -> bool {
        self.freshness_of(proxy) == Freshness::Up
            && self.members.get(proxy).is_some_and(|member| election::leads(&member.presence))
    }

    /// Whether there is nothing to wait for: it said goodbye, or is here and does not lead (it
    /// restarted before anybody missed it).
    fn has_resigned(&self, proxy: NodeId) -> bool {
        match self.freshness_of(proxy) {
            Freshness::Away => true,
            Freshness::Up => !self.is_led_by(proxy),
            _ => false,
        }
    }

    pub(super) fn elect(&mut self) {
        if self.exchange.is_broken() {
            return;
        }
        let proxy = self.me.term.proxy;
        if self.leads() {
            self.announcing.incumbent_at = Some(self.now);
        } else if let Some(member) = self.members.get(proxy) {
            self.announcing.incumbent_at = Some(member.heard_at().max(self.announcing.awake_at));
        }
        let verdict = {
            let peers: Vec<&Presence> =
                self.up_nodes().filter(|presence| presence.node != self.config.node).collect();
            election::decide(&View {
                now: self.now,
                started: self.started.max(self.announcing.awake_at),
                me: &self.me,
                peers: &peers,
                incumbent_at: self.announcing.incumbent_at,
                incumbent_left: proxy != self.config.node && self.has_resigned(proxy),
            })
        };
        match verdict {
            Verdict::Stay => {}
            Verdict::Follow(term) if term == self.me.term => self.follow(term),
            Verdict::Follow(term) | Verdict::Stand(term) => {
                if self.announcing.pending.is_none_or(|pending| pending < term) {
                    self.announcing.pending = Some(term);
                    self.effects.push_back(Effect::SaveTerm { term });
                }
            }
        }
    }

    /// A term is obeyed only once it is durable.
    pub(super) fn term_saved(&mut self, term: Term, durable: bool) {
        if self.announcing.pending != Some(term) {
            return; // of a cluster that was left meanwhile
        }
        self.announcing.pending = None;
        if !durable {
            self.break_down();
            return;
        }
        if term <= self.me.term {
            return;
        }
        self.me.term = term;
        if term.proxy == self.config.node {
            self.me.proxy = Some(self.config.node);
            self.take_office(term);
            self.note(Note::ProxyChanged { term, name: self.config.name.clone() });
            self.hurry_beacon();
            self.report_inventory();
        } else {
            self.leave_office();
            self.follow(term);
        }
    }

    fn follow(&mut self, term: Term) {
        let name = self.presence_of(term.proxy).map(|presence| presence.name.clone());
        self.me.proxy = Some(term.proxy);
        self.hurry_beacon();
        self.note(Note::ProxyChanged { term, name: name.unwrap_or_default() });
        self.report_inventory();
    }

    /// A beacon a second, and at once (at most ten a second) when there is something new to say.
    pub(super) fn beacon_if_due(&mut self) {
        let saying = (self.me.term, self.me.proxy, self.me.storage, self.me.disk_state);
        if self.announcing.said != Some(saying) {
            self.announcing.hurried = true;
        }
        let since = self.announcing.beacon_at.map_or(u64::MAX, |at| self.now.since(at));
        let due =
            since >= BEACON_INTERVAL_MS || (self.announcing.hurried && since >= BEACON_HURRIED_INTERVAL_MS);
        if due {
            self.announcing.said = Some(saying);
            self.announcing.hurried = false;
            self.announcing.beacon_at = Some(self.now);
            self.refresh_presence();
            self.effects.push_back(Effect::Broadcast(Box::new(self.me.clone())));
        }
        let beat = self.announcing.heartbeat_at.map_or(u64::MAX, |at| self.now.since(at));
        if beat >= BEACON_INTERVAL_MS || (due && beat >= BEACON_HURRIED_INTERVAL_MS) {
            self.announcing.heartbeat_at = Some(self.now);
            self.heartbeat();
        }
        self.gossip();
    }

    fn refresh_presence(&mut self) {
        self.me.sequence += 1;
        self.me.wall_ms = self.wall_ms();
        self.me.contents = self.held.len() as u64;
        self.me.catalog_digest = self.catalog.digest();
        self.me.established = !self.catalog.context().is_empty();
    }

    /// Over links: between the proxy and everybody, and to those that broadcast does not reach.
    fn heartbeat(&mut self) {
        let targets: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(node, member)| {
                let fresh = self.freshness_of(**node);
                let unheard =
                    member.datagram_at().is_none_or(|at| self.now.since(at) > SUSPECT_AFTER_MS - 500);
                // One that leads and is not followed may not hear us, and so not know of our term.
                let leads = election::leads(&member.presence);
                fresh < Freshness::Away && (self.leads() || leads || unheard)
            })
            .map(|(node, _)| *node)
            .collect();
        if targets.is_empty() {
            return;
        }
        self.refresh_presence();
        for node in targets {
            let message = Message::Announce(Box::new(self.me.clone()));
            self.effects.push_back(Effect::Send { to: node, message: Box::new(message) });
        }
    }

    /// Who does not hear everybody's broadcasts is told of the others by the proxy.
    fn gossip(&mut self) {
        let due = self.announcing.gossip_at.is_none_or(|at| self.now.since(at) >= GOSSIP_INTERVAL_MS);
        if !self.leads() || !due {
            return;
        }
        self.announcing.gossip_at = Some(self.now);
        let quiet = |at: Option<Moment>| at.is_none_or(|at| self.now.since(at) > SUSPECT_AFTER_MS);
        let up = || self.members.iter().filter(|(node, _)| self.freshness_of(**node) == Freshness::Up);
        if !up().any(|(_, member)| quiet(member.datagram_at())) {
            return;
        }
        let routes: Vec<NodeRoute> = up().map(|(_, member)| member.route()).collect();
        let targets: Vec<NodeId> = up().map(|(node, _)| *node).collect();
        for node in targets {
            self.send(node, Message::Gossip { routes: routes.clone() });
        }
    }

    pub(super) fn gossip_heard(&mut self, routes: &[NodeRoute]) {
        for route in routes {
            let unknown = route.node != self.config.node && self.freshness_of(route.node) != Freshness::Up;
            if unknown {
                for address in route.addresses.iter().filter(|address| !address.ip().is_loopback()) {
                    self.contact(route.node, *address);
                }
            }
        }
    }

    /// Dials those that fell silent and whose broadcasts were never heard: they may be back, and not
    /// hear ours.
    pub(super) fn contact_lost(&mut self) {
        let lost: Vec<NodeRoute> = self
            .members
            .iter()
            .filter(|(node, member)| {
                member.datagram_at().is_none() && self.freshness_of(**node) > Freshness::Suspect
            })
            .map(|(_, member)| member.route())
            .collect();
        for route in lost {
            for address in &route.addresses {
                self.contact(route.node, *address);
            }
        }
    }

    /// Announces this node at an address, not too often.
    fn contact(&mut self, node: NodeId, address: SocketAddr) {
        let now = self.now;
        self.announcing.contacted.retain(|_, at| now.since(*at) < CONTACT_INTERVAL_MS);
        let known = self.announcing.contacted.len() < NODES_MAX;
        if known && !self.announcing.contacted.contains_key(&(node, address)) {
            self.announcing.contacted.insert((node, address), now);
            self.effects.push_back(Effect::Contact { address });
        }
    }
}
