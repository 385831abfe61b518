//! Holders that die and clients that go, in the middle of a file.

use crate::client::Answer;
use crate::disks::{MIB, files_under, random_bytes, random_file};
use crate::process::{s, wait_until};
use crate::village::Village;
use crate::{client, village};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// Reads so much of an answer, head included.
fn read_some(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut some = vec![0; bytes];
    stream.read_exact(&mut some).expect("some bytes");
    some
}

/// Memory that a process takes, in MiB.
fn memory_mib(pid: u32) -> u64 {
    memory_of(pid, "VmRSS:")
}

/// The most that it ever took is its `VmHWM:`.
fn memory_of(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the state of a process");
    let line = status.lines().find(|line| line.starts_with(what)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

#[test]
fn a_download_goes_on_when_a_holder_dies() {
    let mut village = village(3, &[]);
    random_file(&village.path("big"), 80 * MIB, 1);
    village.put(&village.path("big"), &["-n", "2"]);
    let holders = village.row("big").nodes;
    let asked =
        ["a", "b", "c"].into_iter().find(|name| !holders.contains(*name)).expect("a node without a copy");
    let client = client(&village, asked);
    let mut stream = client.connect();
    stream.write_all(client.head("GET", "/api/files/big", &[]).as_bytes()).unwrap();
    let mut all = read_some(&mut stream, 5 * MIB as usize);
    village.kill9(holders.first().unwrap());
    stream.read_to_end(&mut all).unwrap();
    let answer = Answer::parse(&all).is(200);
    assert!(answer.body == random_bytes(80 * MIB, 1), "{} bytes came", answer.body.len());
}

#[test]
fn a_download_that_cannot_end_is_broken_off() {
    let mut village = village(3, &[]);
    random_file(&village.path("big"), 80 * MIB, 2);
    village.put(&village.path("big"), &["-n", "1"]);
    let holders = village.row("big").nodes;
    let asked =
        ["a", "b", "c"].into_iter().find(|name| !holders.contains(*name)).expect("a node without a copy");
    let client = client(&village, asked);
    let mut stream = client.connect();
    stream.write_all(client.head("GET", "/api/files/big", &[]).as_bytes()).unwrap();
    let mut all = read_some(&mut stream, 2 * MIB as usize);
    village.kill9(holders.first().unwrap());
    let _ = stream.read_to_end(&mut all);
    let answer = Answer::parse(&all).is(200);
    assert_eq!(answer.header("content-length"), Some((80 * MIB).to_string().as_str()));
    assert!(!answer.is_whole(), "all came although its only holder died");
    let answer = wait_until(s(30), "it is said that nobody has it", || {
        let answer = client.get("/api/files/big");
        if answer.status == 503 { Ok(answer) } else { Err(answer.shown()) }
    });
    assert!(answer.json()["error"]["message"].is_string());
}

#[test]
fn readers_that_do_not_read_cost_little_and_go() {
    let village = village(2, &[]);
    random_file(&village.path("big"), 100 * MIB, 3);
    village.put(&village.path("big"), &["-n", "1"]);
    let asked = if village.row("big").nodes.contains("a") { "b" } else { "a" };
    let node = village.nodes.iter().find(|node| node.name == asked).unwrap();
    let client = client(&village, asked);
    let before = memory_mib(node.process.id());
    let lazy: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = client.connect();
            stream.write_all(client.head("GET", "/api/files/big", &[]).as_bytes()).unwrap();
            read_some(&mut stream, MIB as usize);
            stream
        })
        .collect();
    // Others are served meanwhile.
    assert_eq!(client.get_with("/api/files/big", "Range", "bytes=99-100").is(206).body.len(), 2);
    client.put("/api/files/small", b"1").is(201);
    let with = memory_mib(node.process.id());
    // Each may run ahead by 8 MiB and have some chunks on their way.
    assert!(with < before + 8 * 32, "{before} MiB before, {with} MiB with 8 readers that do not read");
    eprintln!("memory of the node: {before} MiB, with 8 readers that do not read {with} MiB");
    drop(lazy);
    // A client that is gone frees its place: many more than there are places come and go.
    for _ in 0..80 {
        let mut stream = client.connect();
        stream.write_all(client.head("GET", "/api/files/big", &[]).as_bytes()).unwrap();
        read_some(&mut stream, 100);
        let _ = stream.shutdown(Shutdown::Both);
    }
    assert!(client.get("/api/files/big").is(200).is_whole());
}

/// Bytes in the data folder of a node.
fn kept(village: &Village, node: &str) -> u64 {
    files_under(&village.data(node)).into_values().sum()
}

#[test]
fn copies_are_made_while_a_file_comes_and_a_holder_may_die_meanwhile() {
    let mut village = village(4, &[]);
    let data = random_bytes(48 * MIB, 6);
    let a = client(&village, "a");
    let length = data.len().to_string();
    let mut stream = a.connect();
    let head = a.head("PUT", "/api/files/big?replicas=3", &[("Content-Length", &length)]);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&data[..24 << 20]).unwrap();
    // The proxy stays: another one would need longer than a request over HTTP waits.
    let proxy = a.get("/api/status").is(200).json();
    let nodes = proxy["nodes"].as_array().unwrap();
    let is_proxy =
        |name: &str| nodes.iter().any(|node| node["name"] == name && node["id"] == proxy["cluster"]["proxy"]);
    let dies = wait_until(s(20), "holders have some of it", || {
        let others = ["b", "c", "d"].into_iter().filter(|name| !is_proxy(name));
        let sizes: Vec<(&str, u64)> = others.map(|name| (name, kept(&village, name))).collect();
        sizes.iter().find(|(_, bytes)| *bytes > 8 * MIB).map(|(name, _)| *name).ok_or(format!("{sizes:?}"))
    });
    a.get("/api/files/big").is(404);
    village.kill9(dies);
    stream.write_all(&data[24 << 20..]).unwrap();
    let answer = Answer::read(&mut stream).is(201).json();
    assert!(answer["replicas"].as_u64() >= Some(2), "{answer}");
    assert!(!answer["nodes"].as_array().unwrap().iter().any(|node| node == dies), "{answer}");
    for name in ["a", "b", "c", "d"].into_iter().filter(|name| *name != dies) {
        assert!(client(&village, name).get("/api/files/big").is(200).body == data, "other bytes at {name}");
    }
    assert_eq!(files_under(&village.data("a").join("uploads")).len(), 0);
}

#[test]
fn a_large_file_that_turns_out_wrong_is_not_stored_although_its_copies_were_begun() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    let data = random_bytes(12 * MIB, 7);
    let wrong = [("Content-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")];
    assert_eq!(a.ask("PUT", "/api/files/big", &wrong, &data).is(400).code(), "digest");
    a.get("/api/files/big").is(404);
    assert!(village.ls().is_empty());
    a.put("/api/files/big", &data).is(201);
    // What came between is looked at when all is there.
    let mut stream = a.connect();
    let length = data.len().to_string();
    let head = a.head("PUT", "/api/files/late?overwrite=0", &[("Content-Length", &length)]);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&data[..MIB as usize]).unwrap();
    a.put("/api/files/late", b"first").is(201);
    stream.write_all(&data[MIB as usize..]).unwrap();
    assert_eq!(Answer::read(&mut stream).is(409).code(), "exists");
    assert!(a.get("/api/files/late").is(200).body == b"first");
    assert_eq!(files_under(&village.data("a").join("uploads")).len(), 0);
}

/// Chunks of one byte: what is kept of each is its byte, and no handle.
#[test]
fn bodies_in_the_smallest_chunks_cost_no_more_than_their_bytes() {
    let village = village(1, &[]);
    let (a, pid) = (client(&village, "a"), village.nodes[0].process.id());
    a.put("/api/files/first", &random_bytes(MIB, 1)).is(201);
    let before = memory_of(pid, "VmHWM:");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let a = a.clone();
            scope.spawn(move || {
                let headers = [("Transfer-Encoding", "chunked")];
                let head = a.head("PUT", &format!("/api/files/{number}?replicas=1"), &headers);
                let mut stream = a.connect();
                stream.write_all(head.as_bytes()).unwrap();
                for _ in 0..300 {
                    stream.write_all("1\r\nx\r\n".repeat(1_000).as_bytes()).unwrap();
                }
                stream.write_all(b"0\r\n\r\n").unwrap();
                let answer = Answer::read(&mut stream).is(201);
                assert_eq!(answer.json()["bytes"], 300_000);
            });
        }
    });
    let most = memory_of(pid, "VmHWM:");
    eprintln!(
        "memory of the node at most: {before} MiB before, {most} MiB with 6 bodies in chunks of one byte"
    );
    assert!(most < before + 24, "{before} MiB before, {most} MiB with bodies in chunks of one byte");
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    for headers in [[("Content-Length", "10000000")], [("Transfer-Encoding", "chunked")]] {
        let mut stream = a.connect();
        stream.write_all(a.head("PUT", "/api/files/half", &headers).as_bytes()).unwrap();
        let _ = stream.write_all(b"F4240\r\n");
        let _ = stream.write_all(&vec![1; 1_000_000]);
        drop(stream);
    }
    let uploads = village.data("a").join("uploads");
    wait_until(s(20), "what came is gone", || {
        let left = fs::read_dir(&uploads).map_or(0, Iterator::count);
        if left == 0 { Ok(()) } else { Err(format!("{left} files")) }
    });
    a.get("/api/files/half").is(404);
    assert!(village.ls().is_empty());
}
