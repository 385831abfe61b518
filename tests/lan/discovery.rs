//! Machines find each other with nothing configured.

use crate::cluster::{Cluster, Node};
use crate::network::{Lan, wait_until};
use crate::process::s;
use crate::runner::Verdict;
use std::collections::BTreeSet;
use thorp::clock;

/// Five hosts are one cluster within 3 s of the last start.
pub fn five_hosts_agree() -> Verdict {
    let lan = Lan::new(5);
    let started: Vec<Node> = lan.hosts().iter().map(|host| host.client().node(&[])).collect();
    let cluster = Cluster { nodes: started.into_iter().map(Node::ready).collect() };
    let ready = clock::now();
    let status = cluster.settle(s(3));
    println!("  all agreed {} ms after the last was ready", clock::now().since(ready));
    assert!(!status.is_secured, "no key was set: {status:?}");
    for node in &cluster.nodes {
        assert!(status.roles(&node.id).contains("storage"), "{} stores: {status:?}", node.name);
    }
    // Somebody who runs no node sees the same.
    let seen = lan.host(3).client().status().expect("a status for a client");
    assert_eq!((seen.up(), seen.proxy), (cluster.names(), status.proxy));
    Verdict::Passed
}

/// One machine is a cluster, and leaves politely.
pub fn one_machine_alone() -> Verdict {
    let lan = Lan::new(1);
    let node = lan.host(1).up(&[]);
    let status = wait_until(s(5), "it leads", || node.seat.status());
    assert_eq!((&status.proxy, status.up()), (&node.id, BTreeSet::from(["h1".to_owned()])));
    let roles = BTreeSet::from(["proxy".to_owned(), "storage".to_owned()]);
    assert!(roles.is_subset(&status.roles(&node.id)), "{status:?}");
    let client = lan.host(1).client();
    assert!(client.ls().expect("an empty list").is_empty());
    node.stop();
    let code = client.run(&["ls", "--timeout", "1s"]).code;
    assert_eq!(code, 3, "without a node there is no proxy to be found");
    Verdict::Passed
}

/// A host with two interfaces finds its peers on both, and ties them into one cluster.
pub fn two_lans() -> Verdict {
    let lan = Lan::of(3, &[(77, &[1, 2]), (78, &[2, 3])]);
    // The middle one leads: it is the only one that everybody reaches.
    let middle = lan.host(2).up(&[]);
    wait_until(s(5), "the middle one leads", || middle.seat.status());
    let cluster = Cluster { nodes: vec![middle, lan.host(1).up(&[]), lan.host(3).up(&[])] };
    wait_until(s(10), "the middle one sees both sides", || {
        let status = cluster.nodes[0].seat.status()?;
        if status.up() == cluster.names() { Ok(()) } else { Err(format!("{status:?}")) }
    });
    for (side, number) in [("the first LAN", 1), ("the second LAN", 3)] {
        wait_until(s(5), side, || {
            let status = lan.host(number).client().status()?;
            if status.proxy == cluster.nodes[0].id { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }
    Verdict::Passed
}

/// `--peer` reaches what broadcast cannot.
pub fn named_peer() -> Verdict {
    let lan = Lan::new(2);
    lan.deafen(1);
    lan.deafen(2);
    let first = lan.host(1).up(&[]);
    let second = lan.host(2).up(&[]);
    // Without it there are two clusters: this shows that broadcasts are gone, not that they are late.
    for node in [&first, &second] {
        let status = wait_until(s(6), "each leads by itself", || node.seat.status());
        assert_eq!(status.up(), BTreeSet::from([node.name.clone()]), "they found each other too early");
    }
    second.stop();
    let second = lan.host(2).up(&["--peer", &lan.host(1).address.to_string()]);
    let cluster = Cluster { nodes: vec![first, second] };
    cluster.settle(s(10));
    // A command finds the cluster in the same way.
    let looked = lan.host(2).thorp(&["ls", "--peer", &lan.host(1).address.to_string()]);
    looked.ok();
    Verdict::Passed
}
