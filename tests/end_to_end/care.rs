//! What people do to look after files and machines, with the real program: remove and restore, drain,
//! ask why, merge.

use crate::disks::{MIB, random_file};
use crate::process::{s, wait_until};
use crate::village::{Village, number, text, word};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn removed(village: &Village) -> Vec<Value> {
    village.json(&["ls", "--removed"]).as_array().expect("a list").clone()
}

#[test]
fn what_was_removed_or_replaced_comes_back() {
    let village = Village::of(3, &[]);
    let (old, new) = (village.path("in/old"), village.path("in/new"));
    random_file(&old, 2 * MIB, 1);
    random_file(&new, MIB, 2);
    village.put(&old, &["--as", "texts/f.txt", "-n", "2"]);
    village.put(&new, &["--as", "texts/f.txt", "-n", "2"]);
    village.get_and_compare("texts/f.txt", &new);
    let listed = removed(&village);
    assert_eq!(
        (listed.len(), word(&listed[0]["name"]), number(&listed[0]["replicas"])),
        (1, "texts/f.txt".into(), 2)
    );
    assert!(word(&listed[0]["removed"]).starts_with("20"), "a date: {listed:?}");

    village.json(&["restore", "texts/f.txt"]);
    village.get_and_compare("texts/f.txt", &old);
    village.json(&["rm", "-r", "texts"]);
    assert!(village.ls().is_empty());
    assert_eq!(removed(&village).len(), 2);
    let restored = village.json(&["restore", "texts/"]);
    assert_eq!(word(&restored[0]["name"]), "texts/f.txt");
    village.get_and_compare("texts/f.txt", &old);

    // The earlier version has a name of its own, and comes back under the plain one.
    let earlier = word(&removed(&village)[0]["name"]);
    village.json(&["restore", &earlier]);
    village.get_and_compare("texts/f.txt", &new);

    village.json(&["rm", "--now", "texts/f.txt"]);
    assert!(removed(&village).is_empty() && village.ls().is_empty());
    let failure = village.fails(&["restore", "texts/f.txt"], 4);
    assert_eq!(failure.code, "not_found");
    wait_until(s(20), "the bytes are gone from the disks", || {
        let left = village.holders_on_disk(2 * MIB);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn what_is_removed_expires() {
    let village = Village::of(2, &["--keep-removed", "2s"]);
    let file = village.path("in/f");
    random_file(&file, MIB, 1);
    village.put(&file, &["-n", "2"]);
    village.json(&["rm", "f"]);
    wait_until(s(30), "the trash and the disks are empty", || {
        let left = village.holders_on_disk(MIB);
        if removed(&village).is_empty() && left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn a_drained_machine_may_be_switched_off() {
    let mut village = Village::of(3, &[]);
    for index in 0..6_u64 {
        let file = village.path(&format!("in/{index}"));
        random_file(&file, MIB + index, index);
        village.put(&file, &["-n", "2"]);
    }
    let status = village.settle();
    let victim = ["a", "b", "c"].into_iter().find(|name| *name != status.proxy).expect("a follower");
    let drained = village.json(&["drain", victim, "--timeout", "30s"]);
    assert_eq!((word(&drained["node"]), number(&drained["needed"])), (victim.to_owned(), 0));
    assert_eq!(village.status().expect("a status").state(victim), "draining");
    village.kill9(victim);
    for index in 0..6_u64 {
        let name = index.to_string();
        village.get_and_compare(&name, &village.path(&format!("in/{index}")));
        assert_eq!(village.row(&name).nodes.len(), 2);
    }
    let failure = village.fails(&["drain", "nobody"], 4);
    assert!(failure.message.contains("nobody"), "{failure:?}");
}

#[test]
fn why_says_what_is_missing() {
    let village = Village::of(2, &[]);
    let file = village.path("in/f");
    random_file(&file, MIB, 1);
    village.put(&file, &["-n", "2"]);
    wait_until(s(10), "nothing is waited for", || {
        let why = village.json(&["why", "f"]);
        let copies = why["copies"].as_array().map_or(0, Vec::len);
        let verified = why["copies"][0]["verified"].as_str().is_some_and(|when| when.starts_with("20"));
        if word(&why["waiting"]) == "nothing" && copies == 2 && verified {
            Ok(())
        } else {
            Err(why.to_string())
        }
    });
    village.run(&["replicas", "f", "4"]).ended(0);
    wait_until(s(20), "it waits for a machine", || {
        let why = village.json(&["why", "f"]);
        if word(&why["waiting"]) == "machine" { Ok(()) } else { Err(why.to_string()) }
    });
    let output = village.run(&["why", "f"]).ended(0);
    assert!(
        output.stdout().contains("2 of 4 copies") && output.stdout().contains("machine with room"),
        "{output}"
    );
    village.json(&["rm", "f"]);
    let failure = village.fails(&["why", "f"], 4);
    assert!(failure.message.contains("restore"), "{failure:?}");
}

#[test]
fn a_new_version_keeps_its_number_of_copies_unless_told_otherwise() {
    let village = Village::of(3, &[]);
    let file = village.path("in/f");
    for (size, more, wanted) in
        [(1_000, &["-n", "3"][..], 3), (2_000, &[], 3), (3_000, &["-n", "1"], 1), (4_000, &[], 1)]
    {
        random_file(&file, size, size);
        village.put(&file, more);
        assert_eq!(village.row("f").wanted, wanted, "{size}");
    }
    let output = village.run(&["put", text(&file), "--as", "new", "--json"]).ended(0);
    assert_eq!(number(&output.json()["files"][0]["replicas_wanted"]), 2);
}

#[test]
fn a_closed_folder_is_not_opened_by_leaving_out_the_key() {
    let village = Village::new();
    let key = village.path("key");
    std::fs::write(&key, "a key of some length for this test\n").expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
    let mut node = village.start_node("closed", &["--key-file", text(&key)]).ready();
    node.kill9();
    let data = village.data("closed");
    let refused = village.run(&["up", "--data-dir", text(&data)]).ended(6);
    assert!(refused.stderr.contains("--key-file"), "{refused}");
}

#[test]
fn only_clusters_in_sight_can_be_merged() {
    let village = Village::of(1, &[]);
    let failure = village.fails(&["merge", &"0f".repeat(16)], 4);
    assert!(failure.message.contains("in sight"), "{failure:?}");
    village.run(&["merge", "zzz"]).ended(2);
}
