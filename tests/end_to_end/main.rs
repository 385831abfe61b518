//! thorp as its users meet it: real processes, real sockets, real disks, on loopback.
//!
//! Every test has a village of its own: nodes in a temporary folder, with a cluster name that
//! nobody else has, so that tests run side by side on the one discovery port. No test needs
//! privileges. Nothing sleeps for a fixed time: [`process::wait_until`] is the only place that
//! waits, and it has a deadline. A village that goes, even by a failing test, ends its processes.
//!
//! | file | what it shows |
//! |---|---|
//! | `process` | processes, their output, waiting |
//! | `village` | nodes, commands, and reading what they say |
//! | `disks` | files to put, and looking at disks |
//! | `files` | what goes in comes back |
//! | `travel` | only what is needed travels; interrupted work continues |
//! | `rot` | disks that forget: found, set aside, mended; copies kept aside |
//! | `channels` | live state from the command line |
//! | `counts` | as many copies as asked, each on another machine |
//! | `deaths` | nodes that die, leave and come back |
//! | `memory` | how much of it a node takes with many files |
//! | `letters` | sending messages, hooks, and reading the folders of messages |
//! | `messages` | messages arrive, whoever is off or goes |
//! | `killed` | messages to a machine that is killed meanwhile: each once, in order |
//! | `outbox` | messages sent by files; what failed |
//! | `hooks` | programs that are run for messages and events |
//! | `sync` | folders made equal on another machine |
//! | `sync_hostile` | syncs by and to somebody who means harm |
//! | `run` | programs on another machine: as if they were here |
//! | `jobs` | programs left alone, lost, come back to; nothing of them survives |
//! | `starting` | `thorp up` where it cannot work, keys, no cluster |
//! | `answers` | exit codes, JSON, closed pipes, full disks, the demo |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod answers;
mod care;
mod channels;
mod counts;
mod damaged;
mod deaths;
mod disks;
mod files;
mod hooks;
mod jobs;
mod killed;
mod letters;
mod memory;
mod messages;
mod outbox;
mod process;
mod rot;
mod run;
mod starting;
mod sync;
mod sync_hostile;
mod travel;
mod village;
