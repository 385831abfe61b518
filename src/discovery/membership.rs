//! Who is here, since when, and how fresh. Pure.
//!
//! Invariant: what is kept of a node never goes back: a beacon of an older run, or of the same run
//! with a sequence that was passed, changes nothing. A node is suspect only when its beacons and
//! its TCP heartbeats are both silent, because Wi-Fi loses broadcasts.

use crate::clock::Moment;
use crate::limits::{
    ADDRESSES_PER_NODE_MAX, FORGET_AFTER_MS, GOODBYE_GRACE_MS, HEAL_LAST_COPY_AFTER_MS, NODES_MAX,
    SUSPECT_AFTER_MS,
};
use crate::types::{InstanceId, NodeId, NodeRoute, Presence};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// How something was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// In a sealed datagram.
    Datagram,
    /// Over TLS, from the node itself.
    Link,
}

/// How long a node has been silent, in the steps that matter. Ordered from alive to gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Heard within the suspect time.
    Up,
    /// Silent longer: nothing is placed or read there.
    Suspect,
    /// Silent so long that a content's last other copy is not waited for any more.
    Late,
    /// Said goodbye, and its grace is not over.
    Away,
    /// Its copies are to be replaced.
    Gone,
}

/// What came of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A replay, or from an older run: ignored.
    Stale,
    /// A node that was not known.
    New,
    /// A known node in a new run: what it reported before is void.
    Restarted,
    /// A known node.
    Known,
}

/// One node as heard.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it last said.
    pub presence: Presence,
    /// Where it was heard from, with its TCP port, and when.
    addresses: Vec<(SocketAddr, Moment)>,
    datagram_at: Option<Moment>,
    link_at: Option<Moment>,
    datagram_sequence: u64,
    link_sequence: u64,
    goodbye_at: Option<Moment>,
    /// Another run that has proved itself while this one was silent.
    proven: Option<InstanceId>,
}

impl Member {
    /// When it was last heard at all.
    #[must_use]
    pub fn heard_at(&self) -> Moment {
        self.datagram_at.max(self.link_at).unwrap_or_default()
    }

    /// When its broadcast was last heard.
    #[must_use]
    pub fn datagram_at(&self) -> Option<Moment> {
        self.datagram_at
    }

    /// When it was last heard over a link.
    #[must_use]
    pub fn link_at(&self) -> Option<Moment> {
        self.link_at
    }

    /// How fresh it is at `now`; silent for `heal_after_ms` it is gone.
    #[must_use]
    pub fn freshness(&self, now: Moment, heal_after_ms: u64) -> Freshness {
        let silence_ms = now.since(self.heard_at());
        if let Some(at) = self.goodbye_at {
            return if now.since(at) < GOODBYE_GRACE_MS.max(heal_after_ms) {
                Freshness::Away
            } else {
                Freshness::Gone
            };
        }
        if silence_ms < SUSPECT_AFTER_MS {
            Freshness::Up
        } else if silence_ms >= heal_after_ms.max(SUSPECT_AFTER_MS) {
            Freshness::Gone
        } else if silence_ms >= HEAL_LAST_COPY_AFTER_MS {
            Freshness::Late
        } else {
            Freshness::Suspect
        }
    }

    /// How to reach it: the address heard last comes first, those of this machine alone last.
    #[must_use]
    pub fn route(&self) -> NodeRoute {
        let mut addresses = self.addresses.clone();
        addresses.sort_by_key(|(address, at)| (address.ip().is_loopback(), std::cmp::Reverse(*at)));
        NodeRoute {
            node: self.presence.node,
            name: self.presence.name.clone(),
            machine: self.presence.machine.clone(),
            addresses: addresses.into_iter().map(|(address, _)| address).collect(),
        }
    }

    fn note_address(&mut self, now: Moment, source: IpAddr) {
        let address = SocketAddr::new(source, self.presence.tcp_port);
        self.addresses.retain(|(known, _)| *known != address);
        if self.addresses.len() >= ADDRESSES_PER_NODE_MAX {
            let oldest = self.addresses.iter().enumerate().min_by_key(|(_, (_, at))| *at).map(|(i, _)| i);
            oldest.map(|index| self.addresses.remove(index));
        }
        self.addresses.push((address, now));
    }
}

/// All nodes of this cluster that were heard, except this one.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    members: BTreeMap<NodeId, Member>,
}

impl Membership {
    /// Takes in what a node said of itself, heard from `source`.
    pub fn announced(&mut self, now: Moment, presence: Presence, source: IpAddr, via: Via) -> Heard {
        let node = presence.node;
        let Some(member) = self.members.get_mut(&node) else {
            if self.members.len() >= NODES_MAX && !self.forget_one(now, via) {
                return Heard::Stale;
            }
            let mut member = Member {
                presence,
                addresses: Vec::new(),
                datagram_at: None,
                link_at: None,
                datagram_sequence: 0,
                link_sequence: 0,
                goodbye_at: None,
                proven: None,
            };
            member.heard(now, via);
            member.note_address(now, source);
            self.members.insert(node, member);
            return Heard::New;
        };
        // A lower run is a replay; unless the node proves itself and the known run is silent: then
        // its folder was restored from a backup.
        let proven = via == Via::Link || member.proven == Some(presence.instance);
        let restored = proven && now.since(member.heard_at()) >= SUSPECT_AFTER_MS;
        if presence.generation < member.presence.generation && !restored {
            return Heard::Stale;
        }
        if presence.instance != member.presence.instance {
            if presence.generation == member.presence.generation && !proven {
                return Heard::Stale; // another run with the same number: only a proven one is believed
            }
            member.presence = presence;
            member.addresses.clear();
            (member.datagram_sequence, member.link_sequence) = (0, 0);
            (member.datagram_at, member.link_at, member.goodbye_at) = (None, None, None);
            member.proven = None;
            member.heard(now, via);
            member.note_address(now, source);
            return Heard::Restarted;
        }
        let passed = match via {
            Via::Datagram => member.datagram_sequence,
            Via::Link => member.link_sequence,
        };
        if presence.sequence < passed {
            return Heard::Stale;
        }
        if presence.sequence == passed {
            // The same beacon by another interface: one more way to reach it, nothing else.
            member.note_address(now, source);
            return Heard::Stale;
        }
        let newer = presence.sequence >= member.datagram_sequence.max(member.link_sequence);
        let sequence = presence.sequence;
        if newer {
            member.presence = presence;
        }
        match via {
            Via::Datagram => member.datagram_sequence = sequence,
            Via::Link => member.link_sequence = sequence,
        }
        member.goodbye_at = None;
        match via {
            Via::Datagram => member.datagram_at = Some(now),
            Via::Link => member.link_at = Some(now),
        }
        member.note_address(now, source);
        Heard::Known
    }

    /// A node left on purpose. Ignored when it speaks of another run than the known one.
    pub fn said_goodbye(&mut self, now: Moment, node: NodeId, instance: InstanceId) -> bool {
        match self.members.get_mut(&node) {
            Some(member) if member.presence.instance == instance && member.goodbye_at.is_none() => {
                member.goodbye_at = Some(now);
                true
            }
            _ => false,
        }
    }

    /// A node speaks in another run than the known one, over TLS. If the known one is silent, the
    /// beacons of this one will be believed, whatever its number: a restored folder counts anew.
    pub fn spoke(&mut self, now: Moment, node: NodeId, instance: InstanceId) {
        if let Some(member) = self.members.get_mut(&node)
            && member.presence.instance != instance
            && now.since(member.heard_at()) >= SUSPECT_AFTER_MS
        {
            member.proven = Some(instance);
        }
    }

    /// The node, if known.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// All nodes known, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Forgets nodes that have been silent for [`FORGET_AFTER_MS`].
    pub fn forget_old(&mut self, now: Moment) {
        self.members.retain(|_, member| now.since(member.heard_at()) < FORGET_AFTER_MS);
    }

    /// Makes room: drops a node that is not up, one that never proved itself first; else, for one that
    /// did, a node that never did. Whoever has the key can make up any number of those.
    fn forget_one(&mut self, now: Moment, via: Via) -> bool {
        let expendable = self.members.iter().filter(|(_, member)| {
            let silent = now.since(member.heard_at()) >= SUSPECT_AFTER_MS;
            silent || (via == Via::Link && member.link_at.is_none())
        });
        let first = expendable.min_by_key(|(_, member)| (member.link_at.is_some(), member.heard_at()));
        let Some(node) = first.map(|(node, _)| *node) else {
            return false;
        };
        self.members.remove(&node).is_some()
    }
}

impl Member {
    fn heard(&mut self, now: Moment, via: Via) {
        match via {
            Via::Datagram => {
                self.datagram_at = Some(now);
                self.datagram_sequence = self.presence.sequence;
            }
            Via::Link => {
                self.link_at = Some(now);
                self.link_sequence = self.presence.sequence;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::types::{DiskId, DiskState, Lineage, MachineId, Pin, Term};

    /// A presence for tests: node `n` in its first run.
    pub(crate) fn presence(n: u8) -> Presence {
        Presence {
            node: NodeId([n; 16]),
            instance: InstanceId(u64::from(n)),
            generation: 1,
            sequence: 1,
            machine: MachineId::parse(&format!("m{n}")).expect("valid"),
            name: format!("h{n}").into(),
            tcp_port: 7667,
            http_port: 0,
            pin: Pin::Auto,
            storage: true,
            draining: false,
            term: Term::default(),
            proxy: None,
            disk: DiskId([n; 16]),
            disk_state: DiskState::Ok,
            capacity_bytes: 1 << 40,
            used_bytes: 0,
            free_bytes: 1 << 40,
            contents: 0,
            inventory_digest: 0,
            catalog_digest: 0,
            lineage: vec![Lineage([1; 16])],
            established: false,
            wall_ms: 0,
            version: "0.1.0".into(),
        }
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn beacon(n: u8, sequence: u64) -> Presence {
        Presence { sequence, ..presence(n) }
    }

    #[test]
    fn a_node_is_suspect_only_when_both_ways_are_silent() {
        let mut members = Membership::default();
        assert_eq!(members.announced(Moment(0), beacon(1, 1), SOURCE, Via::Datagram), Heard::New);
        members.announced(Moment(2_500), beacon(1, 2), SOURCE, Via::Link);
        let member = members.get(NodeId([1; 16])).expect("known");
        assert_eq!(member.freshness(Moment(5_000), 60_000), Freshness::Up);
        assert_eq!(member.freshness(Moment(5_500), 60_000), Freshness::Suspect);
        assert_eq!(member.freshness(Moment(17_500), 60_000), Freshness::Late);
        assert_eq!(member.freshness(Moment(62_500), 60_000), Freshness::Gone);
        assert_eq!(member.freshness(Moment(8_000), 5_000), Freshness::Gone);
    }

    /// A node restored from a backup spoke over a link that had been opened too early to be
    /// believed; all that it said later on that link was ignored, for ever.
    #[test]
    fn a_run_that_speaks_over_a_link_is_believed_once_the_known_one_is_silent() {
        let restored = |sequence| Presence { instance: InstanceId(99), generation: 0, ..beacon(1, sequence) };
        for speaks in [false, true] {
            let mut members = Membership::default();
            members.announced(Moment(0), beacon(1, 5), SOURCE, Via::Datagram);
            assert_eq!(members.announced(Moment(2_000), restored(1), SOURCE, Via::Link), Heard::Stale);
            members.spoke(Moment(2_000), NodeId([1; 16]), InstanceId(99));
            assert_eq!(members.announced(Moment(4_000), restored(2), SOURCE, Via::Datagram), Heard::Stale);
            if speaks {
                members.spoke(Moment(4_000), NodeId([1; 16]), InstanceId(99));
            }
            let heard = members.announced(Moment(5_000), restored(3), SOURCE, Via::Datagram);
            assert_eq!(heard, if speaks { Heard::Restarted } else { Heard::Stale });
        }
    }

    #[test]
    fn replays_change_nothing() {
        let mut members = Membership::default();
        members.announced(Moment(0), beacon(1, 5), SOURCE, Via::Datagram);
        assert_eq!(members.announced(Moment(9_000), beacon(1, 5), SOURCE, Via::Datagram), Heard::Stale);
        assert_eq!(members.announced(Moment(9_000), beacon(1, 4), SOURCE, Via::Datagram), Heard::Stale);
        let old_run = Presence { generation: 0, instance: InstanceId(99), sequence: 100, ..presence(1) };
        assert_eq!(members.announced(Moment(9_000), old_run, SOURCE, Via::Datagram), Heard::Stale);
        let member = members.get(NodeId([1; 16])).expect("known");
        assert_eq!(member.freshness(Moment(9_000), 60_000), Freshness::Suspect);
    }

    #[test]
    fn a_new_run_replaces_the_old_and_voids_its_goodbye() {
        let mut members = Membership::default();
        members.announced(Moment(0), beacon(1, 5), SOURCE, Via::Datagram);
        assert!(members.said_goodbye(Moment(1), NodeId([1; 16]), InstanceId(1)));
        assert!(!members.said_goodbye(Moment(1), NodeId([1; 16]), InstanceId(7)));
        let state = |members: &Membership, at| {
            members.get(NodeId([1; 16])).map(|member| member.freshness(Moment(at), 60_000))
        };
        assert_eq!(state(&members, 70_000), Some(Freshness::Away));
        assert_eq!(state(&members, 700_000), Some(Freshness::Gone));
        let run = Presence { generation: 2, instance: InstanceId(2), sequence: 1, ..presence(1) };
        assert_eq!(members.announced(Moment(80_000), run, SOURCE, Via::Datagram), Heard::Restarted);
        assert_eq!(state(&members, 80_001), Some(Freshness::Up));
    }

    #[test]
    fn a_route_prefers_addresses_that_others_can_reach() {
        let mut members = Membership::default();
        members.announced(Moment(0), beacon(1, 1), SOURCE, Via::Datagram);
        members.announced(Moment(5), beacon(1, 1), IpAddr::from([127, 0, 0, 1]), Via::Datagram);
        let route = members.get(NodeId([1; 16])).expect("known").route();
        assert_eq!(route.addresses.len(), 2);
        assert_eq!(route.addresses[0].ip(), SOURCE);
    }

    #[test]
    fn a_proven_node_takes_the_place_of_one_that_may_be_made_up() {
        let made_up = |number: usize| {
            let mut node = [0xff; 16];
            node[..8].copy_from_slice(&number.to_be_bytes());
            Presence { node: NodeId(node), ..presence(9) }
        };
        let mut members = Membership::default();
        members.announced(Moment(0), beacon(1, 1), SOURCE, Via::Link);
        for number in 1..NODES_MAX {
            members.announced(Moment(1_000), made_up(number), SOURCE, Via::Datagram);
        }
        assert_eq!(members.announced(Moment(1_000), beacon(2, 1), SOURCE, Via::Datagram), Heard::Stale);
        assert_eq!(members.announced(Moment(1_000), beacon(2, 1), SOURCE, Via::Link), Heard::New);
        // Now the proven are silent, and so are the others: those go first.
        for number in NODES_MAX..2 * NODES_MAX - 2 {
            assert_eq!(members.announced(Moment(9_000), made_up(number), SOURCE, Via::Datagram), Heard::New);
        }
        assert!(members.get(NodeId([1; 16])).is_some() && members.get(NodeId([2; 16])).is_some());
        assert_eq!(members.iter().count(), NODES_MAX);
    }
}
