//! Any machine may die, at any moment (P3, P5, P6, P7).

use crate::cluster::{Cluster, Seat, random_file, text};
use crate::network::{Lan, wait_until};
use crate::process::{Output, Process, s};
use crate::runner::Verdict;
use std::collections::BTreeSet;
use thorp::clock;

const MIB: u64 = 1 << 20;
const HEAL_SOON: [&str; 2] = ["--heal-after", "5s"];

/// One of `holders` that does not lead.
#[track_caller]
fn not_leading(client: &Seat, holders: &BTreeSet<String>) -> String {
    let proxy = client.status().unwrap_or_else(|error| panic!("{error}")).proxy_name();
    holders.iter().find(|name| **name != proxy).unwrap_or_else(|| panic!("only the proxy holds it")).clone()
}

/// A killed holder is made up for; when it comes back the surplus goes, and never the last.
pub fn dead_holder() -> Verdict {
    let lan = Lan::new(6);
    let mut cluster = Cluster::start(&lan, 1..=5, &HEAL_SOON);
    let client = lan.host(6).client();
    let (file, bytes) = (lan.host(6).folder.join("precious"), 16 * MIB + 7);
    random_file(&file, bytes, 1);
    let put = client.put(&file, 3);
    let victim = not_leading(&client, &put.nodes);
    let number = cluster.named(&victim).number;
    cluster.kill9(&victim);
    let dead = clock::now();
    client.wait_for_row("precious", 3, s(30), |nodes| !nodes.contains(&victim));
    println!("  three live copies again {} ms after the kill", clock::now().since(dead));
    assert_eq!(cluster.holders_on_disk(bytes).len(), 3);
    client.get_and_compare("precious", &file);

    cluster.nodes.push(lan.host(number).up(&HEAL_SOON));
    cluster.settle(s(10));
    wait_until(s(30), "three copies on five disks", || {
        let holders = cluster.holders_on_disk(bytes);
        assert!(holders.len() >= 3, "a copy too many went: {holders:?}");
        let row = client.row("precious")?;
        if holders.len() == 3 && row.nodes == holders { Ok(()) } else { Err(format!("{holders:?}, {row:?}")) }
    });
    client.get_and_compare("precious", &file);
    Verdict::Passed
}

/// The proxy is a machine like any other.
pub fn dead_proxy() -> Verdict {
    let lan = Lan::new(6);
    let mut cluster = Cluster::start(&lan, 1..=5, &[]);
    let client = lan.host(6).client();
    let names: BTreeSet<String> = (0..8).map(|index| format!("file-{index}")).collect();
    for (seed, name) in names.iter().enumerate() {
        let file = lan.host(6).folder.join(name);
        random_file(&file, 200_000 * (seed as u64 + 1), seed as u64);
        assert_eq!(client.put(&file, 2).nodes.len(), 2);
    }
    let before = client.status().unwrap();
    cluster.kill9(&before.proxy_name());
    let dead = clock::now();
    let after = wait_until(s(5), "another node leads and lists everything", || {
        let status = client.status()?;
        if status.proxy == before.proxy {
            return Err(format!("{status:?}"));
        }
        let rows: BTreeSet<String> = client.ls()?.into_iter().map(|row| row.name).collect();
        if rows == names { Ok(status) } else { Err(format!("{rows:?}")) }
    });
    println!("  taken over {} ms after the kill", clock::now().since(dead));
    assert!(after.term > before.term, "{} is not above {}", after.term, before.term);
    cluster.settle(s(5));
    for name in &names {
        client.get_and_compare(name, &lan.host(6).folder.join(name));
    }
    // And it takes new files.
    let file = lan.host(6).folder.join("new");
    random_file(&file, MIB, 99);
    assert_eq!(client.put(&file, 2).nodes.len(), 2);
    Verdict::Passed
}

/// A cable is pulled and put back.
pub fn unplugged_host() -> Verdict {
    let lan = Lan::new(5);
    let cluster = Cluster::start(&lan, 1..=4, &[]);
    let client = lan.host(5).client();
    let [early, late] = ["early", "late"].map(|name| lan.host(5).folder.join(name));
    random_file(&early, 4 * MIB, 1);
    random_file(&late, 4 * MIB + 1, 2);
    let put = client.put(&early, 3);
    let gone = not_leading(&client, &put.nodes);
    let number = cluster.named(&gone).number;

    lan.unplug(number);
    wait_until(s(8), "the unplugged host is missed", || {
        let status = client.status()?;
        if matches!(status.state(&gone), "suspect" | "down") { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let without = client.put(&late, 3);
    assert!(!without.nodes.contains(&gone) && without.nodes.len() == 3, "{without:?}");
    client.get_and_compare("early", &early);

    lan.plug(number);
    cluster.settle(s(15));
    client.wait_for_row("early", 3, s(20), |_| true);
    client.wait_for_row("late", 3, s(20), |_| true);
    let returned = &cluster.named(&gone).seat;
    returned.get_and_compare("early", &early);
    returned.get_and_compare("late", &late);
    Verdict::Passed
}

/// The proxy is cut off and goes on alone; the others go on without it; then they meet again.
pub fn split() -> Verdict {
    let lan = Lan::new(4);
    let cluster = Cluster::start(&lan, 1..=4, &[]);
    let proxy = cluster.settle(s(5)).proxy_name();
    let alone = cluster.named(&proxy);
    let other = cluster.nodes.iter().find(|node| node.name != proxy).expect("another node");
    let home = lan.host(1).folder.clone();
    let names = ["before", "there", "here"];
    let [before, there, here] = names.map(|name| home.join(name));
    for (seed, file) in [&before, &there, &here].into_iter().enumerate() {
        random_file(file, MIB + seed as u64, seed as u64);
    }
    other.seat.put(&before, 4);

    lan.unplug(alone.number);
    wait_until(s(10), "the others have a new proxy", || {
        let status = other.seat.status()?;
        if status.proxy == alone.id { Err(format!("{status:?}")) } else { Ok(()) }
    });
    wait_until(s(10), "the old proxy notices that it is alone", || {
        let status = alone.seat.status()?;
        if status.up().len() == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    other.seat.put(&there, 2);
    alone.seat.put(&here, 2);
    // Two different contents under one name, too: both are to be kept.
    other.seat.json(&["put", &text(&there), "--as", "same.txt"]);
    alone.seat.json(&["put", &text(&here), "--as", "same.txt"]);

    lan.plug(alone.number);
    cluster.settle(s(15));
    wait_until(s(15), "everything is listed everywhere", || {
        for node in &cluster.nodes {
            let rows = node.seat.ls()?;
            let plain =
                names.iter().all(|name| rows.iter().any(|row| row.name == *name && row.state == "ok"));
            let same = rows.iter().filter(|row| row.name.starts_with("same")).count();
            if !plain || same != 2 {
                return Err(format!("{} lists {rows:#?}", node.name));
            }
        }
        Ok(())
    });
    for (name, file) in names.iter().zip([&before, &there, &here]) {
        alone.seat.get_and_compare(name, file);
        other.seat.get_and_compare(name, file);
    }
    let rows = other.seat.ls().unwrap();
    let content = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.content.clone());
    let both: BTreeSet<String> =
        rows.iter().filter(|row| row.name.starts_with("same")).map(|row| row.content.clone()).collect();
    assert_eq!(both, [content("there"), content("here")].into_iter().flatten().collect());
    Verdict::Passed
}

/// Waits until the LAN has carried `bytes` more to one of `hosts` than `before`; gives its number.
/// `None` if the command ended first.
fn carried(lan: &Lan, hosts: &[usize], before: &[u64], bytes: u64, command: &mut Process) -> Option<usize> {
    wait_until(s(30), "bytes are under way", || {
        let receives = |&(&host, &start): &(&usize, &u64)| lan.bytes_to(host) - start >= bytes;
        match hosts.iter().zip(before).find(receives) {
            Some((&host, _)) => Ok(Some(host)),
            None if command.code().is_some() => Ok(None),
            None => Err("nothing much".to_owned()),
        }
    })
}

#[track_caller]
fn ends_well(mut command: Process) -> Output {
    command.wait(s(40)).ok()
}

/// A holder dies while a file is read from it.
pub fn dead_holder_during_get() -> Verdict {
    let lan = Lan::new(5);
    let mut cluster = Cluster::start(&lan, 1..=4, &[]);
    let client = lan.host(5).client();
    let (file, bytes) = (lan.host(5).folder.join("large"), 256 * MIB);
    random_file(&file, bytes, 1);
    let put = client.put(&file, 3);
    let victim = not_leading(&client, &put.nodes);

    let output = lan.host(5).folder.join("got");
    let before = lan.bytes_to(5);
    let mut get = client.start(&["get", "large", "-o", &text(&output), "--json"]);
    carried(&lan, &[5], &[before], 16 * MIB, &mut get);
    cluster.kill9(&victim);
    // The LAN's count shows that the file was not through, so the death was in the midst.
    let through = lan.bytes_to(5) - before;
    assert!(through < bytes, "the get was over before the kill: {through} bytes");
    println!("  killed a holder after {} of {} MiB", through / MIB, bytes / MIB);
    ends_well(get);
    assert!(crate::cluster::are_equal(&output, &file), "the file came back different");
    Verdict::Passed
}

/// A holder dies while a file is written to it.
pub fn dead_holder_during_put() -> Verdict {
    let lan = Lan::new(5);
    let mut cluster = Cluster::start(&lan, 1..=4, &HEAL_SOON);
    let client = lan.host(5).client();
    let (file, bytes) = (lan.host(5).folder.join("large"), 256 * MIB);
    random_file(&file, bytes, 2);
    let proxy = client.status().unwrap().proxy_name();
    let others: Vec<usize> =
        cluster.nodes.iter().filter(|node| node.name != proxy).map(|node| node.number).collect();
    let before: Vec<u64> = others.iter().map(|&host| lan.bytes_to(host)).collect();

    let mut put = client.start(&["put", &text(&file), "-n", "3", "--json"]);
    let receiver = carried(&lan, &others, &before, 16 * MIB, &mut put);
    let receiver = receiver.unwrap_or_else(|| panic!("the put was over before a holder received much"));
    let victim = format!("h{receiver}");
    cluster.kill9(&victim);
    let answer = ends_well(put).json().unwrap();
    let row = crate::cluster::Row::read(&answer["files"][0]).unwrap();
    assert_eq!((row.bytes, row.wanted), (bytes, 3));
    // Honest: who is named has it on disk, and the dead one is not named.
    assert!(!row.nodes.is_empty() && !row.nodes.contains(&victim), "{row:?}");
    assert!(row.nodes.is_subset(&cluster.holders_on_disk(bytes)), "{row:?}");
    client.wait_for_row("large", 3, s(30), |nodes| !nodes.contains(&victim));
    client.get_and_compare("large", &file);
    Verdict::Passed
}
