//! Letters between machines: once each, in order, whoever dies meanwhile.

use super::*;
use crate::types::{LetterType, NewLetter, Priority};
use crate::wire::mail::PostedLetter;
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
