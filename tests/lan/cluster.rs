//! thorp on the hosts of a LAN: nodes, commands, and what they say, by the words of the contract.

use crate::network::{Host, Lan, files_under, wait_until};
use crate::process::{Output, Process, s};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thorp::clock::Rng;

/// Longest that a command may take, unless a test says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(40);
/// How long a command that only looks may search for a proxy.
const LOOK: [&str; 2] = ["--timeout", "2s"];

/// From where commands are given: a host, a data folder, a key.
#[derive(Clone)]
pub struct Seat {
    host: Host,
    data: PathBuf,
    key: Option<String>,
}

impl Host {
    /// Commands from this host with a data folder of their own: as if no node ran here.
    pub fn client(&self) -> Seat {
        Seat { host: self.clone(), data: self.folder.join("client"), key: None }
    }

    /// Runs a command as a client without a key.
    #[track_caller]
    pub fn thorp(&self, args: &[&str]) -> Output {
        self.client().run(args)
    }

    /// Starts a node and waits until it is ready.
    #[track_caller]
    pub fn up(&self, args: &[&str]) -> Node {
        self.client().key(None).node(args).ready()
    }
}

impl Seat {
    /// The same with this cluster key, or with none.
    pub fn key(mut self, key: Option<&str>) -> Seat {
        self.key = key.map(str::to_owned);
        self
    }

    /// Runs `thorp` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait(COMMAND_LIMIT)
    }

    /// Runs a command that must end with 0 and gives its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        self.run(&args).ok().json().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts `thorp` with `args`; the first is the command.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Process {
        let (name, rest) = args.split_first().expect("a command");
        let mut command = self.host.command(binary());
        command.arg(name).arg("--data-dir").arg(&self.data).args(rest);
        if let Some(key) = &self.key {
            command.env("THORP_KEY", key);
        }
        self.host.start(command, &format!("thorp {}", args.join(" ")))
    }

    /// Starts this host's node, with its own data folder; does not wait.
    #[track_caller]
    pub fn node(&self, args: &[&str]) -> Node {
        let host = self.host.clone();
        let seat = Seat { data: host.folder.join("node"), ..self.clone() };
        let mut all = vec!["up"];
        if !host.is_named {
            all.extend(["--name", &host.name, "--machine", &host.name]);
        }
        all.extend(args);
        let process = seat.start(&all);
        Node { name: host.name.clone(), number: host.number, seat, process, id: String::new() }
    }

    /// What `status` says, or why it says nothing.
    pub fn status(&self) -> Result<Status, String> {
        self.look(&["status"]).and_then(|value| Status::read(&value))
    }

    /// What `ls` says, or why it says nothing.
    pub fn ls(&self) -> Result<Vec<Row>, String> {
        let value = self.look(&["ls"])?;
        value.as_array().ok_or("`ls` gives no list")?.iter().map(Row::read).collect()
    }

    /// The row of one file.
    pub fn row(&self, name: &str) -> Result<Row, String> {
        let rows = self.ls()?;
        let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        rows.into_iter().find(|row| row.name == name).ok_or(format!("{name} is not in {names:?}"))
    }

    /// Waits until the file has `copies` live copies, is well, and `holders` accepts who has them.
    #[track_caller]
    pub fn wait_for_row(
        &self,
        name: &str,
        copies: usize,
        limit: Duration,
        holders: impl Fn(&BTreeSet<String>) -> bool,
    ) -> Row {
        wait_until(limit, &format!("{copies} copies of {name}, held by the right machines"), || {
            let row = self.row(name)?;
            if row.state == "ok" && row.nodes.len() == copies && holders(&row.nodes) {
                Ok(row)
            } else {
                Err(format!("{row:?}"))
            }
        })
    }

    /// Stores a file; gives the one row of the answer.
    #[track_caller]
    pub fn put(&self, path: &Path, copies: usize) -> Row {
        let value = self.json(&["put", &text(path), "-n", &copies.to_string()]);
        let rows = value["files"].as_array().expect("`files` in the answer of `put`");
        assert_eq!(rows.len(), 1, "one file was put: {value}");
        Row::read(&rows[0]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Gets `name` into a new file and compares it with `original`.
    #[track_caller]
    pub fn get_and_compare(&self, name: &str, original: &Path) -> Value {
        let output = tempfile::tempdir_in(&self.host.folder).expect("a folder for the output");
        let path = output.path().join("got");
        let answer = self.json(&["get", name, "-o", &text(&path)]);
        assert!(are_equal(&path, original), "{name} came back different");
        answer
    }

    fn look(&self, args: &[&str]) -> Result<Value, String> {
        let args: Vec<&str> = args.iter().copied().chain(LOOK).chain(["--json"]).collect();
        let output = self.run(&args);
        if output.code == 0 { output.json() } else { Err(output.to_string()) }
    }
}

/// A running node.
pub struct Node {
    /// Its display name, which is its host's.
    pub name: String,
    /// Its host's number.
    pub number: usize,
    /// Its id, once it is ready.
    pub id: String,
    /// Commands that share its data folder.
    pub seat: Seat,
    process: Process,
}

impl Node {
    /// Waits for its `ready` line.
    #[track_caller]
    pub fn ready(mut self) -> Node {
        let id = wait_until(s(15), &format!("{} is ready", self.name), || {
            if let Some(code) = self.process.code() {
                panic!("{} ended with {code} before it was ready", self.name);
            }
            let stdout = self.process.stdout();
            let line = stdout.lines().find(|line| line.starts_with("ready "));
            match line.map(|line| line.split(' ').collect::<Vec<_>>()).as_deref() {
                Some([_, id, tcp, http]) if stdout.ends_with('\n') => {
                    assert!(tcp.contains(':'), "an address with a port: {tcp}");
                    assert!(*http == "-" || http.contains(':'), "an address with a port or `-`: {http}");
                    Ok((*id).to_owned())
                }
                _ => Err(format!("stdout: {stdout:?}")),
            }
        });
        self.id = id;
        self
    }

    /// The id of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Stops it in its tracks, as a machine that swaps or a hypervisor does.
    pub fn pause(&mut self) {
        self.process.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.signal(rustix::process::Signal::CONT);
    }

    /// Its data folder, as it is to be found from outside of its host.
    pub fn data_outside(&self) -> PathBuf {
        self.seat.host.outside(&self.seat.data)
    }

    /// Asks it to end, and sees that it does within the promised 5 s, with 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.terminate();
        // A little more than promised: the harness has to notice, too.
        self.process.wait(Duration::from_millis(5_500)).ok();
    }

    /// How many whole contents of this many bytes lie in its data folder.
    pub fn contents_of(&self, bytes: u64) -> usize {
        files_under(&self.seat.data.join("contents")).iter().filter(|(_, size)| *size == bytes).count()
    }
}

/// Nodes that have found each other.
pub struct Cluster {
    /// Those that run.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts a node on each of these hosts, and waits until they are one cluster.
    #[track_caller]
    pub fn start(lan: &Lan, hosts: std::ops::RangeInclusive<usize>, args: &[&str]) -> Cluster {
        Cluster::start_keyed(lan, hosts, args, None)
    }

    /// The same with a cluster key.
    #[track_caller]
    pub fn start_keyed(
        lan: &Lan,
        hosts: std::ops::RangeInclusive<usize>,
        args: &[&str],
        key: Option<&str>,
    ) -> Cluster {
        let started: Vec<Node> = hosts.map(|i| lan.host(i).client().key(key).node(args)).collect();
        let cluster = Cluster { nodes: started.into_iter().map(Node::ready).collect() };
        cluster.settle(s(15));
        cluster
    }

    /// Waits until every node sees all of them up, and the same proxy.
    #[track_caller]
    pub fn settle(&self, limit: Duration) -> Status {
        wait_until(limit, "all nodes agree", || self.agreed())
    }

    /// What all nodes say, if they say the same and see each other.
    pub fn agreed(&self) -> Result<Status, String> {
        let views: Vec<Result<Status, String>> = std::thread::scope(|scope| {
            let asked: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| node.seat.status())).collect();
            asked.into_iter().map(|thread| thread.join().expect("a status")).collect()
        });
        let views = views.into_iter().collect::<Result<Vec<_>, _>>()?;
        let all: BTreeSet<String> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let agree = views.iter().all(|view| {
            view.proxy == views[0].proxy
                && view.leaders() == BTreeSet::from([view.proxy.clone()])
                && all.iter().all(|id| view.state(id) == "up")
        });
        if agree { Ok(views[0].clone()) } else { Err(format!("{views:#?}")) }
    }

    /// Waits until all agree, and their catalogs are equal: what one missed while it was away has come in.
    #[track_caller]
    pub fn settle_catalogs(&self, limit: Duration) {
        wait_until(limit, "all nodes have one catalog", || {
            let status = self.agreed()?;
            if status.catalogs.len() == 1 { Ok(()) } else { Err(format!("{:?}", status.catalogs)) }
        });
    }

    /// Where the node of that name is in `nodes`.
    #[track_caller]
    pub fn position(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The node of that name.
    #[track_caller]
    pub fn named(&self, name: &str) -> &Node {
        &self.nodes[self.position(name)]
    }

    /// Kills the node of that name, which is then no longer among `nodes`.
    #[track_caller]
    pub fn kill9(&mut self, name: &str) {
        let position = self.position(name);
        self.nodes.remove(position).kill9();
    }

    /// Names of the nodes on whose disk a content of this many bytes lies; none may lie there twice.
    #[track_caller]
    pub fn holders_on_disk(&self, bytes: u64) -> BTreeSet<String> {
        let holds = |node: &&Node| {
            let copies = node.contents_of(bytes);
            assert!(copies <= 1, "{} holds {copies} copies", node.name);
            copies == 1
        };
        self.nodes.iter().filter(holds).map(|node| node.name.clone()).collect()
    }

    /// The names of all of them.
    pub fn names(&self) -> BTreeSet<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

/// The binary under test: the one built with the tests, unless `THORP_BINARY` names another.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("THORP_BINARY").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_thorp").into())
}

/// What `status --json` says, as far as the tests look.
#[derive(Clone, Debug)]
pub struct Status {
    /// The id of the proxy.
    pub proxy: String,
    /// The number of its term.
    pub term: u64,
    /// Whether a key is set.
    pub is_secured: bool,
    nodes: Vec<(String, String, String, BTreeSet<String>)>,
    /// What the nodes that are up and keep a catalog say of theirs; equal catalogs say the same.
    catalogs: BTreeSet<String>,
}

impl Status {
    fn read(value: &Value) -> Result<Status, String> {
        let wrong = || format!("not what `status` should say: {value}");
        let cluster = &value["cluster"];
        let mut nodes = Vec::new();
        let mut catalogs = BTreeSet::new();
        for node in value["nodes"].as_array().ok_or_else(wrong)? {
            let word = |key: &str| node[key].as_str().map(str::to_owned).ok_or_else(wrong);
            let roles = node["roles"].as_array().ok_or_else(wrong)?;
            let roles = roles.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            nodes.push((word("id")?, word("name")?, word("state")?, roles));
            if node["state"] == "up" {
                catalogs.extend(node["catalog"].as_str().map(str::to_owned));
            }
        }
        Ok(Status {
            proxy: cluster["proxy"].as_str().ok_or_else(wrong)?.to_owned(),
            term: cluster["term"].as_u64().ok_or_else(wrong)?,
            is_secured: cluster["secured"].as_bool().ok_or_else(wrong)?,
            nodes,
            catalogs,
        })
    }

    /// Names of the nodes that are listed as up.
    pub fn up(&self) -> BTreeSet<String> {
        self.nodes.iter().filter(|node| node.2 == "up").map(|node| node.1.clone()).collect()
    }

    /// The state of the node with this id or name; empty if it is not listed.
    pub fn state(&self, node: &str) -> &str {
        self.nodes.iter().find(|known| known.0 == node || known.1 == node).map_or("", |known| &known.2)
    }

    /// The roles of the node with this id or name.
    pub fn roles(&self, node: &str) -> BTreeSet<String> {
        let known = self.nodes.iter().find(|known| known.0 == node || known.1 == node);
        known.map(|known| known.3.clone()).unwrap_or_default()
    }

    /// Ids of the live nodes that are listed as proxy.
    pub fn leaders(&self) -> BTreeSet<String> {
        let leads =
            |node: &&(String, String, String, BTreeSet<String>)| node.2 == "up" && node.3.contains("proxy");
        self.nodes.iter().filter(leads).map(|node| node.0.clone()).collect()
    }

    /// The display name of the proxy.
    #[track_caller]
    pub fn proxy_name(&self) -> String {
        let known = self.nodes.iter().find(|node| node.0 == self.proxy);
        known.unwrap_or_else(|| panic!("the proxy is not listed: {self:?}")).1.clone()
    }
}

/// One file, as `ls`, `put` and `replicas` show it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its content's id.
    pub content: String,
    /// How many copies were asked for.
    pub wanted: u64,
    /// Who holds it.
    pub nodes: BTreeSet<String>,
    /// `ok`, `healing`, `degraded` or `lost`; empty where the command does not say.
    pub state: String,
}

impl Row {
    /// Reads a row; a holder that is listed twice or a wrong count is an error.
    pub fn read(value: &Value) -> Result<Row, String> {
        let wrong = || format!("not a row: {value}");
        let listed = value["nodes"].as_array().ok_or_else(wrong)?;
        let nodes: BTreeSet<String> = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let replicas = value["replicas"].as_u64().ok_or_else(wrong)?;
        if nodes.len() != listed.len() || u64::try_from(nodes.len()) != Ok(replicas) {
            return Err(format!("`replicas` is not the number of different `nodes`: {value}"));
        }
        Ok(Row {
            name: value["name"].as_str().ok_or_else(wrong)?.to_owned(),
            bytes: value["bytes"].as_u64().ok_or_else(wrong)?,
            content: value["content"].as_str().unwrap_or_default().to_owned(),
            wanted: value["replicas_wanted"].as_u64().ok_or_else(wrong)?,
            nodes,
            state: value["state"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// A file of `bytes` bytes that nothing can compress or share, the same for the same `seed`.
pub fn random_file(path: &Path, bytes: u64, seed: u64) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the file's folder");
    let mut file = fs::File::create(path).expect("a file");
    let mut rng = Rng::seeded(seed);
    let mut block = vec![0_u8; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        rng.fill(&mut block);
        let part = left.min(1 << 20);
        file.write_all(&block[..usize::try_from(part).expect("a small number")]).expect("room for a file");
        left -= part;
    }
}

/// Whether two files have the same bytes.
pub fn are_equal(a: &Path, b: &Path) -> bool {
    let open =
        |path: &Path| fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut a, mut b) = (open(a), open(b));
    if a.metadata().expect("a size").len() != b.metadata().expect("a size").len() {
        return false;
    }
    let (mut block_a, mut block_b) = (vec![0_u8; 1 << 20], vec![0_u8; 1 << 20]);
    loop {
        let length = a.read(&mut block_a).expect("readable");
        if length == 0 {
            return true;
        }
        b.read_exact(&mut block_b[..length]).expect("as long as the other");
        if block_a[..length] != block_b[..length] {
            return false;
        }
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
