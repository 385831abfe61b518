//! Letters between machines: once each, in order, whoever dies meanwhile.

use super::*;
use crate::types::{LetterPlace, LetterType, NewLetter, Priority, StreamId};
use crate::wire::mail::{PostedLetter, StreamState, StreamSummary};
use crate::wire::message::ErrorCode;

fn letter(n: u8, target: Option<&str>) -> NewLetter {
    NewLetter {
        id: LetterId([n; 16]),
        kind: LetterType::parse("note").expect("a type"),
        target: target.map(Into::into),
        priority: Priority::Normal,
        lives_ms: 600_000,
        payload: format!("{{\"n\":{n}}}").into(),
        attachments: Vec::new(),
    }
}

impl Cluster {
    /// Gives letters to a node, as its outbox does.
    fn post(&mut self, at: usize, letters: Vec<NewLetter>, wait_ms: u64) -> AskId {
        let source = format!("h{at}").into();
        self.ask_of(at, Request::Post { sender: node(at), source, letters, wait_ms })
    }

    fn posted(&mut self, ask: AskId) -> Vec<PostedLetter> {
        match self.answers.remove(&ask) {
            Some(Reply::Posted { letters }) => letters,
            other => panic!("not posted: {other:?}"),
        }
    }

    /// What a member says, who need not be honest.
    fn hear(&mut self, at: usize, from: usize, message: Message) {
        let instance = InstanceId(from as u64 * 1_000 + self.hosts[from].disk.generation);
        self.deliver(at, Input::Told { from: node(from), instance, message: Box::new(message) });
    }

    fn inbox(&self, at: usize) -> Vec<u8> {
        self.hosts[at].disk.inbox.iter().map(|letter| letter.id.0[0]).collect()
    }

    fn letters_held(&self, at: usize) -> usize {
        self.hosts[at].disk.mail.keys().filter(|key| matches!(key, MailKey::Letter(_))).count()
    }
}

#[test]
fn a_letter_reaches_everybody_else_once_and_then_nobody_keeps_it() {
    let mut cluster = Cluster::new(&[AUTO, AUTO, Pin::Client]);
    cluster.run(3_000);
    let ask = cluster.post(0, vec![letter(1, None)], 5_000);
    cluster.run(400);
    let posted = cluster.posted(ask);
    assert!(posted[0].addressees.iter().all(|to| to.up && to.delivered), "{posted:?}");
    assert_eq!(posted[0].addressees.len(), 2);
    cluster.run(3_000);
    assert_eq!((cluster.inbox(0), cluster.inbox(1), cluster.inbox(2)), (vec![], vec![1], vec![1]));
    assert!((0..3).all(|at| cluster.letters_held(at) == 0));
    // The same again, by a sender that did not hear the answer.
    let again = cluster.post(0, vec![letter(1, None)], 0);
    cluster.run(3_000);
    cluster.posted(again);
    assert_eq!((cluster.inbox(1), cluster.inbox(2)), (vec![1], vec![1]));
    assert!((0..3).all(|at| cluster.letters_held(at) == 0));
}

#[test]
fn a_machine_that_was_off_finds_its_letters_though_sender_and_proxy_are_gone() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let mut others = (0..4).filter(|at| *at != leader);
    let (sender, off, stays) =
        (others.next().expect("one"), others.next().expect("one"), others.next().expect("one"));
    cluster.kill(off);
    cluster.run(8_000);
    for n in 1..=5 {
        cluster.post(sender, vec![letter(n, Some(&format!("h{off}")))], 0);
    }
    cluster.run(500);
    cluster.kill(sender);
    cluster.kill(leader);
    cluster.run(8_000);
    cluster.start(off);
    cluster.run(12_000);
    assert_eq!(cluster.inbox(off), vec![1, 2, 3, 4, 5]);
    assert_eq!(cluster.inbox(stays), Vec::<u8>::new());
}

#[test]
fn a_target_that_was_never_seen_is_refused_with_the_known_names() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let ask = cluster.post(0, vec![letter(1, Some("h9"))], 0);
    cluster.run(200);
    match cluster.answers.remove(&ask) {
        Some(Reply::Failed { code: ErrorCode::NotFound, message }) => {
            assert!(message.contains("h9") && message.contains("h0, h1"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// A crash after the file was made durable, before that was written down; and one after it was.
#[test]
fn a_crash_between_the_steps_of_a_delivery_neither_loses_nor_doubles() {
    for hold in [true, false] {
        let mut cluster = Cluster::new(&[AUTO; 2]);
        cluster.run(3_000);
        if hold {
            cluster.hold_saves = Some(1);
        }
        cluster.post(0, vec![letter(1, None)], 0);
        for _ in 0..200 {
            cluster.run(20);
            let disk = &cluster.hosts[1].disk;
            let delivered = disk.mail.keys().any(|key| matches!(key, MailKey::Seen(_)));
            if !disk.staged.is_empty() && (hold || delivered) {
                break;
            }
        }
        cluster.kill(1);
        cluster.hold_saves = None;
        cluster.start(1);
        cluster.run(8_000);
        assert_eq!(cluster.inbox(1), vec![1], "saves held: {hold}");
    }
}

#[test]
fn letters_of_a_sender_arrive_in_order_although_some_are_lost_on_the_way() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    for n in 1..=20 {
        cluster.lose_letters_to = (n % 3 == 0).then_some(1);
        cluster.post(0, vec![letter(n, None)], 0);
        cluster.run(40);
    }
    cluster.lose_letters_to = None;
    cluster.run(8_000);
    assert_eq!(cluster.inbox(1), (1..=20).collect::<Vec<u8>>());
    assert_eq!(cluster.inbox(2), (1..=20).collect::<Vec<u8>>());
}

#[test]
fn a_post_waits_for_a_second_machine_and_says_so_if_it_does_not_answer() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.hold_saves = Some(1);
    let ask = cluster.post(0, vec![letter(1, None)], 0);
    cluster.run(2_000);
    assert!(!cluster.answers.contains_key(&ask), "one disk is not enough while another machine is up");
    cluster.run(10_000);
    assert!(matches!(cluster.answers.get(&ask), Some(Reply::Failed { code: ErrorCode::Unknown, .. })));
    cluster.kill(1);
    cluster.run(6_000);
    let alone = cluster.post(0, vec![letter(2, None)], 0);
    cluster.run(200);
    assert!(!cluster.posted(alone)[0].addressees[0].up);
}

#[test]
fn what_expired_is_not_delivered_and_not_kept() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.kill(1);
    cluster.run(6_000);
    let brief = NewLetter { lives_ms: 5_000, ..letter(1, None) };
    cluster.post(0, vec![brief], 0);
    cluster.post(0, vec![letter(2, None)], 0);
    cluster.run(12_000);
    assert_eq!(cluster.letters_held(0), 1);
    cluster.start(1);
    cluster.run(8_000);
    assert_eq!(cluster.inbox(1), vec![2]);
}

/// The first of two letters was lost on its way, and the node that numbered them died: the second, given
/// to another node again, was taken for safe, and waited for the first for ever.
#[test]
fn a_letter_that_waits_for_a_lost_one_is_sent_anew() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.lose_letters_to = Some(1);
    cluster.post(0, vec![letter(1, None)], 0);
    cluster.run(40);
    cluster.lose_letters_to = None;
    cluster.post(0, vec![letter(2, Some("h1"))], 0);
    cluster.run(20);
    cluster.kill(0);
    cluster.run(6_000);
    assert_eq!(cluster.inbox(1), Vec::<u8>::new());
    cluster.post(1, vec![letter(2, Some("h1"))], 0);
    cluster.run(1_000);
    assert_eq!(cluster.inbox(1), vec![2]);
}

/// A machine with the name of one that was set up anew: the one that is up is meant.
#[test]
fn of_two_machines_of_one_name_the_one_that_is_up_gets_it() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    let (old, new) = (3, 2);
    cluster.kill(old);
    cluster.run(6_000);
    cluster.kill(new);
    cluster.name_of_host = Some((new, "h3".into()));
    cluster.start(new);
    cluster.run(6_000);
    let ask = cluster.post(0, vec![letter(1, Some("h3"))], 2_000);
    cluster.run(1_000);
    let posted = cluster.posted(ask);
    assert_eq!(posted[0].addressees.iter().map(|to| to.node).collect::<Vec<_>>(), vec![node(new)]);
    assert_eq!(cluster.inbox(new), vec![1]);
    // By its id the other one can be named all the same.
    let ask = cluster.post(0, vec![letter(2, Some(&node(old).to_string()))], 0);
    cluster.run(1_000);
    assert!(!cluster.posted(ask)[0].addressees[0].up);
    cluster.start(old);
    cluster.run(8_000);
    assert_eq!((cluster.inbox(old), cluster.inbox(new)), (vec![2], vec![1]));
}

/// More than are staged at a time, and the urgent ones from the sender whose streams come last.
#[test]
fn of_letters_that_wait_the_urgent_ones_go_first() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.kill(2);
    cluster.run(6_000);
    for n in 1..=100 {
        let low = NewLetter { priority: Priority::Low, ..letter(n, Some("h2")) };
        cluster.post(0, vec![low], 0);
        let normal = letter(n + 100, Some("h2"));
        cluster.post(0, vec![normal], 0);
    }
    for n in 201..=230 {
        let high = NewLetter { priority: Priority::High, ..letter(n, Some("h2")) };
        cluster.post(1, vec![high], 0);
    }
    cluster.run(1_000);
    cluster.start(2);
    cluster.run(8_000);
    let urgent_first: Vec<u8> = (201..=230).chain(101..=200).chain(1..=100).collect();
    assert_eq!(cluster.inbox(2), urgent_first);
}

fn as_heard(place: LetterPlace, to: usize) -> (LetterPlace, Letter) {
    let letter = Letter {
        id: LetterId([0xee; 16]),
        kind: LetterType::parse("note").expect("a type"),
        source: "h1".into(),
        target: None,
        created_us: 1,
        expires_ms: 1_000_010_000_000,
        payload: "0".into(),
        attachments: Vec::new(),
        addressees: vec![node(to)],
    };
    (place, letter)
}

/// Only this run numbers in its streams; whoever says otherwise would take its next letters' place.
#[test]
fn nobody_else_numbers_in_the_streams_of_a_run() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let ask = cluster.post(0, vec![letter(1, None)], 1_000);
    cluster.run(2_000);
    cluster.posted(ask);
    let instance = InstanceId(cluster.hosts[0].disk.generation);
    let stream = StreamId { sender: node(0), instance, priority: Priority::Normal };
    let low = StreamId { priority: Priority::Low, ..stream };
    let far = u64::MAX - 1;
    let state = |done, cursors| StreamState { until_ms: 1_000_010_000_000, done, cursors };
    let summary = |stream, state| Message::MailSummary {
        after: None,
        streams: vec![StreamSummary { stream, state, held: vec![(1, far)] }],
        last: true,
        roster: vec![],
        reply: true,
    };
    for message in [
        Message::Letters { letters: vec![as_heard(LetterPlace { stream, number: 2 }, 1)], ack: Some(7) },
        Message::Letters { letters: vec![as_heard(LetterPlace { stream: low, number: far }, 1)], ack: None },
        Message::Cursors { cursors: vec![(stream, far), (low, 1)] },
        summary(stream, state(vec![(1, far)], vec![])),
        summary(low, state(vec![], vec![(node(1), 1)])),
    ] {
        cluster.hear(0, 1, message);
    }
    for (n, priority) in [(2, Priority::Normal), (3, Priority::Low)] {
        let ask = cluster.post(0, vec![NewLetter { priority, ..letter(n, None) }], 1_000);
        cluster.run(1_500);
        assert!(cluster.posted(ask)[0].addressees[0].delivered, "{n}");
    }
    assert_eq!(cluster.inbox(1), vec![1, 2, 3]);
}

/// Whatever a peer says of streams, this node goes on: one that counted their numbers would never end.
#[test]
fn summaries_that_cannot_be_true_do_no_harm() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let far = u64::MAX - 1;
    let stream = |run| StreamId { sender: node(1), instance: InstanceId(run), priority: Priority::High };
    for (run, (done, cursors)) in [
        (vec![(1, far)], vec![(node(0), far)]),
        (vec![(2, far)], vec![(node(0), 0), (node(1), far)]),
        (vec![(1, u64::MAX)], vec![(node(0), 5)]),
        (vec![(0, 3)], vec![]),
        (vec![(9, 3)], vec![]),
        (vec![(1, 3), (2, 9)], vec![]),
        (vec![], vec![(node(0), u64::MAX)]),
        (vec![(1, 1)], vec![(node(1), 1); 5_000]),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = stream(run as u64 + 50_000);
        let until_ms = if run % 2 == 0 { u64::MAX } else { 1_000_010_000_000 };
        let row =
            StreamSummary { stream, state: StreamState { until_ms, done, cursors }, held: vec![(4, 2)] };
        let streams = vec![row];
        let message = Message::MailSummary {
            after: Some(stream),
            streams: streams.clone(),
            last: false,
            roster: vec![],
            reply: true,
        };
        cluster.hear(0, 1, message);
        let message = Message::MailSummary { after: None, streams, last: true, roster: vec![], reply: true };
        cluster.hear(0, 1, message);
        let place = LetterPlace { stream, number: far };
        cluster.hear(0, 1, Message::Letters { letters: vec![as_heard(place, 0)], ack: Some(1) });
    }
    cluster.run(6_000);
    let ask = cluster.post(1, vec![letter(1, None)], 1_000);
    cluster.run(2_000);
    assert!(cluster.posted(ask)[0].addressees[0].delivered);
}

#[test]
fn a_full_mailbox_refuses_and_takes_again_when_letters_expired() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.kill(1);
    cluster.run(6_000);
    let big = |n: u32| NewLetter {
        id: LetterId(u128::from(n).to_le_bytes()),
        payload: format!("\"{}\"", "x".repeat(65_000)).into(),
        lives_ms: 60_000,
        ..letter(0, Some("h1"))
    };
    let mut taken = 0;
    let refused = loop {
        let ask = cluster.post(0, vec![big(taken + 1)], 0);
        cluster.run(60);
        match cluster.answers.remove(&ask) {
            Some(Reply::Posted { .. }) => taken += 1,
            other => break other,
        }
    };
    assert!(matches!(refused, Some(Reply::Failed { code: ErrorCode::NoSpace, .. })), "{refused:?}");
    assert!(taken > 400, "{taken}");
    cluster.run(70_000);
    let ask = cluster.post(0, vec![big(9_999)], 0);
    cluster.run(200);
    cluster.posted(ask);
    assert_eq!(cluster.letters_held(0), 1);
}

/// A letter that was given to two nodes, as the answer of the first was lost, has two numbers.
#[test]
fn a_letter_that_waits_under_two_numbers_is_delivered_once() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.kill(3);
    cluster.run(6_000);
    let stream = |run| StreamId { sender: node(0), instance: InstanceId(run), priority: Priority::Normal };
    for run in [50_000, 60_000] {
        let letters = vec![as_heard(LetterPlace { stream: stream(run), number: 1 }, 3)];
        cluster.hear(1, 0, Message::Letters { letters, ack: None });
    }
    cluster.start(3);
    cluster.run(10_000);
    assert_eq!(cluster.inbox(3), vec![0xee]);
    assert_eq!((0..4).map(|at| cluster.letters_held(at)).sum::<usize>(), 0);
}

/// Letters of one request that need several messages are safe when all of them have come.
#[test]
fn one_message_of_several_is_not_enough_for_an_answer() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let big = |n: u8, priority| NewLetter {
        payload: format!("\"{}\"", "x".repeat(60_000)).into(),
        priority,
        ..letter(n, None)
    };
    let letters: Vec<NewLetter> =
        (1..=8).map(|n| big(n, if n < 5 { Priority::Low } else { Priority::High })).collect();
    cluster.lose_letters_after = Some(1);
    let ask = cluster.post(0, letters, 0);
    cluster.run(800);
    assert!(!cluster.answers.contains_key(&ask), "the second message was lost");
    cluster.lose_letters_after = None;
    cluster.run(3_000);
    cluster.posted(ask);
    let mut inbox = cluster.inbox(1);
    inbox.sort_unstable();
    assert_eq!(inbox, (1..=8).collect::<Vec<u8>>());
}

/// What a disk has not taken is told to nobody: else the others let go of a letter that a crash then loses.
#[test]
fn a_delivery_that_is_not_durable_is_not_told_by_comparison_either() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.hold_saves = Some(1);
    cluster.post(0, vec![letter(1, Some("h1"))], 0);
    cluster.run(6_000);
    assert_eq!((cluster.hosts[1].disk.staged.len(), cluster.letters_held(0)), (1, 1));
    cluster.kill(1);
    cluster.hold_saves = None;
    cluster.start(1);
    cluster.run(8_000);
    assert_eq!(cluster.inbox(1), vec![1]);
}

/// A command draws an id anew each time.
#[test]
fn commands_share_the_streams_of_the_node_that_takes_their_letters() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    for n in 1..=20 {
        let request = Request::Post {
            sender: NodeId([100 + n; 16]),
            source: "laptop".into(),
            letters: vec![letter(n, None)],
            wait_ms: 0,
        };
        cluster.ask_of(0, request);
        cluster.run(40);
    }
    cluster.run(3_000);
    let everybody: Vec<u8> = (1..=20).collect();
    assert_eq!((cluster.inbox(0), cluster.inbox(1)), (everybody.clone(), everybody));
    assert!(cluster.hosts[1].disk.inbox.iter().all(|letter| *letter.source == *"laptop"));
    let streams = cluster.hosts[1].disk.mail.keys().filter(|key| matches!(key, MailKey::Stream(_))).count();
    assert_eq!(streams, 1);
}

#[test]
fn letters_of_several_runs_of_a_sender_arrive_in_order() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let mut others = (0..3).filter(|at| *at != leader);
    let (sender, off) = (others.next().expect("one"), others.next().expect("one"));
    cluster.kill(off);
    cluster.run(8_000);
    // Each run has fewer letters than the next, but together more than are delivered at a time; which run's
    // number is the greater says nothing of which was first.
    let mut sent = Vec::new();
    for (count, generation) in [(40, 300), (40, 200), (60, 100)] {
        cluster.kill(sender);
        cluster.hosts[sender].disk.generation = generation;
        cluster.start(sender);
        cluster.run(8_000);
        for _ in 0..count {
            let n = u8::try_from(sent.len()).expect("few");
            cluster.post(sender, vec![letter(n, Some(&format!("h{off}")))], 0);
            sent.push(n);
        }
        cluster.run(2_000);
    }
    cluster.start(off);
    cluster.run(12_000);
    assert_eq!(cluster.inbox(off), sent);
}

#[test]
fn letters_of_a_run_that_were_lost_on_the_way_come_before_those_of_the_next() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let mut others = (0..3).filter(|at| *at != leader);
    let (sender, lacks) = (others.next().expect("one"), others.next().expect("one"));
    for n in 1..=5 {
        cluster.lose_letters_to = (n > 2).then_some(lacks);
        cluster.post(sender, vec![letter(n, None)], 0);
        cluster.run(20);
    }
    cluster.kill(sender);
    cluster.lose_letters_to = None;
    cluster.start(sender);
    // As soon as it hears the others.
    cluster.run(200);
    for n in 6..=10 {
        cluster.post(sender, vec![letter(n, None)], 0);
        cluster.run(20);
    }
    cluster.run(8_000);
    assert_eq!(cluster.inbox(leader), (1..=10).collect::<Vec<u8>>());
    assert_eq!(cluster.inbox(lacks), (1..=10).collect::<Vec<u8>>());
}
