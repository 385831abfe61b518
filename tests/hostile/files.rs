//! Names, links and folders: what is written, and where.

use crate::attacker::{Insider, attack, lineage_of, tell};
use crate::node::{Lan, is_well, noise, s, victim, wait_until};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use thorp::types::{Body, Dot, FileName, InstanceId, Version, Wanted};
use thorp::wire::message::{Delta, Message};

/// A link, and a file under the link's name, as only a lying member can bring them in.
#[test]
fn a_get_does_not_write_through_a_link_of_the_catalog() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    lan.put("trap/a/b", b"under the link's name");
    let outside = lan.folder.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let link = |text: &str, counter, target: &str| {
        let dot = Dot { instance: InstanceId(99), counter };
        let body = Body::Symlink { target: target.into() };
        let version =
            Version { dot, body, mode: 0o777, modified_ns: 0, wanted: Wanted::new(1), removed_s: 0 };
        (FileName::parse(text).expect("a name"), vec![version])
    };
    attack(async {
        let mut writer = insider.join(&node).await;
        let target = outside.to_str().expect("text");
        let names = vec![
            link("trap/a", 1, target),
            link("trap/c", 2, "../../../etc/passwd"),
            link("trap", 3, target),
        ];
        let delta = Delta { context: vec![], names };
        let term = Default::default();
        assert!(tell(&mut writer, [Message::Delta { term, delta, ack: None, contents: vec![] }]).await);
    });
    wait_until(s(4), "the links are in the catalog", || {
        let rows = lan.ok(&["ls", "--json"]).stdout;
        if rows.contains("trap/c") { Ok(()) } else { Err(rows) }
    });
    // Twice, and over what the first left: the link that a get made must not lead the next one.
    for round in 0..2 {
        for force in [&["--force"][..], &[]] {
            let mut arguments = vec!["get", "trap/", "-o", "out", "-q"];
            arguments.extend(force);
            let ended = lan.run(&arguments);
            assert!(matches!(ended.code, 0 | 1), "round {round}: {} {}", ended.code, ended.stderr);
        }
    }
    let strays: Vec<_> = fs::read_dir(&outside).expect("readable").flatten().map(|e| e.path()).collect();
    assert!(strays.is_empty(), "written through a link: {strays:?}");
    is_well(&lan, &mut node, &good);
}

/// A link that lies in the output's place, or where a folder of it should be, or where the part
/// file goes.
#[test]
fn a_get_does_not_follow_links_that_lie_in_wait() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let outside = lan.folder.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let prey = outside.join("prey");
    fs::write(&prey, b"not to be touched").expect("written");
    lan.put("tree/sub/file", &noise(1, 300_000));

    let out = lan.work().join("waiting");
    fs::create_dir(&out).expect("made");
    symlink(&outside, out.join("sub")).expect("a link");
    for force in [&["--force"][..], &[]] {
        let mut arguments = vec!["get", "tree/", "-o", "waiting/", "-q"];
        arguments.extend(force);
        lan.run(&arguments);
        let mut arguments = vec!["get", "tree", "-o", "waiting", "-q"];
        arguments.extend(force);
        lan.run(&arguments);
    }
    assert!(!outside.join("file").exists(), "written through a link to a folder");

    symlink(&prey, lan.work().join("single")).expect("a link");
    let refused = lan.run(&["get", "tree/sub/file", "-o", "single", "-q"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    lan.ok(&["get", "tree/sub/file", "-o", "single", "-q", "--force"]);
    assert_eq!(fs::read(&prey).expect("read"), b"not to be touched");
    assert_eq!(fs::read(lan.work().join("single")).expect("read"), noise(1, 300_000));

    let rows: serde_json::Value =
        serde_json::from_str(&lan.ok(&["ls", "tree/", "--json"]).stdout).expect("JSON");
    let text = rows.to_string();
    let at = text.find("\"content\":\"").expect("a content") + 11;
    let part = lan.work().join(format!(".parted.{}.thorp-part", &text[at..at + 8]));
    symlink(&prey, &part).expect("a link");
    let refused = lan.run(&["get", "tree/sub/file", "-o", "parted", "-q"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(fs::read(&prey).expect("read"), b"not to be touched");
    is_well(&lan, &mut node, &good);
}

/// What the folder of a node lets others see.
#[test]
fn a_data_folder_is_its_owners_alone() {
    let lan = Lan::keyed();
    let (mut node, good) = victim(&lan);
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&node.data), 0o700);
    for entry in fs::read_dir(&node.data).expect("readable").flatten() {
        let secret =
            entry.file_name() == "node.key" || entry.file_name().to_string_lossy().starts_with("derived");
        let mode = mode(&entry.path());
        assert!(!secret || mode & 0o077 == 0, "{} is {mode:o}", entry.path().display());
    }
    is_well(&lan, &mut node, &good);
}

/// A data folder that is a link works where it leads to, and nowhere else; one whose parts were
/// replaced by what they are not is refused.
#[test]
fn a_data_folder_that_is_not_one_is_refused() {
    let lan = Lan::open();
    let real = lan.folder.path().join("real");
    let linked = lan.folder.path().join("linked");
    fs::create_dir(&real).expect("made");
    symlink(&real, &linked).expect("a link");
    let mut node = lan.node_in("linked", &linked);
    lan.put("through", b"a link");
    is_well(&lan, &mut node, &[]);
    node.kill();
    assert!(real.join("catalog.redb").exists());

    let start = |what: &str| {
        let data = real.to_str().expect("text");
        let ended = lan.run(&["up", "--data-dir", data, "--timeout", "1s"]);
        assert_eq!(ended.code, 1, "{what}: {} {}", ended.stdout, ended.stderr);
        for word in ["panicked", "this is a bug"] {
            assert!(!ended.stderr.contains(word), "{what}: {}", ended.stderr);
        }
        assert!(ended.stderr.starts_with("error: "), "{what}: {}", ended.stderr);
    };
    let catalog = real.join("catalog.redb");
    let kept = fs::read(&catalog).expect("read");
    fs::remove_file(&catalog).expect("removed");
    start("no catalog");
    fs::write(&catalog, b"").expect("written");
    start("an empty catalog");
    for length in [1, 100, 4_096, kept.len() / 2, kept.len() - 1] {
        fs::write(&catalog, &kept[..length]).expect("written");
        start("a catalog cut short");
    }
    fs::write(&catalog, noise(1, kept.len())).expect("written");
    start("a catalog of noise");
    fs::remove_file(&catalog).expect("removed");
    fs::create_dir(&catalog).expect("made");
    start("a catalog that is a folder");
    fs::remove_dir(&catalog).expect("removed");
    fs::write(&catalog, &kept).expect("written");
    for (file, text) in [("disk", "zz"), ("format", "thorp data folder, format 9\n"), ("format", "\0")] {
        let path = real.join(file);
        let kept = fs::read(&path).expect("read");
        fs::write(&path, text).expect("written");
        start(file);
        fs::write(&path, kept).expect("written");
    }
    let mut node = lan.node_in("linked", &linked);
    assert_eq!(lan.get("through"), b"a link");
    node.is_alive();
}
