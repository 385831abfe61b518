//! The node under test, the commands given to it, and the one place that waits.

use serde_json::Value;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use thorp::clock;

/// Longest wait for anything: a start, an unmount.
const LIMIT_MS: u64 = 20_000;

/// Pauses for a moment, or for as long as the power stays on.
#[expect(clippy::disallowed_methods, reason = "the only sleep: between two looks, and until the cut")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Waits for a condition with a deadline; `look` says what it sees while the condition is false.
pub fn poll<T>(mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = clock::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(why) if clock::now().since(start) >= LIMIT_MS => return Err(why),
            Err(_) => pause(5),
        }
    }
}

/// The same where nothing else may be.
#[track_caller]
pub fn wait_until(what: &str, look: impl FnMut() -> Result<(), String>) {
    poll(look).unwrap_or_else(|why| panic!("not within {LIMIT_MS} ms: {what}\n  last seen: {why}"));
}

/// How commands reach the node.
#[derive(Clone)]
pub struct Seat {
    folder: PathBuf,
    cluster: String,
    port: u16,
}

impl Seat {
    /// A port and a cluster of its own; what commands keep lies in `folder`.
    pub fn new(folder: &Path) -> Seat {
        fs::create_dir_all(folder.join("client")).expect("a folder");
        let cluster = format!("cuts-{:016x}", u64::from_le_bytes(clock::entropy().expect("random bytes")));
        Seat { folder: folder.to_owned(), cluster, port: free_port() }
    }

    /// A command of this cluster, not started.
    pub fn command(&self, data: &Path, args: &[&str]) -> Command {
        let binary = std::env::var_os("THORP_BINARY").map(PathBuf::from);
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_thorp").into()));
        command.env_clear().env("HOME", &self.folder).stdin(Stdio::null());
        command.args(["--bind", "127.0.0.1", "--cluster", &self.cluster, "--port", &self.port.to_string()]);
        command.arg("--data-dir").arg(data).args(args);
        command
    }

    /// A client's command.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.folder.join("client"), args);
        // Dialled at once: beacons come ten a second at most, which would be the pace of the load.
        command.args(["--peer", &format!("127.0.0.1:{}", self.port), "--json"]);
        command
    }

    /// Runs a command to its end; its JSON, or what it said instead.
    pub fn ask(&self, args: &[&str]) -> Result<Value, String> {
        let output = self.client(args).output().map_err(|error| error.to_string())?;
        if output.status.success() { read_json(&output) } else { Err(words(&output)) }
    }
}

/// The JSON that a command printed.
pub fn read_json(output: &Output) -> Result<Value, String> {
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", words(output)))
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}: {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// A port that nobody uses, for UDP and TCP.
fn free_port() -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
    panic!("no port is free for both UDP and TCP")
}

/// A running node.
pub struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts it on the data folder and waits until it answers.
    pub fn start(seat: &Seat, data: &Path, log: &Path) -> Result<Node, String> {
        let mut command = seat.command(data, &["up", "--name", "node", "--http", "off"]);
        command.stdout(Stdio::null()).stderr(File::create(log).map_err(|error| error.to_string())?);
        let child = command.spawn().map_err(|error| format!("the node: {error}"))?;
        let mut node = Node { child, log: log.to_owned() };
        poll(|| match node.child.try_wait() {
            Ok(None) => seat.ask(&["status", "--timeout", "1s"]).map(drop),
            // No use in asking on; the caller sees why.
            Ok(Some(_)) | Err(_) => Ok(()),
        })?;
        match node.child.try_wait() {
            Ok(None) => Ok(node),
            ended => Err(format!("the node ended: {ended:?}: {}", node.said())),
        }
    }

    /// The end of its log.
    pub fn said(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Kills it.
    pub fn kill9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
    }
}
