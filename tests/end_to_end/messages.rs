//! Messages between machines (P11): they arrive, once and in order, whoever is off or dies meanwhile.

use crate::disks::{are_equal, random_file};
use crate::letters::documents;
use crate::process::{s, wait_until};
use crate::village::{Village, names, number, text, word};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// Names of those that got a message, by the answer of `send`.
#[track_caller]
fn addressees(sent: &Value) -> BTreeSet<String> {
    let to = sent["addressees"].as_array().expect("addressees");
    names(&to.iter().map(|to| to["name"].clone()).collect())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until the cluster takes this node for down.
#[track_caller]
fn wait_until_missed(village: &Village, name: &str) {
    wait_until(s(15), &format!("{name} is missed"), || {
        let status = village.status()?;
        if status.state(name) == "up" { Err(format!("{status:?}")) } else { Ok(()) }
    });
}

#[test]
fn a_message_reaches_all_others_and_their_hooks() {
    let village = Village::of(3, &[]);
    ["a", "b", "c"].iter().for_each(|name| village.note_hook(name, "hello"));
    let sent = village.json_at("a", &["send", "hello", "--payload", r#"{"n": 1, "text": "ä \" \\n"}"#]);
    assert_eq!(addressees(&sent), set(&["b", "c"]));
    for name in ["b", "c"] {
        let document = village.wait_for_documents(name, "inbox", 1, s(10)).remove(0);
        assert_eq!(document["id"], sent["id"]);
        assert_eq!(document["payload"], json!({"n": 1, "text": "ä \" \\n"}));
        assert_eq!((&document["type"], &document["source"]), (&json!("hello"), &json!("a")));
        assert_eq!((&document["target"], &document["priority"]), (&Value::Null, &json!("normal")));
        let ran = village.wait_for_runs(name, 1, s(10)).remove(0);
        assert_eq!((&ran.document, ran.kind.as_str(), ran.source.as_str()), (&document, "hello", "a"));
        let (file, _) = documents(&village.letters(name, "inbox")).remove(0);
        assert!(
            file.ends_with(&format!("_{}.json", word(&sent["id"]))) && file.as_bytes()[8] == b'T',
            "{file}"
        );
    }
    for folder in ["", "outbox", "inbox", "sent", "failed", "hooks"] {
        let mode = fs::metadata(village.letters("b", folder)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    assert_eq!(village.wait_for_documents("a", "sent", 1, s(5))[0]["id"], sent["id"], "it is kept in sent");

    // A command alone is nobody's node: all nodes are others.
    let args = ["send", "hello", "--payload", "{\"n\":2}", "--name", "tester", "--wait"];
    let sent = village.json(&args);
    assert_eq!(addressees(&sent), set(&["a", "b", "c"]));
    let all_have = sent["addressees"].as_array().unwrap().iter().all(|to| to["delivered"] == true);
    assert!(all_have, "--wait waits for all that are up: {sent}");
    // So they are there at once; what is shown is at most a rename behind.
    for (name, count) in [("a", 1), ("b", 2), ("c", 2)] {
        let document = village.wait_for_documents(name, "inbox", count, s(5)).remove(count - 1);
        assert_eq!((&document["id"], &document["source"]), (&sent["id"], &json!("tester")));
        assert_eq!(village.wait_for_runs(name, count, s(10))[count - 1].source, "tester");
    }
    // One alone.
    let one = village.json_at("b", &["send", "hello", "--payload", "{\"n\":3}", "--target", "c", "--wait"]);
    assert_eq!(addressees(&one), set(&["c"]));
    assert_eq!(village.wait_for_documents("c", "inbox", 3, s(5))[2]["target"], json!("c"));
    assert_eq!((village.inbox_numbers("a"), village.inbox_numbers("b")), (vec![2], vec![1, 2]));
}

#[test]
fn who_waits_gets_5_while_one_that_is_up_does_not_take_it() {
    let mut village = Village::of(2, &[]);
    let proxy = village.status().unwrap().proxy;
    let (here, there) = if proxy == "a" { ("a", "b") } else { ("b", "a") };
    let position = village.nodes.iter().position(|node| node.name == there).unwrap();
    // It is up, and its folder for what comes is taken away from it.
    let staged = village.letters(there, ".staged");
    fs::remove_dir_all(&staged).unwrap();
    fs::write(&staged, "").unwrap();
    let send = ["send", "x", "--payload", "{\"n\":1}", "--wait", "--timeout", "1s"];
    let output = village.run_at(here, &send);
    assert!(output.code == 5 && output.stderr.contains("it follows"), "{output}");
    fs::remove_file(&staged).unwrap();
    fs::create_dir(&staged).unwrap();
    village.wait_for_documents(there, "inbox", 1, s(10));
    assert_eq!(village.nodes[position].process.code(), None, "it went on");
}

#[test]
fn an_unknown_target_is_refused_and_one_that_is_off_finds_its_message() {
    let mut village = Village::of(4, &[]);
    let failure = village.fails(&["send", "x", "--target", "nobody"], 4);
    assert_eq!(failure.code, "not_found");
    assert!(failure.message.contains("`nobody`") && failure.message.contains("a, b, c, d"), "{failure:?}");

    let proxy = village.status().unwrap().proxy;
    let others: Vec<String> =
        ["a", "b", "c", "d"].into_iter().filter(|name| *name != proxy).map(str::to_owned).collect();
    let [target, sender, other] = others.as_slice() else { panic!("{others:?}") };
    village.note_hook(target, "x");
    village.kill9(target);
    wait_until_missed(&village, target);
    let output =
        village.run_at(sender, &["send", "x", "--payload", "{\"n\":1}", "--target", target]).ended(0);
    assert!(
        output.stderr.contains(target) && output.stderr.contains("finds the message when back"),
        "{output}"
    );
    let sent = village.json_at(sender, &["send", "x", "--payload", "{\"n\":2}", "--target", target]);
    assert_eq!(sent["addressees"][0]["up"], false);

    // The sender goes, and then whoever led.
    village.kill9(sender);
    village.kill9(&proxy);
    wait_until(s(20), "the last one leads and has the messages", || {
        let output = village.run(&["status", "--json", "--timeout", "2s"]);
        let status = if output.code == 0 { output.json() } else { Value::Null };
        let name = village.status().map(|status| status.proxy).unwrap_or_default();
        if name == *other && status["messages"]["waiting"] == 2 { Ok(()) } else { Err(output.to_string()) }
    });
    village.add(target, &[]);
    village.wait_for_documents(target, "inbox", 2, s(20));
    assert_eq!(village.inbox_numbers(target), [1, 2]);
    assert_eq!(village.wait_for_runs(target, 2, s(10)).len(), 2);
    wait_until(s(15), "nothing waits any more", || {
        let status = village.json(&["status"]);
        if status["messages"]["waiting"] == 0 { Ok(()) } else { Err(status["messages"].to_string()) }
    });
}

#[test]
fn the_more_urgent_overtake_while_a_machine_is_off() {
    let mut village = Village::of(2, &[]);
    let proxy = village.status().unwrap().proxy;
    let (here, there) = if proxy == "a" { ("a", "b") } else { ("b", "a") };
    village.note_hook(there, "x");
    village.kill9(there);
    wait_until_missed(&village, there);
    let mut wanted = Vec::new();
    for (index, priority) in ["low", "normal", "high"].into_iter().enumerate() {
        for n in 0..4 {
            let n = 10 * index as u64 + n;
            let payload = json!({ "n": n }).to_string();
            village.json_at(here, &["send", "x", "--payload", &payload, "--priority", priority]);
            wanted.push((2 - index, n));
        }
    }
    wanted.sort_unstable();
    let wanted: Vec<u64> = wanted.into_iter().map(|(_, n)| n).collect();
    village.add(there, &[]);
    let ran = village.wait_for_runs(there, wanted.len(), s(20));
    let order: Vec<u64> = ran.iter().map(|ran| number(&ran.document["payload"]["n"])).collect();
    assert_eq!(order, wanted, "high, then normal, then low, each in the order of sending");
}

#[test]
fn a_file_goes_with_a_message_and_can_be_got() {
    let village = Village::of(2, &[]);
    let file = village.path("in/photo of us");
    random_file(&file, 300_000, 7);
    village.json_at("a", &["send", "photo", "--attach", text(&file), "--target", "b", "--wait"]);
    let document = village.wait_for_documents("b", "inbox", 1, s(10)).remove(0);
    let name = word(&document["attachments"][0]);
    assert!(name.ends_with("/photo of us"), "{document}");
    let back = village.path("back");
    village.run_at("b", &["get", &name, "-o", text(&back)]).ended(0);
    assert!(are_equal(&back, &file));
    let missing = village.run_at("a", &["send", "photo", "--attach", "no such file"]);
    assert_eq!(missing.code, 4, "{missing}");
    assert_eq!(village.documents("b", "inbox").len(), 1, "nothing is sent without its file");
}

#[test]
fn who_follows_the_inbox_sees_a_message_as_it_comes() {
    let village = Village::of(2, &[]);
    let command = village.command(&village.data("b"), &["inbox", "--follow", "--json"]);
    let mut follower = village.spawn(command, "inbox --follow");
    for n in 1..=3 {
        village.json_at("a", &["send", "x", "--payload", &json!({ "n": n }).to_string()]);
        let lines = wait_until(s(10), "it is shown", || {
            let shown = String::from_utf8(follower.stdout()).unwrap();
            let lines = shown.matches('\n').count();
            if lines == n { Ok(shown) } else { Err(shown) }
        });
        let row: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!((&row["payload"]["n"], &row["source"]), (&json!(n), &json!("a")), "{lines}");
    }
    assert_eq!(follower.code(), None, "it goes on");
}

#[test]
fn a_sender_without_the_key_is_refused() {
    let mut village = Village::new();
    let key = village.path("key");
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(&key).unwrap();
    std::io::Write::write_all(&mut file, b"the key of this cluster, long enough\n").unwrap();
    let key = text(&key).to_owned();
    let started: Vec<_> = ["a", "b"].map(|name| village.start_node(name, &["--key-file", &key])).into();
    village.nodes = started.into_iter().map(crate::village::Node::ready).collect();
    wait_until(s(20), "both are one cluster", || {
        let status = village.run(&["status", "--json", "--key-file", &key]);
        let up = if status.code == 0 { status.json()["nodes"].as_array().map(Vec::len) } else { None };
        if up == Some(2) { Ok(()) } else { Err(status.to_string()) }
    });
    let failure = village.fails(&["send", "x", "--payload", "{\"n\":1}"], 6);
    assert!(failure.code == "not_allowed" && failure.hint.contains("--key-file"), "{failure:?}");
    // Nor by the data folder of a node, which proves who asks, but not that it may.
    let output = village.run_at("a", &["send", "x", "--payload", "{\"n\":2}", "--timeout", "2s"]);
    assert_eq!(output.code, 6, "{output}");
    village.run_at("a", &["send", "x", "--payload", "{\"n\":3}", "--key-file", &key, "--wait"]).ended(0);
    village.wait_for_documents("b", "inbox", 1, s(5));
    assert_eq!(village.inbox_numbers("b"), [3]);
    assert_eq!(village.inbox_numbers("a"), [0; 0]);
}
