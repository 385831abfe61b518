//! thorp over HTTP, as its clients meet it: real nodes on loopback, and a client of our own that can
//! also send what no library would.
//!
//! | file | what it shows |
//! |---|---|
//! | `peer` | nodes, requests, streams of events, WebSockets |
//! | `channels` | channels: everything that clients of supersynk rely on, and what is new |
//! | `client` | requests over a plain socket, and raw bytes |
//! | `files` | put, get, list, change, remove, restore, share |
//! | `ranges` | parts of files, and conditions |
//! | `resume` | uploads that go on: after a break, after a killed node |
//! | `deaths` | holders that die and clients that go, in the middle |
//! | `closed` | a LAN with a key |
//! | `live` | what happens, as events; metrics |
//! | `hostile` | the bad inputs 75 to 90 and more, as one table |
//! | `openapi` | the server and its OpenAPI document say the same |
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests"
)]

mod channels;
mod client;
mod closed;
mod deaths;
#[allow(dead_code, reason = "shared with the other tests of real nodes")]
#[path = "../end_to_end/disks.rs"]
mod disks;
mod files;
mod hostile;
mod live;
mod openapi;
mod peer;
#[allow(dead_code, reason = "shared with the other tests of real nodes")]
#[path = "../end_to_end/process.rs"]
mod process;
mod ranges;
mod resume;
#[allow(dead_code, reason = "shared with the other tests of real nodes")]
#[path = "../end_to_end/village.rs"]
mod village;

use client::Client;
use village::Village;

/// Nodes that serve HTTP, each on a free port.
#[track_caller]
fn village(count: u8, options: &[&str]) -> Village {
    let options: Vec<&str> = ["--http", "127.0.0.1:0"].iter().chain(options).copied().collect();
    Village::of(count, &options)
}

/// A client of the node of that name.
#[track_caller]
fn client(village: &Village, name: &str) -> Client {
    let node = village.nodes.iter().find(|node| node.name == name).expect("a node of that name");
    let ready = String::from_utf8(node.process.stdout()).expect("text");
    Client::new(ready.trim_end().split(' ').nth(3).expect("where HTTP is served"))
}
