//! Disks that forget: found by whoever looks, set aside, mended, and told as it is (P4, P12).

use crate::disks::{MIB, files_under, random_file};
use crate::process::{s, wait_until};
use crate::village::{Village, names, number, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files of that size among the contents of a node.
fn content_files(village: &Village, node: &str, bytes: u64) -> Vec<PathBuf> {
    let files = files_under(&village.data(node).join("contents")).into_iter();
    files.filter(|(_, size)| *size == bytes).map(|(path, _)| path).collect()
}

/// Flips a bit of the one content of that size on a node's disk.
#[track_caller]
fn flip(village: &Village, node: &str, bytes: u64) {
    let files = content_files(village, node, bytes);
    let [path] = files.as_slice() else { panic!("{node} has {files:?}") };
    let mut data = fs::read(path).unwrap();
    let at = data.len() / 3;
    data[at] ^= 4;
    fs::write(path, data).unwrap();
}

/// Waits until the nodes hold what `file` is, on their disks.
#[track_caller]
fn wait_for_disks(village: &Village, nodes: &BTreeSet<String>, file: &Path) {
    let right = fs::read(file).unwrap();
    wait_until(s(30), "right bytes on every disk", || {
        for node in nodes {
            let found = content_files(village, node, right.len() as u64);
            if found.len() != 1 || fs::read(&found[0]).ok().as_ref() != Some(&right) {
                return Err(format!("{node}: {found:?}"));
            }
        }
        Ok(())
    });
}

fn quarantined(village: &Village, node: &str) -> usize {
    files_under(&village.data(node).join("quarantine")).len()
}

fn copies(value: &Value) -> Vec<(String, String)> {
    let copy =
        |copy: &Value| (copy["name"].as_str().unwrap().to_owned(), copy["node"].as_str().unwrap().to_owned());
    value.as_array().unwrap().iter().map(copy).collect()
}

#[test]
fn verify_finds_what_a_disk_forgot_and_has_it_mended() {
    let village = Village::of(3, &[]);
    let (file, other, small) =
        (village.path("in/d/file"), village.path("in/d/other"), village.path("in/small"));
    random_file(&file, 6 * MIB + 7, 1);
    random_file(&other, 100_000, 2);
    random_file(&small, 10, 3);
    village.put(&file, &["-n", "3", "--as", "d/file"]);
    village.put(&other, &["-n", "2", "--as", "d/other"]);
    village.put(&small, &["-n", "2"]);
    let answer = village.json(&["verify"]);
    assert_eq!((number(&answer["checked"]), number(&answer["mended"])), (7, 0), "{answer}");
    assert_eq!(answer["bad"].as_array().unwrap().len(), 0, "{answer}");

    flip(&village, "b", 6 * MIB + 7);
    let answer = village.json(&["verify", "small", "d/other"]);
    assert_eq!((number(&answer["checked"]), copies(&answer["bad"]).len()), (4, 0), "{answer}");
    let answer = village.json(&["verify", "d/file"]);
    assert_eq!(copies(&answer["bad"]), [("d/file".to_owned(), "b".to_owned())], "{answer}");
    assert_eq!((number(&answer["checked"]), number(&answer["mended"])), (3, 1), "{answer}");
    wait_for_disks(&village, &names(&serde_json::json!(["a", "b", "c"])), &file);
    assert_eq!(quarantined(&village, "b"), 1);
    village.get_and_compare("d/file", &file);
    let output = village.run(&["verify", "d/"]).ended(0);
    let words = String::from_utf8(output.bytes.clone()).unwrap();
    assert_eq!(words, "5 copies checked, none bad\n");
    village.fails(&["verify", "nothing"], 4);
    village.fails(&["verify", "small", "nothing/"], 4);
}

#[test]
fn the_scrub_finds_it_without_being_asked() {
    let village = Village::of(2, &["--scrub-every", "3s"]);
    let file = village.path("in/file");
    random_file(&file, 3 * MIB, 1);
    let nodes = names(&village.put(&file, &["-n", "2"])["nodes"]);
    flip(&village, "b", 3 * MIB);
    wait_until(s(30), "the bad copy is aside", || {
        if quarantined(&village, "b") == 1 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    wait_for_disks(&village, &nodes, &file);
    village.wait_for_row("file", "two copies", s(20), |row| row.nodes == nodes && row.state == "ok");
    assert_eq!(quarantined(&village, "a"), 0);
    village.get_and_compare("file", &file);
}

#[test]
fn a_get_that_meets_a_bad_copy_has_it_replaced() {
    for (bytes, seed) in [(6 * MIB, 1), (100_000, 2)] {
        let village = Village::of(2, &["--scrub-every", "off"]);
        let file = village.path("in/file");
        random_file(&file, bytes, seed);
        let nodes = names(&village.put(&file, &["-n", "2"])["nodes"]);
        flip(&village, "b", bytes);
        // A small one is asked of one holder: sooner or later of the bad one.
        wait_until(s(30), "a reader has met the bad copy", || {
            village.get_and_compare("file", &file);
            if quarantined(&village, "b") == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        });
        wait_for_disks(&village, &nodes, &file);
        village.wait_for_row("file", "two copies", s(20), |row| row.nodes == nodes && row.state == "ok");
        assert_eq!(quarantined(&village, "a"), 0);
    }
}

#[test]
fn when_the_last_copy_is_bad_it_is_said_to_be_lost() {
    let mut village = Village::of(2, &["--scrub-every", "off"]);
    let (file, other) = (village.path("in/file"), village.path("in/other"));
    random_file(&file, 300_000, 1);
    random_file(&other, 400_000, 2);
    let only = names(&village.put(&file, &["-n", "1"])["nodes"]).pop_first().unwrap();
    village.put(&other, &["-n", "2"]);
    flip(&village, &only, 300_000);
    let output = village.run(&["verify", "--json", "--timeout", "5s"]).ended(1);
    let answer = output.json();
    assert_eq!(copies(&answer["bad"]), [("file".to_owned(), only.clone())], "{answer}");
    assert_eq!((number(&answer["checked"]), number(&answer["mended"])), (3, 0), "{answer}");
    assert_eq!(names(&answer["lost"]), names(&serde_json::json!(["file"])), "{answer}");
    assert!(output.stderr.contains("no good copy"), "{output}");
    assert_eq!(village.row("file").state, "lost");
    village.run(&["get", "file", "-o", text(&village.path("out"))]).ended(1);
    assert!(!village.path("out").exists());
    assert_eq!(quarantined(&village, &only), 1, "what is left of it is kept");
    // Two copies are wanted, one is bad, and it cannot be mended where there is nobody to mend it.
    let gone = if only == "a" { "b" } else { "a" };
    village.kill9(gone);
    flip(&village, &only, 400_000);
    wait_until(s(20), "it is known who is gone", || {
        let output = village.run(&["verify", "other", "--json", "--timeout", "2s"]);
        let answer = output.json();
        let lost = answer["lost"].as_array().is_some_and(|lost| !lost.is_empty());
        if output.code == 1 && lost { Ok(()) } else { Err(output.to_string()) }
    });
    // With the other holder back, nothing is lost.
    village.add(gone, &[]);
    village.wait_for_row("other", "two copies again", s(30), |row| row.nodes.len() == 2 && row.state == "ok");
    village.get_and_compare("other", &other);
    let answer = village.json(&["verify", "other"]);
    assert_eq!((number(&answer["checked"]), copies(&answer["bad"]).len()), (2, 0), "{answer}");
}

#[test]
fn a_count_that_goes_down_and_up_again_moves_nothing() {
    let village = Village::of(3, &[]);
    let (file, bytes) = (village.path("in/file"), 5 * MIB + 1);
    random_file(&file, bytes, 1);
    village.put(&file, &["-n", "3"]);
    let inodes = || {
        let inode = |node: &str| Some(fs::metadata(content_files(&village, node, bytes).pop()?).ok()?.ino());
        ["a", "b", "c"].map(inode)
    };
    let before = inodes();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    for lower in ["2", "1"] {
        village.json(&["replicas", "file", lower, "--wait", "--timeout", "30s"]);
        wait_until(s(10), "the surplus lies aside", || {
            let aside = |node: &&str| files_under(&village.data(node).join("aside")).len();
            let (held, aside) =
                (inodes().iter().flatten().count(), ["a", "b", "c"].iter().map(aside).sum::<usize>());
            if held.to_string() == lower && held + aside == 3 {
                Ok(())
            } else {
                Err(format!("{held} and {aside}"))
            }
        });
        assert_eq!(village.holders_on_disk(bytes).len().to_string(), lower);
        village.json(&["replicas", "file", "3", "--wait", "--timeout", "30s"]);
        assert_eq!(inodes(), before, "the same files are back in their places");
        let answer = village.json(&["verify", "file"]);
        assert_eq!((number(&answer["checked"]), copies(&answer["bad"]).len()), (3, 0), "{answer}");
    }
    village.get_and_compare("file", &file);
}
