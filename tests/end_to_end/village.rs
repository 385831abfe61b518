//! Nodes and commands on loopback, and reading what they say by the words of the contract.

use crate::disks::{are_equal, files_under};
use crate::process::{Output, Process, s, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use thorp::clock;

/// Longest that a command may take, unless a test says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(40);
/// Villages at the same time: more would make each too slow for its deadlines.
const VILLAGES_MAX: u32 = 4;

static VILLAGES: Mutex<u32> = Mutex::new(0);
static VILLAGE_WENT: Condvar = Condvar::new();

/// The right to run a village.
struct Slot;

impl Slot {
    fn take() -> Slot {
        let villages = VILLAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |villages: &mut u32| *villages >= VILLAGES_MAX;
        let mut villages = VILLAGE_WENT.wait_while(villages, full).unwrap_or_else(PoisonError::into_inner);
        *villages += 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *VILLAGES.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        VILLAGE_WENT.notify_one();
    }
}

/// A cluster of its own in a folder of its own.
pub struct Village {
    /// Those that run. They go before the folder does.
    pub nodes: Vec<Node>,
    folder: tempfile::TempDir,
    cluster: String,
    /// What is given to every node.
    options: Vec<String>,
    key_file: Option<PathBuf>,
    _slot: Slot,
}

impl Village {
    /// No nodes yet.
    pub fn new() -> Village {
        let slot = Slot::take();
        let folder = tempfile::Builder::new().prefix("thorp-test-").tempdir().expect("a folder");
        for name in ["logs", "client", "home"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let random: [u8; 8] = clock::entropy().expect("random bytes");
        let cluster = format!("test-{:016x}", u64::from_le_bytes(random));
        Village { nodes: Vec::new(), folder, cluster, options: Vec::new(), key_file: None, _slot: slot }
    }

    /// Nodes `a`, `b`, … with `options`, which have found each other.
    #[track_caller]
    pub fn of(count: u8, options: &[&str]) -> Village {
        Village::new().with(count, options)
    }

    /// The same with a cluster key, which all commands have.
    #[track_caller]
    pub fn closed(count: u8, options: &[&str]) -> Village {
        let mut village = Village::new();
        let key_file = village.path("key");
        fs::write(&key_file, village.run(&["key", "new"]).ended(0).bytes).expect("a file");
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("permissions");
        village.key_file = Some(key_file);
        village.with(count, options)
    }

    #[track_caller]
    fn with(mut self, count: u8, options: &[&str]) -> Village {
        let village = &mut self;
        village.options = options.iter().map(|option| (*option).to_owned()).collect();
        let names: Vec<String> = (0..count).map(|index| char::from(b'a' + index).to_string()).collect();
        let started: Vec<Node> = names.iter().map(|name| village.start_node(name, &[])).collect();
        village.nodes = started.into_iter().map(Node::ready).collect();
        village.settle();
        self
    }

    /// Its cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// A path in the village's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data folder of the node of that name.
    pub fn data(&self, name: &str) -> PathBuf {
        self.path(&format!("node-{name}"))
    }

    /// A `thorp` of this cluster with a data folder, and nothing of whoever runs the tests.
    pub fn command(&self, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thorp"));
        command.env_clear().env("HOME", self.path("home")).current_dir(self.folder.path());
        command.args(["--bind", "127.0.0.1", "--cluster", &self.cluster]);
        if let Some(key_file) = &self.key_file {
            command.arg("--key-file").arg(key_file);
        }
        command.arg("--data-dir").arg(data).args(args);
        command
    }

    /// Starts any command line.
    #[track_caller]
    pub fn spawn(&self, command: Command, what: &str) -> Process {
        Process::start(command, what, &self.path("logs"), Stdio::null(), None)
    }

    /// Starts a command as a client that runs no node.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Process {
        self.spawn(self.command(&self.path("client"), args), &args.join(" "))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait(COMMAND_LIMIT)
    }

    /// Runs a command with this file as standard input.
    #[track_caller]
    pub fn feed(&self, args: &[&str], input: &Path) -> Output {
        let command = self.command(&self.path("client"), args);
        let input = fs::File::open(input).expect("a file for stdin");
        Process::start(command, &args.join(" "), &self.path("logs"), input.into(), None).wait(COMMAND_LIMIT)
    }

    /// Runs a command that must end with 0 and gives its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        self.run(&args).ended(0).json()
    }

    /// Runs a command that must end with `code`, and gives the `error` of its JSON.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32) -> Failure {
        let args: Vec<&str> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        let output = self.run(&args).ended(code);
        Failure::read(&output)
    }

    /// Starts a node; does not wait.
    #[track_caller]
    pub fn start_node(&self, name: &str, options: &[&str]) -> Node {
        let data = self.data(name);
        let mut args = vec!["up", "--name", name];
        if !options.contains(&"--http") && !self.options.iter().any(|option| option == "--http") {
            args.extend(["--http", "off"]);
        }
        if !options.contains(&"--machine") {
            args.extend(["--machine", name]);
        }
        args.extend(self.options.iter().map(String::as_str));
        args.extend(options);
        let process = self.spawn(self.command(&data, &args), &format!("node {name}"));
        Node { name: name.to_owned(), id: String::new(), tcp: String::new(), data, process }
    }

    /// Starts a node, waits until it is ready, and takes it in.
    #[track_caller]
    pub fn add(&mut self, name: &str, options: &[&str]) {
        let node = self.start_node(name, options).ready();
        self.nodes.push(node);
    }

    /// Waits until all running nodes are up in the eyes of the proxy, and one of them leads.
    #[track_caller]
    pub fn settle(&self) -> Status {
        let names: BTreeSet<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        wait_until(s(20), "all nodes are one cluster", || {
            let status = self.status()?;
            if status.up() == names && names.contains(&status.proxy) {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
    }

    /// What `status` says, or why it says nothing.
    #[track_caller]
    pub fn status(&self) -> Result<Status, String> {
        let output = self.run(&["status", "--json", "--timeout", "2s"]);
        if output.code == 0 { Ok(Status::read(&output.json())) } else { Err(output.to_string()) }
    }

    /// The rows of `ls`.
    #[track_caller]
    pub fn ls(&self) -> Vec<Row> {
        self.json(&["ls"]).as_array().expect("a list").iter().map(Row::read).collect()
    }

    /// The row of one file.
    #[track_caller]
    pub fn row(&self, name: &str) -> Row {
        Row::read(&self.json(&["replicas", name]))
    }

    /// Waits until the row of `name` is as `look` wants it.
    #[track_caller]
    pub fn wait_for_row(&self, name: &str, what: &str, limit: Duration, look: impl Fn(&Row) -> bool) -> Row {
        wait_until(limit, &format!("{name}: {what}"), || {
            let row = self.row(name);
            if look(&row) { Ok(row) } else { Err(format!("{row:?}")) }
        })
    }

    /// Stores one file; gives its row of the answer.
    #[track_caller]
    pub fn put(&self, path: &Path, more: &[&str]) -> Value {
        let args: Vec<&str> = ["put", text(path)].iter().chain(more).copied().collect();
        let mut answer = self.json(&args);
        assert_eq!(answer["files"].as_array().map(Vec::len), Some(1), "one file was put: {answer}");
        answer["files"][0].take()
    }

    /// Gets `name` into a new file, compares it with `original`, and gives its row of the answer.
    #[track_caller]
    pub fn get_and_compare(&self, name: &str, original: &Path) -> Value {
        let output = tempfile::tempdir_in(self.folder.path()).expect("a folder for the output");
        let path = output.path().join("got");
        let mut answer = self.json(&["get", name, "-o", text(&path)]);
        assert!(are_equal(&path, original), "{name} came back different");
        answer["files"][0].take()
    }

    /// Kills the node of that name, which is then no longer among `nodes`.
    #[track_caller]
    pub fn kill9(&mut self, name: &str) {
        self.take(name).kill9();
    }

    /// The node of that name.
    #[track_caller]
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Takes the node of that name out of `nodes`.
    #[track_caller]
    pub fn take(&mut self, name: &str) -> Node {
        let position = self.nodes.iter().position(|node| node.name == name);
        self.nodes.remove(position.unwrap_or_else(|| panic!("no node {name}")))
    }

    /// Names of the running nodes on whose disk a content of this many bytes lies, none twice.
    #[track_caller]
    pub fn holders_on_disk(&self, bytes: u64) -> BTreeSet<String> {
        let holds = |node: &&Node| {
            let copies =
                files_under(&node.data.join("contents")).values().filter(|size| **size == bytes).count();
            assert!(copies <= 1, "{} holds {copies} copies", node.name);
            copies == 1
        };
        self.nodes.iter().filter(holds).map(|node| node.name.clone()).collect()
    }
}

/// A running node.
pub struct Node {
    /// Its display name.
    pub name: String,
    /// Its id, once it is ready.
    pub id: String,
    /// Where it takes connections, once it is ready.
    pub tcp: String,
    /// Its data folder.
    pub data: PathBuf,
    /// What runs.
    pub process: Process,
}

impl Node {
    /// Waits for its `ready` line.
    #[track_caller]
    pub fn ready(mut self) -> Node {
        let (id, tcp) = wait_until(s(15), &format!("{} is ready", self.name), || {
            if let Some(code) = self.process.code() {
                panic!("{} ended with {code} before it was ready: {}", self.name, self.process.stderr());
            }
            let stdout = String::from_utf8(self.process.stdout()).expect("text");
            match stdout.trim_end_matches('\n').split(' ').collect::<Vec<_>>().as_slice() {
                ["ready", id, tcp, _] if stdout.ends_with('\n') => Ok(((*id).to_owned(), (*tcp).to_owned())),
                _ => Err(format!("stdout: {stdout:?}")),
            }
        });
        (self.id, self.tcp) = (id, tcp);
        self
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to end.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }
}

/// What `status --json` says, as far as the tests look; nodes by their names.
#[derive(Clone, Debug)]
pub struct Status {
    /// The name of the proxy.
    pub proxy: String,
    /// Whether a key is set.
    pub is_secured: bool,
    nodes: Vec<(String, String, String)>,
}

impl Status {
    #[track_caller]
    fn read(value: &Value) -> Status {
        let nodes = value["nodes"].as_array().expect("nodes");
        let proxy = nodes.iter().find(|node| node["id"] == value["cluster"]["proxy"]);
        Status {
            proxy: proxy.map(|node| word(&node["name"])).unwrap_or_default(),
            is_secured: value["cluster"]["secured"].as_bool().expect("secured"),
            nodes: nodes
                .iter()
                .map(|node| (word(&node["name"]), word(&node["state"]), word(&node["addr"])))
                .collect(),
        }
    }

    /// Names of the nodes that are up.
    pub fn up(&self) -> BTreeSet<String> {
        self.nodes.iter().filter(|node| node.1 == "up").map(|node| node.0.clone()).collect()
    }

    /// Where the node of that name takes connections; empty if it is not listed.
    pub fn address(&self, name: &str) -> &str {
        self.nodes.iter().find(|node| node.0 == name).map_or("", |node| &node.2)
    }

    /// The state of the node of that name; empty if it is not listed.
    pub fn state(&self, name: &str) -> &str {
        self.nodes.iter().find(|node| node.0 == name).map_or("", |node| &node.1)
    }
}

/// A row of `ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As shown.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Copies wanted.
    pub wanted: u64,
    /// Who holds them.
    pub nodes: BTreeSet<String>,
    /// `ok`, `healing`, `degraded` or `lost`.
    pub state: String,
}

impl Row {
    /// Reads a row of `ls`; the number of copies is that of the holders.
    #[track_caller]
    pub fn read(value: &Value) -> Row {
        let row = Row {
            name: word(&value["name"]),
            bytes: number(&value["bytes"]),
            wanted: number(&value["replicas_wanted"]),
            nodes: names(&value["nodes"]),
            state: word(&value["state"]),
        };
        assert_eq!(number(&value["replicas"]), row.nodes.len() as u64, "{value}");
        row
    }
}

/// What a command says with `--json` when it fails.
#[derive(Debug)]
pub struct Failure {
    /// A word for programs.
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What to do; empty if nothing.
    pub hint: String,
    /// How long the command took.
    pub took: Duration,
}

impl Failure {
    /// Reads the one JSON document on standard output.
    #[track_caller]
    pub fn read(output: &Output) -> Failure {
        let document = output.json();
        let keys: Vec<&String> = document.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["error"], "{output}");
        let error = &document["error"];
        let hint = error["hint"].as_str().unwrap_or_default().to_owned();
        let failure =
            Failure { code: word(&error["code"]), message: word(&error["message"]), hint, took: output.took };
        assert!(!failure.code.is_empty() && !failure.message.is_empty(), "{output}");
        failure
    }
}

/// A text in a JSON document.
#[track_caller]
pub fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A number in a JSON document.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A list of texts in a JSON document, none of them twice.
#[track_caller]
pub fn names(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    let names: BTreeSet<String> = list.iter().map(word).collect();
    assert_eq!(names.len(), list.len(), "twice the same: {value}");
    names
}

/// Bytes that came from holders, in a row of the answer of `get`.
#[track_caller]
pub fn travelled(row: &Value) -> u64 {
    row["from"].as_array().expect("`from`").iter().map(|source| number(&source["bytes"])).sum()
}

/// A path as an argument.
#[track_caller]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
