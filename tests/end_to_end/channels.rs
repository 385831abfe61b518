//! Channels from the command line: straight with the proxy, without HTTP.

use crate::process::{Process, s, wait_until};
use crate::village::{Village, text};
use serde_json::{Value, json};
use std::fs;

/// The lines that a follower has printed.
fn lines(follower: &Process) -> Vec<Value> {
    let text = String::from_utf8(follower.stdout()).expect("text");
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect("a JSON document a line")).collect()
}

#[track_caller]
fn wait_for_line(follower: &Process, line: &Value) -> Vec<Value> {
    wait_until(s(15), &format!("{line}"), || {
        let lines = lines(follower);
        if lines.contains(line) { Ok(lines) } else { Err(format!("{lines:?}")) }
    })
}

#[test]
fn post_get_and_follow_at_different_nodes() {
    let village = Village::of(2, &[]);
    let follower = village.start(&["channel", "follow", "k", "--json"]);
    wait_for_line(&follower, &json!({"event": "snapshot", "data": {"clients": []}}));
    let long = ["--expire", "10m"];
    let post = |body: &str, more: &[&str]| {
        let args: Vec<&str> = ["channel", "post", "k", body].iter().chain(more).copied().collect();
        village.json(&args)
    };
    let first = post(r#"{"x":  1.50}"#, &[&long[..], &["--name", "ada"]].concat());
    assert_eq!(first["clients"], json!([]));
    let token = first["token"].as_str().expect("a token").to_owned();
    let file = village.path("body.json");
    fs::write(&file, "{\"client_id\":\"b\",\n\"y\":2}").expect("written");
    let second = post(&format!("@{}", text(&file)), &[]);
    assert_eq!(second["clients"], json!([{"client_id": "ada", "x": 1.5}]));
    assert!(second["server_time"].as_f64().expect("a time") > 0.0);
    let all = village.run(&["channel", "get", "k"]).ended(0).stdout();
    assert_eq!(all, "{\"client_id\":\"ada\",\"x\":  1.50}\n{\"client_id\":\"b\", \"y\":2}\n");
    let heard = wait_for_line(&follower, &json!({"event": "update", "data": {"client_id": "b", "y": 2}}));
    assert_eq!(heard.len(), 3, "{heard:?}");

    // Whoever shows its token is the only one from then on.
    post(r#"{"client_id":"ada"}"#, &["--client-token", &token]);
    let refused = village.fails(&["channel", "post", "k", r#"{"client_id":"ada"}"#], 6);
    assert_eq!(refused.code, "not_allowed", "{refused:?}");
    for (body, code) in [("[]", 2), ("x", 2), (r#"{"client_id":7}"#, 2), ("@no such file", 4)] {
        village.fails(&["channel", "post", "k", body], code);
    }
    village.fails(&["channel", "get", "a/b"], 2);
    assert_eq!(village.json(&["channel", "get", "nobody"])["clients"], json!([]));
    village.fails(&["channel", "post", "j", "{}", "--expire", "1ms"], 2);
}

/// The proxy is killed: a follower hears of nobody leaving who posts again, and of who does not.
#[test]
fn a_follower_keeps_what_it_has_over_a_change_of_proxy() {
    let mut village = Village::of(3, &[]);
    let post = |village: &Village, id: &str| {
        let body = format!(r#"{{"client_id":"{id}"}}"#);
        village.json(&["channel", "post", "k", &body, "--expire", "5s"])
    };
    post(&village, "stays");
    post(&village, "goes");
    let follower = village.start(&["channel", "follow", "k", "--json"]);
    let both =
        json!({"event": "snapshot", "data": {"clients": [{"client_id": "stays"}, {"client_id": "goes"}]}});
    wait_for_line(&follower, &both);
    let proxy = village.status().expect("a status").proxy;
    village.kill9(&proxy);
    wait_for_line(&follower, &json!({"event": "wait"}));
    let gone = json!({"event": "gone", "data": {"client_id": "goes"}});
    wait_until(s(30), "the one that does not post again is gone", || {
        post(&village, "stays");
        let lines = lines(&follower);
        if lines.contains(&gone) { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    let lines = lines(&follower);
    let said = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((said("snapshot"), said("gone"), said("update")), (1, 1, 0), "{lines:?}");
}
