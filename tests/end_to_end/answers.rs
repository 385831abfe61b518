//! What programs can rely on: exit codes, one JSON document, quiet pipes; full disks; the demo (P12).

use crate::disks::{MIB, random_file};
use crate::process::{Process, s, wait_until};
use crate::village::{Failure, Village, number, text};
use std::process::Stdio;

#[test]
fn errors_in_json_are_one_document_with_code_message_and_hint() {
    let village = Village::of(1, &[]);
    let file = village.path("in/f");
    random_file(&file, 1_000, 1);
    village.put(&file, &["-n", "1"]);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["get", "nothing"], 4, "not_found"),
        (&["rm", "nothing"], 4, "not_found"),
        (&["put", "nothing"], 4, "not_found"),
        (&["put", "-"], 2, "usage"),
        (&["replicas", "f", "0"], 2, "usage"),
        (&["get", "../f"], 2, "usage"),
        (&["no-such-command"], 2, "usage"),
        (&["ls", "--timeout", "soon"], 2, "usage"),
    ];
    for (arguments, exit, code) in cases {
        let args: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = village.run(&args).ended(exit);
        // Reading it checks that there is one document and nothing else.
        let failure = Failure::read(&output);
        assert_eq!(failure.code, code, "{output}");
        assert!(output.json()["error"].get("hint").is_some(), "the key is always there: {output}");
        // Without `--json`: words on standard error, and standard output stays clean.
        let output = village.run(arguments).ended(exit);
        assert!(output.bytes.is_empty() && output.stderr.starts_with("error: "), "{output}");
    }
    // A warning is no part of the document.
    let output = village.run(&["put", text(&file), "-n", "3", "--json"]).ended(0);
    assert_eq!(number(&output.json()["files"][0]["replicas"]), 1);
    assert!(output.stderr.contains("warning"), "{output}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let village = Village::of(1, &[]);
    let file = village.path("in/f");
    random_file(&file, 4 * MIB, 1);
    village.put(&file, &["-n", "1"]);
    for arguments in
        [["ls"].as_slice(), &["ls", "-l"], &["ls", "--json"], &["status"], &["get", "f", "-o", "-"]]
    {
        // The reader is gone before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let command = village.command(&village.path("client"), arguments);
        let what = arguments.join(" ");
        let mut process =
            Process::start(command, &what, &village.path("logs"), Stdio::null(), Some(writer.into()));
        let output = process.wait(s(10)).ended(0);
        assert_eq!(output.stderr, "", "{output}");
    }
}

#[test]
fn a_full_cluster_says_so_and_loses_nothing() {
    let village = Village::of(2, &["--capacity", "20M"]);
    let (small, large) = (village.path("in/small"), village.path("in/large"));
    random_file(&small, 5 * MIB, 1);
    random_file(&large, 64 * MIB, 2);
    village.put(&small, &["-n", "2"]);
    let failure = village.fails(&["put", text(&large), "-n", "2"], 1);
    assert_eq!(failure.code, "no_space", "{failure:?}");
    assert!(!failure.hint.is_empty(), "{failure:?}");
    let listed: Vec<String> = village.ls().into_iter().map(|row| row.name).collect();
    assert_eq!(listed, ["small"]);
    // A stream, too, whose size nobody knows beforehand.
    village.feed(&["put", "-", "--as", "stream"], &large).ended(1);
    village.get_and_compare("small", &small);
    let later = village.path("in/later");
    random_file(&later, 5 * MIB, 3);
    assert_eq!(number(&village.put(&later, &["-n", "2"])["replicas"]), 2);
    village.get_and_compare("later", &later);
    // Nearly full: what fits goes in, what does not is refused, also bit by bit.
    let rest = village.path("in/rest");
    random_file(&rest, 9 * MIB, 4);
    village.put(&rest, &["-n", "2"]);
    let folder = village.path("in/folder");
    for index in 0..12 {
        random_file(&folder.join(format!("{index:02}")), MIB, 10 + index);
    }
    let failure = village.fails(&["put", text(&folder), "-n", "2"], 1);
    assert_eq!(failure.code, "no_space", "{failure:?}");
    for (name, file) in [("small", &small), ("later", &later), ("rest", &rest)] {
        village.get_and_compare(name, file);
    }
    assert!(village.status().unwrap().up().len() == 2, "both nodes are well");
}

#[test]
fn what_was_removed_makes_room() {
    let village = Village::of(2, &["--capacity", "20M"]);
    let file = village.path("in/f");
    random_file(&file, 12 * MIB, 1);
    village.put(&file, &["-n", "2"]);
    village.json(&["rm", "f"]);
    // Another content: of the first, nothing can be used again.
    random_file(&file, 12 * MIB, 2);
    wait_until(s(20), "there is room again", || {
        let output = village.run(&["put", text(&file), "-n", "2", "--json"]);
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    village.get_and_compare("f", &file);
}

#[test]
fn the_demo_holds() {
    let village = Village::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"));
    let temporary = village.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    command.env_clear().env("HOME", village.path("home")).env("TMPDIR", &temporary);
    command.args(["demo", "--json"]);
    let output = village.spawn(command, "demo").wait(s(80)).ended(0);
    let steps = output.json()["steps"].as_array().unwrap().len();
    assert!(steps >= 8, "{output}");
    let left = crate::disks::files_under(&temporary);
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}
