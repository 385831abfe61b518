//! Only what is needed travels: edits, known contents, interrupted work.

use crate::disks::{MIB, files_under, random_bytes, random_file, written_bytes};
use crate::process::{s, wait_until};
use crate::village::{Village, number, text, travelled};
use std::fs;

/// Large enough that a transfer can be interrupted in its midst.
const LARGE: u64 = 256 * MIB;
/// When it is.
const MIDWAY: u64 = 32 * MIB;

#[test]
fn only_what_changed_travels() {
    let village = Village::of(2, &[]);
    let (first, edited) = (village.path("in/first"), village.path("in/edited"));
    let mut bytes = random_bytes(8 * MIB, 1);
    fs::create_dir(village.path("in")).unwrap();
    fs::write(&first, &bytes).unwrap();
    bytes[4 << 20] ^= 1;
    fs::write(&edited, &bytes).unwrap();
    bytes.insert(1 << 20, 0);
    let shifted = village.path("in/shifted");
    fs::write(&shifted, &bytes).unwrap();

    let put = village.put(&first, &["--as", "doc"]);
    assert_eq!((number(&put["sent_bytes"]), number(&put["reused_bytes"])), (8 * MIB, 0));
    for (file, size) in [(&edited, 8 * MIB), (&shifted, 8 * MIB + 1)] {
        let put = village.put(file, &["--as", "doc"]);
        let sent = number(&put["sent_bytes"]);
        assert!((1..2 * MIB).contains(&sent), "an edit costs about what changed: {put}");
        assert_eq!(sent + number(&put["reused_bytes"]), size, "{put}");
        village.get_and_compare("doc", file);
    }
    // Known bytes under another name.
    let put = village.put(&shifted, &["--as", "copy of it"]);
    assert!(number(&put["sent_bytes"]) < 1_000, "{put}");
    village.get_and_compare("copy of it", &shifted);
    assert_eq!(village.holders_on_disk(8 * MIB + 1).len(), 2, "the same content is stored once a node");
}

#[test]
fn an_interrupted_get_continues() {
    let village = Village::of(2, &[]);
    let (file, output) = (village.path("in/large"), village.path("out"));
    random_file(&file, LARGE, 2);
    fs::create_dir(&output).unwrap();
    village.put(&file, &["-n", "2"]);
    let back = output.join("large");
    let get = ["get", "large", "-o", text(&back), "--json"];

    let mut first = village.start(&get);
    wait_until(s(30), "the get is midway", || {
        let written = written_bytes(&output, ".thorp-part");
        if written >= MIDWAY { Ok(()) } else { Err(format!("{written} bytes, {:?}", first.code())) }
    });
    first.kill9();
    assert!(!back.exists(), "nothing appears under the name before it is whole");
    let parts = files_under(&output);
    let hidden = parts.keys().all(|part| {
        let name = part.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".large.") && name.ends_with(".thorp-part")
    });
    assert!(hidden && parts.len() == 1, "{parts:?}");

    let second = village.run(&get).ended(0).json();
    let came = travelled(&second["files"][0]);
    assert!(came > 0 && came <= LARGE - MIDWAY / 2, "{came} of {LARGE} bytes came again");
    assert!(crate::disks::are_equal(&back, &file));
    assert_eq!(files_under(&output).len(), 1, "the part file is gone");
}

#[test]
fn an_interrupted_put_continues() {
    let village = Village::of(2, &[]);
    let file = village.path("in/large");
    random_file(&file, LARGE, 3);
    let put = ["put", text(&file), "-n", "2", "--json"];

    let mut first = village.start(&put);
    wait_until(s(30), "the put is midway at both nodes", || {
        let received = village.nodes.iter().map(|node| written_bytes(&node.data.join("incoming"), ".part"));
        let least = received.min().unwrap_or(0);
        if least >= MIDWAY { Ok(()) } else { Err(format!("{least} bytes, {:?}", first.code())) }
    });
    first.kill9();
    assert_eq!(village.ls(), [], "what was not acknowledged is not listed");

    let second = village.run(&put).ended(0).json();
    let row = &second["files"][0];
    let (sent, reused) = (number(&row["sent_bytes"]), number(&row["reused_bytes"]));
    assert!(reused >= MIDWAY / 2 && sent + reused == LARGE, "{sent} sent, {reused} reused of {LARGE}");
    assert_eq!(number(&row["replicas"]), 2);
    village.get_and_compare("large", &file);
    wait_until(s(5), "nothing half received is left", || {
        let left: Vec<_> =
            village.nodes.iter().flat_map(|node| files_under(&node.data.join("incoming"))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
