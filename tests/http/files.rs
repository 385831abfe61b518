//! What goes in over HTTP comes out, and can be listed, changed, removed and shared.

use crate::client::Answer;
use crate::disks::{MIB, random_bytes, random_file};
use crate::process::{s, wait_until};
use crate::village::names;
use crate::{client, village};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_put_is_got_from_any_node() {
    let village = village(3, &[]);
    let (a, b) = (client(&village, "a"), client(&village, "b"));
    for (at, bytes) in [0, 1, 5_000, 300_000, 9 * MIB].into_iter().enumerate() {
        let data = random_bytes(bytes, bytes);
        let path = format!("/api/files/f%C3%B6lder/{at}%20%2b.bin");
        let stored = a.put(&format!("{path}?replicas=2"), &data).is(201);
        let row = stored.json();
        assert_eq!(row["name"], format!("földer/{at} +.bin"));
        assert_eq!((row["bytes"].as_u64(), row["replicas"].as_u64()), (Some(bytes), Some(2)), "{row}");
        assert_eq!(row["sha256"], sha256(&data));
        assert_eq!(names(&row["nodes"]).len(), 2);
        let got = b.get(&path).is(200);
        assert!(got.body == data, "{bytes} bytes came back different");
        assert_eq!(got.header("content-length"), Some(bytes.to_string().as_str()));
        assert_eq!(got.header("etag"), stored.header("etag"));
        assert_eq!(got.header("content-type"), Some("application/octet-stream"));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
        assert!(got.header("last-modified").is_some());
        let head = b.ask("HEAD", &path, &[("Range", "bytes=0-0")], b"").is(200);
        assert_eq!(head.header("content-length"), Some(bytes.to_string().as_str()));
        assert!(head.body.is_empty());
    }
    // And with the command.
    let original = village.path("original");
    fs::write(&original, random_bytes(9 * MIB, 9 * MIB)).unwrap();
    village.get_and_compare("földer/4 +.bin", &original);
    assert_eq!(village.row("földer/4 +.bin").wanted, 2);
}

#[test]
fn a_put_says_what_it_replaces() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    a.put("/api/files/x", b"one").is(201);
    let two = a.put("/api/files/x", b"two").is(200);
    assert_eq!(a.put("/api/files/x?overwrite=0", b"three").is(409).code(), "exists");
    a.ask("PUT", "/api/files/x", &[("If-None-Match", "*")], b"three").is(412);
    a.ask("PUT", "/api/files/x", &[("If-Match", "\"other\"")], b"three").is(412);
    assert_eq!(a.get("/api/files/x").is(200).body, b"two");
    // Who sends all before it reads can send all.
    let large = random_bytes(30 * MIB, 1);
    for (path, status) in [("/api/files/x?overwrite=0", 409), ("/api/files/%00", 400)] {
        let mut stream = a.connect();
        let length = large.len().to_string();
        stream.write_all(a.head("PUT", path, &[("Content-Length", &length)]).as_bytes()).unwrap();
        stream.write_all(&large).expect("all of the body is taken");
        Answer::read(&mut stream).is(status);
    }
    let tag = two.header("etag").unwrap().to_owned();
    a.ask("PUT", "/api/files/x", &[("If-Match", &tag)], b"three").is(200);
    a.put("/api/files/y?overwrite=0", b"new").is(201);
    // A file cannot be where a folder is.
    assert_eq!(a.put("/api/files/x/below", b"1").is(409).code(), "name_taken");
    for bad in ["?replicas=0", "?replicas=65", "?replicas=x", "?copies=2", "?overwrite=perhaps"] {
        a.put(&format!("/api/files/z{bad}"), b"1").is(400);
    }
    a.ask("PUT", "/api/files/z", &[("Content-Encoding", "gzip")], b"1").is(415);
    a.get("/api/files/z").is(404);
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    // Of "hello", as RFC 9530 writes it.
    let right = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let wrong = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    for header in ["Content-Digest", "Repr-Digest"] {
        let refused = a.ask("PUT", "/api/files/d", &[(header, wrong)], b"hello").is(400);
        assert_eq!(refused.code(), "digest");
        assert_eq!(a.ask("PUT", "/api/files/d", &[(header, "sha-256=x")], b"hello").is(400).code(), "digest");
        a.get("/api/files/d").is(404);
    }
    a.ask(
        "PUT",
        "/api/files/d",
        &[("Content-Digest", right), ("X-Modified", "2001-02-03T04:05:06Z")],
        b"hello",
    )
    .is(201);
    let got = a.get("/api/files/d").is(200);
    assert_eq!(got.header("last-modified"), Some("Sat, 03 Feb 2001 04:05:06 GMT"));
    a.ask("PUT", "/api/files/d", &[("X-Modified", "soon")], b"hello").is(400);
    assert_eq!(fs::read_dir(village.data("a").join("uploads")).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn files_are_listed_in_any_order() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    for (name, bytes, time, copies) in
        [("a/One.txt", 30, "2003", 1), ("a/two.txt", 10, "2001", 2), ("b/three", 20, "2002", 1)]
    {
        let time = format!("{time}-01-01T00:00:00Z");
        let path = format!("/api/files/{name}?replicas={copies}");
        a.ask("PUT", &path, &[("X-Modified", &time)], &vec![7; bytes]).is(201);
    }
    let list = |query: &str| -> (Vec<String>, u64) {
        let answer = a.get(&format!("/api/files{query}")).is(200).json();
        let rows = answer["files"].as_array().unwrap().iter();
        (
            rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect(),
            answer["total"].as_u64().unwrap(),
        )
    };
    let all = |names: &[&str], total: u64| (names.iter().map(ToString::to_string).collect::<Vec<_>>(), total);
    let (one, two, three) = ("a/One.txt", "a/two.txt", "b/three");
    assert_eq!(list(""), all(&[one, two, three], 3));
    assert_eq!(list("?order=desc"), all(&[three, two, one], 3));
    assert_eq!(list("?sort=bytes"), all(&[two, three, one], 3));
    assert_eq!(list("?sort=modified&order=desc"), all(&[one, three, two], 3));
    assert_eq!(list("?sort=copies&order=desc"), all(&[two, one, three], 3));
    assert_eq!(list("?prefix=a/"), all(&[one, two], 2));
    assert_eq!(list("?search=ONE"), all(&[one], 1));
    assert_eq!(list("?search=T&limit=1&offset=1"), all(&[two], 3));
    assert_eq!(list("?offset=20000"), all(&[], 3));
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "offset=20001",
        "sort=size",
        "order=up",
        "what=1",
        "removed=maybe",
        "offset=18446744073709551616",
        "limit=1&limit=2",
    ] {
        assert_eq!(a.get(&format!("/api/files?{bad}")).is(400).code(), "invalid", "{bad}");
    }
    assert_eq!(a.ask("DELETE", "/api/files/b/three", &[], b"").is(200).json(), json!({"removed": 1}));
    assert_eq!(list("?removed=true"), all(&[three], 1));
    let removed = a.get("/api/files?removed=1").is(200).json()["files"][0]["removed"].clone();
    assert!(removed.as_str().unwrap().ends_with('Z'));
}

#[test]
fn copies_are_changed_and_what_is_removed_comes_back() {
    let village = village(3, &[]);
    let (a, b) = (client(&village, "a"), client(&village, "b"));
    let data = random_bytes(2 * MIB, 1);
    a.put("/api/files/x?replicas=1", &data).is(201);
    let json = [("Content-Type", "application/json; charset=utf-8")];
    let row = b.ask("PATCH", "/api/files/x", &json, b"{\"replicas\": 3}").is(200).json();
    assert_eq!((&row["name"], &row["replicas_wanted"]), (&json!("x"), &json!(3)));
    village.wait_for_row("x", "three copies", s(30), |row| row.nodes.len() == 3 && row.state == "ok");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for bad in [
        "",
        "{}",
        "{\"replicas\":0}",
        "{\"replicas\":65}",
        "{\"replicas\":1e999}",
        "{\"replicas\":\"3\"}",
        "{\"replicas\":2,\"replicas\":3}",
        "{\"replicas\":2,\"x\":1}",
        deep.as_str(),
        "{\"replicas\":2}x",
    ] {
        a.ask("PATCH", "/api/files/x", &json, bad.as_bytes()).is(400);
    }
    a.ask("PATCH", "/api/files/x", &json, &vec![b' '; 1 << 20]).is(413);
    a.ask("PATCH", "/api/files/x", &[], b"{\"replicas\": 3}").is(415);
    a.ask("PATCH", "/api/files/no", &json, b"{\"replicas\": 3}").is(404);

    assert_eq!(a.ask("DELETE", "/api/files/x", &[], b"").is(200).json(), json!({"removed": 1}));
    a.get("/api/files/x").is(404);
    a.ask("DELETE", "/api/files/x", &[], b"").is(404);
    assert_eq!(b.ask("POST", "/api/restore/x", &[], b"").is(200).json()["name"], "x");
    assert!(b.get("/api/files/x").is(200).body == data);
    a.ask("DELETE", "/api/files/x?now=1", &[], b"").is(200);
    assert_eq!(a.ask("POST", "/api/restore/x", &[], b"").is(404).code(), "not_found");
}

#[test]
fn links_and_folders_have_no_bytes() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    let folder = village.path("tree");
    fs::create_dir_all(folder.join("empty")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    village.run(&["put", folder.to_str().unwrap(), "--as", "tree"]).ended(0);
    for name in ["tree/link", "tree/empty"] {
        assert_eq!(a.get(&format!("/api/files/{name}")).is(409).code(), "no_file");
        a.ask("POST", &format!("/api/share/{name}"), &[], b"").is(409);
        assert!(
            a.get("/api/files").is(200).json()["files"]
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["name"] == name && row["content"].is_null())
        );
    }
}

#[test]
fn a_browser_shows_only_what_is_harmless() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    for (name, kind, is_shown) in [
        ("p.png", "image/png", true),
        ("p.PDF", "application/pdf", true),
        ("p.txt", "text/plain; charset=utf-8", true),
        ("p.mp4", "video/mp4", true),
        ("p.svg", "image/svg+xml", false),
        ("p.html", "text/html; charset=utf-8", false),
        ("p.js", "text/javascript; charset=utf-8", false),
        ("p", "application/octet-stream", false),
    ] {
        let path = format!("/api/files/{name}");
        a.put(&path, b"<script>alert(1)</script>").is(201);
        let saved = a.get(&path).is(200);
        assert_eq!(saved.header("content-type"), Some(kind), "{name}");
        assert!(saved.header("content-disposition").unwrap().starts_with("attachment; "), "{name}");
        assert_eq!(saved.header("content-security-policy"), Some("default-src 'none'; sandbox"));
        let shown = a.get(&format!("{path}?inline=1")).is(200);
        let way = if is_shown { "inline; " } else { "attachment; " };
        assert!(shown.header("content-disposition").unwrap().starts_with(way), "{name}");
        assert!(shown.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{name}");
        assert_eq!(shown.header("x-content-type-options"), Some("nosniff"));
    }
    a.put("/api/files/a%22%3B%20filename%3Devil.exe%3B%20%C3%A9", b"1").is(201);
    let got = a.get("/api/files/a%22%3B%20filename%3Devil.exe%3B%20%C3%A9").is(200);
    assert_eq!(
        got.header("content-disposition"),
        Some(
            "attachment; filename=\"a_; filename=evil.exe; _\"; filename*=UTF-8''a%22%3B%20filename%3Devil.exe%3B%20%C3%A9"
        )
    );
}

#[test]
fn a_link_gives_one_content_until_it_expires() {
    let village = village(2, &[]);
    let (a, b) = (client(&village, "a"), client(&village, "b"));
    let data = random_bytes(MIB, 3);
    random_file(&village.path("film.mp4"), MIB, 3);
    village.put(&village.path("film.mp4"), &["--as", "films/film é.mp4"]);
    let shared = a.ask("POST", "/api/share/films/film%20%C3%A9.mp4?expires=2h", &[], b"").is(200).json();
    let url = shared["url"].as_str().unwrap();
    let path = url.strip_prefix(&format!("http://{}", a.address)).unwrap_or_else(|| panic!("{url}"));
    assert!(path.ends_with("/film%20%C3%A9.mp4"), "{path}");
    // Any node checks it.
    assert!(b.get(path).is(200).body == data);
    assert_eq!(b.ask("GET", path, &[("Range", "bytes=5-9")], b"").is(206).body, data[5..10]);
    assert!(
        b.get(&format!("{path}?inline=1"))
            .is(200)
            .header("content-disposition")
            .unwrap()
            .starts_with("inline")
    );
    assert_eq!(b.ask("HEAD", path, &[], b"").is(200).header("content-length"), Some("1048576"));
    let token = path.split('/').nth(2).unwrap();
    for forged in
        [token[1..].to_owned(), format!("{token}A"), "A".repeat(100), "%00".into(), "x".repeat(8_000)]
    {
        let status = b.get(&format!("/s/{forged}/film.mp4")).status;
        assert!([400, 404].contains(&status), "{forged}: {status}");
    }
    for bad in ["expires=0s", "expires=soon", "expires=32d", "days=1"] {
        a.ask("POST", &format!("/api/share/films/film%20%C3%A9.mp4?{bad}"), &[], b"").is(400);
    }
    a.ask("POST", "/api/share/no", &[], b"").is(404);

    let made = village.json(&["share", "films/film é.mp4", "--expires", "1s"]);
    let url = made["url"].as_str().unwrap().to_owned();
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let path = format!("/{path}");
    assert!([&a.address, &b.address].contains(&&host.to_owned()), "{url}");
    let code = wait_until(s(10), "the link expires", || {
        let answer = a.get(&path);
        if answer.status == 410 { Ok(answer.code()) } else { Err(answer.shown()) }
    });
    assert_eq!(code, "expired");
    // It is for that content, not for what takes its name.
    let path = shared["url"].as_str().unwrap().split_once(&a.address).unwrap().1.to_owned();
    a.put("/api/files/films/film%20%C3%A9.mp4", b"another film").is(200);
    b.get(&path).is(404);
    assert_eq!(village.fails(&["share", "no"], 4).code, "not_found");
}
