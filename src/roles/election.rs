//! Who leads: a pure function of what a node hears. No votes.
//!
//! Promises never depend on there being one proxy: two are harmless, merely wasteful, so the
//! election aims for speed and calm. Invariants: an incumbent that is heard stays (only a node
//! pinned to the proxy role replaces one that is not); of two leaders that meet the one with the
//! higher term stays; nobody stands while a fresh peer still hears the incumbent, so that one bad
//! cable does not flap the LAN.

use crate::clock::Moment;
use crate::limits::{ELECTION_FIRST_WAIT_MS, ELECTION_WAIT_MS};
use crate::types::{NodeId, Pin, Presence, Term};

/// What a node decides about the proxy's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do: lead on, follow on, or wait on.
    Stay,
    /// Follow the leader of this term.
    Follow(Term),
    /// Lead, under this term.
    Stand(Term),
}

/// What a node knows when it decides.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Now.
    pub now: Moment,
    /// When this node started.
    pub started: Moment,
    /// What this node says of itself.
    pub me: &'a Presence,
    /// What the nodes say that are up, in this cluster.
    pub peers: &'a [&'a Presence],
    /// When an incumbent was last heard (also this node while it led).
    pub incumbent_at: Option<Moment>,
    /// The incumbent said goodbye: nobody waits for it.
    pub incumbent_left: bool,
}

/// Whether a node with this presence may lead at all.
#[must_use]
pub fn is_eligible(presence: &Presence) -> bool {
    match presence.pin {
        Pin::Proxy | Pin::Storage => true,
        Pin::Auto => presence.storage,
        Pin::Client => false,
    }
}

/// The order in which nodes stand: pinned proxies, then those that may, then those pinned to
/// storage (only where nobody else can); nodes that have the files before empty ones.
fn rank(presence: &Presence) -> (u8, bool, NodeId) {
    let role = match presence.pin {
        Pin::Proxy => 0,
        Pin::Auto => 1,
        Pin::Storage => 2,
        Pin::Client => 3,
    };
    (role, !presence.established, presence.node)
}

/// Whether a node says that it leads.
#[must_use]
pub fn leads(presence: &Presence) -> bool {
    presence.proxy == Some(presence.node) && presence.term.proxy == presence.node
}

/// Decides. Call it whenever something was heard, and when time has passed.
#[must_use]
pub fn decide(view: &View<'_>) -> Verdict {
    let me = view.me;
    let i_lead = leads(me);
    let leader = view.peers.iter().filter(|peer| leads(peer)).map(|peer| peer.term).max();
    let highest = view.peers.iter().map(|peer| peer.term).chain([me.term]).max().unwrap_or(me.term);
    let next = Term { number: highest.number.saturating_add(1), proxy: me.node };

    if let Some(leader) = leader {
        if i_lead && me.term > leader {
            // The other steps down when it hears of this.
            return if highest > me.term { Verdict::Stand(next) } else { Verdict::Stay };
        }
        if i_challenge(view, leader) {
            return Verdict::Stand(next);
        }
        // A leader of a lower term than one obeyed before has not heard of that one yet: it will
        // take a higher term when it does. Following it now would be to obey a lower term.
        return if leader > me.term || (leader == me.term && me.proxy != Some(leader.proxy)) {
            Verdict::Follow(leader)
        } else {
            Verdict::Stay
        };
    }
    if i_lead {
        // Somebody obeyed a higher term whose proxy is gone: take a higher one to be obeyed.
        return if highest > me.term { Verdict::Stand(next) } else { Verdict::Stay };
    }
    if !is_eligible(me) || view.peers.iter().any(|peer| hears_incumbent(view, peer)) {
        return Verdict::Stay;
    }
    let waited = match view.incumbent_at {
        _ if view.incumbent_left => true,
        Some(at) => view.now.since(at) >= ELECTION_WAIT_MS,
        None => true,
    };
    let listened = view.now.since(view.started) >= ELECTION_FIRST_WAIT_MS;
    let first = view.peers.iter().filter(|peer| is_eligible(peer)).all(|peer| rank(me) < rank(peer));
    if waited && listened && first { Verdict::Stand(next) } else { Verdict::Stay }
}

/// A pinned proxy replaces an incumbent that leads only because somebody must.
fn i_challenge(view: &View<'_>, leader: Term) -> bool {
    let incumbent = view.peers.iter().find(|peer| peer.node == leader.proxy);
    view.me.pin == Pin::Proxy
        && view.now.since(view.started) >= ELECTION_FIRST_WAIT_MS
        && incumbent.is_some_and(|incumbent| incumbent.pin != Pin::Proxy)
        && view.peers.iter().filter(|peer| peer.pin == Pin::Proxy).all(|peer| rank(view.me) < rank(peer))
}

/// Whether `peer` still hears a proxy that this node does not. A proxy that left on purpose is
/// not worth waiting for, whatever a peer has not heard yet.
fn hears_incumbent(view: &View<'_>, peer: &Presence) -> bool {
    match peer.proxy {
        Some(proxy) => proxy != view.me.node && !(view.incumbent_left && proxy == view.me.term.proxy),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DiskId, DiskState, InstanceId, Lineage, MachineId};

    fn node(n: u8) -> Presence {
        Presence {
            node: NodeId([n; 16]),
            instance: InstanceId(u64::from(n)),
            generation: 1,
            sequence: 1,
            machine: MachineId::parse("m").expect("valid"),
            name: "h".into(),
            tcp_port: 1,
            http_port: 0,
            pin: Pin::Auto,
            storage: true,
            draining: false,
            term: Term::default(),
            proxy: None,
            disk: DiskId::default(),
            disk_state: DiskState::Ok,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            contents: 0,
            inventory_digest: 0,
            catalog_digest: 0,
            lineage: vec![Lineage::default()],
            established: false,
            wall_ms: 0,
            version: "1".into(),
        }
    }

    fn leading(n: u8, number: u64) -> Presence {
        let id = NodeId([n; 16]);
        Presence { term: Term { number, proxy: id }, proxy: Some(id), ..node(n) }
    }

    fn follower(n: u8, of: &Presence) -> Presence {
        Presence { term: of.term, proxy: Some(of.node), ..node(n) }
    }

    fn at<'a>(now: u64, me: &'a Presence, peers: &'a [&'a Presence]) -> View<'a> {
        View { now: Moment(now), started: Moment(0), me, peers, incumbent_at: None, incumbent_left: false }
    }

    #[test]
    fn a_lone_node_stands_after_its_first_wait() {
        let me = node(1);
        assert_eq!(decide(&at(900, &me, &[])), Verdict::Stay);
        assert_eq!(decide(&at(1_000, &me, &[])), Verdict::Stand(Term { number: 1, proxy: me.node }));
    }

    #[test]
    fn of_several_only_the_lowest_ranked_stands() {
        let (a, b) = (node(1), node(2));
        assert!(matches!(decide(&at(1_000, &a, &[&b])), Verdict::Stand(_)));
        assert_eq!(decide(&at(1_000, &b, &[&a])), Verdict::Stay);
        let full = Presence { established: true, ..node(2) };
        assert!(matches!(decide(&at(1_000, &full, &[&a])), Verdict::Stand(_)), "who has files goes first");
        let client = Presence { pin: Pin::Client, ..node(0) };
        assert_eq!(decide(&at(9_000, &client, &[])), Verdict::Stay);
    }

    #[test]
    fn an_incumbent_that_is_heard_stays_also_against_a_lower_rank() {
        let leader = leading(9, 4);
        let me = node(1);
        assert_eq!(decide(&at(9_000, &me, &[&leader])), Verdict::Follow(leader.term));
        let me = follower(1, &leader);
        assert_eq!(decide(&at(9_000, &me, &[&leader])), Verdict::Stay);
    }

    #[test]
    fn a_silent_incumbent_is_waited_for_and_then_replaced() {
        let leader = leading(9, 4);
        let me = Presence { proxy: None, ..follower(1, &leader) };
        let mut view = at(20_000, &me, &[]);
        view.incumbent_at = Some(Moment(17_500));
        assert_eq!(decide(&view), Verdict::Stay);
        view.incumbent_left = true;
        assert_eq!(decide(&view), Verdict::Stand(Term { number: 5, proxy: me.node }));
        view.incumbent_left = false;
        view.incumbent_at = Some(Moment(17_000));
        assert_eq!(decide(&view), Verdict::Stand(Term { number: 5, proxy: me.node }));
    }

    #[test]
    fn nobody_stands_while_a_fresh_peer_hears_the_incumbent() {
        let leader = leading(9, 4);
        let me = Presence { proxy: None, ..follower(1, &leader) };
        let peer = follower(2, &leader);
        let peers = [&peer];
        let mut view = at(60_000, &me, &peers);
        view.incumbent_at = Some(Moment(1_000));
        assert_eq!(decide(&view), Verdict::Stay);
    }

    #[test]
    fn two_leaders_that_meet_agree_on_the_higher_term() {
        let (low, high) = (leading(1, 4), leading(2, 4));
        assert_eq!(decide(&at(9_000, &low, &[&high])), Verdict::Follow(high.term));
        assert_eq!(decide(&at(9_000, &high, &[&low])), Verdict::Stay);
    }

    #[test]
    fn a_leader_that_meets_a_higher_term_without_its_proxy_takes_a_higher_one() {
        let me = leading(1, 4);
        let peer = Presence { term: Term { number: 7, proxy: NodeId([8; 16]) }, ..node(2) };
        assert_eq!(decide(&at(9_000, &me, &[&peer])), Verdict::Stand(Term { number: 8, proxy: me.node }));
    }

    #[test]
    fn a_pinned_proxy_replaces_one_that_is_not_pinned() {
        let leader = leading(1, 4);
        let me = Presence { pin: Pin::Proxy, storage: false, ..node(2) };
        assert_eq!(decide(&at(1_000, &me, &[&leader])), Verdict::Stand(Term { number: 5, proxy: me.node }));
        let pinned = Presence { pin: Pin::Proxy, ..leading(1, 4) };
        assert_eq!(decide(&at(1_000, &me, &[&pinned])), Verdict::Follow(pinned.term));
    }
}
