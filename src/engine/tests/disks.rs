//! What follows from the state of a disk, and from one that was put back to an earlier state.

use super::*;

fn holder_not_leading(cluster: &Cluster, n: u8) -> usize {
    let leader = cluster.leader().expect("a leader");
    (0..cluster.hosts.len())
        .find(|at| *at != leader && cluster.hosts[*at].disk.held.contains(&content(n)))
        .expect("a holder that does not lead")
}

/// Copies on a disk that failed count for nothing, and are what the new ones are made from.
#[test]
fn copies_on_a_suspect_disk_are_made_anew_elsewhere_and_can_be_read() {
    let mut cluster = Cluster::new(&[AUTO; 4]);
    cluster.run(3_000);
    for n in 1..10 {
        cluster.put(&format!("f{n}"), n, 2);
    }
    cluster.run(10_000);
    let bad = holder_not_leading(&cluster, 1);
    let held = cluster.hosts[bad].disk.held.clone();
    cluster.measure(bad, DiskState::Suspect, false);
    cluster.run(30_000);
    for n in 1..10 {
        let copies = |cluster: &Cluster| {
            let with = |at: &usize| *at != bad && cluster.hosts[*at].disk.held.contains(&content(n));
            (0..4).filter(with).count()
        };
        assert_eq!(copies(&cluster), 2, "f{n}");
        let row = cluster.row(&format!("f{n}")).expect("listed");
        assert_eq!((row.state, row.holders.contains(&node(bad))), (FileState::Ok, false), "f{n}");
    }
    assert_eq!(cluster.hosts[bad].disk.held, held, "nothing is taken from it");
    // The only copy is on it: it is read from there.
    cluster.put("last", 77, 1);
    let at = (0..4).find(|at| cluster.hosts[*at].disk.held.contains(&content(77))).expect("stored");
    if at == cluster.leader().expect("a leader") {
        return;
    }
    cluster.measure(at, DiskState::Suspect, false);
    cluster.run(100);
    assert_eq!(cluster.row("last").expect("listed").holders.len(), 1);
}

/// A full disk keeps what it has and gets nothing more; with room it goes on.
#[test]
fn a_full_disk_gets_no_copies_until_there_is_room() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("a leader");
    let full = (0..3).find(|at| *at != leader).expect("another");
    cluster.measure(full, DiskState::Full, true);
    cluster.run(2_000);
    for n in 1..20 {
        assert!(!cluster.put(&format!("f{n}"), n, 2).contains(&node(full)), "f{n}");
    }
    cluster.measure(full, DiskState::Ok, true);
    cluster.run(2_000);
    assert!(cluster.put("all", 99, 3).contains(&node(full)));
}

/// A proxy whose catalog finds no room at all leads nobody until it finds some.
#[test]
fn a_proxy_that_can_save_nothing_hands_over_and_comes_back() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("a", 1, 2);
    let first = cluster.leader().expect("a leader");
    cluster.measure(first, DiskState::Full, false);
    cluster.run_until(10_000, "another proxy", |cluster| cluster.leader().is_some_and(|at| at != first));
    cluster.put("b", 2, 2);
    cluster.measure(first, DiskState::Ok, true);
    cluster.run_until(10_000, "one cluster", Cluster::agreed);
    let other = cluster.leader().expect("a leader");
    cluster.kill(other);
    cluster.run_until(20_000, "a proxy", |cluster| cluster.leader().is_some());
    cluster.put("c", 3, 2);
}

/// The disk of a node is put back to an earlier state: what was removed since stays removed, what
/// was written since comes back to it, and no dot is minted twice.
#[test]
fn a_disk_put_back_to_an_earlier_state_revives_nothing_and_mints_no_dot_twice() {
    let mut cluster = Cluster::new(&[AUTO; 3]);
    cluster.run(3_000);
    cluster.put("removed", 1, 3);
    cluster.put("stays", 2, 3);
    cluster.run(5_000);
    let leader = cluster.leader().expect("a leader");
    let image = cluster.hosts[leader].disk.clone();
    let remove = Request::Remove { names: vec![name("removed")], now: true };
    assert!(matches!(cluster.ask(&remove), Reply::Removed { .. }));
    cluster.put("since", 3, 3);
    cluster.run(5_000);
    let mut dots = vec![cluster.row("since").expect("listed").dot, cluster.row("stays").expect("listed").dot];
    cluster.kill(leader);
    cluster.run(8_000);
    cluster.hosts[leader].disk = image;
    // The run's instance is drawn at random; here it follows from the generation, so that is moved.
    cluster.hosts[leader].disk.generation += 500;
    cluster.start(leader);
    cluster.run_until(30_000, "one cluster", Cluster::agreed);
    cluster.run(10_000);
    assert!(cluster.row("removed").is_none(), "it stays removed");
    for host in &cluster.hosts {
        assert!(!host.disk.names.contains_key(&name("removed")));
        assert!(host.disk.names.contains_key(&name("since")));
    }
    let other = cluster.leader().expect("a leader");
    if other != leader {
        cluster.kill(other);
        cluster.run_until(20_000, "a proxy", |cluster| cluster.leader().is_some());
    }
    for n in 10..20 {
        cluster.put(&format!("after {n}"), n, 2);
        let dot = cluster.row(&format!("after {n}")).expect("listed").dot;
        assert!(!dots.contains(&dot), "{dot:?} was minted twice");
        dots.push(dot);
    }
}
