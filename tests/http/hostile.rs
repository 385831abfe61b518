//! What no honest client sends: the bad inputs 75 to 90, and what else came to mind.
//!
//! Each row is sent to one node; the status must be one of those that are allowed, the answer must
//! come in time, and the node must serve the next. The table is printed (`--nocapture`).

use crate::client::{Answer, Client};
use crate::disks::random_bytes;
use crate::process::s;
use crate::{client, village};
use std::io::{Read, Write};
use std::time::Duration;
use thorp::clock;

/// What is sent, and which statuses are right; 0: the connection is closed without a word.
struct Row {
    number: &'static str,
    what: String,
    bytes: Vec<u8>,
    right: &'static [u16],
}

fn row(number: &'static str, what: &str, bytes: impl Into<Vec<u8>>, right: &'static [u16]) -> Row {
    Row { number, what: what.to_owned(), bytes: bytes.into(), right }
}

/// A request with these lines after the first one, which says `Host` itself.
fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
}

fn hosts(host: &str) -> Vec<Row> {
    let port = host.rsplit_once(':').expect("a port").1;
    let with = |what: &str, headers: &str, right| row("75", what, request("GET /api", headers), right);
    vec![
        with("no Host", "", &[400]),
        with("two Hosts", &format!("Host: {host}\r\nHost: {host}\r\n"), &[400]),
        with("Host: evil.com", "Host: evil.com\r\n", &[421]),
        with("Host: evil.com:PORT", &format!("Host: evil.com:{port}\r\n"), &[421]),
        with("Host: 127.0.0.1.evil.com", &format!("Host: 127.0.0.1.evil.com:{port}\r\n"), &[421]),
        with("Host: localhost.", &format!("Host: localhost.:{port}\r\n"), &[421]),
        with("Host: localhost", &format!("Host: localhost:{port}\r\n"), &[200]),
        with("Host: [::1]:wrong", "Host: [::1]:wrong\r\n", &[421]),
        with("Host: 127.0.0.1, wrong port", "Host: 127.0.0.1:1\r\n", &[421]),
        with("Host with bytes over 127", "Host: 127.0.0.1\u{e9}\r\n", &[400]),
        row(
            "75",
            "absolute form, other host",
            request("GET http://evil.com/api", &format!("Host: {host}\r\n")),
            &[421],
        ),
        row(
            "75",
            "absolute form, our host",
            request(&format!("GET http://{host}/api"), &format!("Host: {host}\r\n")),
            &[200],
        ),
        row(
            "75",
            "absolute form, user@",
            request(&format!("GET http://a@{host}/api"), &format!("Host: {host}\r\n")),
            &[400, 421],
        ),
    ]
}

fn origins(host: &str) -> Vec<Row> {
    let ours = format!("Host: {host}\r\n");
    let with = |number, what: &str, line: &str, headers: String, right| {
        row(number, what, request(line, &(ours.clone() + &headers)), right)
    };
    vec![
        with("76", "Origin: null", "GET /api", "Origin: null\r\n".into(), &[403]),
        with("76", "Origin of another page", "GET /api", "Origin: http://evil.com\r\n".into(), &[403]),
        with("76", "Origin of another port", "DELETE /api/files/x", "Origin: http://127.0.0.1:1\r\n".into(), &[403]),
        with("76", "two Origins", "GET /api", format!("Origin: http://{host}\r\nOrigin: null\r\n"), &[400]),
        with("76", "our own Origin", "GET /api", format!("Origin: http://{host}\r\n"), &[200]),
        with("77", "form of another page", "POST /api/restore/x",
            "Origin: http://evil.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n".into(), &[403]),
        with("77", "form without an Origin, cross-site", "POST /api/restore/x", "Sec-Fetch-Site: cross-site\r\n".into(), &[403]),
        with("77", "picture in another page", "GET /api", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n".into(), &[403]),
        with("77", "link in another page", "GET /api", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n".into(), &[200]),
        with("78", "OPTIONS preflight", "OPTIONS /api/files/x",
            "Origin: http://evil.com\r\nAccess-Control-Request-Method: PUT\r\n".into(), &[403]),
        with("78", "OPTIONS of our own page", "OPTIONS /api/files/x", format!("Origin: http://{host}\r\n"), &[405]),
    ]
}

fn bodies(host: &str) -> Vec<Row> {
    let put = |number, what: &str, headers: &str, body: &[u8], right| {
        let mut bytes = request("PUT /api/files/body", &format!("Host: {host}\r\n{headers}")).into_bytes();
        bytes.extend(body);
        row(number, what, bytes, right)
    };
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20));
    vec![
        put(
            "79",
            "Content-Length, then chunked",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"0\r\n\r\n",
            &[200, 201, 400],
        ),
        put(
            "79",
            "chunked, then Content-Length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            b"0\r\n\r\n",
            &[200, 201, 400],
        ),
        put(
            "79",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, gzip\r\n",
            b"0\r\n\r\n",
            &[400],
        ),
        put("79", "Transfer-Encoding: xchunked", "Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n", &[400]),
        put("80", "two Content-Lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", b"hello", &[400]),
        put("80", "Content-Length: 5, 6", "Content-Length: 5, 6\r\n", b"hello", &[400]),
        put("80", "Content-Length: +5", "Content-Length: +5\r\n", b"hello", &[400]),
        put("80", "Content-Length: -1", "Content-Length: -1\r\n", b"hello", &[400]),
        put("80", "Content-Length: 2^64", "Content-Length: 18446744073709551616\r\n", b"hello", &[400]),
        put("80", "Content-Length: 2^63", "Content-Length: 9223372036854775808\r\n", b"hello", &[413, 507]),
        put(
            "81",
            "chunk of FFFFFFFFFFFFFFFFF",
            "Transfer-Encoding: chunked\r\n",
            b"FFFFFFFFFFFFFFFFF\r\nhello",
            &[400],
        ),
        put("81", "chunk of -5", "Transfer-Encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n", &[400]),
        put(
            "81",
            "chunk extension of 1 MiB",
            "Transfer-Encoding: chunked\r\n",
            extension.as_bytes(),
            &[0, 400],
        ),
        put(
            "81",
            "trailers of 1 MiB",
            "Transfer-Encoding: chunked\r\n",
            format!("0\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes(),
            &[0, 400],
        ),
    ]
}

fn heads(host: &str) -> Vec<Row> {
    let ours = format!("Host: {host}\r\n");
    let get = |number, what: &str, headers: String, right| {
        row(number, what, request("GET /api", &(ours.clone() + &headers)), right)
    };
    let many: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
    let some: String = (0..100).map(|at| format!("X-{at}: 1\r\n")).collect();
    let line = |number, what: &str, line: &str, right| row(number, what, request(line, &ours), right);
    vec![
        get("82", "a header of 1 MiB", format!("X: {}\r\n", "x".repeat(1 << 20)), &[0, 431]),
        get("82", "10,000 headers", many, &[0, 431]),
        get("82", "100 headers", some, &[431]),
        line("82", "a path of 64 KiB", &format!("GET /{}", "a".repeat(64 << 10)), &[0, 414, 431]),
        get("82", "a header without a colon", "nonsense\r\n".into(), &[400]),
        get("82", "a folded header", "X: a\r\n b\r\n".into(), &[400]),
        get("82", "a header with a NUL", "X: a\0b\r\n".into(), &[400]),
        get("82", "a name with a blank", "X : a\r\n".into(), &[400]),
        line("84", "Range of 1,000 ranges", "GET /api/files/ten", &[200]),
        line("86", "TRACE", "TRACE /api", &[405]),
        line("86", "CONNECT", &format!("CONNECT {host}"), &[400, 404, 405]),
        line("86", "an unknown method", "BREW /api", &[405]),
        line("86", "lower-case method", "get /api", &[400, 405]),
        row("86", "HTTP/0.9", "GET /api\r\n", &[0, 400]),
        row("86", "HTTP/1.0 without Host", "GET /api HTTP/1.0\r\n\r\n", &[400]),
        row("86", "HTTP/3.7", format!("GET /api HTTP/3.7\r\n{ours}\r\n"), &[0, 400]),
        row("86", "HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400]),
        row("86", "TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[0, 400]),
        row("86", "random bytes", random_bytes(4_096, 1), &[0, 400]),
        row("86", "nothing but line ends", "\r\n".repeat(50_000), &[0, 400, 431]),
        get("86", "WebSocket upgrade where there is none",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n".into(), &[200]),
        get("86", "upgrade to h2c", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n".into(), &[200]),
        line("86", "asterisk form", "OPTIONS *", &[400, 404, 405]),
    ]
}

fn names(host: &str) -> Vec<Row> {
    let ours = format!("Host: {host}\r\n");
    let mut rows = Vec::new();
    for (what, name) in [
        ("..%2f", "..%2f..%2f..%2fetc%2fpasswd"),
        ("../", "../../../etc/passwd"),
        ("%2e%2e/", "%2e%2e/%2e%2e/etc/passwd"),
        ("%00", "a%00b"),
        ("invalid UTF-8", "%ff%fe"),
        ("overlong UTF-8", "%c0%ae%c0%ae/x"),
        ("a lone surrogate", "%ed%a0%80"),
        ("%zz", "%zz"),
        ("a backslash", "a%5c..%5cb"),
        ("an absolute name", "%2fetc%2fpasswd"),
        ("//", "a//b"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            rows.push(row(
                "85",
                &format!("{method} {what}"),
                request(&format!("{method} /api/files/{name}"), &ours),
                &[400],
            ));
        }
    }
    for (what, method, path, right) in [
        ("encoded twice: a name like any other", "GET", "/api/files/%252e%252e%252fetc", &[404][..]),
        ("a page through ..", "GET", "/api/../page.js", &[404]),
        ("CRLF in a name", "PUT", "/api/files/a%0d%0aSet-Cookie:%20x=1", &[400]),
        ("CRLF in a parameter", "GET", "/api/files?prefix=a%0d%0aSet-Cookie:%20x=1", &[200]),
        ("CRLF in the id of an upload", "DELETE", "/api/uploads/0123456789abcdef%0d%0aX:1", &[400]),
        ("a path as the id of an upload", "DELETE", "/api/uploads/..%2f..%2fnode.key%2f0123456789", &[400]),
    ] {
        let number = if what.contains("CRLF") { "90" } else { "85" };
        rows.push(row(number, what, request(&format!("{method} {path}"), &ours), right));
    }
    for range in [
        "bytes=5-1",
        "bytes=0-18446744073709551616",
        "bytes=18446744073709551615-18446744073709551615",
        "bytes=-18446744073709551616",
    ] {
        let right: &[u16] = match range {
            "bytes=5-1" => &[200],
            _ if range.starts_with("bytes=1844") => &[416],
            _ => &[206],
        };
        rows.push(row(
            "84",
            &format!("Range: {range}"),
            request("GET /api/files/ten", &format!("{ours}Range: {range}\r\n")),
            right,
        ));
    }
    rows
}

fn documents(host: &str) -> Vec<Row> {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let patch = |what: &str, body: &str| {
        let length = body.len();
        let headers =
            format!("Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        row("89", what, request("PATCH /api/files/ten", &headers) + body, &[400])
    };
    vec![
        patch("JSON of depth 10,000", &deep),
        patch("the same key twice", "{\"replicas\":1,\"replicas\":2}"),
        patch("1e999", "{\"replicas\":1e999}"),
        patch("a number below zero", "{\"replicas\":-1}"),
        patch("a lone surrogate", "{\"\\ud800\":1}"),
    ]
}

#[test]
fn bad_inputs_are_refused_and_the_node_goes_on() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    a.put("/api/files/ten", b"0123456789").is(201);
    let host = a.address.clone();
    let many = (0..1_000).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    let mut rows = hosts(&host);
    for more in [origins(&host), bodies(&host), heads(&host), names(&host), documents(&host)] {
        rows.extend(more);
    }
    for row in &mut rows {
        if row.what.starts_with("Range of") {
            let headers = format!("Host: {host}\r\nRange: bytes={many}\r\n");
            row.bytes = request("GET /api/files/ten", &headers).into_bytes();
        }
    }
    let mut wrong = Vec::new();
    for Row { number, what, bytes, right } in rows {
        let started = clock::now();
        let answer = a.raw(&bytes, s(25));
        let took = clock::now().since(started);
        let is_right = right.contains(&answer.status) && took < 20_000;
        println!("| {number} | {what} | {} | {took} ms |", answer.status);
        if !is_right {
            wrong.push(format!("{number} {what}: wanted {right:?}, after {took} ms came {}", answer.shown()));
        }
        for (name, value) in &answer.headers {
            if name == "set-cookie" || name.starts_with("access-control-") {
                wrong.push(format!("{number} {what}: {name}: {value}"));
            }
        }
        a.get("/api").is(200);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(a.get("/api/files/ten").is(200).body == b"0123456789");
    let names: Vec<String> = village.ls().into_iter().map(|row| row.name).collect();
    assert!(names.iter().all(|name| ["ten", "body"].contains(&name.as_str())), "{names:?}");
}

#[test]
fn what_is_not_allowed_says_what_is() {
    let village = village(1, &[]);
    let a = client(&village, "a");
    for (method, path, allowed) in [
        ("POST", "/api/files/x", "GET,HEAD,PUT,PATCH,DELETE"),
        ("PUT", "/api/files", "GET,HEAD"),
        ("GET", "/api/uploads/0123456789abcdef", "HEAD,DELETE"),
        ("GET", "/api/restore/x", "POST"),
    ] {
        let answer = a.ask(method, path, &[], b"").is(405);
        assert_eq!(answer.code(), "method_not_allowed");
        let sorted = |list: &str| {
            let mut list: Vec<String> = list.split(',').map(|word| word.trim().to_owned()).collect();
            list.sort();
            list
        };
        assert_eq!(answer.header("allow").map(sorted), Some(sorted(allowed)), "{method} {path}");
    }
    assert_eq!(a.get("/api/nothing").is(404).code(), "not_found");
}

#[test]
fn a_request_cannot_hide_in_the_body_of_another() {
    let village = village(1, &[]);
    let a = client(&village, "a");
    let host = format!("Host: {}\r\n", a.address);
    let hidden = format!("GET /api HTTP/1.1\r\n{host}\r\n");
    for lengths in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + hidden.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", 5 + hidden.len()),
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(),
    ] {
        let bytes = format!("PUT /api/files/x HTTP/1.1\r\n{host}{lengths}\r\n0\r\n\r\n{hidden}");
        let mut stream = a.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{lengths}: {all}");
    }
}

/// Sends `first`, then `next` again and again until the other side ends it; gives how long that took.
fn drip(client: &Client, first: &[u8], next: &[u8]) -> (Duration, Answer) {
    let started = clock::now();
    let mut stream = client.connect();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.write_all(first);
    let mut all = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if !next.is_empty() && stream.write_all(next).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
        assert!(clock::now().since(started) < 60_000, "it goes on for ever");
    }
    (Duration::from_millis(clock::now().since(started)), Answer::parse(&all))
}

#[test]
fn slow_clients_do_not_stay() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    let head = a.head("PUT", "/api/files/slow", &[("Content-Length", "10")]);
    let expect = a.head("PUT", "/api/files/slow", &[("Content-Length", "10"), ("Expect", "100-continue")]);
    let chunked =
        a.head("PUT", "/api/files/slow", &[("Transfer-Encoding", "chunked")]) + "FFFFFFFFFFFFFFFF\r\nhello";
    let rows: Vec<(&str, &[u8], &[u8], u64)> = vec![
        ("83 a connection that says nothing", b"", b"", 20),
        ("83 a head that drips", b"GET /api HTTP/1.1\r\nX: ", b"x", 20),
        ("83 a body that does not come", head.as_bytes(), b"", 40),
        ("81 a chunk of FFFFFFFFFFFFFFFF that does not come", chunked.as_bytes(), b"", 40),
        ("87 Expect: 100-continue, then nothing", expect.as_bytes(), b"", 40),
    ];
    std::thread::scope(|scope| {
        for (what, first, next, most) in rows {
            let client = a.clone();
            scope.spawn(move || {
                let (took, answer) = drip(&client, first, next);
                println!("| {what} | {} | {} ms |", answer.status, took.as_millis());
                assert!(took < s(most), "{what}: {took:?}");
                let right: &[u16] = if most == 40 { &[408] } else { &[0, 408] };
                assert!(right.contains(&answer.status), "{what}: {}", answer.shown());
            });
        }
    });
    a.get("/api/files/slow").is(404);
}

#[test]
fn a_thousand_requests_at_once_are_answered() {
    let village = village(1, &[]);
    let a = client(&village, "a");
    let mut stream = a.connect();
    let one = format!("GET /api HTTP/1.1\r\nHost: {}\r\n\r\n", a.address);
    let last = a.head("GET", "/api", &[]);
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all((one.repeat(999) + &last).as_bytes()).unwrap());
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 1_000);
    });
    // More connections than there are places: the latest are served.
    let many: Vec<_> = (0..600).map(|_| a.connect()).collect();
    a.get("/api").is(200);
    drop(many);
    a.get("/api").is(200);
}
