//! `thorp up` where it cannot work, keys, and commands without a cluster: what is said (P9, P10, P12).

use crate::disks::{describe, random_file};
use crate::process::{Output, s};
use crate::village::{Failure, Village, text};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Starts a node that cannot start; gives how it ended.
#[track_caller]
fn up_fails(village: &Village, data: &Path, options: &[&str]) -> Output {
    let args: Vec<&str> = ["up", "--http", "off"].iter().chain(options).copied().collect();
    let output = village.spawn(village.command(data, &args), &args.join(" ")).wait(s(10)).ended(1);
    assert_eq!(output.stdout(), "", "{output}");
    assert!(output.stderr.contains("error: ") && output.stderr.contains("hint: "), "{output}");
    assert!(!output.stderr.contains("bug in thorp"), "{output}");
    output
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_left_alone() {
    let village = Village::new();
    let folder = village.path("holiday");
    random_file(&folder.join("photos/1.jpg"), 1_000, 1);
    let before = describe(&folder);
    let output = up_fails(&village, &folder, &[]);
    assert!(output.stderr.contains("holiday"), "{output}");
    assert_eq!(describe(&folder), before);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o755, "its mode is as it was");
}

#[test]
fn a_data_folder_that_cannot_be_one_is_refused() {
    let village = Village::of(1, &[]);
    let file = village.path("a file");
    random_file(&file, 1_000, 1);
    let output = up_fails(&village, &file, &[]);
    assert!(output.stderr.contains("a file"), "{output}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 1_000);
    let output = up_fails(&village, &file.join("below"), &[]);
    assert!(output.stderr.contains("a file"), "{output}");

    // One that another thorp uses; that one goes on.
    let output = up_fails(&village, &village.data("a"), &[]);
    assert!(output.stderr.contains("node-a"), "{output}");
    village.settle();

    // Where nobody may write: for root, a place where not even root may.
    let closed = village.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = fs::create_dir(closed.join("probe")).is_ok();
    let place = if is_root { PathBuf::from("/sys/thorp") } else { closed.join("data") };
    if !is_root || Path::new("/sys").is_dir() {
        let output = up_fails(&village, &place, &[]);
        assert!(output.stderr.contains(text(&place)), "{output}");
    }
}

#[test]
fn a_tcp_port_in_use_is_replaced_by_another() {
    let mut village = Village::new();
    // Free for both, as far as one can know.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = ["--port", &port.to_string()];
    village.add("a", &options);
    let tcp = village.nodes[0].tcp.clone();
    assert!(tcp.starts_with("127.0.0.1:") && !tcp.ends_with(&format!(":{port}")), "{tcp}");
    village.add("b", &options);
    let status = village.run(&["status", "--json", "--port", options[1]]).ended(0).json();
    assert!(status["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()), "{status}");
}

#[test]
fn a_udp_port_that_is_not_shared_is_said_to_be_in_use() {
    let village = Village::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = up_fails(&village, &village.data("a"), &["--port", &port]);
    assert!(output.stderr.contains(&port) && output.stderr.contains("in use"), "{output}");
    assert!(output.stderr.contains("--port"), "{output}");
    // A command says so as well, and in time.
    let failure = village.fails(&["ls", "--port", &port, "--timeout", "1s"], 3);
    assert!(failure.message.contains(&port) && failure.took < s(4), "{failure:?}");
}

#[test]
fn an_address_that_this_machine_has_not_is_refused() {
    let village = Village::new();
    // Reserved for documentation: no machine has it. The last `--bind` would be a second one.
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"));
        command.env_clear().env("HOME", village.path("home")).arg("--data-dir").arg(village.data("a"));
        village.spawn(
            {
                command.args(args);
                command
            },
            &args.join(" "),
        )
    };
    let output = run(&["up", "--bind", "192.0.2.77", "--http", "off"]).wait(s(10)).ended(1);
    assert!(output.stderr.contains("192.0.2.77") && output.stderr.contains("127.0.0.1"), "{output}");
    let output = run(&["ls", "--bind", "192.0.2.77", "--timeout", "1s", "--json"]).wait(s(10)).ended(3);
    assert!(Failure::read(&output).message.contains("192.0.2.77"), "{output}");
    run(&["up", "--bind", "not an address"]).wait(s(10)).ended(2);
    run(&["up", "--bind", "::1"]).wait(s(10)).ended(2);
}

/// A key file that this user alone can read.
#[track_caller]
fn key_file(village: &Village, name: &str, key: &str) -> PathBuf {
    let path = village.path(name);
    fs::write(&path, format!("{key}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let village = Village::new();
    let key = key_file(&village, "key", "six words that nobody else knows");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = up_fails(&village, &village.data("a"), &["--key-file", text(&key)]);
    assert!(output.stderr.contains("chmod"), "{output}");
    let failure = village.fails(&["ls", "--key-file", text(&key)], 1);
    assert!(failure.hint.contains("chmod"), "{failure:?}");
    assert!(!output.stderr.contains("six words"), "the key is never shown: {output}");
    fs::write(&key, "").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    up_fails(&village, &village.data("a"), &["--key-file", text(&key)]);
    up_fails(&village, &village.data("a"), &["--key-file", text(&village.path("no such key"))]);
}

#[test]
fn another_key_or_none_is_said_to_be_the_reason() {
    let mut village = Village::new();
    let key = key_file(&village, "key", "the key of this cluster, long enough");
    let other = key_file(&village, "other", "the key of another cluster, as long");
    let (key, other) = (text(&key).to_owned(), text(&other).to_owned());
    village.add("a", &["--key-file", &key]);
    let file = village.path("in/secret");
    random_file(&file, 1_000, 1);
    village.run(&["put", text(&file), "-n", "1", "--key-file", &key]).ended(0);
    for (arguments, hint) in [
        (["ls", "--key-file", &other].as_slice(), "key"),
        (["get", "secret", "--key-file", &other].as_slice(), "key"),
        (["put", text(&file), "--key-file", &other].as_slice(), "key"),
        (["ls"].as_slice(), "--key-file"),
    ] {
        let failure = village.fails(arguments, 6);
        assert_eq!(failure.code, "not_allowed", "{arguments:?}");
        assert!(failure.hint.contains(hint), "{failure:?}");
        assert!(!failure.message.contains("secret"), "{failure:?}");
    }
    // A node with another key is no member.
    village.add("b", &["--key-file", &other]);
    let status = village.run(&["status", "--json", "--key-file", &key]).ended(0).json();
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!(status["cluster"]["secured"], true);
    // The key in the environment is as good as in a file.
    let mut command = village.command(&village.path("client"), &["ls", "--json"]);
    command.env("THORP_KEY", "the key of this cluster, long enough");
    let rows = village.spawn(command, "ls with a key").wait(s(10)).ended(0).json();
    assert_eq!(rows[0]["name"], "secret");
}

#[test]
fn a_key_where_the_lan_is_open_is_said_to_be_the_reason() {
    let village = Village::of(1, &[]);
    assert!(!village.settle().is_secured);
    let key = key_file(&village, "key", "a key where none is wanted, long enough");
    let failure = village.fails(&["ls", "--key-file", text(&key)], 6);
    assert!(failure.message.contains("open") && !failure.hint.is_empty(), "{failure:?}");
}

#[test]
fn without_a_cluster_commands_give_up_in_time() {
    let village = Village::new();
    let file = village.path("in/f");
    random_file(&file, 1_000, 1);
    for command in [
        ["ls"].as_slice(),
        &["status"],
        &["put", text(&file)],
        &["get", "f"],
        &["rm", "f"],
        &["replicas", "f", "2", "--wait"],
    ] {
        let args: Vec<&str> = command.iter().copied().chain(["--timeout", "300ms"]).collect();
        let failure = village.fails(&args, 3);
        assert_eq!(failure.code, "no_proxy", "{command:?}");
        assert!(failure.hint.contains("thorp up"), "{failure:?}");
        assert!(failure.took < s(3), "{command:?}: {failure:?}");
    }
}

#[test]
fn other_clusters_are_ignored() {
    let village = Village::of(1, &[]);
    let other = Village::of(1, &[]);
    let file = village.path("in/f");
    random_file(&file, 1_000, 1);
    village.put(&file, &["-n", "1"]);
    assert_eq!(other.ls(), []);
    assert_eq!(other.status().unwrap().up().len(), 1);
    village.get_and_compare("f", &file);
}
