//! A LAN with a cluster key: nothing without its token but the page and links.

use crate::client;
use crate::process::{s, wait_until};
use crate::village::{Village, text};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use thorp::identity::{ClusterKeys, ClusterSecret};

const KEY: &str = "the key of this cluster, long enough";

#[test]
fn a_closed_lan_wants_its_token() {
    let mut village = Village::new();
    let key = village.path("key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let key = text(&key).to_owned();
    for name in ["a", "b"] {
        village.add(name, &["--http", "127.0.0.1:0", "--key-file", &key]);
    }
    let status = wait_until(s(20), "both nodes are one cluster", || {
        let output = village.run(&["status", "--json", "--key-file", &key]);
        let nodes = if output.code == 0 { output.json()["nodes"].as_array().map_or(0, Vec::len) } else { 0 };
        if nodes == 2 { Ok(output.json()) } else { Err(output.to_string()) }
    });
    let a = client(&village, "a");
    for (method, path) in [
        ("GET", "/api"),
        ("GET", "/api/status"),
        ("GET", "/api/files"),
        ("GET", "/api/files/x"),
        ("HEAD", "/api/files/x"),
        ("PUT", "/api/files/x"),
        ("PATCH", "/api/files/x"),
        ("DELETE", "/api/files/x"),
        ("POST", "/api/restore/x"),
        ("POST", "/api/share/x"),
        ("HEAD", "/api/uploads/0123456789abcdef"),
        ("DELETE", "/api/uploads/0123456789abcdef"),
        ("POST", "/api/session"),
        ("GET", "/nothing"),
    ] {
        assert_eq!(a.ask(method, path, &[], b"").status, 401, "{method} {path}");
        let wrong = a.with("Authorization", "Bearer 00000000000000000000000000000000");
        assert_eq!(wrong.ask(method, path, &[], b"").status, 401, "{method} {path}");
    }
    for path in ["/", "/healthz", "/page.js"] {
        a.get(path).is(200);
    }
    let secret = ClusterSecret::from_text(KEY, "a test").unwrap();
    let cluster = status["cluster"]["name"].as_str().unwrap();
    let token = ClusterKeys::derive(None, cluster, &secret).unwrap().http_token();
    let known = a.with("Authorization", &format!("Bearer {token}"));
    known.put("/api/files/x", b"secret").is(201);
    assert_eq!(known.get("/api/files/x").is(200).body, b"secret");
    let session = known.ask("POST", "/api/session", &[], b"").is(204);
    let cookie = session.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let browser = a.with("Cookie", cookie.split(';').next().unwrap());
    assert_eq!(browser.get("/api/files/x").is(200).body, b"secret");
    // A form of another page that the browser sends its cookie with.
    browser.ask("DELETE", "/api/files/x", &[("Origin", "http://evil.com")], b"").is(403);
    let shared = browser.ask("POST", "/api/share/x", &[], b"").is(200).json();
    let path = shared["url"].as_str().unwrap().split_once(&a.address).unwrap().1.to_owned();
    assert_eq!(a.get(&path).is(200).body, b"secret");
    a.get("/s/AAAA/x").is(404);
    assert_eq!(known.ask("DELETE", "/api/files/x", &[], b"").is(200).json(), json!({"removed": 1}));
    a.get(&path).is(404);
}
