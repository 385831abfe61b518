//! Hooks (P11): those that hang, leave something behind or fail, and those for thorp's own events.

use crate::disks::{MIB, random_file};
use crate::process::{s, wait_until};
use crate::village::{Village, names, text, word};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Waits for the one row in `list failed` of a type.
#[track_caller]
fn wait_for_failed(village: &Village, node: &str, kind: &str) -> Value {
    wait_until(s(30), &format!("`{kind}` is in failed"), || {
        let rows = village.json_at(node, &["list", "failed"]);
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["type"] == kind));
        row.cloned().ok_or_else(|| rows.to_string())
    })
}

fn is_alive(pid: &str) -> bool {
    // One that is dead and not reaped yet has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[track_caller]
fn pid_in(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn a_hook_that_hangs_is_ended_and_what_comes_after_goes_on() {
    let village = Village::of(2, &["--hook-timeout", "1s", "--hook-tries", "1"]);
    let (hung, child) = (village.path("hung"), village.path("child"));
    // It and its child take no notice of the first signal.
    let script = format!(
        "trap '' TERM\necho said before\nsleep 600 & echo $! > '{}'\necho $$ > '{}'\nwhile :; do wait; sleep 1; done",
        child.display(),
        hung.display()
    );
    village.hook("b", "hang", &script);
    village.note_hook("b", "next");
    village.json_at("a", &["send", "hang", "--payload", "{\"n\":1}"]);
    village.json_at("a", &["send", "next", "--payload", "{\"n\":2}"]);
    let row = wait_for_failed(&village, "b", "hang");
    assert!(word(&row["reason"]).contains("ran longer than"), "{row}");
    assert_eq!(row["hook"]["attempts"][0]["output"], "said before\n");
    for path in [&hung, &child] {
        assert!(!is_alive(&pid_in(path)), "nothing of the group is left");
    }
    assert_eq!(village.wait_for_runs("b", 1, s(10))[0].kind, "next");
}

#[test]
fn what_a_hook_leaves_running_is_ended_and_keeps_nobody_waiting() {
    let village = Village::of(2, &[]);
    let child = village.path("child");
    village.hook("b", "fork", &format!("sleep 600 & echo $! > '{}'\necho done", child.display()));
    village.json_at("a", &["send", "fork"]);
    let row = wait_until(s(15), "the hook is done", || {
        let rows = village.json_at("b", &["inbox"]);
        if rows[0]["hook"]["state"] == "done" { Ok(rows[0].clone()) } else { Err(rows.to_string()) }
    });
    assert_eq!(
        (&row["hook"]["attempts"][0]["exit"], &row["hook"]["attempts"][0]["output"]),
        (&json!(0), &json!("done\n"))
    );
    assert!(!is_alive(&pid_in(&child)), "its child is gone with it");
    let table = village.run_at("b", &["inbox"]).ended(0).stdout();
    assert!(table.contains("done: exit code 0"), "{table}");
}

#[test]
fn a_hook_that_fails_is_tried_again_and_then_shown() {
    let village = Village::of(2, &["--hook-tries", "2"]);
    let tries = village.path("tries");
    village.hook(
        "b",
        "bad",
        &format!("echo $THORP_MESSAGE_ID >> '{}'\necho broken >&2\nexit 7", tries.display()),
    );
    // The second try is as good as the first.
    let once = village.path("once");
    let script = format!("[ -e '{0}' ] && exit 0\ntouch '{0}'\nexit 1", once.display());
    village.hook("b", "once", &script);
    let bad = village.json_at("a", &["send", "bad"]);
    village.json("send once --name tester".split(' ').collect::<Vec<_>>().as_slice());
    let row = wait_for_failed(&village, "b", "bad");
    assert!(
        word(&row["reason"]).contains("2 tries") && word(&row["reason"]).contains("exit code 7"),
        "{row}"
    );
    let attempts = row["hook"]["attempts"].as_array().unwrap();
    assert!(attempts.len() == 2 && attempts.iter().all(|attempt| attempt["output"] == "broken\n"), "{row}");
    let tried = fs::read_to_string(&tries).unwrap();
    assert_eq!(tried.lines().collect::<Vec<_>>(), [word(&bad["id"]), word(&bad["id"])]);
    wait_until(s(15), "the other is done", || {
        let rows = village.json_at("b", &["inbox"]);
        let done = rows[0]["hook"]["state"] == "done" && rows[0]["type"] == "once";
        if done { Ok(()) } else { Err(rows.to_string()) }
    });
    let table = village.run_at("b", &["list", "failed"]).ended(0).stdout();
    assert!(table.contains("bad") && table.contains("exit code 7"), "{table}");
}

#[test]
fn what_a_payload_says_is_never_run() {
    let village = Village::of(2, &[]);
    village.note_hook("b", "x");
    let planted = village.path("planted");
    let words =
        format!("$(touch {0}); `touch {0}`; \n touch {0} \"; touch {0} '; touch {0}", planted.display());
    village.json_at("a", &["send", "x", "--payload", &json!({ "n": words }).to_string()]);
    assert_eq!(village.wait_for_runs("b", 1, s(10))[0].document["payload"]["n"], words);
    assert!(!planted.exists());
}

#[test]
fn hooks_are_told_what_happens_in_the_cluster() {
    let mut village = Village::of(4, &["--heal-after", "1s"]);
    let events = [
        "thorp.node.lost",
        "thorp.node.joined",
        "thorp.proxy.changed",
        "thorp.file.stored",
        "thorp.file.healed",
    ];
    for node in ["a", "b", "c", "d"] {
        events.iter().for_each(|event| village.note_hook(node, event));
        // There is no default for them.
        village.hook(node, "default", "exit 9");
    }
    let told = |village: &Village, event: &str, look: &dyn Fn(&Value) -> bool| {
        wait_until(s(30), &format!("{event} is told"), || {
            let all: Vec<(String, Value)> = ["a", "b", "c", "d"]
                .iter()
                .flat_map(|node| village.ran(node).into_iter().map(|ran| ((*node).to_owned(), ran)))
                .map(|(node, ran)| {
                    assert_eq!(ran.source, node, "it tells of itself");
                    (ran.kind, ran.document["payload"].clone())
                })
                .collect();
            if all.iter().any(|(kind, payload)| kind == event && look(payload)) {
                Ok(())
            } else {
                Err(format!("{all:?}"))
            }
        });
    };
    let file = village.path("in/precious");
    random_file(&file, MIB, 3);
    let put = village.json(&["put", text(&file), "-n", "2"]);
    let content = word(&put["files"][0]["content"]);
    told(&village, "thorp.file.stored", &|payload| {
        payload["name"] == "precious" && payload["content"] == content.as_str() && payload["bytes"] == MIB
    });
    let proxy = village.status().unwrap().proxy;
    let holders = names(&put["files"][0]["nodes"]);
    let holder = holders.iter().find(|name| **name != proxy).unwrap().clone();
    village.kill9(&holder);
    told(&village, "thorp.node.lost", &|payload| {
        payload["name"] == holder.as_str() && payload["left"] == false
    });
    told(&village, "thorp.file.healed", &|payload| {
        payload["content"] == content.as_str() && payload["names"] == json!(["precious"])
    });
    village.add(&holder, &[]);
    told(&village, "thorp.node.joined", &|payload| payload["name"] == holder.as_str());
    village.settle();
    village.kill9(&proxy);
    let next = wait_until(s(15), "another leads", || {
        let leads = village.status()?.proxy;
        if leads.is_empty() || leads == proxy { Err(leads) } else { Ok(leads) }
    });
    told(&village, "thorp.proxy.changed", &|payload| payload["name"] == next.as_str());
}
