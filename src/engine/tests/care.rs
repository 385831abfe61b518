//! What people do to look after files and machines: remove, restore, drain, merge, ask why.

use super::*;
use crate::wire::message::{ErrorCode, Explanation, Waiting};

fn removed(cluster: &mut Cluster) -> Vec<Row> {
    match cluster.ask(&Request::List { selector: Selector::Removed("".into()), after: None }) {
        Reply::Rows { rows, .. } => rows,
        other => panic!("no rows: {other:?}"),
    }
}

fn remove(cluster: &mut Cluster, text: &str, now: bool) {
    let reply = cluster.ask(&Request::Remove { names: vec![name(text)], now });
    assert!(matches!(reply, Reply::Removed { count: 1 }), "{reply:?}");
}

fn restore(cluster: &mut Cluster, text: &str) -> Reply {
    cluster.ask(&Request::Restore { names: vec![name(text)] })
}

fn why(cluster: &mut Cluster, text: &str) -> Explanation {
    match cluster.ask(&Request::Why { name: name(text) }) {
        Reply::Why(explanation) => *explanation,
        other => panic!("no explanation: {other:?}"),
    }
}

fn usage(cluster: &mut Cluster, at: usize, free_bytes: u64) {
    let capacity_bytes = 100_000;
    let disk = DiskState::Ok;
    cluster.deliver(at, Input::Usage { capacity_bytes, used_bytes: 0, free_bytes, disk, usable: true });
}

#[test]
fn what_is_removed_comes_back_with_all_its_copies() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.put("a", 1, 3);
    remove(&mut cluster, "a", false);
    cluster.run(20_000);
    assert!(cluster.row("a").is_none());
    assert_eq!(cluster.copies(1), 3, "the trash keeps the bytes where they are");
    let listed = removed(&mut cluster);
    assert_eq!((listed.len(), listed[0].holders.len(), listed[0].state), (1, 3, FileState::Ok));
    let Reply::Rows { rows, .. } = restore(&mut cluster, "a") else { panic!("not restored") };
    assert_eq!((rows[0].state, rows[0].wanted, rows[0].holders.len()), (FileState::Ok, 3, 3));
    assert!(removed(&mut cluster).is_empty());
    let again = restore(&mut cluster, "a");
    assert!(matches!(again, Reply::Failed { code: ErrorCode::NotFound, .. }), "{again:?}");
}

#[test]
fn a_replaced_version_comes_back_in_exchange_for_the_present_one() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    for n in 1..=3 {
        cluster.put("a.txt", n, 2);
        cluster.run(1_000);
    }
    let listed = removed(&mut cluster);
    let of = |row: &Row| row.body.content().map(|(content, _)| content);
    assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), [Some(content(2)), Some(content(1))]);
    assert_eq!(listed[0].name, name("a.txt"));
    assert!(listed[1].name.as_str().starts_with("a~"), "{}", listed[1].name);
    // The earlier one by the name it is listed under; then what it replaced.
    let earlier = listed[1].name.to_string();
    assert!(matches!(restore(&mut cluster, &earlier), Reply::Rows { .. }));
    assert_eq!(cluster.row("a.txt").as_ref().and_then(of), Some(content(1)));
    assert!(matches!(restore(&mut cluster, "a.txt"), Reply::Rows { .. }));
    assert_eq!(cluster.row("a.txt").as_ref().and_then(of), Some(content(3)));
}

#[test]
fn removed_files_expire_and_then_their_bytes_go() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    remove(&mut cluster, "a", false);
    cluster.run(50_000);
    assert_eq!((removed(&mut cluster).len(), cluster.copies(1)), (1, 2));
    cluster.run(25_000);
    assert_eq!((removed(&mut cluster).len(), cluster.copies(1)), (0, 0));
}

#[test]
fn nothing_expires_by_a_clock_that_differs_from_the_others() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    remove(&mut cluster, "a", false);
    let leader = cluster.leader().expect("a leader");
    let ahead = 1_000_000_000_000 + 9 * 24 * 3_600_000;
    cluster.deliver(leader, Input::WallClock { wall_ms: ahead });
    cluster.run(30_000);
    assert_eq!((removed(&mut cluster).len(), cluster.copies(1)), (1, 2));
}

#[test]
fn removed_for_good_is_gone_at_once_with_earlier_versions() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    cluster.put("a", 2, 2);
    cluster.put("b", 3, 2);
    remove(&mut cluster, "b", false);
    remove(&mut cluster, "a", true);
    remove(&mut cluster, "b", true);
    assert!(removed(&mut cluster).is_empty());
    cluster.run(12_000);
    assert_eq!((1..=3).map(|n| cluster.copies(n)).sum::<usize>(), 0);
}

#[test]
fn a_machine_that_was_off_while_the_trash_was_emptied_brings_nothing_back() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.put("a", 1, 4);
    remove(&mut cluster, "a", false);
    let away = (0..4).find(|at| Some(*at) != cluster.leader()).expect("a follower");
    cluster.kill(away);
    cluster.run(1_000);
    remove(&mut cluster, "a", true);
    cluster.start(away);
    cluster.run(20_000);
    assert!(removed(&mut cluster).is_empty() && cluster.row("a").is_none());
    assert_eq!(cluster.copies(1), 0);
}

#[test]
fn room_is_made_from_the_trash_the_oldest_first_and_live_files_stay() {
    let mut cluster = Cluster::new(&[AUTO; 1]);
    cluster.run(3_000);
    for n in 1..=4 {
        cluster.put(&format!("f{n}"), n, 1);
        cluster.run(1_100);
    }
    for n in [2, 1, 3] {
        remove(&mut cluster, &format!("f{n}"), false);
        cluster.run(1_100);
    }
    cluster.run(9_000); // what a commit was told of stays that long
    // Files of 1,000 bytes; 5 % of 100,000 are to be free.
    usage(&mut cluster, 0, 4_500);
    cluster.run(200);
    let left: Vec<usize> = (1..=4).map(|n| cluster.copies(n)).collect();
    assert_eq!(left, [1, 0, 1, 1]);
    let free =
        |cluster: &Cluster| cluster.hosts[0].engine.as_ref().map(|engine| engine.presence().free_bytes);
    usage(&mut cluster, 0, 5_500);
    cluster.run(200);
    assert_eq!(free(&cluster), Some(7_500), "what the trash takes counts as free");
    cluster.deliver(0, Input::RoomWanted { bytes: 1_500 });
    cluster.run(200);
    let left: Vec<usize> = (1..=4).map(|n| cluster.copies(n)).collect();
    assert_eq!(left, [0, 0, 0, 1]);
    let gone = restore(&mut cluster, "f1");
    assert!(matches!(gone, Reply::Failed { code: ErrorCode::NoStorage, .. }), "{gone:?}");
}

#[test]
fn a_drained_machine_is_not_needed_any_more_and_may_come_back() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    for n in 1..=12 {
        cluster.put(&format!("f{n}"), n, 2);
    }
    cluster.run(10_000);
    let victim = (0..4).find(|at| Some(*at) != cluster.leader()).expect("a follower");
    let ask = Request::Drain { node: format!("h{victim}").into(), undo: false };
    let Reply::Drain(before) = cluster.ask(&ask) else { panic!("not drained") };
    assert!(before.needed > 0 && before.stuck == 0, "{before:?}");
    cluster.run(10_000);
    let Reply::Drain(after) = cluster.ask(&ask) else { panic!("not drained") };
    assert_eq!((after.draining, after.needed), (true, 0));
    assert!(cluster.hosts[victim].disk.held.is_empty());
    assert!((1..=12).all(|n| cluster.copies(n) == 2));
    // The order outlives a restart, and nothing is put there meanwhile.
    cluster.kill(victim);
    cluster.start(victim);
    cluster.run(5_000);
    assert!(!cluster.put("g", 20, 4).contains(&node(victim)));
    let undo = Request::Drain { node: format!("h{victim}").into(), undo: true };
    assert!(matches!(cluster.ask(&undo), Reply::Drain(_)));
    cluster.run(20_000);
    assert!(cluster.hosts[victim].disk.held.contains(&content(20)), "the fourth copy goes there now");
    let nobody = cluster.ask(&Request::Drain { node: "h9".into(), undo: false });
    assert!(matches!(nobody, Reply::Failed { code: ErrorCode::NotFound, .. }), "{nobody:?}");
}

#[test]
fn copies_move_to_a_machine_that_joins_empty() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    for n in 1..=20 {
        cluster.put(&format!("f{n}"), n, 2);
    }
    cluster.run(9_000);
    let held = |cluster: &Cluster, at: usize| cluster.hosts[at].disk.held.len();
    let most = (0..3).max_by_key(|at| held(&cluster, *at)).expect("three");
    let before = held(&cluster, most);
    // Two are as good as full, one has much room.
    let roomy = (0..3).min_by_key(|at| held(&cluster, *at)).expect("three");
    for _ in 0..20 {
        for at in 0..3 {
            let bytes = 1_000 * held(&cluster, at) as u64;
            let free = if at == roomy { 90_000 - bytes } else { 30_000_u64.saturating_sub(bytes) };
            usage(&mut cluster, at, free);
        }
        cluster.run(1_000);
    }
    assert!(held(&cluster, roomy) == 20 && held(&cluster, most) < before);
    assert!((1..=20).all(|n| cluster.copies(n) == 2));
}

#[test]
fn copies_move_until_the_difference_is_small_and_never_back() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(3_000);
    usage(&mut cluster, 1, 0);
    cluster.run(2_000);
    for n in 1..=60 {
        cluster.put(&format!("f{n}"), n, 1);
    }
    cluster.run(9_000);
    let held = |cluster: &Cluster| [0, 1].map(|at| cluster.hosts[at].disk.held.len());
    assert_eq!(held(&cluster), [60, 0]);
    let mut moved = Vec::new();
    for _ in 0..60 {
        // A node measures its disk every two seconds: meanwhile its figures are old.
        for (at, held) in held(&cluster).into_iter().enumerate() {
            usage(&mut cluster, at, 100_000 - 1_000 * held as u64);
        }
        cluster.run(2_000);
        moved.push(held(&cluster)[1]);
    }
    assert!(moved.is_sorted(), "{moved:?}");
    let [full, emptier] = held(&cluster);
    assert!(full >= emptier && full - emptier <= 20, "{moved:?}");
    assert!((1..=60).all(|n| cluster.copies(n) == 1));
}

#[test]
fn why_tells_what_is_waited_for() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let holders = cluster.put("a", 1, 2);
    cluster.run(10_000);
    let healthy = why(&mut cluster, "a");
    assert_eq!((healthy.copies.len(), &healthy.waiting), (2, &Waiting::Nothing));
    assert!(matches!(
        cluster.ask(&Request::SetReplicas { name: name("a"), replicas: 5 }),
        Reply::ReplicasSet { .. }
    ));
    cluster.run(10_000);
    let short = why(&mut cluster, "a");
    assert_eq!((short.copies.len(), &short.waiting, short.wanted), (3, &Waiting::Machine, 5));
    assert!(short.for_ms > 5_000);
    assert!(matches!(
        cluster.ask(&Request::SetReplicas { name: name("a"), replicas: 3 }),
        Reply::ReplicasSet { .. }
    ));
    let victim =
        holders.iter().map(|node| usize::from(node.0[0]) - 1).find(|at| Some(*at) != cluster.leader());
    cluster.kill(victim.expect("a holder that follows"));
    cluster.run(6_000);
    let silent = why(&mut cluster, "a");
    assert_eq!(silent.waiting, Waiting::Return);
    assert!(silent.copies.iter().any(|copy| copy.silent_ms >= 5_000));
}

#[test]
fn two_clusters_with_files_are_one_only_when_somebody_says_so() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.cut.extend([2, 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    cluster.cut = BTreeSet::from([0, 1]);
    cluster.run(3_000);
    cluster.put("b", 2, 1);
    cluster.cut.clear();
    cluster.run(10_000);
    let leaders = cluster.hosts.iter().filter(|host| host.engine.as_ref().is_some_and(Engine::leads)).count();
    assert!(leaders >= 2, "they stay apart");
    let Reply::Status(status) = cluster.ask(&Request::Status) else { panic!("no status") };
    for other in status.others {
        assert!(matches!(cluster.ask(&Request::Merge { lineage: other }), Reply::Merging { .. }));
    }
    cluster.run_until(20_000, "one cluster", |cluster| {
        cluster.agreed() && cluster.hosts.iter().all(|host| host.disk.names.len() == 2)
    });
    assert!(cluster.row("a").is_some() && cluster.row("b").is_some());
}

#[test]
fn what_is_stored_alone_is_told_soon_and_what_comes_together_is_told_together() {
    let mut cluster = Cluster::new(&[AUTO; 2]);
    cluster.run(8_000);
    let at = (0..2).find(|at| Some(*at) != cluster.leader()).expect("one that follows");
    let now = cluster.now;
    let engine = cluster.hosts[at].engine.as_mut().expect("it runs");
    let mut stored = |ms: u64, n: u8| {
        let then = now.plus(ms);
        engine.handle(then, Input::ContentStored { content: content(n), size: 1_000 });
        engine.keeper.flush_at().map(|at| at.since(now))
    };
    assert_eq!(stored(0, 1), None, "told at once");
    assert_eq!([stored(0, 2), stored(0, 3)], [Some(1); 2], "that was alone");
    assert_eq!(stored(1, 4), None, "told with both");
    assert_eq!([stored(1, 5), stored(5, 6)], [Some(6); 2], "those were several");
    assert_eq!(stored(6, 7), None);
}
