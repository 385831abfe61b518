//! The protocol as it is written and as it is spoken: `docs/protocol.md` is read by these tests.
//!
//! | file | what it holds |
//! |---|---|
//! | `document` | reads examples and tables out of the document |
//! | `samples` | one value of everything that has bytes |
//! | `examples` | the document's bytes are the code's bytes, both ways |
//! | `tags` | the numbers of all variants, and of all limits |
//! | `vectors` | keys, content ids, cuts and digests, computed a second time from the document's words |
//! | `hostile` | what must be refused, and at what cost |
//! | `generators`, `properties` | any value comes back as it was; any bytes are survived |
//!
//! `THORP_PROTOCOL_BLESS=1 cargo test --test protocol examples` rewrites the hexadecimal blocks of
//! the document that differ. A change of a block is a change of the protocol.

#![allow(missing_docs, clippy::expect_used, reason = "tests")]

#[path = "protocol/channels.rs"]
mod channels;
#[path = "protocol/document.rs"]
mod document;
#[path = "protocol/examples.rs"]
mod examples;
#[path = "protocol/folders.rs"]
mod folders;
#[path = "protocol/generators.rs"]
mod generators;
#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/letters.rs"]
mod letters;
#[path = "protocol/properties.rs"]
mod properties;
#[path = "protocol/run.rs"]
mod run;
#[path = "protocol/samples.rs"]
mod samples;
#[path = "protocol/tags.rs"]
mod tags;
#[path = "protocol/vectors.rs"]
mod vectors;
