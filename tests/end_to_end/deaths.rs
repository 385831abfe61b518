//! Nodes that die, leave and come back (P1, P5).

use crate::disks::{MIB, files_under, random_bytes, random_file, written_bytes};
use crate::process::{s, wait_until};
use crate::village::{Village, names, number, text};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use thorp::clock;

#[test]
fn a_holder_that_dies_during_a_get_costs_nothing() {
    let mut village = Village::of(3, &[]);
    let (file, output) = (village.path("in/large"), village.path("out"));
    random_file(&file, 256 * MIB, 1);
    fs::create_dir(&output).unwrap();
    let holders = names(&village.put(&file, &["-n", "2"])["nodes"]);
    let proxy = village.status().unwrap().proxy;
    let victim = holders.iter().find(|name| **name != proxy).unwrap();

    let back = output.join("large");
    let mut get = village.start(&["get", "large", "-o", text(&back), "--json"]);
    wait_until(s(30), "the get is midway", || {
        let written = written_bytes(&output, ".thorp-part");
        if written >= 16 * MIB { Ok(()) } else { Err(format!("{written} bytes")) }
    });
    village.kill9(victim);
    assert_eq!(get.code(), None, "it was killed during the get");
    let answer = get.wait(s(30)).ended(0).json();
    assert!(crate::disks::are_equal(&back, &file));
    let from = answer["files"][0]["from"].as_array().unwrap();
    let by_others = from.iter().filter(|source| source["node"] != victim.as_str());
    assert!(by_others.map(|source| number(&source["bytes"])).sum::<u64>() > 128 * MIB, "{answer}");
}

#[test]
fn a_holder_that_dies_during_a_put_is_replaced() {
    let mut village = Village::of(3, &[]);
    let (file, bytes) = (village.path("in/large"), 256 * MIB);
    random_file(&file, bytes, 2);
    let proxy = village.status().unwrap().proxy;
    let mut put = village.start(&["put", text(&file), "-n", "2", "--json"]);
    let victim = wait_until(s(30), "the put is midway at a node that does not lead", || {
        let receives = |name: &&str| written_bytes(&village.data(name).join("incoming"), ".part") >= 16 * MIB;
        let others = village.nodes.iter().map(|node| node.name.as_str()).filter(|name| *name != proxy);
        others.clone().find(receives).map(str::to_owned).ok_or_else(|| format!("{:?}", put.code()))
    });
    village.kill9(&victim);
    assert_eq!(put.code(), None, "it was killed during the put");
    let answer = put.wait(s(40)).ended(0).json();
    let nodes = names(&answer["files"][0]["nodes"]);
    assert!(nodes.len() == 2 && !nodes.contains(&victim), "{answer}");
    assert_eq!(village.holders_on_disk(bytes), nodes);
    village.get_and_compare("large", &file);
}

#[test]
fn a_machine_that_reconnects_is_the_same_and_serves_again() {
    let mut village = Village::of(3, &[]);
    let file = village.path("in/f");
    random_file(&file, MIB, 3);
    village.put(&file, &["-n", "3"]);
    // Whoever leads, too: each in its turn.
    for name in ["a", "b", "c"] {
        let id = village.nodes.iter().find(|node| node.name == name).unwrap().id.clone();
        village.kill9(name);
        village.get_and_compare("f", &file);
        village.add(name, &[]);
        assert_eq!(village.nodes.last().unwrap().id, id, "it is the same node");
        village.settle();
        village.wait_for_row("f", "three copies", s(10), |row| row.nodes.len() == 3 && row.state == "ok");
    }
}

#[test]
fn whatever_was_acknowledged_survives_twenty_kills() {
    let mut village = Village::of(2, &[]);
    let folder = village.path("in");
    let mut rng = clock::Rng::seeded(4);
    let mut acknowledged = Vec::new();
    for round in 0..20_u64 {
        // In the database and beside it; the kill comes right after the answer.
        let name = format!("{round:02}");
        let bytes = [rng.below(30_000), 40_000 + rng.below(200_000)][usize::from(round % 2 == 1)];
        random_file(&folder.join(&name), bytes, 100 + round);
        let put = village.put(&folder.join(&name), &["-n", "2"]);
        if names(&put["nodes"]).contains("b") {
            acknowledged.push((name, bytes, 100 + round));
        }
        village.kill9("b");
        village.add("b", &[]);
        wait_until(s(10), "it is taken in again", || {
            let status = village.status()?;
            let known = status.address("b") == village.nodes[1].tcp && status.up().len() == 2;
            if known { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }
    // Where a node has the same port again, its dead self may be taken for it at first.
    assert!(acknowledged.len() >= 15, "both nodes take part: {acknowledged:?}");
    // What the killed node has, it has by itself.
    village.kill9("a");
    wait_until(s(15), "the killed node leads", || {
        let status = village.status()?;
        if status.proxy == "b" { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let listed: BTreeSet<(String, u64)> = village.ls().into_iter().map(|row| (row.name, row.bytes)).collect();
    let expected: Vec<(String, u64)> =
        acknowledged.iter().map(|(name, bytes, _)| (name.clone(), *bytes)).collect();
    assert!(expected.iter().all(|file| listed.contains(file)), "{listed:?} lacks some of {expected:?}");
    let output = village.path("out");
    fs::create_dir(&output).unwrap();
    let get: Vec<&str> =
        ["get", "-o", text(&output)].into_iter().chain(expected.iter().map(|file| &*file.0)).collect();
    village.json(&get);
    for (name, bytes, seed) in &acknowledged {
        assert!(fs::read(output.join(name)).unwrap() == random_bytes(*bytes, *seed), "{name} is different");
    }
    for name in ["a", "b"] {
        let left = files_under(&village.data(name).join("incoming"));
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[test]
fn a_node_that_is_asked_to_leave_says_goodbye() {
    let mut village = Village::of(3, &[]);
    let file = village.path("in/f");
    random_file(&file, MIB, 5);
    village.put(&file, &["-n", "3"]);
    // The proxy last but one, so that a goodbye of the proxy is among them.
    let proxy = village.status().unwrap().proxy;
    let mut order: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    order.sort_by_key(|name| *name == proxy);
    for name in &order[1..] {
        let mut node = village.take(name);
        let asked = clock::now();
        node.terminate();
        node.process.wait(Duration::from_millis(5_500)).ended(0);
        wait_until(s(6), "the others know that it left", || {
            let status = village.status()?;
            let away = status.state(name) == "away" && status.proxy != *name;
            if away { Ok(()) } else { Err(format!("{status:?}")) }
        });
        assert!(clock::now().since(asked) < 6_000, "a goodbye is quicker than a silence");
        village.get_and_compare("f", &file);
    }
    // SIGINT is the same.
    let mut last = village.take(&order[0]);
    last.process.signal(Signal::INT);
    last.process.wait(Duration::from_millis(5_500)).ended(0);
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let mut village = Village::of(1, &[]);
    let file = village.path("in/large");
    random_file(&file, 256 * MIB, 6);
    let mut put = village.start(&["put", text(&file), "-n", "1"]);
    let incoming = village.data("a").join("incoming");
    wait_until(s(30), "the put is midway", || {
        let received = written_bytes(&incoming, ".part");
        if received >= 16 * MIB { Ok(()) } else { Err(format!("{received} bytes, {:?}", put.code())) }
    });
    // The sender holds its breath: the node has something to wait for.
    put.signal(Signal::STOP);
    let mut node = village.take("a");
    node.terminate();
    wait_until(s(2), "the first signal is heard", || {
        let said = node.process.stderr();
        if said.contains("leaving") { Ok(()) } else { Err(said) }
    });
    assert_eq!(node.process.code(), None, "it waits for the transfer");
    let asked = clock::now();
    node.terminate();
    let output = node.process.wait(s(3));
    assert!(clock::now().since(asked) < 1_000, "{output}");
    put.kill9();
}
