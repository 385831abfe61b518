//! Files go in and come back, in as many copies as asked (P1, P2, P4).

use crate::cluster::{Cluster, Row, random_file, text};
use crate::network::{Lan, wait_until};
use crate::process::s;
use crate::runner::Verdict;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// 32 MiB in three copies, from a host that runs no node.
pub fn file_round_trip() -> Verdict {
    let lan = Lan::new(6);
    let cluster = Cluster::start(&lan, 1..=5, &[]);
    let client = lan.host(6).client();
    let file = lan.host(6).folder.join("data.bin");
    random_file(&file, 32 * MIB, 1);

    let put = client.put(&file, 3);
    assert_eq!((put.name.as_str(), put.bytes, put.wanted), ("data.bin", 32 * MIB, 3));
    assert_eq!(put.nodes.len(), 3, "three different machines: {put:?}");
    // Durable when `put` answers: no waiting here.
    assert_eq!(cluster.holders_on_disk(32 * MIB), put.nodes, "what is said is what is on the disks");

    let row = client.row("data.bin").unwrap();
    assert_eq!((row.bytes, row.wanted, row.state.as_str()), (32 * MIB, 3, "ok"));
    assert_eq!((&row.nodes, &row.content), (&put.nodes, &put.content));

    let answer = client.get_and_compare("data.bin", &file);
    let from = answer["files"][0]["from"].as_array().expect("`from` in the answer of `get`");
    assert!(!from.is_empty(), "{answer}");
    // Every node serves it, whether it holds it or not.
    for node in &cluster.nodes {
        node.seat.get_and_compare("data.bin", &file);
    }
    assert_eq!(client.run(&["get", "no such file", "-o", "nothing"]).code, 4);
    Verdict::Passed
}

/// Names that trip shells, paths and tables.
const ODD_NAMES: &[&str] = &[
    "plain.txt",
    "with space",
    " leading and trailing ",
    "-rf",
    "--help",
    "日本語/文書.txt",
    "🦀",
    "ünï/cödé",
    "u\u{308}n-normalised",
    "a'b\"c",
    "$HOME",
    "`id`",
    "*?[x]",
    "#hash%20&amp;",
    "semi;colon|pipe",
    ".hidden",
    "...",
    "deep/er/and/deep/er/still/leaf",
    "UPPER",
    "upper",
    "con",
    "trailing.",
    "a~b",
    "x:y",
    "%s%n",
    "<b>bold</b>",
];

/// A folder comes back with every name, byte, mode, link and empty folder.
pub fn folder_round_trip() -> Verdict {
    let lan = Lan::new(4);
    let _cluster = Cluster::start(&lan, 1..=3, &[]);
    let home = lan.host(4).folder.clone();
    let client = lan.host(4).client();
    let (folder, output) = (home.join("odd"), home.join("back"));
    let longest = "l".repeat(255);
    for (index, name) in ODD_NAMES.iter().copied().chain([longest.as_str()]).enumerate() {
        // Sizes about the borders: nothing, one byte, in the database, one chunk, several.
        let bytes = [0, 1, 1_000, 32 << 10, (32 << 10) + 1, 300_000, 3 * MIB][index % 7];
        random_file(&folder.join(name), bytes, index as u64);
    }
    fs::set_permissions(folder.join("plain.txt"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::create_dir(folder.join("an empty folder")).unwrap();
    symlink("plain.txt", folder.join("a link")).unwrap();

    client.json(&["put", &text(&folder), "-n", "2"]);
    let answer = client.json(&["get", "odd/", "-o", &text(&output)]);
    // Where under the output the folder lies is told by the answer.
    let files = answer["files"].as_array().expect("`files` in the answer of `get`");
    let plain = files.iter().find(|file| file["name"] == "odd/plain.txt").expect("the plain file");
    let plain = home.join(plain["path"].as_str().expect("its path"));
    let back = plain.parent().expect("its folder");
    assert!(back.starts_with(&output), "{} is not under the output", back.display());
    assert_eq!(describe(back), describe(&folder));
    Verdict::Passed
}

/// Everything under a folder, one line each: path, and target, or mode, size and digest.
fn describe(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_symlink() {
                lines.push(format!("{name:?} -> {:?}", fs::read_link(&path).unwrap()));
            } else if data.is_dir() {
                lines.push(format!("{name:?}/"));
                folders.push(path);
            } else {
                let mode = data.permissions().mode() & 0o777;
                let (bytes, hash) = (data.len(), digest(&path));
                lines.push(format!("{name:?} {mode:o} {bytes} {hash}"));
            }
        }
    }
    lines.sort();
    lines
}

fn digest(path: &Path) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 3, 5, 1, 2: the disks follow.
pub fn replicas_follow() -> Verdict {
    let lan = Lan::new(6);
    let cluster = Cluster::start(&lan, 1..=5, &[]);
    let client = lan.host(6).client();
    let (file, bytes) = (lan.host(6).folder.join("many"), 8 * MIB + 123);
    random_file(&file, bytes, 3);
    let mut before = client.put(&file, 3);
    for count in [5, 1, 2] {
        let answer = client.json(&["replicas", "many", &count.to_string(), "--wait", "--timeout", "30s"]);
        let row = Row::read(&answer).unwrap();
        assert_eq!(
            (row.wanted, row.nodes.len(), row.state.as_str()),
            (count, usize::try_from(count).unwrap(), "ok")
        );
        let kept = row.nodes.is_subset(&before.nodes) || before.nodes.is_subset(&row.nodes);
        assert!(kept, "holders that can stay do: {:?} became {:?}", before.nodes, row.nodes);
        wait_until(s(5), "the disks show what was said", || {
            let holders = cluster.holders_on_disk(bytes);
            if holders == row.nodes { Ok(()) } else { Err(format!("{holders:?}, said {:?}", row.nodes)) }
        });
        assert_eq!(client.row("many").unwrap().nodes, row.nodes);
        client.get_and_compare("many", &file);
        before = row;
    }
    // The same number again is no error; none at all is a usage error; more than there are is a wish.
    assert_eq!(client.run(&["replicas", "many", "2"]).code, 0);
    assert_eq!(client.run(&["replicas", "many", "0"]).code, 2);
    assert_eq!(client.run(&["replicas", "no such file", "2"]).code, 4);
    assert_eq!(client.run(&["replicas", "many", "9"]).code, 0);
    client_sees_degraded(&client, 5);
    Verdict::Passed
}

/// More copies than machines: as many as there are, and shown as too few.
#[track_caller]
fn client_sees_degraded(client: &crate::cluster::Seat, machines: usize) {
    wait_until(s(20), "a copy on every machine, and still degraded", || {
        let row = client.row("many")?;
        let (copies, state) = (row.nodes.len(), row.state.as_str());
        if (copies, state) == (machines, "degraded") { Ok(()) } else { Err(format!("{row:?}")) }
    });
}
