//! What goes in comes back: name, bytes, mode, time; streams, links, folders, odd names (P4).

use crate::disks::{MIB, are_equal, describe, random_bytes, random_file};
use crate::process::s;
use crate::village::{Village, names, number, text, travelled};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn a_file_comes_back_under_its_name_with_its_bytes_mode_and_time() {
    let village = Village::of(3, &[]);
    let file = village.path("in/a.tar.gz");
    random_file(&file, 3 * MIB + 17, 1);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o751)).unwrap();
    let modified = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();

    let put = village.put(&file, &["-n", "2"]);
    assert_eq!((put["name"].as_str(), number(&put["bytes"])), (Some("a.tar.gz"), 3 * MIB + 17));
    assert_eq!((number(&put["replicas_wanted"]), number(&put["replicas"])), (2, 2));
    assert_eq!(village.holders_on_disk(3 * MIB + 17), names(&put["nodes"]), "said and done are one");

    let output = village.path("out");
    fs::create_dir(&output).unwrap();
    // Without `-o`: into the folder one is in, under its own name.
    let mut command = village.command(&village.path("client"), &["get", "a.tar.gz", "--json"]);
    command.current_dir(&output);
    let got = village.spawn(command, "get a.tar.gz").wait(s(20)).ended(0).json();
    assert_eq!(got["files"][0]["path"], "a.tar.gz");
    let back = output.join("a.tar.gz");
    assert!(are_equal(&back, &file));
    let data = fs::metadata(&back).unwrap();
    assert_eq!((data.mode() & 0o777, data.modified().unwrap()), (0o751, modified));
    let left: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.tar.gz"], "no part files are left");
}

#[test]
fn a_get_travels_once_and_overwrites_only_when_told() {
    let village = Village::of(2, &[]);
    let (file, back) = (village.path("in/f"), village.path("back"));
    random_file(&file, 4 * MIB, 2);
    village.put(&file, &[]);
    let get = ["get", "f", "-o", text(&back)];

    let first = village.json(&get);
    assert_eq!(travelled(&first["files"][0]), 4 * MIB);
    let inode = fs::metadata(&back).unwrap().ino();
    let again = village.json(&get);
    assert_eq!(travelled(&again["files"][0]), 0, "it is there already: {again}");
    assert_eq!(fs::metadata(&back).unwrap().ino(), inode, "and is left alone");

    // Of the same size, so that only the bytes tell.
    fs::write(&back, random_bytes(4 * MIB, 3)).unwrap();
    let failure = village.fails(&get, 1);
    assert_eq!(failure.code, "exists");
    assert!(failure.hint.contains("--force"), "{failure:?}");
    assert!(fs::read(&back).unwrap() == random_bytes(4 * MIB, 3), "the other file is untouched");
    village.json(&["get", "f", "-o", text(&back), "--force"]);
    assert!(are_equal(&back, &file));
    // A folder is never replaced.
    let folder = village.path("folder/f");
    fs::create_dir_all(&folder).unwrap();
    village.fails(&["get", "f", "--force", "-o", text(folder.parent().unwrap())], 1);
    assert!(folder.is_dir());
}

#[test]
fn empty_files_and_streams_go_in_and_come_out() {
    let village = Village::of(2, &[]);
    let (empty, file) = (village.path("empty"), village.path("in/stream"));
    random_file(&empty, 0, 0);
    random_file(&file, 5 * MIB + 1, 4);

    let put = village.put(&empty, &["-n", "2"]);
    assert_eq!((number(&put["bytes"]), number(&put["replicas"])), (0, 2));
    let got = village.get_and_compare("empty", &empty);
    assert_eq!(number(&got["bytes"]), 0);

    // Without a name a stream cannot be stored, and nothing waits for its end.
    village.feed(&["put", "-"], &file).ended(2);
    let put = village.feed(&["put", "-", "--as", "folder/from a pipe", "--json"], &file).ended(0).json();
    assert_eq!(put["files"][0]["name"], "folder/from a pipe");
    assert_eq!(number(&put["files"][0]["bytes"]), 5 * MIB + 1);
    let got = village.run(&["get", "folder/from a pipe", "-o", "-"]).ended(0);
    assert!(got.bytes == fs::read(&file).unwrap(), "standard output has the bytes and nothing else");
    assert_eq!(village.run(&["get", "empty", "-o", "-"]).ended(0).bytes, b"");
    let empty =
        village.feed(&["put", "-", "--as", "nothing", "--json"], Path::new("/dev/null")).ended(0).json();
    assert_eq!(number(&empty["files"][0]["bytes"]), 0);
}

/// Names that trip shells, paths, options and tables, in many scripts.
const ODD_NAMES: &[&str] = &[
    "plain.txt",
    "a.tar.gz",
    "with space",
    " leading and trailing ",
    "-rf",
    "--help",
    "日本語/文書.txt",
    "العربية",
    "Ελληνικά и кириллица",
    "हिन्दी",
    "🦀",
    "u\u{308}n-normalised",
    "a'b\"c",
    "$HOME `id`",
    "*?[x]",
    "#hash%20&amp;",
    ".hidden",
    "...",
    "deep/er/and/deep/er/still/leaf",
    "UPPER",
    "upper",
    "trailing.",
    "x:y",
    "<b>bold</b>",
];

#[test]
fn a_folder_comes_back_with_odd_names_links_and_empty_folders() {
    let village = Village::of(2, &[]);
    let (folder, output) = (village.path("in/odd"), village.path("out"));
    let longest = "l".repeat(255);
    for (index, name) in ODD_NAMES.iter().copied().chain([longest.as_str()]).enumerate() {
        // Sizes about the borders: nothing, one byte, in the database, one chunk, several.
        let bytes = [0, 1, 1_000, 32 << 10, (32 << 10) + 1, 300_000, 2 * MIB][index % 7];
        random_file(&folder.join(name), bytes, index as u64);
    }
    for (name, mode) in [("plain.txt", 0o750), ("upper", 0o444), ("UPPER", 0o600)] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(folder.join("an empty folder")).unwrap();
    symlink("plain.txt", folder.join("a link")).unwrap();
    symlink("../no such file", folder.join("a link to nothing")).unwrap();

    let put = village.json(&["put", text(&folder), "--into", "2026/for all", "-n", "2"]);
    assert_eq!(put["files"].as_array().unwrap().len(), ODD_NAMES.len() + 1 + 3);
    village.json(&["get", "2026/for all/odd/", "-o", text(&output)]);
    assert_eq!(describe(&output), describe(&folder));

    // One by one, too, as far as names are words for a command line.
    for name in ["日本語/文書.txt", " leading and trailing ", "*?[x]"] {
        village.get_and_compare(&format!("2026/for all/odd/{name}"), &folder.join(name));
    }
    let removed = village.json(&["rm", "-r", "2026"]);
    assert_eq!(names(&removed["removed"]).len(), ODD_NAMES.len() + 1 + 3);
    assert_eq!(village.ls(), []);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let village = Village::of(2, &[]);
    let folder = village.path("in/mixed");
    random_file(&folder.join("good"), 100_000, 5);
    random_file(&folder.join("sub/also good"), 10, 6);
    let _socket = UnixListener::bind(folder.join("a socket")).unwrap();
    let locked = folder.join("locked");
    random_file(&locked, 10, 7);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // For root, permissions are no obstacle.
    let is_locked = File::open(&locked).is_err();

    let output = village.run(&["put", text(&folder)]).ended(1);
    assert!(output.stderr.contains("a socket"), "{output}");
    assert_eq!(output.stderr.contains("locked"), is_locked, "{output}");
    let stored: Vec<String> = village.ls().into_iter().map(|row| row.name).collect();
    let mut expected = vec!["mixed/good", "mixed/sub/also good"];
    if !is_locked {
        expected.insert(1, "mixed/locked");
    }
    assert_eq!(stored, expected);
    village.get_and_compare("mixed/good", &folder.join("good"));
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let village = Village::of(1, &[]);
    let fifo = village.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let failure = village.fails(&["put", text(&fifo)], 1);
    assert!(failure.message.contains("fifo") && failure.took < s(5), "{failure:?}");
    let failure = village.fails(&["put", "/dev/zero"], 1);
    assert!(failure.message.contains("/dev/zero") && failure.took < s(5), "{failure:?}");
    let failure = village.fails(&["put", "no/such/path"], 4);
    assert_eq!(failure.code, "not_found");
    assert!(failure.message.contains("no/such/path"), "{failure:?}");
    assert_eq!(village.ls(), []);
}

#[test]
fn no_name_is_both_file_and_folder() {
    let village = Village::of(2, &[]);
    let (file, folder) = (village.path("in/x"), village.path("other/x"));
    random_file(&file, 1_000, 8);
    random_file(&folder.join("inside"), 2_000, 9);
    village.put(&file, &[]);
    let failure = village.fails(&["put", text(&folder)], 1);
    assert_eq!(failure.code, "name_taken");
    village.get_and_compare("x", &file);
    // The other way round.
    village.json(&["put", text(&folder), "--into", "y"]);
    let failure = village.fails(&["put", text(&file), "--as", "y/x"], 1);
    assert_eq!(failure.code, "name_taken");
    village.get_and_compare("y/x/inside", &folder.join("inside"));
    let all: Vec<String> = village.ls().into_iter().map(|row| row.name).collect();
    assert_eq!(all, ["x", "y/x/inside"]);
}

#[test]
fn three_thousand_small_files_come_back_the_same() {
    let village = Village::of(3, &[]);
    let (folder, output) = (village.path("in/many"), village.path("out"));
    for index in 0..3_000_u64 {
        random_file(&folder.join(format!("{:02}/{index:04}.txt", index % 30)), index % 3_000, index);
    }
    let put = village.json(&["put", text(&folder), "-n", "2"]);
    let files = put["files"].as_array().unwrap();
    assert_eq!(files.len(), 3_000);
    assert!(files.iter().all(|file| number(&file["replicas"]) == 2), "two copies of each");
    let got = village.json(&["get", "many/", "-o", text(&output)]);
    assert_eq!(got["files"].as_array().unwrap().len(), 3_000);
    assert_eq!(describe(&output), describe(&folder));
    assert_eq!(village.ls().len(), 3_000);
}

#[test]
fn two_puts_at_once_of_different_files_are_both_stored() {
    let village = Village::of(3, &[]);
    let files: Vec<_> = (0..2).map(|index| village.path(&format!("in/file-{index}"))).collect();
    for (seed, file) in files.iter().enumerate() {
        random_file(file, 12 * MIB, 20 + seed as u64);
    }
    let mut puts: Vec<_> = files.iter().map(|file| village.start(&["put", text(file), "--json"])).collect();
    for put in &mut puts {
        assert_eq!(number(&put.wait(s(30)).ended(0).json()["files"][0]["replicas"]), 2);
    }
    for (index, file) in files.iter().enumerate() {
        village.get_and_compare(&format!("file-{index}"), file);
    }
}

#[test]
fn of_two_puts_at_once_under_one_name_one_wins_whole() {
    let village = Village::of(2, &[]);
    let files: Vec<_> = (0..2).map(|index| village.path(&format!("in/{index}"))).collect();
    // Several times: which of the two comes first is chance.
    for round in 0..3_u64 {
        for (seed, file) in files.iter().enumerate() {
            random_file(file, 2 * MIB + round, 40 + 2 * round + seed as u64);
        }
        let put = |file| village.start(&["put", text(file), "--as", "same"]);
        let mut puts: Vec<_> = files.iter().map(|file| put(file)).collect();
        puts.iter_mut().for_each(|put| drop(put.wait(s(30)).ended(0)));
        let all: Vec<String> = village.ls().into_iter().map(|row| row.name).collect();
        assert_eq!(all, ["same"]);
        let got = village.run(&["get", "same", "-o", "-"]).ended(0).bytes;
        assert!(files.iter().any(|file| fs::read(file).unwrap() == got), "the content of neither");
    }
}
