//! Looks at a cluster that was healed: first through commands, then, when it has ended, at its disks.

use super::checker::{Findings, Kind, Seen, base, check};
use super::history::History;
use super::{NODES, nemesis};
use crate::cluster::{Cluster, Row, Seat, text};
use crate::network::{Lan, wait_until};
use crate::process::{poll, s};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;
use thorp::clock;
use thorp::store::Store;
use thorp::types::{ContentId, FileName, Version};

/// Longest time from the last fault until all is as it should be.
const QUIET_LIMIT: Duration = s(90);
/// Files that are removed while a machine is away.
const REMOVED_BEHIND_ITS_BACK: usize = 10;

/// Compares everything with the history.
pub fn judge(lan: &Lan, mut cluster: Cluster, history: &History) -> Findings {
    let mut findings = Findings::default();
    let client = lan.host(NODES + 1).client();
    let healed = clock::now();
    cluster.settle(s(40));
    let rows = quiet_rows(&client).unwrap_or_else(|(rows, why)| {
        println!("  not quiet after {} s: {why}", QUIET_LIMIT.as_secs());
        rows
    });
    println!("  all as asked {:.1} s after the last fault", clock::now().since(healed) as f64 / 1_000.0);
    history.all_wrong().into_iter().for_each(|words| findings.add(Kind::Wrong, format!("wrong: {words}")));
    let seen = look(lan, &client, &rows, history, &mut findings);
    check(&history.operations(), &seen, &mut findings);
    let conflicts = seen.iter().filter(|one| base(&one.listed) != one.listed).count();
    println!("  {} files listed, {conflicts} of them under conflict names", seen.len());
    let removed = remove_behind_its_back(lan, &mut cluster, &client, &rows, &mut findings);
    let left: Vec<&Row> = rows.iter().filter(|row| !removed.contains(&row.name)).collect();
    look_at_disks(cluster, &left, &mut findings);
    findings
}

/// Waits until every file has as many copies as it should; what there is, and why it is not so, if
/// that does not come.
fn quiet_rows(client: &Seat) -> Result<Vec<Row>, (Vec<Row>, String)> {
    let mut last = Vec::new();
    let result = poll(QUIET_LIMIT, || {
        last = client.ls()?;
        let short = |row: &&Row| row.state != "ok" || row.nodes.len() as u64 != row.wanted;
        last.iter().find(short).map_or(Ok(()), |row| Err(format!("{row:?}")))
    });
    match result {
        Ok(()) => Ok(last),
        Err(why) => Err((last, why)),
    }
}

/// Gets every file that is listed, and says which put each is.
fn look(lan: &Lan, client: &Seat, rows: &[Row], history: &History, findings: &mut Findings) -> Vec<Seen> {
    let target = lan.host(NODES + 1).folder.join("all");
    fs::create_dir_all(&target).expect("a folder");
    let mut seen = Vec::new();
    for folder in ["own/", "shared/"] {
        let path = target.join(folder.trim_end_matches('/'));
        let listed: Vec<&Row> = rows.iter().filter(|row| row.name.starts_with(folder)).collect();
        if listed.is_empty() {
            continue;
        }
        // What could not be had is missed below.
        let said = client.run(&["get", folder, "-o", &text(&path)]);
        if said.code != 0 {
            findings.add(Kind::Wrong, format!("wrong: not everything can be had: {said}"));
        }
        for row in listed {
            let bytes = fs::read(path.join(row.name.trim_start_matches(folder))).unwrap_or_default();
            seen.push(Seen {
                listed: row.name.clone(),
                origin: history.origin(&bytes),
                wanted: row.wanted,
                copies: row.nodes.len() as u64,
                state: row.state.clone(),
            });
        }
    }
    seen
}

/// Removes files while a machine is away; they must stay away when it comes back. Gives their names.
fn remove_behind_its_back(
    lan: &Lan,
    cluster: &mut Cluster,
    client: &Seat,
    rows: &[Row],
    findings: &mut Findings,
) -> BTreeSet<String> {
    let away = cluster.nodes[0].number;
    cluster.nodes.remove(0).kill9();
    wait_until(s(20), "the others have a proxy", || cluster.agreed().map(drop));
    // A name in conflict is left out: when one of its versions goes, another takes the plain name.
    let is_alone = |row: &&Row| rows.iter().filter(|other| base(&other.name) == base(&row.name)).count() == 1;
    let names = rows.iter().filter(is_alone).map(|row| row.name.clone());
    let removed: BTreeSet<String> = names.take(REMOVED_BEHIND_ITS_BACK).collect();
    for name in &removed {
        let said = client.run(&["rm", name]);
        if said.code != 0 {
            findings.add(Kind::Wrong, format!("wrong: {name} is listed and cannot be removed: {said}"));
        }
    }
    cluster.nodes.push(lan.host(away).up(&nemesis::OPTIONS));
    // What it has on disk when all ends must be what the others have, so it gets the time to learn it.
    cluster.settle_catalogs(s(30));
    let rows = quiet_rows(client).unwrap_or_else(|(rows, _)| rows);
    for row in rows.iter().filter(|row| removed.contains(base(&row.name))) {
        findings.add(Kind::Resurrected, format!("resurrected by h{away}: {row:?}"));
    }
    removed
}

type Names = Vec<(FileName, Vec<Version>)>;

/// What one catalog has and another lacks.
fn only_in<'a>(one: &'a Names, other: &Names) -> Vec<&'a (FileName, Vec<Version>)> {
    one.iter().filter(|name| !other.contains(name)).collect()
}

/// Ends the nodes and opens their stores: equal catalogs, and enough disks with each content.
fn look_at_disks(cluster: Cluster, left: &[&Row], findings: &mut Findings) {
    let folders: Vec<_> = cluster.nodes.iter().map(|node| (node.name.clone(), node.data_outside())).collect();
    cluster.nodes.into_iter().for_each(crate::cluster::Node::stop);
    let mut first: Option<(String, Names)> = None;
    let mut holders: BTreeMap<ContentId, u64> = BTreeMap::new();
    for (name, folder) in folders {
        let (store, loaded) = Store::open(&folder, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        drop(store);
        for (content, _) in loaded.contents {
            *holders.entry(content).or_default() += 1;
        }
        match &first {
            None => first = Some((name, loaded.names)),
            Some((other, names)) if *names != loaded.names => {
                let differ = [only_in(names, &loaded.names), only_in(&loaded.names, names)];
                findings.add(
                    Kind::Wrong,
                    format!(
                        "wrong: catalogs on disk: only {other} has {:?}, only {name} has {:?}",
                        differ[0], differ[1]
                    ),
                );
            }
            Some(_) => {}
        }
    }
    for row in left {
        let on_disk = ContentId::parse(&row.content).and_then(|content| holders.get(&content)).copied();
        if on_disk.unwrap_or(0) < row.wanted {
            findings.add(Kind::Below, format!("below: {on_disk:?} disks have the content of {row:?}"));
        }
    }
}
