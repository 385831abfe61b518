//! The main job: finding each other, putting, changing counts, healing, taking over.

use super::*;

#[test]
fn five_nodes_agree_on_one_proxy_and_one_cluster_within_three_seconds() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run_until(3_000, "one proxy for all", Cluster::agreed);
    let lineage = cluster.hosts[0].disk.lineage.clone();
    assert!(cluster.hosts.iter().all(|host| host.disk.lineage == lineage));
}

#[test]
fn a_put_is_durable_on_as_many_machines_as_asked_and_every_node_lists_it() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    assert_eq!(cluster.put("a", 1, 3).len(), 3);
    assert_eq!(cluster.copies(1), 3);
    cluster.run(3_000);
    assert!(cluster.hosts.iter().all(|host| host.disk.names.contains_key(&name("a"))));
    let row = cluster.row("a").expect("listed");
    assert_eq!((row.state, row.holders.len()), (FileState::Ok, 3));
}

#[test]
fn a_wanted_count_goes_up_and_down_and_never_below() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run(3_000);
    cluster.put("a", 1, 3);
    for wanted in [5_u8, 1, 2, 4, 2] {
        let request = Request::SetReplicas { name: name("a"), replicas: wanted };
        assert!(matches!(cluster.ask(&request), Reply::ReplicasSet { .. }));
        cluster.run_until(30_000, "the wanted count", |cluster| cluster.copies(1) == usize::from(wanted));
        cluster.run(10_000);
        assert_eq!(cluster.copies(1), usize::from(wanted), "and it stays so");
        assert_eq!(cluster.row("a").map(|row| row.state), Some(FileState::Ok));
    }
}

#[test]
fn more_copies_than_machines_are_filled_when_a_machine_joins() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.kill(2);
    cluster.run(3_000);
    assert_eq!(cluster.put("a", 1, 3).len(), 2);
    assert_eq!(cluster.row("a").map(|row| row.state), Some(FileState::Degraded));
    cluster.start(2);
    cluster.run_until(10_000, "the third copy", |cluster| cluster.copies(1) == 3);
}

#[test]
fn a_dead_holder_is_replaced_and_trimmed_when_it_returns() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run(3_000);
    let holders = cluster.put("a", 1, 3);
    let victim =
        holders.iter().map(|node| usize::from(node.0[0]) - 1).find(|at| Some(*at) != cluster.leader());
    let victim = victim.expect("a holder that does not lead");
    cluster.kill(victim);
    cluster.run(15_000);
    assert_eq!(cluster.copies(1), 3, "nothing happens before the time is up");
    cluster.run_until(20_000, "another copy", |cluster| cluster.copies(1) == 4);
    cluster.start(victim);
    cluster.run_until(20_000, "trimmed", |cluster| cluster.copies(1) == 3);
    cluster.run(20_000);
    assert_eq!(cluster.copies(1), 3);
}

#[test]
fn the_last_live_copy_is_not_waited_for_as_long() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    let holders = cluster.put("a", 1, 2);
    let victim =
        holders.iter().map(|node| usize::from(node.0[0]) - 1).find(|at| Some(*at) != cluster.leader());
    cluster.kill(victim.expect("a holder that does not lead"));
    cluster.run_until(17_000, "another copy", |cluster| cluster.copies(1) == 3);
}

#[test]
fn when_the_proxy_dies_another_leads_within_five_seconds_and_knows_all() {
    let mut cluster = Cluster::new(&[AUTO; 5]);
    cluster.run(3_000);
    for n in 1..20 {
        cluster.put(&format!("f{n}"), n, 3);
    }
    let old = cluster.leader().expect("a leader");
    cluster.kill(old);
    cluster.run_until(5_000, "another leader", |cluster| cluster.leader().is_some());
    for n in 1..20 {
        let row = cluster.row(&format!("f{n}")).expect("still listed");
        assert!(row.holders.len() >= 2);
    }
    cluster.start(old);
    cluster.run(5_000);
    assert!(cluster.agreed(), "the incumbent stays when the old one returns");
    assert_ne!(cluster.leader(), Some(old));
}

#[test]
fn removed_stays_removed_for_a_node_that_was_away() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.put("a", 1, 4);
    cluster.put("b", 2, 2);
    let away = (0..4).find(|at| Some(*at) != cluster.leader()).expect("a follower");
    cluster.kill(away);
    cluster.run(1_000);
    assert!(matches!(
        cluster.ask(&Request::Remove { names: vec![name("a")], now: false }),
        Reply::Removed { count: 1 }
    ));
    cluster.run(100_000);
    cluster.start(away);
    cluster.run(10_000);
    assert!(cluster.row("a").is_none());
    assert!(cluster.hosts.iter().all(|host| !host.disk.names.contains_key(&name("a"))));
    assert!(cluster.row("b").is_some());
}

#[test]
fn both_sides_of_a_split_go_on_and_merge() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    let alone = cluster.leader().expect("a leader");
    cluster.cut.insert(alone);
    cluster.run(8_000);
    cluster.put("a", 2, 2);
    cluster.cut.clear();
    cluster.run_until(10_000, "one proxy again", Cluster::agreed);
    cluster.run(10_000);
    let row = cluster.row("a").expect("listed");
    assert_eq!(row.body, Body::File { content: content(2), size: 1_000 });
    let digests: BTreeSet<u64> = cluster
        .hosts
        .iter()
        .filter_map(|host| host.engine.as_ref().map(|engine| engine.presence().catalog_digest))
        .collect();
    assert_eq!(digests.len(), 1, "all catalogs are equal");
}

#[test]
fn a_pinned_proxy_leads_and_stores_nothing() {
    let mut cluster = Cluster::new(&[AUTO, AUTO, Pin::Proxy, Pin::Client]);
    cluster.run_until(4_000, "the pinned proxy leads", |cluster| cluster.leader() == Some(2));
    cluster.run(2_000);
    assert_eq!(cluster.put("a", 1, 4).len(), 2);
    cluster.run(10_000);
    assert!(cluster.hosts[2].disk.held.is_empty() && cluster.hosts[3].disk.held.is_empty());
}

#[test]
fn a_restarted_cluster_has_all_its_files() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.start(at));
    cluster.run(5_000);
    let row = cluster.row("a").expect("listed");
    assert_eq!((row.state, row.holders.len()), (FileState::Ok, 2));
    assert!(cluster.dropped.is_empty());
}

#[test]
fn who_watches_is_told_what_changed_and_who_missed_much_to_look_again() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(8_000);
    let seen = |reply: Reply| match reply {
        Reply::Changed { term, revision, all, rows, gone, .. } => {
            let rows: Vec<_> = rows.iter().map(|row| (row.name.to_string(), row.holders.len())).collect();
            let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
            (term, revision, all, rows, gone)
        }
        reply => panic!("{reply:?}"),
    };
    let watch = |term, after| Request::Watch { term, after, wait_ms: 1_000 };
    let (term, after, all, ..) = seen(cluster.ask(&watch(Term::default(), 0)));
    assert!(all, "another term");
    let (_, unchanged, all, rows, _) = seen(cluster.ask(&watch(term, after)));
    assert_eq!((unchanged, all, rows), (after, false, vec![]), "nothing, after a second");
    cluster.put("a", 1, 2);
    let (_, after, all, rows, _) = seen(cluster.ask(&watch(term, after)));
    assert_eq!((all, rows), (false, vec![("a".to_owned(), 2)]));
    let request = Request::SetReplicas { name: name("a"), replicas: 3 };
    assert!(matches!(cluster.ask(&request), Reply::ReplicasSet { .. }));
    cluster.run_until(10_000, "the third copy", |cluster| cluster.copies(1) == 3);
    cluster.run(1_000);
    let (_, after, all, rows, _) = seen(cluster.ask(&watch(term, after)));
    assert_eq!((all, rows), (false, vec![("a".to_owned(), 3)]), "the copies, and not the entry, changed");
    assert!(matches!(
        cluster.ask(&Request::Remove { names: vec![name("a")], now: false }),
        Reply::Removed { .. }
    ));
    let (_, after, all, rows, gone) = seen(cluster.ask(&watch(term, after)));
    assert_eq!((all, rows, gone), (false, vec![], vec!["a".to_owned()]));
    let follower = (0..3).find(|at| Some(*at) != cluster.leader()).expect("one");
    cluster.kill(follower);
    cluster.run(5_000);
    assert!(seen(cluster.ask(&watch(term, after))).2, "a machine fell silent");
    assert!(seen(cluster.ask(&watch(term, u64::MAX))).2, "a revision that never was");
}
