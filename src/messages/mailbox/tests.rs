//! Random histories of several mailboxes: all come to know the same, and every addressee gets each
//! letter once and in order.

use super::*;
use crate::types::{LetterType, Priority};
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
                assert_eq!((loaded.len(), loaded.bytes), (replica.mailbox.len(), replica.mailbox.bytes));
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
            let merged = self.replicas[to].mailbox.merge_states(&states);
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
