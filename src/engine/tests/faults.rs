//! What went wrong once, or was found by reading: each test tells the story of one fault.

use super::*;
use crate::engine::event::Congestion;
use crate::types::NodeRoute;
use crate::wire::message::ErrorCode;

fn file(text: &str, n: u8, replicas: u8, holders: &[usize]) -> NewFile {
    NewFile {
        name: name(text),
        body: Body::File { content: content(n), size: 1_000 },
        mode: 0o644,
        modified_ns: 0,
        replicas,
        holders: holders.iter().map(|at| node(*at)).collect(),
    }
}

fn set_replicas(text: &str, replicas: u8) -> Request {
    Request::SetReplicas { name: name(text), replicas }
}

/// A proxy that is not the lowest in rank restarts before anybody misses it. Its followers saw it
/// up, and waited for one another to stop hearing an incumbent that was none any more, for ever.
#[test]
fn a_proxy_that_restarts_at_once_leaves_no_cluster_without_one() {
    for size in [2, 3] {
        let mut cluster = Cluster::new(&vec![AUTO; size]);
        cluster.run(3_000);
        let first = cluster.leader().expect("a leader");
        cluster.kill(first);
        cluster.run(6_000);
        let second = cluster.leader().expect("another leader");
        cluster.start(first);
        cluster.run(6_000);
        cluster.kill(second);
        cluster.run(1_000);
        cluster.start(second);
        cluster.run_until(10_000, "one proxy", Cluster::agreed);
    }
}

/// One side of a split wants more copies than the other; the node that comes back reported its
/// copies before its catalog was read, and a copy was dropped by the smaller wish.
#[test]
fn nothing_is_dropped_before_every_catalog_is_read() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.put("a", 1, 4);
    cluster.run(2_000);
    let alone = cluster.leader().expect("a leader");
    cluster.cut.insert(alone);
    cluster.run(8_000);
    cluster.ask_of(alone, set_replicas("a", 3));
    cluster.run(1_000);
    assert!(matches!(cluster.ask(&set_replicas("a", 2)), Reply::ReplicasSet { .. }));
    cluster.run(20_000);
    let before = cluster.dropped.len();
    cluster.cut.clear();
    cluster.run(20_000);
    assert_eq!(cluster.dropped.len(), before, "the greater wish wins");
    assert_eq!(cluster.row("a").map(|row| (row.wanted, row.state)), Some((3, FileState::Ok)));
}

/// The change was lost on its way to a holder, and the client asked again: the repeated commit
/// found nothing new to tell, and counted the holder all the same.
#[test]
fn a_repeated_commit_counts_only_holders_that_have_the_entry() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let other = 1 - leader;
    (0..2).for_each(|at| cluster.store(at, 1));
    cluster.run(200);
    cluster.lose_delta_to = Some(other);
    let commit = Request::Commit { files: vec![file("a", 1, 2, &[0, 1])] };
    cluster.ask_of(leader, commit.clone());
    cluster.run(60);
    cluster.lose_delta_to = None;
    let ask = cluster.ask_of(leader, commit);
    cluster.run(200);
    assert!(
        matches!(cluster.answers.get(&ask), Some(Reply::Committed { holders, .. }) if holders[0].len() == 2)
    );
    assert!(cluster.hosts[other].disk.names.contains_key(&name("a")));
}

/// The second of two equal requests found the count as wanted in memory, and said "done" while
/// the disk had not answered the first.
#[test]
fn a_repeated_change_of_a_count_is_answered_only_once_it_is_durable() {
    let mut cluster = Cluster::new(&[AUTO]);
    cluster.run(3_000);
    cluster.put("a", 1, 1);
    cluster.hold_saves = Some(0);
    for _ in 0..2 {
        cluster.ask_of(0, set_replicas("a", 3));
        cluster.run(500);
    }
    assert!(cluster.answers.is_empty());
}

/// Nobody has told of the content: the old version must stay.
#[test]
fn a_commit_without_a_live_holder_changes_nothing() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    let leader = cluster.leader().expect("a leader");
    let gone = (0..3).find(|at| *at != leader).expect("another");
    cluster.kill(gone);
    let reply = cluster.ask(&Request::Commit { files: vec![file("a", 9, 1, &[gone])] });
    assert!(matches!(reply, Reply::Failed { .. }));
    let row = cluster.row("a").expect("listed");
    assert_eq!(row.body, Body::File { content: content(1), size: 1_000 });
}

/// A proxy whose disk refuses everything was heard, and so led for ever.
#[test]
fn a_proxy_with_a_broken_disk_leads_no_longer() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    let broken = cluster.leader().expect("a leader");
    cluster.bad_disk = Some(broken);
    cluster.ask_of(broken, set_replicas("a", 3));
    cluster.run_until(10_000, "another proxy", |cluster| cluster.leader().is_some_and(|at| at != broken));
    assert!(matches!(cluster.ask(&set_replicas("a", 1)), Reply::ReplicasSet { .. }));
}

/// One failed pull made the only other machine no candidate for a while; the content was then
/// never looked at again, and puts of that time got one copy.
#[test]
fn a_failed_pull_is_tried_again_and_keeps_no_put_from_its_copies() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.kill(1);
    cluster.run(3_000);
    assert_eq!(cluster.put("a", 1, 2).len(), 1);
    cluster.fail_pulls = 1;
    cluster.start(1);
    cluster.run(4_000);
    assert_eq!(cluster.fail_pulls, 0, "the pull was tried");
    assert_eq!(cluster.put("b", 2, 2).len(), 2);
    cluster.run_until(30_000, "the second copy", |cluster| cluster.copies(1) == 2);
}

/// What a node held was void from its restart until its inventory came, and was pulled elsewhere.
#[test]
fn a_quick_restart_of_a_holder_moves_nothing() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run(3_000);
    for n in 1..50 {
        cluster.put(&format!("f{n}"), n, 2);
    }
    cluster.run(5_000);
    let copies = |cluster: &Cluster| (1..50).map(|n| cluster.copies(n)).sum::<usize>();
    let before = copies(&cluster);
    let victim = (0..5).find(|at| Some(*at) != cluster.leader()).expect("a follower");
    cluster.kill(victim);
    cluster.run(1_000);
    cluster.start(victim);
    for _ in 0..100 {
        cluster.run(100);
        assert_eq!(copies(&cluster), before);
    }
}

/// The order was lost with the run of its receiver, and the put waited ten minutes.
#[test]
fn a_put_does_not_wait_for_a_machine_that_restarted() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    cluster.store(leader, 9);
    cluster.run(100);
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let ask = cluster.ask_of(
        leader,
        Request::Extend {
            content: content(9),
            size: 1_000,
            holders: vec![node(leader)],
            replicas: 2,
            exclude: vec![node(others[0])],
        },
    );
    cluster.kill(others[1]);
    cluster.run(100);
    cluster.start(others[1]);
    cluster.run_until(20_000, "an answer", |cluster| cluster.answers.contains_key(&ask));
}

/// After a laptop wakes, everybody seems silent to it.
#[test]
fn who_wakes_up_does_not_take_the_lead() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    for sleeper in (0..4).filter(|at| *at != leader) {
        let engine = cluster.hosts[sleeper].engine.take();
        cluster.run(300_000);
        cluster.hosts[sleeper].engine = engine;
        cluster.hosts[sleeper].inputs.clear();
        cluster.run(6_000);
        assert_eq!(cluster.leader(), Some(leader));
    }
}

/// Two open clusters with files, and a new node that hears both: it went from one to the other
/// and carried entries across.
#[test]
fn a_new_node_between_two_clusters_joins_one_and_mixes_none() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.kill(1);
    cluster.kill(2);
    cluster.run(3_000);
    cluster.put("a", 1, 1);
    cluster.kill(0);
    cluster.start(1);
    cluster.run(3_000);
    cluster.put("b", 2, 1);
    cluster.start(0);
    cluster.run(5_000);
    cluster.start(2);
    cluster.run(10_000);
    let terms = cluster.terms_saved;
    for (n, at) in [(3_u8, 0_usize), (4, 1), (5, 0), (6, 1)] {
        cluster.store(at, n);
        cluster.run(100);
        cluster.ask_of(at, Request::Commit { files: vec![file(&format!("n{n}"), n, 1, &[at])] });
        cluster.run(700);
    }
    cluster.run(60_000);
    let has = |at: usize, text: &str| cluster.hosts[at].disk.names.contains_key(&name(text));
    assert!(has(0, "n3") && has(0, "n5") && has(1, "n4") && has(1, "n6"));
    assert!(!has(0, "n4") && !has(0, "n6") && !has(1, "n3") && !has(1, "n5"));
    assert!(has(2, "n3") != has(2, "n4"), "it is of one of the two");
    assert_eq!(cluster.terms_saved, terms, "and it stays there");
}

/// Its folder was restored from a backup: the number of its run is lower than what others saw.
#[test]
fn a_node_restored_from_a_backup_is_taken_back() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 3);
    for _ in 0..3 {
        cluster.kill(2);
        cluster.start(2);
        cluster.run(10_000);
    }
    cluster.kill(2);
    cluster.hosts[2].disk.generation = 0;
    cluster.run(30_000);
    cluster.start(2);
    cluster.run_until(30_000, "three copies counted", |cluster| {
        cluster.leader().is_some()
            && cluster.hosts[2].engine.as_ref().is_some_and(|engine| engine.presence().proxy.is_some())
    });
    cluster.run(5_000);
    assert_eq!(cluster.row("a").map(|row| row.holders.len()), Some(3));
}

/// Pages of a catalog that a peer never took waited in memory for it, whatever their number.
#[test]
fn a_catalog_waits_for_room_on_its_way() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    cluster.run(2_000);
    let late = 1 - cluster.leader().expect("a leader");
    cluster.kill(late);
    cluster.hosts[late].disk = Disk { generation: 1, ..Disk::default() };
    cluster.start(late);
    cluster.deliver(1 - late, Input::Congested(Congestion::All));
    cluster.run(8_000);
    assert!(cluster.hosts[late].disk.names.is_empty(), "nothing is sent where there is no room");
    cluster.deliver(1 - late, Input::Congested(Congestion::default()));
    cluster.run_until(8_000, "the catalog comes", |cluster| !cluster.hosts[late].disk.names.is_empty());
}

/// A keeper promised on the strength of an entry that was in memory only. With its next crash the
/// copy was nobody's, and the other had been dropped.
#[test]
fn a_promise_waits_until_the_entry_is_on_disk() {
    let lowered = |held_back: Option<usize>| {
        let mut cluster = Cluster::new(&[AUTO; 3]);
        cluster.run(3_000);
        cluster.put("a", 1, 3);
        cluster.run(10_000);
        cluster.hold_saves = held_back;
        cluster.ask(&set_replicas("a", 2));
        cluster.run(10_000);
        (cluster.leader().expect("a leader"), cluster.dropped.first().map(|(at, _)| *at))
    };
    let (leader, victim) = lowered(None);
    let keeper = (0..3).find(|at| *at != leader && Some(*at) != victim).expect("another");
    assert_eq!(lowered(Some(keeper)).1, None, "two promises are needed, and one cannot be given");
}

/// A copy that was promised to be kept lost its last name where it was, and was thrown away to make
/// room; whoever had been promised it dropped the other.
#[test]
fn what_was_promised_is_not_thrown_away_for_room() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    cluster.run(10_000);
    let leader = cluster.leader().expect("a leader");
    let other = 1 - leader;
    let message = Box::new(Message::KeepAsk { content: content(1), nonce: 7 });
    let instance = InstanceId(leader as u64 * 1_000 + cluster.hosts[leader].disk.generation);
    cluster.deliver(other, Input::Told { from: node(leader), instance, message });
    cluster.run(100);
    cluster.ask(&Request::Remove { names: vec![name("a")], now: true });
    cluster.run(20_000);
    assert_eq!(cluster.dropped, [(leader, content(1))], "only where nothing was promised");
    cluster.run(60_000);
    assert!(cluster.dropped.contains(&(other, content(1))), "a promise ends");
}

/// A removed content was being thrown away when a put named it again. Its holder said "I have it",
/// and then had it no more.
#[test]
fn what_is_being_thrown_away_is_no_copy() {
    for proxys_own in [false, true] {
        let mut cluster = Cluster::new(&[AUTO; 2]);
        cluster.run(3_000);
        cluster.put("a", 1, 2);
        cluster.run(10_000);
        let leader = cluster.leader().expect("a leader");
        let at = if proxys_own { leader } else { 1 - leader };
        cluster.ask(&Request::Remove { names: vec![name("a")], now: true });
        cluster.hold_drops = Some(at);
        cluster.run(10_000);
        let reply = cluster.ask(&Request::Commit { files: vec![file("b", 1, 1, &[at])] });
        assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
        assert!(!proxys_own || cluster.row("b").is_none(), "and nothing was replaced by it");
    }
}

/// It was restored from a backup, and had obeyed a higher term than that of who leads. The leader
/// did not believe its beacons, so it never heard of that term; and it followed nobody of a lower.
#[test]
fn a_node_that_nobody_believes_tells_the_leader_of_its_term() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let other = 1 - leader;
    cluster.kill(other);
    cluster.hosts[other].disk.generation = 7;
    cluster.start(other);
    cluster.run(3_000);
    cluster.kill(other);
    cluster.run(10_000);
    cluster.hosts[other].disk.generation = 3;
    cluster.hosts[other].disk.term = Term { number: 9, proxy: node(5) };
    cluster.start(other);
    cluster.run_until(20_000, "one proxy for both", Cluster::agreed);
}

/// A holder said "I have it", and dropped it on another order while the commit waited for a third:
/// the answer counted a copy that was gone.
#[test]
fn what_a_commit_was_told_of_stays_until_it_is_answered() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let others: Vec<usize> = (0..4).filter(|at| *at != leader).collect();
    others.iter().for_each(|at| cluster.store(*at, 1));
    cluster.run(12_000);
    // One too many, and the commit that brings the entry waits for somebody who does not answer.
    cluster.hold_saves = Some(others[2]);
    let holders: Vec<usize> = others.clone();
    let ask = cluster.ask_of(leader, Request::Commit { files: vec![file("a", 1, 2, &holders)] });
    cluster.run_until(6_000, "an answer", |cluster| cluster.answers.contains_key(&ask));
    let Some(Reply::Committed { holders, .. }) = cluster.answers.remove(&ask) else { panic!("no commit") };
    for node in &holders[0] {
        let at = usize::from(node.0[0]) - 1;
        assert!(cluster.hosts[at].disk.held.contains(&content(1)), "{at} is said to hold it");
    }
}

/// Its successor had not heard what it held, and so made all its copies anew at once, though it was
/// back a moment later.
#[test]
fn the_copies_of_a_proxy_that_fell_silent_are_waited_for() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    for n in 1..10 {
        cluster.put(&format!("f{n}"), n, 3);
    }
    cluster.run(10_000);
    let n = (1..10).find(|n| cluster.hosts[leader].disk.held.contains(&content(*n))).expect("one of them");
    cluster.kill(leader);
    cluster.run(15_000);
    assert!((1..10).all(|n| cluster.copies(n) == 3), "nothing moves before the time is up");
    cluster.run(20_000);
    assert_eq!(cluster.copies(n), 4);
}

/// A holder said "I have it", restarted, and had it no more when the commit was answered.
#[test]
fn what_a_holder_said_before_it_restarted_counts_no_more() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    (0..3).for_each(|at| cluster.store(at, 1));
    cluster.run(200);
    cluster.hold_saves = Some(others[1]);
    let ask = cluster.ask_of(leader, Request::Commit { files: vec![file("a", 1, 3, &[0, 1, 2])] });
    cluster.run(200);
    cluster.kill(others[0]);
    cluster.hosts[others[0]].disk.held.clear();
    cluster.start(others[0]);
    cluster.run_until(6_000, "an answer", |cluster| cluster.answers.contains_key(&ask));
    let Some(Reply::Committed { holders, .. }) = cluster.answers.remove(&ask) else { panic!("no commit") };
    assert_eq!(holders, [[node(leader)]]);
}

/// A holder died, and its machine's other node, new as proxy, did not know that it was there: it
/// took a copy, the holder came back, and the put counted the machine twice.
#[test]
fn two_nodes_of_one_machine_are_one_copy() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.kill(1);
    cluster.with_host_0 = Some(1);
    cluster.start(1);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    (0..3).for_each(|at| cluster.store(at, 1));
    cluster.run(200);
    let ask = cluster.ask_of(leader, Request::Commit { files: vec![file("a", 1, 3, &[0, 1, 2])] });
    cluster.run_until(6_000, "an answer", |cluster| cluster.answers.contains_key(&ask));
    let Some(Reply::Committed { holders, .. }) = cluster.answers.remove(&ask) else { panic!("no commit") };
    assert_eq!(holders, [[node(0), node(2)]]);
    assert_eq!(cluster.row("a").map(|row| row.holders.len()), Some(2), "nor does a list");
}

/// Orders count from the proxy of the term that a node obeys, and of that term alone.
#[test]
fn an_order_of_another_term_is_not_obeyed() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let holder = usize::from(cluster.put("a", 1, 1)[0].0[0]) - 1;
    let leader = cluster.leader().expect("a leader");
    let to = (0..3).find(|at| *at != leader && *at != holder).expect("a third");
    let term = cluster.hosts[to].engine.as_ref().expect("up").presence().term;
    let mut order = |from: usize, term: Term| {
        let route = NodeRoute {
            node: node(holder),
            name: "h".into(),
            machine: MachineId::parse("m").expect("valid"),
            addresses: Vec::new(),
        };
        let message = Message::PullOrder { term, content: content(1), size: 1_000, from: vec![route] };
        let instance = InstanceId(from as u64 * 1_000 + cluster.hosts[from].disk.generation);
        cluster.deliver(to, Input::Told { from: node(from), instance, message: Box::new(message) });
        cluster.run(60);
        cluster.copies(1)
    };
    let other = (0..3).find(|at| *at != leader && *at != to).expect("another");
    assert_eq!(order(other, Term { number: term.number - 1, proxy: node(other) }), 1, "an old term");
    assert_eq!(order(leader, Term { number: term.number - 1, proxy: node(leader) }), 1, "its own old term");
    assert_eq!(order(other, term), 1, "not the proxy");
    assert_eq!(order(leader, term), 2, "the order itself");
}

/// A proxy that has not read what the others know of does not say that a name is not there.
#[test]
fn a_new_proxy_does_not_deny_names_before_it_has_read_the_others() {
    let mut cluster = Cluster::new(&[Pin::Proxy, AUTO, AUTO]);
    cluster.run(3_000);
    assert_eq!(cluster.leader(), Some(0));
    cluster.cut.insert(0);
    cluster.run(8_000);
    cluster.put("a", 1, 2);
    cluster.kill(0);
    cluster.run(200);
    cluster.cut.clear();
    cluster.lose_pages = true;
    cluster.start(0);
    cluster.run_until(20_000, "the pinned one leads", |cluster| cluster.leader() == Some(0));
    let list = Request::List { selector: Selector::Name(name("a")), after: None };
    let ask = cluster.ask_of(0, list);
    cluster.run(200);
    let reply = cluster.answers.get(&ask);
    assert!(matches!(reply, Some(Reply::Failed { code: ErrorCode::NotReady, .. })), "{reply:?}");
    cluster.lose_pages = false;
    cluster.run(8_000);
    assert!(cluster.row("a").is_some());
}
