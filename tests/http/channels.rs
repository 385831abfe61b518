//! Channels over HTTP: what clients of supersynk rely on, one by one, and what is new.

use crate::peer::{Events, Lan, Node, Socket, wait_for};
use serde_json::{Value, json};
use std::process::{Child, Stdio};
use thorp::clock;

const LONG: (&str, &str) = ("X-Expire", "10m");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Posts with an expiry that no test outlives.
#[track_caller]
fn say(node: &Node, channel: &str, body: &str) -> crate::peer::Answer {
    node.ask("POST", &format!("/api/channels/{channel}"), &[JSON, LONG], body.as_bytes())
}

fn ids(list: &Value) -> String {
    list.as_array().expect("a list").iter().map(|body| body["client_id"].as_str().expect("an id")).collect()
}

#[test]
fn what_clients_of_supersynk_rely_on() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let version = node.get("/api").is(200);
    assert!(version.body.starts_with("thorp "), "{version:?}");
    assert_eq!(node.get("/api/channels").is(200).body, "[]");
    assert_eq!(node.get("/api/channels/room").is(200).body, "[]", "an unknown channel is empty");
    assert_eq!(node.get("/api/channels").body, "[]", "and asking does not make it");

    let odd = "{ \"data\":[\"a\" , 1.50],\n\t\"client_id\":\"b\"}";
    assert_eq!(
        say(node, "room", r#"{"client_id":"a"}"#).is(200).body,
        "[]",
        "the others, and there are none"
    );
    let others = say(node, "room", odd).is(200);
    assert_eq!(others.body, r#"[{"client_id":"a"}]"#);
    assert_eq!(others.header("content-type"), Some("application/json"));
    let seconds: f64 = others.header("server-time").expect("a time").parse().expect("a number");
    assert!(seconds > 0.0 && seconds < 600.0, "{seconds}");
    assert_eq!(say(node, "room", r#"{"client_id":"a","n":2}"#).body, format!("[{odd}]"), "verbatim");
    let all = node.get("/api/channels/room").is(200);
    assert_eq!(all.body, format!(r#"[{{"client_id":"a","n":2}},{odd}]"#), "in the order in which they came");
    assert_eq!(say(node, "b%20\"%C3%A9", r#"{"client_id":"a"}"#).is(200).body, "[]", "in several channels");
    assert_eq!(node.get("/api/channels").json(), json!(["b \"é", "room"]));

    assert_eq!(node.ask("HEAD", "/api/channels/room", &[], b"").is(200).body, "");
    for (method, path) in
        [("PUT", "/api/channels/room"), ("DELETE", "/api/channels/room"), ("POST", "/api/channels")]
    {
        let refused = node.ask(method, path, &[], b"").is(405);
        assert_eq!(refused.code(), "method_not_allowed");
    }
    for path in ["/api/channels/", "/api/channels/a/b", "/api/channel"] {
        assert_eq!(node.get(path).is(404).code(), "not_found", "{path}");
    }
}

#[test]
fn a_bad_post_is_refused_and_makes_no_channel() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let deep = format!(r#"{{"client_id":"a","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for body in [
        "",
        "x",
        "[]",
        "7",
        "{}",
        r#"{"client_id":7}"#,
        r#"{"client_id":""}"#,
        &deep,
        r#"{"client_id":"a","x":1e999}"#,
        r#"{"client_id":"a","client_id":"b"}"#,
    ] {
        assert_eq!(node.post("/api/channels/bad", body).is(400).code(), "invalid", "{body:.40}");
    }
    assert_eq!(
        node.ask("POST", "/api/channels/bad", &[JSON], b"{\"client_id\":\"\xff\"}").is(400).code(),
        "invalid"
    );
    let large = format!(r#"{{"client_id":"a","x":"{}"}}"#, "x".repeat(65_536));
    assert_eq!(node.post("/api/channels/bad", &large).is(413).code(), "too_large");
    let good = br#"{"client_id":"a"}"#;
    for header in [
        ("Client-Time", "abc"),
        ("Client-Time", "nan"),
        ("Client-Time", "-1"),
        ("X-Expire", "5"),
        ("X-Expire", "99ms"),
        ("X-Expire", "2h"),
        ("Client-Id", "b"),
        ("Client-Token", "x"),
    ] {
        assert_eq!(
            node.ask("POST", "/api/channels/bad", &[JSON, header], good).is(400).code(),
            "invalid",
            "{header:?}"
        );
    }
    assert_eq!(
        node.post(&format!("/api/channels/{}", "k".repeat(129)), r#"{"client_id":"a"}"#).is(400).code(),
        "invalid"
    );
    assert_eq!(node.post("/api/channels/a%2Fb", r#"{"client_id":"a"}"#).is(400).code(), "invalid");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(node.ask("POST", "/api/channels/bad", &[form], good).is(415).code(), "wrong_type");
    assert_eq!(node.get("/api/channels").body, "[]");
    for kind in ["application/json; charset=utf-8", "text/json", "text/plain", "application/ld+json"] {
        node.ask("POST", "/api/channels/good", &[("Content-Type", kind)], good).is(200);
    }
    node.ask("POST", "/api/channels/good", &[], good).is(200);
}

#[test]
fn late_requests_are_left_out() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let post = |channel: &str, id: &str, time: &str, what: &str| {
        let body = format!(r#"{{"client_id":"{id}","n":"{what}"}}"#);
        let headers = [JSON, LONG, ("Client-Id", id), ("Client-Time", time)];
        node.ask("POST", &format!("/api/channels/{channel}"), &headers, body.as_bytes())
    };
    post("k", "a", "5.25", "first").is(200);
    let late = post("k", "a", "5.2", "late").is(204);
    assert_eq!((late.body.as_str(), late.header("server-time")), ("", None));
    assert_eq!(node.get("/api/channels/k").json()[0]["n"], "first");
    post("k", "a", "5.25", "equal").is(200);
    post("other", "a", "1", "x").is(200);
    post("k", "b", "1", "x").is(200);
    let get = |time| node.ask("GET", "/api/channels/k", &[("Client-Id", "a"), ("Client-Time", time)], b"");
    get("4").is(204);
    get("7").is(200);
    post("k", "a", "6", "late").is(204);
    say(node, "k", r#"{"client_id":"a","n":"no time, no check"}"#).is(200);
}

#[test]
fn a_silent_client_is_gone_when_it_was_said() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let mut events = node.events("/api/channels/k/events");
    assert_eq!(events.next(), ("snapshot".to_owned(), json!({ "clients": [] })));
    for (expire, least, most) in [("300ms", 300, 700), ("1s", 1_000, 1_400)] {
        let before = clock::now();
        node.ask("POST", "/api/channels/k", &[JSON, ("X-Expire", expire)], br#"{"client_id":"a"}"#).is(200);
        let after = clock::now();
        assert_eq!(events.next(), ("update".to_owned(), json!({"client_id": "a"})));
        assert_eq!(events.next(), ("gone".to_owned(), json!({"client_id": "a"})));
        assert!(clock::now().since(after) < most && clock::now().since(before) >= least, "{expire}");
        assert_eq!(
            (node.get("/api/channels/k").body, node.get("/api/channels").body),
            ("[]".into(), "[]".into())
        );
    }
}

#[test]
fn a_state_that_is_known_is_not_sent_again() {
    let lan = Lan::of(2, &[]);
    for node in &lan.nodes {
        say(node, "k", r#"{"client_id":"a"}"#).is(200);
        let first = node.get("/api/channels/k").is(200);
        let tag = first.header("etag").expect("a tag").to_owned();
        let again = || node.ask("GET", "/api/channels/k", &[("If-None-Match", &tag)], b"");
        let same = again().is(304);
        assert_eq!((same.body.as_str(), same.header("etag")), ("", Some(tag.as_str())));
        say(node, "k", r#"{"client_id":"a"}"#).is(200);
        again().is(304);
        say(node, "k", &format!(r#"{{"client_id":"a","n":"{}"}}"#, node.http)).is(200);
        assert_ne!(again().is(200).header("etag"), Some(tag.as_str()));
    }
}

#[test]
fn who_has_shown_its_token_is_nobody_else() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let post = |headers: &[(&str, &str)]| {
        let headers: Vec<(&str, &str)> = [JSON, LONG].iter().chain(headers).copied().collect();
        node.ask("POST", "/api/channels/k", &headers, br#"{"client_id":"a"}"#)
    };
    let first = post(&[]).is(200);
    let token = first.header("client-token").expect("a token").to_owned();
    let (right, wrong) =
        (("Client-Token", token.as_str()), ("Client-Token", "00000000000000000000000000000000"));
    assert_eq!(post(&[]).is(200).header("client-token"), None, "old clients go on without");
    assert_eq!(post(&[wrong]).is(403).code(), "not_allowed");
    post(&[right]).is(200);
    assert_eq!(post(&[]).is(401).code(), "token_needed");
    let leave = |headers: &[(&str, &str)]| node.ask("DELETE", "/api/channels/k/clients/a", headers, b"");
    assert_eq!(leave(&[]).is(401).code(), "token_needed");
    assert_eq!(leave(&[wrong]).is(403).code(), "not_allowed");
    leave(&[right]).is(204);
    assert_eq!(leave(&[right]).is(404).code(), "not_found");
    assert_eq!(node.get("/api/channels").body, "[]");
}

#[test]
fn strict_channels_want_the_token_from_the_second_post_on() {
    let lan = Lan::of(1, &["--channels-strict"]);
    let node = &lan.nodes[0];
    let token =
        say(node, "k", r#"{"client_id":"a"}"#).is(200).header("client-token").expect("a token").to_owned();
    assert_eq!(say(node, "k", r#"{"client_id":"a"}"#).is(401).code(), "token_needed");
    let headers = [JSON, ("Client-Token", token.as_str())];
    node.ask("POST", "/api/channels/k", &headers, br#"{"client_id":"a"}"#).is(200);
}

/// The next event that is not `wait`.
#[track_caller]
fn next(events: &mut Events) -> (String, Value) {
    loop {
        let (event, data) = events.next();
        if event != "wait" {
            return (event, data);
        }
    }
}

#[test]
fn both_nodes_have_the_same_channels_and_tell_what_happens() {
    let lan = Lan::of(2, &[]);
    let [a, b] = lan.nodes.as_slice() else { panic!("two nodes") };
    say(a, "k", r#"{"client_id":"a"}"#).is(200);
    let mut streams = [a.events("/api/channels/k/events"), b.events("/api/channels/k/events")];
    for events in &mut streams {
        assert_eq!(next(events), ("snapshot".to_owned(), json!({ "clients": [{"client_id": "a"}] })));
    }
    assert_eq!(say(b, "k", "{\"client_id\":\"b\",\r\n\"n\":1}").is(200).body, r#"[{"client_id":"a"}]"#);
    for events in &mut streams {
        assert_eq!(next(events), ("update".to_owned(), json!({"client_id": "b", "n": 1})));
    }
    b.ask("DELETE", "/api/channels/k/clients/a", &[], b"").is(204);
    for events in &mut streams {
        assert_eq!(next(events), ("gone".to_owned(), json!({"client_id": "a"})));
    }
    for node in [a, b] {
        assert_eq!(
            (ids(&node.get("/api/channels/k").json()), node.get("/api/channels").body),
            ("b".into(), r#"["k"]"#.into())
        );
    }
}

#[test]
fn a_web_socket_says_what_happens_and_takes_posts() {
    let lan = Lan::of(2, &[]);
    for (number, node) in lan.nodes.iter().enumerate() {
        let path = format!("/api/channels/k{number}");
        let mut socket = node.socket(&format!("{path}/socket?expire=10m"));
        assert_eq!(socket.next(), json!({"event": "snapshot", "data": {"clients": []}}));
        socket.send(r#"{"client_id":"a","n":1}"#);
        let said = [socket.next(), socket.next()];
        let token = said.iter().find(|said| said["event"] == "token").expect("a token")["data"].clone();
        assert!(said.contains(&json!({"event": "update", "data": {"client_id": "a", "n": 1}})), "{said:?}");
        socket.send("nonsense");
        assert_eq!(socket.next()["data"]["code"], "invalid");
        socket.send(r#"{"client_id":"a","n":2}"#);
        assert_eq!(socket.next(), json!({"event": "update", "data": {"client_id": "a", "n": 2}}));
        assert_eq!(
            node.post(&path, r#"{"client_id":"a","n":3}"#).is(401).code(),
            "token_needed",
            "it is the socket's"
        );
        drop(socket);
        let mut again = node.socket(&format!("{path}/socket?token={}", token.as_str().expect("text")));
        assert_eq!(again.next()["event"], "snapshot");
        again.send(r#"{"client_id":"a","n":4}"#);
        assert_eq!(again.next(), json!({"event": "update", "data": {"client_id": "a", "n": 4}}));
        assert_eq!(node.get(&format!("{path}/socket")).is(400).code(), "invalid");
    }
}

#[test]
fn web_sockets_take_places_like_all_connections() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    let before = node.descriptors();
    let mut sockets: Vec<Socket> = (0..600).map(|_| node.socket("/api/channels/k/socket")).collect();
    let places = 512;
    wait_for("the oldest made room", || (node.descriptors() <= before + places + 8).then_some(()));
    let open = node.descriptors();
    assert!(open + 8 >= before + places, "and no others: {before} before, {open} now");
    // The latest is served.
    let mut latest = sockets.pop().expect("a socket");
    assert_eq!(latest.next()["event"], "snapshot");
    latest.send(r#"{"client_id":"a"}"#);
    let said = [latest.next(), latest.next()];
    assert!(said.iter().any(|said| said["event"] == "update"), "{said:?}");
    node.get("/api").is(200);
    drop(sockets);
    wait_for("those that went gave their places back", || (node.descriptors() <= before + 8).then_some(()));
    drop(latest);
}

/// A node's own clients may follow so many channels; those of other nodes, whom it answers as the proxy, have
/// room of their own.
#[test]
fn who_follows_many_channels_at_the_proxy_keeps_nobody_out_elsewhere() {
    let lan = Lan::of(2, &[]);
    let status = lan.nodes[0].get("/api/status").json();
    let at = lan.nodes.iter().position(|node| status["cluster"]["proxy"] == *node.id).expect("a proxy");
    let (proxy, other) = (&lan.nodes[at], &lan.nodes[1 - at]);
    let path = |number: usize| format!("/api/channels/{number}/events");
    let held: Vec<Events> = (0..128).map(|number| proxy.events(&path(number))).collect();
    assert_eq!(proxy.get(&path(128)).is(429).code(), "too_many");
    let mut events = other.events(&path(128));
    assert_eq!(events.next(), ("snapshot".to_owned(), json!({ "clients": [] })));
    let more: Vec<Events> = (129..200).map(|number| other.events(&path(number))).collect();
    drop(held);
    wait_for("room again", || (proxy.get_head(&path(129)) == 200).then_some(()));
    drop(more);
}

/// The time of a node, in seconds.
fn server_time(node: &Node) -> Option<f64> {
    node.get("/api/channels/none").header("server-time")?.parse().ok()
}

#[test]
fn server_time_never_goes_back_over_a_change_of_proxy_without_a_channel() {
    let mut lan = Lan::of(3, &[]);
    let before = wait_for("some seconds pass", || server_time(&lan.nodes[0]).filter(|time| *time > 6.0));
    lan.kill_proxy();
    for node in &lan.nodes {
        wait_for("the old proxy is noticed", || (node.get("/api/channels/none").status == 204).then_some(()));
    }
    for node in &lan.nodes {
        let after = wait_for("channels are served again", || server_time(node));
        assert!(after >= before, "{after} after {before}");
    }
}

/// A new proxy stores what is posted, gives nothing out for a while, and in that while it has told a new
/// client its token: who does not show it afterwards is refused where channels are strict.
#[test]
fn a_new_proxy_locks_nobody_out_who_posts_before_it_gives_anything_out() {
    let mut lan = Lan::of(2, &["--channels-strict"]);
    let body = br#"{"client_id":"a"}"#;
    let long = [JSON, ("X-Expire", "6s")];
    let first = lan.nodes[0].ask("POST", "/api/channels/k", &long, body).is(200);
    let token = first.header("client-token").expect("a token").to_owned();
    let shown = [JSON, ("Client-Token", token.as_str())];
    let before = server_time(&lan.nodes[0]).expect("a time");
    wait_for("a successor has heard how long to be silent", || {
        lan.nodes[0].ask("POST", "/api/channels/k", &shown, body).is(200);
        server_time(&lan.nodes[0]).filter(|now| *now > before + 2.5)
    });
    lan.kill_proxy();
    let command = |more: &[&str]| {
        let post = ["channel", "post", "k", r#"{"client_id":"cli"}"#, "--timeout", "40s", "--json"];
        let mut command = lan.command("cli", &[&post, more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a command that starts")
    };
    let ended = |child: Child| {
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let node = &lan.nodes[0];
    let posting = command(&["--expire", "1m"]);
    let told = wait_for("the new proxy takes posts, and gives nothing out", || {
        let answer = node.ask("POST", "/api/channels/k", &[JSON, LONG], br#"{"client_id":"web"}"#);
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        answer.header("client-token").map(|token| (answer.status, token.to_owned()))
    });
    assert_eq!(told.0, 204, "so soon nothing is given out");
    let mine = ended(posting);
    assert!(ids(&mine["clients"]).contains("web"), "{mine}");
    let token = mine["token"].as_str().expect("its token, although that came with an earlier answer");
    ended(command(&["--client-token", token]));
    node.ask("POST", "/api/channels/k", &[JSON, ("Client-Token", &told.1)], br#"{"client_id":"web"}"#)
        .is(200);
}

/// The proxy dies: never an error, never an empty list, and nobody is gone who goes on posting.
#[test]
fn over_a_change_of_proxy_everybody_keeps_what_he_has() {
    let mut lan = Lan::of(3, &[]);
    let bodies = [r#"{"client_id":"a"}"#, r#"{"client_id":"b"}"#];
    for body in bodies {
        lan.nodes[0].post("/api/channels/k", body).is(200);
    }
    let before: f64 =
        lan.nodes[0].get("/api/channels/k").header("server-time").expect("a time").parse().expect("a number");
    // What a successor needs is told once a second.
    wait_for("some seconds pass", || {
        bodies.iter().for_each(|body| drop(lan.nodes[0].post("/api/channels/k", body)));
        let now: f64 = lan.nodes[0].get("/api/channels/k").header("server-time")?.parse().ok()?;
        (now > before + 2.5).then_some(())
    });
    lan.kill_proxy();
    let mut streams: Vec<Events> =
        lan.nodes.iter().map(|node| node.events("/api/channels/k/events")).collect();
    let mut silent = 0;
    wait_for("channels are served again", || {
        let posted: Vec<_> =
            bodies.iter().map(|body| lan.nodes[0].post("/api/channels/k", body).status).collect();
        assert!(posted.iter().all(|status| [200, 204].contains(status)), "{posted:?}");
        let all: Vec<_> = lan.nodes.iter().map(|node| node.get("/api/channels/k")).collect();
        for answer in &all {
            match answer.status {
                204 => silent += 1,
                200 => assert_eq!(ids(&answer.json()), "ab", "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        let time = |answer: &crate::peer::Answer| {
            answer.header("server-time").and_then(|time| time.parse::<f64>().ok())
        };
        let times: Option<Vec<f64>> = all.iter().map(time).collect();
        times.map(|times| assert!(times.iter().all(|time| *time > before + 2.5), "{times:?} after {before}"))
    });
    assert!(silent > 0, "there was a time without a proxy");
    for events in &mut streams {
        assert_eq!(next(events).1, json!({ "clients": [{"client_id": "a"}, {"client_id": "b"}] }));
    }
}
