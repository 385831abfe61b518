//! Hostile input against real nodes: datagrams, connections, frames, and members that lie
//! (promises P9 and P10).
//!
//! Each test starts node processes on 127.0.0.1 in a cluster of their own, attacks them, and then
//! asks the same of each: it still answers commands on fresh connections, it did not panic, its
//! memory and descriptors are within bounds, nothing lies where it has no business, and what was
//! stored before is there, byte for byte.
//!
//! | file | who attacks |
//! |---|---|
//! | `datagrams` | anybody on the LAN who can send UDP; with the seal's key where it says so |
//! | `connections` | anybody who can connect; then peers that pass the handshake and send bad frames |
//! | `channels` | a peer with a valid identity, in channels |
//! | `transfers` | a peer with a valid identity, in put chains and fetches |
//! | `insider` | a member that lies to the engine |
//! | `files` | names, links and folders |
//!
//! `node` is the victim, `attacker` the tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod attacker;
mod channels;
mod connections;
mod datagrams;
mod files;
mod insider;
mod node;
mod transfers;
