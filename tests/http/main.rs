//! thorp over HTTP, as programs without thorp meet it: real nodes, real sockets, bytes written by hand.
//!
//! | file | what it shows |
//! |---|---|
//! | `peer` | nodes, requests, streams of events, WebSockets |
//! | `channels` | channels: everything that clients of supersynk rely on, and what is new |
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod channels;
mod peer;
