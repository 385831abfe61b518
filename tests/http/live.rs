//! What happens, live, and in numbers.

use crate::peer::{Events, Lan, wait_for};
use serde_json::Value;

/// Reads on until an event of that kind is as wanted, and gives it.
fn until(events: &mut Events, kind: &str, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
    let mut seen = Vec::new();
    for _ in 0..500 {
        let (said, data) = events.next();
        if said == kind && is_it(&data) {
            return data;
        }
        seen.push((said, data));
    }
    panic!("no `{kind}` came: {what}; but {seen:#?}");
}

fn row<'data>(data: &'data Value, name: &str) -> Option<&'data Value> {
    data["changed"].as_array()?.iter().find(|row| row["name"] == name)
}

#[test]
fn what_happens_is_told_as_it_happens_and_what_happened_before_to_those_who_come() {
    let mut lan = Lan::of(2, &[]);
    lan.nodes[0].ask("PUT", "/api/files/before?replicas=2", &[], b"1").is(201);
    let mut events = lan.nodes[1].events("/api/events");
    let (kind, hello) = events.next();
    assert_eq!((kind.as_str(), &hello["secured"]), ("hello", &Value::Bool(false)));
    let was = |data: &Value| data["what"] == "file.stored" && data["text"] == "before was stored";
    until(&mut events, "activity", "what was before", was);
    until(&mut events, "status", "two machines and a file", |data| {
        data["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2) && data["files"]["count"] == 1
    });
    until(&mut events, "proxy", "it is there", |data| data["state"] == "ok");

    let name = "<img src=x>\u{e9}";
    let path = "/api/files/%3Cimg%20src%3Dx%3E%C3%A9";
    lan.nodes[0].ask("PUT", &format!("{path}?replicas=1"), &[], b"22").is(201);
    until(&mut events, "activity", "stored", |data| data["what"] == "file.stored" && data["subject"] == name);
    until(&mut events, "files", "one copy", |data| row(data, name).is_some_and(|row| row["replicas"] == 1));
    lan.nodes[0].ask("PATCH", path, &[("content-type", "application/json")], br#"{"replicas":2}"#).is(200);
    until(&mut events, "files", "two copies", |data| {
        row(data, name).is_some_and(|row| row["replicas"] == 2 && row["state"] == "ok")
    });
    lan.nodes[0].ask("DELETE", path, &[], b"").is(200);
    let is_gone =
        |data: &Value| data["removed"].as_array().is_some_and(|names| names.iter().any(|gone| gone == name));
    until(&mut events, "files", "removed", is_gone);
    lan.nodes[0].ask("POST", "/api/restore/%3Cimg%20src%3Dx%3E%C3%A9", &[], b"").is(200);
    until(&mut events, "files", "restored", |data| row(data, name).is_some());

    let lost = lan.nodes.remove(0);
    drop(lost);
    until(&mut events, "activity", "a machine fell silent", |data| data["what"] == "node.lost");
    until(&mut events, "status", "it is not up", |data| {
        data["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["state"] != "up"))
    });
}

#[test]
fn numbers_are_what_happened() {
    let lan = Lan::of(1, &[]);
    let node = &lan.nodes[0];
    node.ask("PUT", "/api/files/a?replicas=1", &[], &[7; 5_000]).is(201);
    assert_eq!(node.get("/api/files/a").is(200).body.len(), 5_000);
    node.get("/no/such/path").is(404);
    node.get("/api/files/no").is(404);
    // What a node says of itself is at most a second old.
    let text = wait_for("the content is counted", || {
        let text = node.get("/metrics").is(200).body;
        text.contains("thorp_contents 1\n").then_some(text)
    });
    for line in [
        r#"thorp_nodes{state="up"} 1"#,
        r#"thorp_files{state="ok"} 1"#,
        "thorp_files_bytes 5000",
        "thorp_is_proxy 1",
        r#"thorp_http_transferred_bytes_total{direction="upload"} 5000"#,
        r#"thorp_http_transferred_bytes_total{direction="download"} 5000"#,
        r#"thorp_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"thorp_http_requests_total{route="/api/files/{*name}",method="PUT",status="201"} 1"#,
        r#"thorp_http_requests_total{route="/api/files/{*name}",method="GET",status="404"} 1"#,
        r#"thorp_http_request_duration_seconds_count{route="/api/files/{*name}"} 3"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("thorp_scrub_age_seconds ") && !text.contains("such"), "{text}");
    assert_eq!((text.matches("# EOF").count(), text.ends_with("# EOF\n")), (1, true));
}
