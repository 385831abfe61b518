//! As many copies as asked, each on another machine, and words for every number (P2, P3, P7).

use crate::disks::{MIB, random_file};
use crate::process::{s, wait_until};
use crate::village::{Row, Village, names, number, text};
use std::collections::BTreeSet;

#[test]
fn an_unknown_name_is_said_at_once() {
    let village = Village::of(2, &[]);
    let commands: [&[&str]; 5] = [
        &["get", "no such file"],
        &["get", "no/such/folder/"],
        &["rm", "no such file"],
        &["replicas", "no such file"],
        &["replicas", "no such file", "2"],
    ];
    for command in commands {
        let failure = village.fails(command, 4);
        assert_eq!(failure.code, "not_found", "{command:?}");
        assert!(failure.message.contains(command[1].trim_end_matches('/')), "{failure:?}");
        assert!(failure.took < s(3), "{command:?}: {failure:?}");
    }
    let output = village.run(&["get", "no such file", "-o", "-"]).ended(4);
    assert!(output.bytes.is_empty() && output.took < s(3), "{output}");
    // Of several names one is not there: nothing is removed.
    let file = village.path("in/there");
    random_file(&file, 10, 1);
    village.put(&file, &[]);
    village.fails(&["rm", "there", "no such file"], 4);
    village.get_and_compare("there", &file);
}

#[test]
fn the_same_count_is_said_to_be_the_same() {
    let village = Village::of(2, &[]);
    let file = village.path("in/f");
    random_file(&file, 1_000, 1);
    village.put(&file, &["-n", "2"]);
    let output = village.run(&["replicas", "f", "2"]).ended(0);
    assert!(output.stderr.contains("already"), "{output}");
    assert_eq!(Row::read(&village.json(&["replicas", "f", "2"])).wanted, 2);
    let output = village.run(&["replicas", "f", "0"]).ended(2);
    assert!(output.stderr.contains("thorp rm"), "{output}");
    village.run(&["put", text(&file), "-n", "0"]).ended(2);
}

#[test]
fn more_copies_than_machines_are_promised_and_follow() {
    let mut village = Village::of(2, &[]);
    let file = village.path("in/f");
    random_file(&file, 100_000, 2);
    let output = village.run(&["put", text(&file), "-n", "4"]).ended(0);
    assert!(output.stderr.contains("2 of 4"), "a warning says how it is: {output}");
    let row = village.row("f");
    assert_eq!((row.wanted, row.nodes.len(), &*row.state), (4, 2, "degraded"));

    let strict =
        village.run(&["put", text(&file), "--as", "strict", "-n", "3", "--strict", "--json"]).ended(5);
    assert_eq!(number(&strict.json()["files"][0]["replicas"]), 2, "{strict}");
    village.get_and_compare("strict", &file);
    let output = village.run(&["replicas", "f", "3"]).ended(0);
    assert!(output.stderr.contains("only 2 machines"), "{output}");
    village.run(&["replicas", "f", "3", "--strict"]).ended(5);
    village.run(&["replicas", "f", "3", "--wait", "--timeout", "300ms"]).ended(5);

    village.add("c", &[]);
    village.wait_for_row("f", "the third copy", s(20), |row| row.nodes.len() == 3 && row.state == "ok");
    village.wait_for_row("strict", "the third copy", s(20), |row| row.nodes.len() == 3);
    assert_eq!(village.holders_on_disk(100_000).len(), 3);
    village.run(&["replicas", "f", "3", "--strict"]).ended(0);
}

#[test]
fn two_nodes_of_one_machine_count_once() {
    let mut village = Village::new();
    for name in ["a", "b"] {
        village.add(name, &["--machine", "the same"]);
    }
    village.settle();
    let file = village.path("in/f");
    random_file(&file, 100_000, 3);
    let put = village.put(&file, &["-n", "2"]);
    assert_eq!((number(&put["replicas_wanted"]), number(&put["replicas"])), (2, 1), "{put}");
    village.run(&["put", text(&file), "--as", "g", "-n", "2", "--strict"]).ended(5);
    let row = village.row("f");
    assert_eq!((row.nodes.len(), &*row.state), (1, "degraded"));
    // A real second machine takes the second copy, and not one of the two nodes.
    village.add("c", &[]);
    let row = village.wait_for_row("f", "the second copy", s(20), |row| row.nodes.len() == 2);
    assert!(row.nodes.contains("c"), "{row:?}");
    assert_eq!(village.holders_on_disk(100_000), row.nodes);
}

#[test]
fn the_disks_follow_the_wish() {
    let village = Village::of(4, &[]);
    let (file, bytes) = (village.path("in/f"), 6 * MIB + 5);
    random_file(&file, bytes, 4);
    let mut before = names(&village.put(&file, &["-n", "3"])["nodes"]);
    assert_eq!(village.holders_on_disk(bytes), before);
    for count in [1, 2, 4, 3] {
        let answer = village.json(&["replicas", "f", &count.to_string(), "--wait", "--timeout", "30s"]);
        let row = Row::read(&answer);
        assert_eq!((row.wanted, row.nodes.len() as u64, &*row.state), (count, count, "ok"));
        let kept = row.nodes.is_subset(&before) || before.is_subset(&row.nodes);
        assert!(kept, "holders that can stay do: {before:?} became {:?}", row.nodes);
        wait_until(s(5), "the disks show what was said", || {
            let holders = village.holders_on_disk(bytes);
            if holders == row.nodes { Ok(()) } else { Err(format!("{holders:?}, said {:?}", row.nodes)) }
        });
        village.get_and_compare("f", &file);
        before = row.nodes;
    }
}

#[test]
fn a_holder_that_returns_is_trimmed_and_never_too_much() {
    let mut village = Village::of(4, &["--heal-after", "3s"]);
    let (file, bytes) = (village.path("in/f"), 2 * MIB);
    random_file(&file, bytes, 5);
    let put = names(&village.put(&file, &["-n", "2"])["nodes"]);
    let proxy = village.status().unwrap().proxy;
    let victim = put.iter().find(|name| **name != proxy).unwrap().clone();
    village.kill9(&victim);
    let without = |nodes: &BTreeSet<String>| nodes.len() == 2 && !nodes.contains(&victim);
    village.wait_for_row("f", "two live copies again", s(20), |row| without(&row.nodes));
    assert_eq!(village.holders_on_disk(bytes).len(), 2);

    village.add(&victim, &[]);
    assert_eq!(village.holders_on_disk(bytes).len(), 3, "it comes back with its copy");
    wait_until(s(30), "two copies on four disks", || {
        let holders = village.holders_on_disk(bytes);
        assert!(holders.len() >= 2, "a copy too many went: {holders:?}");
        let row = village.row("f");
        let is_so = holders.len() == 2 && row.nodes == holders && row.state == "ok";
        if is_so { Ok(()) } else { Err(format!("{holders:?}, {row:?}")) }
    });
    village.get_and_compare("f", &file);
}
