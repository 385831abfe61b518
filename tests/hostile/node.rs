//! The victims: node processes with folders of their own, and the check that they are well.

use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thorp::clock;
use thorp::identity::ClusterSecret;

/// Memory that a node may have used at its worst, in KiB: the bound of 64 MiB, and slack for an
/// unoptimised build and the allocator.
pub const MEMORY_KIB_MAX: u64 = (64 + 48) << 10;
/// Descriptors that a node may have open once an attack is over.
const DESCRIPTORS_MAX: usize = 500;
/// Bytes of log that an attack may cause.
const LOG_BYTES_MAX: u64 = 64 << 10;
/// A command on a fresh connection answers within this, on a busy machine.
const ANSWER: Duration = Duration::from_secs(4);
/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value; what it said last is part of the failure.
#[track_caller]
pub fn wait_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = clock::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(why) if u128::from(clock::now().since(start)) >= limit.as_millis() => {
                panic!("not within {:.1} s: {what}\n  last seen: {why}", limit.as_secs_f64())
            }
            Err(_) => pause(LOOK_EVERY),
        }
    }
}

/// Waits: between two looks, or for as long as an attack lasts.
#[expect(clippy::disallowed_methods, reason = "the only sleep, between two looks at a condition")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Seconds.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `count` bytes that look random, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = clock::Rng::seeded(seed);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// A cluster of its own: name, key, port and a folder for everything.
pub struct Lan {
    pub cluster: String,
    pub key: Option<String>,
    pub port: u16,
    pub folder: tempfile::TempDir,
}

impl Lan {
    /// An open cluster.
    pub fn open() -> Lan {
        Lan::new(None)
    }

    /// A cluster with a key.
    pub fn keyed() -> Lan {
        Lan::new(Some("seven quiet houses by the river".into()))
    }

    fn new(key: Option<String>) -> Lan {
        let id: [u8; 8] = clock::entropy().expect("random bytes");
        let port = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["home", "cwd", "tmp", "work", "commands"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        Lan { cluster: format!("hostile-{:016x}", u64::from_le_bytes(id)), key, port, folder }
    }

    pub fn secret(&self) -> ClusterSecret {
        match &self.key {
            Some(key) => ClusterSecret::from_text(key, "a test").expect("a key"),
            None => ClusterSecret::Open,
        }
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thorp"));
        let at = |name: &str| self.folder.path().join(name);
        command.env_clear().env("HOME", at("home")).env("TMPDIR", at("tmp")).current_dir(at("cwd"));
        command.env("THORP_CLUSTER", &self.cluster).env("THORP_BIND", "127.0.0.1");
        command.env("THORP_PORT", self.port.to_string()).env("THORP_DATA_DIR", data);
        if let Some(key) = &self.key {
            command.env("THORP_KEY", key);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command as somebody who has no node.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(&self.folder.path().join("commands"));
        command.args(arguments).current_dir(self.work());
        let started = clock::now();
        let output = command.output().expect("started");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: Duration::from_millis(clock::now().since(started)),
        }
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert!(ended.code == 0, "{arguments:?} ended with {}: {}{}", ended.code, ended.stdout, ended.stderr);
        ended
    }

    /// Puts `bytes` under `name`.
    #[track_caller]
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.work().join(format!("put-{}", name.replace('/', "_")));
        fs::write(&path, bytes).expect("written");
        self.ok(&["put", path.to_str().expect("text"), "--as", name, "-n", "1", "-q", "--timeout", "4s"]);
    }

    /// Gets `name`.
    #[track_caller]
    pub fn get(&self, name: &str) -> Vec<u8> {
        let path = self.work().join(format!("got-{:016x}", entropy()));
        self.ok(&["get", name, "-o", path.to_str().expect("text"), "-q", "--timeout", "4s"]);
        fs::read(path).expect("read")
    }

    /// Starts a node and waits until it leads or follows.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node {
        let data = self.folder.path().join(format!("data-{name}"));
        self.node_in(name, &data)
    }

    #[track_caller]
    pub fn node_in(&self, name: &str, data: &Path) -> Node {
        let log = self.folder.path().join(format!("{name}-{:016x}.err", entropy()));
        let out = log.with_extension("out");
        let mut command = self.command(data);
        command.args(["up", "--name", name, "--machine", name]);
        command.stdout(File::create(&out).expect("a file"));
        command.stderr(File::create(&log).expect("a file"));
        let mut child = command.spawn().expect("started");
        let tcp = wait_until(s(10), "the node is ready", || {
            if let Some(status) = child.try_wait().expect("its state") {
                panic!("{name} ended: {status}\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            let text = fs::read_to_string(&out).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("ready ")).ok_or(text.clone())?;
            let mut parts = line.split(' ');
            let id = parts.nth(1).and_then(thorp::types::NodeId::parse).ok_or("an id")?;
            let tcp = parts.next().and_then(|tcp| tcp.parse().ok()).ok_or("an address")?;
            Ok((id, tcp))
        });
        let node = Node { child, name: name.into(), log, data: data.into(), id: tcp.0, tcp: tcp.1 };
        wait_until(s(10), "somebody leads", || {
            let ended = self.run(&["status", "--json", "--timeout", "3s"]);
            if ended.code == 0 && ended.stdout.contains(&format!("\"{name}\"")) {
                Ok(())
            } else {
                Err(ended.stderr)
            }
        });
        node
    }
}

/// A random number.
pub fn entropy() -> u64 {
    u64::from_le_bytes(clock::entropy().expect("random bytes"))
}

/// A node process; killed when it goes.
pub struct Node {
    child: Child,
    pub name: String,
    pub log: PathBuf,
    pub data: PathBuf,
    pub id: thorp::types::NodeId,
    pub tcp: SocketAddr,
}

impl Node {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Bytes logged so far.
    pub fn logged(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// Memory in use now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most memory that was ever in use, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// It runs and nothing in it gave way.
    #[track_caller]
    pub fn is_alive(&mut self) {
        let log = self.log();
        if let Some(status) = self.child.try_wait().expect("its state") {
            panic!("{} ended: {status}\n{log}", self.name);
        }
        for word in ["panicked", "this is a bug", "RUST_BACKTRACE", "overflow"] {
            assert!(!log.contains(word), "{word} in the log of {}:\n{log}", self.name);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("---- the end of the log of {}:", self.name);
            eprintln!("{}", lines[lines.len().saturating_sub(12)..].join("\n"));
        }
        self.kill();
    }
}

/// A file that was stored before an attack.
pub struct Good {
    name: &'static str,
    bytes: Vec<u8>,
}

/// Stores something small and something that is a file of its own.
#[track_caller]
pub fn store_good(lan: &Lan) -> Vec<Good> {
    let good = vec![
        Good { name: "good/small.txt", bytes: b"what was acknowledged stays".to_vec() },
        Good { name: "good/large.bin", bytes: noise(7, 700_000) },
    ];
    for file in &good {
        lan.put(file.name, &file.bytes);
    }
    good
}

/// One node that leads, with something in it.
pub fn victim(lan: &Lan) -> (Node, Vec<Good>) {
    let node = lan.node("victim");
    let good = store_good(lan);
    (node, good)
}

/// What every attack must leave as it was.
#[track_caller]
pub fn is_well(lan: &Lan, node: &mut Node, good: &[Good]) {
    node.is_alive();
    // Just restarted and alone, it waits some seconds for those it met.
    lan.ok(&["ls", "--json", "--timeout", "15s"]);
    let status = lan.ok(&["status", "--json", "--timeout", "4s"]);
    assert!(status.took < ANSWER, "status took {:?}", status.took);
    let fresh = noise(entropy(), 50_000);
    let name = format!("fresh-{:016x}", entropy());
    let started = clock::now();
    lan.put(&name, &fresh);
    assert_eq!(lan.get(&name), fresh, "what was put just now");
    let took = Duration::from_millis(clock::now().since(started));
    assert!(took < 2 * ANSWER, "put and get took {took:?}");
    for file in good {
        assert_eq!(lan.get(file.name), file.bytes, "{} is not what was stored", file.name);
    }
    node.is_alive();
    is_bounded(node);
    for name in ["home", "cwd", "tmp"] {
        let path = lan.folder.path().join(name);
        let strays: Vec<_> = fs::read_dir(&path).expect("readable").flatten().map(|e| e.path()).collect();
        assert!(strays.is_empty(), "written outside the data folder: {strays:?}");
    }
}

/// Memory, descriptors and log within bounds.
#[track_caller]
pub fn is_bounded(node: &Node) {
    let (now, peak) = (node.memory_kib(), node.memory_peak_kib());
    assert!(peak < MEMORY_KIB_MAX, "{} used {peak} KiB at its worst, {now} KiB now", node.name);
    wait_until(s(5), "descriptors are closed", || {
        let open = node.descriptors();
        if open < DESCRIPTORS_MAX { Ok(()) } else { Err(format!("{open} open")) }
    });
    assert!(node.logged() < LOG_BYTES_MAX, "{} bytes of log:\n{}", node.logged(), head(&node.log()));
}

fn head(text: &str) -> String {
    text.lines().take(20).collect::<Vec<_>>().join("\n")
}
