//! The page as people meet it: real nodes on loopback, and a real browser that looks at them.
//!
//! Needs `chromium` and `chromedriver`; where they are missing each test says that it is skipped,
//! and fails if `THORP_REQUIRE_BROWSER` is set. Nothing is simulated: keys are pressed, files are
//! chosen and downloaded, nodes are killed. Pictures of the page are kept in `CARGO_TARGET_TMPDIR`.
//!
//! Invariant: no test reloads the page to see what it waits for. What is shown comes by itself.
//!
//! | file | what it shows |
//! |---|---|
//! | `webdriver` | a client of chromedriver, as small as the tests allow |
//! | `browser` | a browser, what is done in it and seen in it |
//! | `street` | nodes that serve the page |
//! | `source` | the page's own files: size, nothing from outside, nothing that reads markup |
//! | `files` | upload, download, names, copies, removing |
//! | `away` | nodes that go and come back, uploads that go on |
//! | `live` | two browsers, channels, the token of a closed LAN |
//! | `form` | sizes, light and dark, keys alone, names of all controls |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod away;
mod browser;
#[allow(dead_code, reason = "`end_to_end` uses the rest")]
#[path = "../end_to_end/disks.rs"]
mod disks;
mod files;
mod form;
mod live;
#[allow(dead_code, reason = "`end_to_end` uses the rest")]
#[path = "../end_to_end/process.rs"]
mod process;
mod source;
mod street;
#[allow(dead_code, reason = "`end_to_end` uses the rest")]
#[path = "../end_to_end/village.rs"]
mod village;
mod webdriver;
