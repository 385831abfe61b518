//! Random histories of several mailboxes: all come to know the same, and every addressee gets each
//! letter once and in order.

use super::*;
use crate::limits::LETTERS_SEEN_MAX;
use crate::types::{LetterType, Priority};
use crate::wire::encode;
use crate::wire::mail::StreamSummary;
use proptest::prelude::*;

const REPLICAS: usize = 4;

fn node(at: usize) -> NodeId {
    NodeId([u8::try_from(at + 1).expect("small"); 16])
}

fn stream(at: usize, run: u64) -> StreamId {
    StreamId { sender: node(at), instance: InstanceId(run), priority: Priority::Normal }
}

fn letter(n: u64, addressees: Vec<NodeId>) -> Letter {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Letter {
        id: LetterId(id),
        kind: LetterType::parse("note").expect("a type"),
        source: "h".into(),
        target: None,
        created_us: n,
        expires_ms: 1_000_000,
        payload: "{}".into(),
        attachments: Vec::new(),
        addressees,
    }
}

struct Replica {
    mailbox: Mailbox,
    rows: BTreeMap<MailKey, MailRow>,
    inbox: Vec<LetterId>,
    run: u64,
}

impl Replica {
    fn keep(&mut self, writes: Vec<MailWrite>) {
        for write in writes {
            match write {
                MailWrite::Put(row) => drop(self.rows.insert(row.key(), *row)),
                MailWrite::Remove(key) => drop(self.rows.remove(&key)),
            }
        }
    }
}

struct Cluster {
    replicas: Vec<Replica>,
    posted: Vec<(StreamId, LetterId, Vec<NodeId>)>,
}

#[derive(Clone, Debug)]
enum Op {
    Post { at: usize, mask: u8 },
    Tell { from: usize, to: usize, pick: usize },
    Compare { from: usize, to: usize },
    Deliver { at: usize, most: usize },
    Cursors { from: usize, to: usize },
    Restart { at: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..REPLICAS;
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, mask)| Op::Post { at, mask }),
        4 => (at.clone(), at.clone(), any::<usize>()).prop_map(|(from, to, pick)| Op::Tell { from, to, pick }),
        2 => (at.clone(), at.clone()).prop_map(|(from, to)| Op::Compare { from, to }),
        4 => (at.clone(), 1_usize..4).prop_map(|(at, most)| Op::Deliver { at, most }),
        3 => (at.clone(), at.clone()).prop_map(|(from, to)| Op::Cursors { from, to }),
        1 => at.prop_map(|at| Op::Restart { at }),
    ]
}

impl Cluster {
    fn new() -> Cluster {
        let replica = |at: usize| Replica {
            mailbox: Mailbox::default(),
            rows: BTreeMap::new(),
            inbox: Vec::new(),
            run: at as u64 + 1,
        };
        Cluster { replicas: (0..REPLICAS).map(replica).collect(), posted: Vec::new() }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Post { at, mask } => {
                let stream = stream(at, self.replicas[at].run);
                let addressees: Vec<NodeId> =
                    (0..REPLICAS).filter(|to| mask >> to & 1 == 1).map(node).collect();
                let letter = letter(self.posted.len() as u64 + 1, addressees.clone());
                self.posted.push((stream, letter.id, addressees));
                let number = self.replicas[at].mailbox.next_number(stream);
                self.merge(at, vec![(LetterPlace { stream, number }, letter)]);
            }
            Op::Tell { from, to, pick } => {
                let mailbox = &self.replicas[from].mailbox;
                let places: Vec<LetterPlace> = mailbox.places.values().copied().collect();
                if let Some(place) = places.get(pick % places.len().max(1)) {
                    let letter = Letter::clone(mailbox.letter(*place).expect("held"));
                    self.merge(to, vec![(*place, letter)]);
                }
            }
            Op::Compare { from, to } => self.compare(from, to),
            Op::Deliver { at, most } => self.deliver(at, most),
            Op::Cursors { from, to } => {
                let me = node(from);
                let mailbox = &self.replicas[from].mailbox;
                let cursors: Vec<(StreamId, u64)> =
                    mailbox.streams().map(|stream| (stream, mailbox.cursor(me, stream))).collect();
                let merged = self.replicas[to].mailbox.merge_cursors(me, &cursors);
                self.replicas[to].keep(merged.writes);
            }
            Op::Restart { at } => {
                let replica = &mut self.replicas[at];
                let loaded = Mailbox::load(replica.rows.values().cloned());
                assert_eq!(loaded.digest(), replica.mailbox.digest(), "all that is known was written down");
                let sizes =
                    |mailbox: &Mailbox| (mailbox.len(), mailbox.bytes, mailbox.spans, mailbox.seen.len());
                assert_eq!(sizes(&loaded), sizes(&replica.mailbox));
                let spans: usize = loaded.streams.values().map(|stream| stream.done.spans()).sum();
                assert_eq!((loaded.spans, loaded.seen_order.len()), (spans, loaded.seen.len()));
                replica.mailbox = loaded;
                replica.run += 100;
            }
        }
    }

    fn merge(&mut self, at: usize, letters: Vec<(LetterPlace, Letter)>) {
        let merged = self.replicas[at].mailbox.merge_letters(letters, Some(10));
        self.replicas[at].keep(merged.writes);
    }

    /// `from` tells what it knows in small pages, and gets what it lacks.
    fn compare(&mut self, from: usize, to: usize) {
        let mut after = None;
        loop {
            let (rows, last) = self.replicas[from].mailbox.summary(after, 100);
            let states: Vec<_> = rows.iter().map(|row| (row.stream, row.state.clone())).collect();
            let merged = self.replicas[to].mailbox.merge_states(&states, None);
            self.replicas[to].keep(merged.writes);
            let mailbox = &self.replicas[to].mailbox;
            let lacking = mailbox.lacking(after, &rows, last).into_iter();
            let letters =
                lacking.map(|place| (place, Letter::clone(mailbox.letter(place).expect("held")))).collect();
            self.merge(from, letters);
            if last {
                return;
            }
            after = rows.last().map(|row| row.stream);
        }
    }

    fn deliver(&mut self, at: usize, most: usize) {
        let me = node(at);
        let replica = &mut self.replicas[at];
        for stream in replica.mailbox.streams().collect::<Vec<_>>() {
            let from = replica.mailbox.cursor(me, stream);
            let (due, upto) = replica.mailbox.due(me, stream, from, most);
            let letters: Vec<(LetterId, u64)> = due.iter().map(|(_, l)| (l.id, l.expires_ms)).collect();
            replica.inbox.extend(letters.iter().map(|(id, _)| *id));
            let merged = replica.mailbox.delivered(me, stream, upto, &letters);
            replica.keep(merged.writes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everybody_gets_each_letter_once_and_in_order(ops in prop::collection::vec(op(), 1..90)) {
        let mut cluster = Cluster::new();
        for op in &ops {
            cluster.run(op);
        }
        for _ in 0..4 {
            for (a, b) in (0..REPLICAS).flat_map(|a| (0..REPLICAS).map(move |b| (a, b))) {
                cluster.compare(a, b);
                cluster.deliver(a, 100);
            }
        }
        let digest = cluster.replicas[0].mailbox.digest();
        for (at, replica) in cluster.replicas.iter().enumerate() {
            prop_assert_eq!(replica.mailbox.digest(), digest);
            prop_assert!(replica.mailbox.is_empty());
            prop_assert_eq!(replica.mailbox.bytes, 0);
            let mut inbox = replica.inbox.clone();
            for stream in cluster.posted.iter().map(|(stream, ..)| *stream).collect::<BTreeSet<_>>() {
                let of = |(posted, _, to): &&(StreamId, LetterId, Vec<NodeId>)| {
                    *posted == stream && to.contains(&node(at))
                };
                let sent: Vec<LetterId> = cluster.posted.iter().filter(of).map(|(_, id, _)| *id).collect();
                let got: Vec<LetterId> = inbox.iter().filter(|id| sent.contains(id)).copied().collect();
                prop_assert_eq!(&got, &sent);
                inbox.retain(|id| !sent.contains(id));
            }
            prop_assert_eq!(inbox, Vec::<LetterId>::new());
        }
    }
}

#[test]
fn what_is_over_leaves_nothing_behind() {
    let mut cluster = Cluster::new();
    for n in 0..20 {
        cluster.run(&Op::Post { at: 0, mask: if n % 2 == 0 { 2 } else { 0 } });
        cluster.replicas[0].keep(Vec::new());
    }
    cluster.compare(1, 0);
    cluster.deliver(1, 100);
    let replica = &mut cluster.replicas[1];
    let heard = replica.mailbox.heard(node(2), "h2", 0);
    replica.keep(heard);
    let present = BTreeSet::new();
    let early = replica.mailbox.expire(1_000_000, &present);
    replica.keep(early.writes);
    assert!(!replica.rows.is_empty(), "remembered for a day: a late copy must not be delivered again");
    let late = replica.mailbox.expire(1_000_000 + AFTERWARDS_MS + 40 * DAY_MS, &present);
    replica.keep(late.writes);
    assert!(replica.rows.is_empty(), "{:?}", replica.rows);
    assert_eq!(replica.mailbox.digest(), 0);
}

#[test]
fn there_is_a_bound_to_what_is_kept() {
    let mut mailbox = Mailbox::default();
    let big = |n: u64| Letter { payload: "x".repeat(60_000).into(), ..letter(n, vec![node(1)]) };
    let mut n = 0;
    while mailbox.check_room(stream(0, 1), &big(n + 1)).is_ok() {
        n += 1;
        mailbox.merge_letters(vec![(LetterPlace { stream: stream(0, 1), number: n }, big(n))], None);
    }
    assert!(n > 300 && mailbox.bytes <= LETTERS_BYTES_MAX);
    let place = LetterPlace { stream: stream(0, 1), number: n + 1 };
    mailbox.merge_letters(vec![(place, big(n + 1))], None);
    assert!(!mailbox.knows(place) && !mailbox.is_whole(place));
}

/// What a peer says of a stream may span all numbers that there are: nothing counts them one by one.
#[test]
fn spans_and_cursors_of_any_length_cost_no_time() {
    const FAR: u64 = u64::MAX - 1;
    let mut mailbox = Mailbox::default();
    let place = |number: u64| LetterPlace { stream: stream(0, 1), number };
    mailbox.merge_letters(
        vec![(place(1), letter(1, vec![node(1)])), (place(3), letter(3, vec![node(1)]))],
        None,
    );
    assert!(!mailbox.is_whole(place(3)) && mailbox.is_whole(place(1)));
    let say = |mailbox: &mut Mailbox, done: Vec<(u64, u64)>, cursors: Vec<(NodeId, u64)>| {
        mailbox.merge_states(&[(stream(0, 1), StreamState { until_ms: 1, done, cursors })], None)
    };
    say(&mut mailbox, vec![(2, 2), (5, FAR)], vec![(node(2), FAR)]);
    let (due, upto) = mailbox.due(node(1), stream(0, 1), 0, 10);
    assert_eq!((due.len(), upto), (2, 3), "the fourth is not known");
    assert_eq!(mailbox.has_gap(stream(0, 1), 3), None, "no letter waits behind it");
    assert!(mailbox.is_whole(place(3)) && !mailbox.is_whole(place(FAR)));
    say(&mut mailbox, vec![(1, FAR)], vec![(node(1), FAR), (node(2), u64::MAX)]);
    assert!(mailbox.is_empty() && mailbox.is_whole(place(FAR)));
    assert_eq!(mailbox.due(node(1), stream(0, 1), 0, 10).1, FAR);
    assert_eq!(mailbox.due(node(1), stream(0, 1), FAR, 10).1, FAR);
    assert_eq!(mailbox.has_gap(stream(0, 1), FAR), None);
    assert_eq!(mailbox.cursor(node(2), stream(0, 1)), FAR, "the greatest number is none");
    for nonsense in [vec![(0, 5)], vec![(9, 3)], vec![(1, 2), (3, 4)], vec![(1, u64::MAX)]] {
        let before = mailbox.digest();
        say(&mut mailbox, nonsense, vec![(node(3), 7)]);
        assert_eq!(mailbox.digest(), before);
    }
}

#[test]
fn times_without_end_do_not_overflow() {
    let mut mailbox = Mailbox::default();
    let place = LetterPlace { stream: stream(0, 1), number: 1 };
    let for_ever = Letter { expires_ms: u64::MAX, ..letter(1, vec![node(1)]) };
    mailbox.merge_letters(vec![(place, for_ever.clone())], None);
    mailbox.delivered(node(1), stream(0, 1), 1, &[(for_ever.id, for_ever.expires_ms)]);
    mailbox.heard(node(1), "h1", u32::MAX);
    mailbox.expire(u64::MAX, &BTreeSet::new());
}

/// Letters of one sender that expire in turn part what is done with into many spans: they are still told, kept
/// and merged.
#[test]
fn every_other_letter_may_expire() {
    let (mut mailbox, mut rows) = (Mailbox::default(), BTreeMap::new());
    let letters = (1..=18_000).map(|number| {
        let expires_ms = if number % 2 == 0 { 1_000 } else { 1_000_000 };
        let place = LetterPlace { stream: stream(0, 1), number };
        (place, Letter { expires_ms, ..letter(number, vec![node(1)]) })
    });
    let merged = mailbox.merge_letters(letters.collect(), None);
    let expired = mailbox.expire(2_000, &BTreeSet::new());
    for write in merged.writes.into_iter().chain(expired.writes) {
        match write {
            MailWrite::Put(row) => drop(rows.insert(row.key(), *row)),
            MailWrite::Remove(key) => drop(rows.remove(&key)),
        }
    }
    assert_eq!((mailbox.len(), mailbox.spans), (9_000, 9_000));
    assert_eq!(Mailbox::load(rows.into_values()).digest(), mailbox.digest());
    let (told, last) = mailbox.summary(None, 1_000);
    assert!(last && crate::wire::decode::<Vec<StreamSummary>>(&encode(&told)).is_ok());
    let mut other = Mailbox::default();
    other.merge_states(&[(stream(0, 1), told[0].state.clone())], Some(2_000));
    assert_eq!(other.spans, 9_000);
}

/// Nobody can make a mailbox grow without bound, nor keep anything in it for ever.
#[test]
fn what_a_peer_says_has_bounds() {
    const NOW: u64 = 40 * DAY_MS;
    let present = BTreeSet::new();
    let mut mailbox = Mailbox::default();
    for run in 0..STREAMS_MAX as u64 + 100 {
        let place = LetterPlace { stream: stream(0, run), number: 1 };
        let expired = Letter { expires_ms: NOW - 1, ..letter(run, vec![node(1)]) };
        mailbox.merge_letters(vec![(place, expired)], Some(NOW));
    }
    assert_eq!(mailbox.streams.len(), STREAMS_MAX);
    for begin in 1..100 {
        let done = (0..10_000).map(|n| (begin + n * 200, begin + n * 200)).collect();
        let state = StreamState { until_ms: NOW, done, cursors: vec![] };
        mailbox.merge_states(&[(stream(0, 1), state)], Some(NOW));
    }
    let spans = mailbox.streams[&stream(0, 1)].done.spans();
    assert!(spans > 9_000 && spans <= STREAM_SPANS_MAX && mailbox.spans <= SPANS_MAX, "{spans}");
    mailbox.expire(NOW + 2 * DAY_MS, &present);
    assert_eq!((mailbox.streams.len(), mailbox.spans), (0, 0));

    let for_ever =
        |until_ms| vec![(stream(0, 1), StreamState { until_ms, done: vec![(1, 1)], cursors: vec![] })];
    mailbox.merge_states(&for_ever(u64::MAX), Some(NOW));
    mailbox.merge_roster(&[RosterRow { node: node(1), name: "h1".into(), day: u32::MAX }], Some(NOW));
    assert_eq!(mailbox.digest(), 0, "refused by who knows the time");
    mailbox.merge_states(&for_ever(u64::MAX), None);
    mailbox.merge_roster(&[RosterRow { node: node(1), name: "h1".into(), day: u32::MAX }], None);
    let place = LetterPlace { stream: stream(0, 1), number: 2 };
    let letter = Letter { expires_ms: u64::MAX, ..letter(2, vec![node(1)]) };
    mailbox.merge_letters(vec![(place, letter)], None);
    assert_ne!(mailbox.digest(), 0);
    mailbox.expire(NOW, &present);
    assert_eq!((mailbox.digest(), mailbox.bytes), (0, 0), "and gone once it is known");
}

#[test]
fn what_was_delivered_is_not_remembered_without_bound() {
    let (mut mailbox, mut rows) = (Mailbox::default(), 0_i64);
    for n in 0..LETTERS_SEEN_MAX as u64 + 50 {
        let merged = mailbox.delivered(node(0), stream(1, 1), n + 1, &[(letter(n, vec![]).id, 5)]);
        let change = |write: &MailWrite| match write.key() {
            MailKey::Seen(_) => {
                if matches!(write, MailWrite::Put(_)) {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
        rows += merged.writes.iter().map(change).sum::<i64>();
    }
    assert_eq!((mailbox.seen.len(), rows), (LETTERS_SEEN_MAX, LETTERS_SEEN_MAX as i64));
    assert!(!mailbox.is_seen(letter(49, vec![]).id) && mailbox.is_seen(letter(50, vec![]).id));
}

/// Two streams that differ in the same way: with a plain FNV-1a their two differences often cancelled
/// each other out in the sum, the mailboxes were taken for equal, and a letter stayed for ever.
#[test]
fn mailboxes_that_differ_in_two_streams_have_different_digests() {
    for run in (0..200).step_by(2) {
        let streams = [stream(0, run), stream(0, run + 1)];
        let both = || {
            let mut mailbox = Mailbox::default();
            let places = streams.map(|stream| LetterPlace { stream, number: 1 });
            let letters = places.map(|place| (place, letter(run, vec![node(1)])));
            mailbox.merge_letters(letters.to_vec(), None);
            mailbox
        };
        let (held, mut over) = (both(), both());
        over.expire(1_000_000, &streams.map(|stream| stream.instance).into());
        assert!(over.is_empty());
        assert_ne!(held.digest(), over.digest(), "runs {run} and {}", run + 1);
    }
}
