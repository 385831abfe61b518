//! Uploads in parts: over broken connections, and over a node that is killed.

use crate::client::{Answer, Client};
use crate::disks::{MIB, files_under, random_bytes};
use crate::process::{s, wait_until};
use crate::village::Village;
use crate::{client, village};
use std::io::Write;

const ID: &str = "an-upload-of-the-tests-0001";

fn part(client: &Client, first: usize, end: usize, total: usize, data: &[u8]) -> Answer {
    let range = format!("bytes {first}-{}/{total}", end - 1);
    client.ask(
        "PUT",
        "/api/files/big?replicas=2",
        &[("Upload-Id", ID), ("Content-Range", &range)],
        &data[first..end],
    )
}

fn offset(answer: &Answer) -> Option<usize> {
    answer.header("upload-offset").and_then(|offset| offset.parse().ok())
}

/// What nodes keep of uploads.
fn spooled(village: &Village, node: &str) -> usize {
    files_under(&village.data(node).join("uploads")).len()
}

#[test]
fn an_upload_goes_on_after_breaks_and_a_killed_node() {
    let mut village = village(3, &[]);
    let total = 20 * MIB as usize;
    let data = random_bytes(20 * MIB, 5);
    let a = client(&village, "a");
    let first = part(&a, 0, 5_000_000, total, &data).is(202);
    assert_eq!(offset(&first), Some(5_000_000));
    assert_eq!(first.json()["offset"], 5_000_000);
    a.get("/api/files/big").is(404);
    for (from, to) in [(0, 1_000), (5_000_001, 5_000_002), (4_999_999, 5_000_005)] {
        assert_eq!(offset(&part(&a, from, to, total, &data).is(409)), Some(5_000_000));
    }
    assert_eq!(part(&a, 0, 5, 10, &data).is(409).code(), "conflict");

    // A connection that breaks off: what came is kept.
    let mut stream = a.connect();
    let range = format!("bytes 5000000-{}/{total}", total - 1);
    let length = (total - 5_000_000).to_string();
    let headers = [("Upload-Id", ID), ("Content-Range", range.as_str()), ("Content-Length", &length)];
    stream.write_all(a.head("PUT", "/api/files/big", &headers).as_bytes()).unwrap();
    stream.write_all(&data[5_000_000..9_000_000]).unwrap();
    // While it is being written nobody else may.
    wait_until(s(10), "the upload is being written", || {
        let longest = files_under(&village.data("a").join("uploads")).into_values().max().unwrap_or(0);
        if longest > 5_000_000 { Ok(()) } else { Err(format!("{longest} bytes")) }
    });
    assert_eq!(part(&a, 5_000_000, 5_000_010, total, &data).is(409).code(), "busy");
    drop(stream);
    let kept = wait_until(s(10), "what came is noted", || {
        let answer = a.ask("HEAD", &format!("/api/uploads/{ID}"), &[], b"").is(204);
        assert_eq!(answer.header("upload-length"), Some(total.to_string().as_str()));
        match offset(&answer) {
            Some(offset) if offset > 5_000_000 => Ok(offset),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(kept <= 9_000_000);

    village.kill9("a");
    village.add("a", &[]);
    let a = client(&village, "a");
    let answer = a.ask("HEAD", &format!("/api/uploads/{ID}"), &[], b"").is(204);
    assert_eq!(offset(&answer), Some(kept));
    village.settle();
    let done = part(&a, kept, total, total, &data).is(201).json();
    assert_eq!((done["bytes"].as_u64(), done["replicas"].as_u64()), (Some(total as u64), Some(2)));
    assert!(client(&village, "b").get("/api/files/big").is(200).body == data);
    a.ask("HEAD", &format!("/api/uploads/{ID}"), &[], b"").is(404);
    assert_eq!(spooled(&village, "a"), 0);
}

#[test]
fn what_is_wrong_is_not_kept() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    let path = "/api/files/x";
    let send = |id: &str, range: &str, more: &[(&str, &str)], body: &[u8]| {
        let headers: Vec<(&str, &str)> =
            [("Upload-Id", id), ("Content-Range", range)].iter().chain(more).copied().collect();
        a.ask("PUT", path, &headers, body)
    };
    for id in ["short", "../../../../../../etc/passwd", "with/slash/0123456789", "with%2fslash-0123456789"] {
        send(id, "bytes 0-4/10", &[], b"hello").is(400);
    }
    for range in [
        "bytes 0-10/10",
        "bytes 5-1/10",
        "bytes 0-9/*",
        "0-9/10",
        "bytes 0-18446744073709551615/18446744073709551615",
    ] {
        send(ID, range, &[], b"hello").is(400);
    }
    a.ask("PUT", path, &[("Upload-Id", ID)], b"hello").is(400);
    a.ask("PUT", path, &[("Content-Range", "bytes 0-4/10")], b"hello").is(400);
    // Longer or shorter than was said.
    assert_eq!(offset(&send(ID, "bytes 0-3/10", &[], b"hello").is(400)), Some(0));
    assert_eq!(offset(&send(ID, "bytes 0-7/10", &[], b"hello").is(400)), Some(5));
    // A part whose digest is wrong is taken back.
    let wrong = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    let answer = send(ID, "bytes 5-8/10", &[("Content-Digest", wrong)], b"worl").is(400);
    assert_eq!((answer.code().as_str(), offset(&answer)), ("digest", Some(5)));
    assert_eq!(offset(&send(ID, "bytes */10", &[], b"").is(202)), Some(5));
    // The wish to store what came, where nothing came, begins nothing.
    assert_eq!(send("another-upload-0123456789", "bytes */10", &[], b"").is(404).code(), "not_found");
    assert_eq!(spooled(&village, "a"), 2);
    // A whole that is wrong is thrown away.
    assert_eq!(send(ID, "bytes 5-9/10", &[("Repr-Digest", wrong)], b"world").is(400).code(), "digest");
    a.ask("HEAD", &format!("/api/uploads/{ID}"), &[], b"").is(404);
    a.get(path).is(404);
    // One that is too large for the disk is refused at once.
    let huge = send("another-upload-0123456789", "bytes 0-4/9000000000000000000", &[], b"hello");
    assert_eq!(huge.is(507).code(), "no_space");
    send(ID, "bytes 0-4/10", &[], b"hello").is(202);
    a.ask("DELETE", &format!("/api/uploads/{ID}"), &[], b"").is(204);
    a.ask("DELETE", &format!("/api/uploads/{ID}"), &[], b"").is(404);
    assert_eq!(spooled(&village, "a"), 0);
}
