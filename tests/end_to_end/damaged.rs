//! A node whose data folder is damaged, by its real program: what is said, and what peers bring back.

use crate::disks::{are_equal, random_file};
use crate::process::{s, wait_until};
use crate::village::{Village, text};
use std::fs;

#[test]
fn a_damaged_catalog_is_refused_and_a_rebuild_brings_everything_back() {
    let mut village = Village::of(3, &[]);
    let (large, small) = (village.path("large"), village.path("small"));
    random_file(&large, 3_000_000, 1);
    random_file(&small, 900, 2);
    for file in [&large, &small] {
        village.run(&["put", text(file), "--replicas", "3"]).ended(0);
    }
    let mut node = village.nodes.remove(2);
    node.process.kill9();
    let catalog = node.data.join("catalog.redb");
    let bytes = fs::read(&catalog).unwrap();
    fs::write(&catalog, vec![0; bytes.len()]).unwrap();

    let output = village.start_node("c", &[]).process.wait(s(10)).ended(1);
    assert!(output.stderr.contains("catalog.redb") && output.stderr.contains("damaged"), "{output}");
    assert!(output.stderr.contains("--rebuild"), "{output}");
    assert_eq!(fs::read(&catalog).unwrap(), vec![0; bytes.len()], "it is left as it is");

    village.add("c", &["--rebuild"]);
    let said = village.nodes[2].process.stderr();
    assert!(said.contains("1 contents") && said.contains("quarantine"), "{said}");
    village.settle();
    for name in ["large", "small"] {
        village.wait_for_row(name, "all copies", s(60), |row| row.state == "ok" && row.nodes.len() == 3);
    }
    // The rebuilt node alone has it all, the names included: they lie in its catalog as they are.
    wait_until(s(30), "the catalog is there", || {
        let catalog = fs::read(&catalog).unwrap_or_default();
        let named = |name: &[u8]| catalog.windows(name.len()).any(|window| window == name);
        if named(b"large") && named(b"small") { Ok(()) } else { Err("a name is missing") }
            .map_err(str::to_owned)
    });
    village.nodes.drain(..2).for_each(drop);
    village.settle();
    for file in [&large, &small] {
        let name = file.file_name().unwrap().to_str().unwrap();
        let back = village.path(&format!("{name}.back"));
        village.run(&["get", name, "-o", text(&back)]).ended(0);
        assert!(are_equal(file, &back), "{name}");
    }
}

#[test]
fn a_folder_that_lost_a_part_is_refused_with_what_to_do() {
    for (file, words) in [
        ("catalog.redb", ["catalog.redb", "--rebuild"]),
        ("disk", ["disk", "--rebuild"]),
        ("format", ["format", "write `thorp data folder, format 1`"]),
        ("contents", ["contents", "mounted"]),
    ] {
        let mut village = Village::of(1, &[]);
        let data = village.data("a");
        village.nodes[0].process.kill9();
        village.nodes.clear();
        fs::rename(data.join(file), village.path("aside")).unwrap();
        let output = village.start_node("a", &[]).process.wait(s(10)).ended(1);
        for word in words {
            assert!(output.stderr.contains(word), "{file}: {output}");
        }
        assert!(!data.join(file).exists(), "{file} is not made anew");
        fs::rename(village.path("aside"), data.join(file)).unwrap();
        village.add("a", &[]);
    }
}

#[test]
fn a_copied_data_folder_is_noticed_by_both_nodes() {
    let mut village = Village::of(1, &[]);
    village.nodes[0].process.kill9();
    village.nodes.clear();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(village.data("a"))
        .arg(village.data("b"))
        .status()
        .unwrap();
    assert!(copied.success());
    village.add("a", &[]);
    village.add("b", &[]);
    for node in &village.nodes {
        wait_until(s(20), "the clone is named", || {
            let said = node.process.stderr();
            if said.contains("another machine uses this node's identity") { Ok(()) } else { Err(said) }
        });
    }
}
