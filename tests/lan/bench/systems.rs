//! The systems that are compared, each as its own programs on the hosts: what sends, what serves, what receives.

use super::programs::{HOOK_TIMES, HOOKED, PART};
use crate::cluster::Node;
use crate::network::{Host, wait_until};
use crate::process::{Process, s};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use thorp::clock;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 200;
const MOSQUITTO_PORT: u16 = 1_883;
const NATS_PORT: u16 = 4_222;
const NATS_CLUSTER_PORT: u16 = 6_222;

/// Three hosts, and whether their disks are in memory.
#[derive(Clone)]
pub struct Place {
    /// `disk` or `memory`.
    pub store: &'static str,
    /// From where messages are sent.
    pub sender: Host,
    /// Where the server is: of thorp, the proxy.
    pub server: Host,
    /// Where they are received.
    pub receiver: Host,
}

/// A system that carries messages.
pub struct System {
    /// As the table calls it.
    pub name: &'static str,
    /// Where it runs.
    pub place: Place,
    kind: Kind,
    _running: Vec<Process>,
}

enum Kind {
    Thorp,
    Mosquitto { persistent: bool },
    Nats { replicas: usize },
}

/// Lines that a program said, and when: the number of a message, and the microsecond.
pub struct Receipts {
    lines: Receiver<(u64, u64)>,
    child: Option<Child>,
}

/// A program that sends.
pub enum Publisher {
    /// It writes files.
    Outbox { folder: PathBuf, target: String },
    /// It reads lines.
    Lines { child: Child, input: ChildStdin },
}

impl System {
    /// thorp, whose nodes are up already.
    pub fn thorp(place: &Place) -> System {
        let messages = data(&place.receiver).join("messages");
        let hook = messages.join("hooks").join(HOOKED);
        fs::copy(std::env::current_exe().expect("this binary"), hook).expect("the hook");
        mkfifoat(CWD, place.receiver.folder.join(HOOK_TIMES), Mode::RWXU).expect("a pipe for the hook");
        System { name: "thorp", place: place.clone(), kind: Kind::Thorp, _running: Vec::new() }
    }

    /// mosquitto, as Debian configures it, with one listener for all hosts.
    pub fn mosquitto(place: &Place, persistent: bool) -> System {
        let name = if persistent { "mosquitto, session kept" } else { "mosquitto" };
        let folder = place.server.folder.join(format!("mosquitto-{persistent}"));
        fs::create_dir_all(&folder).expect("a folder for mosquitto");
        let port = MOSQUITTO_PORT + u16::from(persistent);
        // A queue without bound: with the default of 1,000 it drops what a subscriber is slow to take.
        let config = format!(
            "persistence true\npersistence_location {}/\nlistener {port}\nallow_anonymous true\nuser root\n\
             max_queued_messages 0\n",
            folder.display()
        );
        let file = folder.join("mosquitto.conf");
        fs::write(&file, config).expect("its configuration");
        let mut command = place.server.command("mosquitto");
        command.arg("-c").arg(&file);
        let running = vec![place.server.start(command, name)];
        System { name, place: place.clone(), kind: Kind::Mosquitto { persistent }, _running: running }
    }

    /// NATS with JetStream: one server that syncs every two minutes, which is its default, or one on each
    /// host, which sync each message.
    pub fn nats(place: &Place, replicas: usize) -> System {
        let name = if replicas == 1 { "NATS JetStream" } else { "NATS, 3 servers, synced" };
        let hosts = [&place.server, &place.sender, &place.receiver];
        let running =
            hosts.into_iter().take(replicas).map(|host| nats_server(host, place, replicas)).collect();
        System { name, place: place.clone(), kind: Kind::Nats { replicas }, _running: running }
    }

    /// Starts the program that receives.
    pub fn subscribe(&self) -> Receipts {
        let receiver = &self.place.receiver;
        let command = match &self.kind {
            Kind::Thorp => {
                let mut command = receiver.command(crate::cluster::binary());
                command.args(["inbox", "--follow", "--json", "--data-dir"]).arg(data(receiver));
                command
            }
            Kind::Mosquitto { persistent } => {
                let mut command = receiver.command("mosquitto_sub");
                command.args(self.mosquitto_arguments()).args(["-t", "bench"]);
                if *persistent {
                    command.args(["-c", "-i", "receiver"]);
                }
                command
            }
            Kind::Nats { replicas } => {
                play(receiver, &format!("subscribe {} {replicas}", self.nats_address(receiver)))
            }
        };
        Receipts::of_program(command)
    }

    /// What the hook says, if this system has hooks.
    pub fn hooks(&self) -> Option<Receipts> {
        matches!(self.kind, Kind::Thorp).then(|| {
            let pipe = self.place.receiver.folder.join(HOOK_TIMES);
            // Open for writing too, so that it has no end between two hooks.
            let pipe = OpenOptions::new().read(true).write(true).open(pipe).expect("the hook's pipe");
            Receipts::of_times(pipe)
        })
    }

    /// Starts a program that sends from `host`.
    pub fn publisher(&self, host: &Host) -> Publisher {
        let mut command = match &self.kind {
            Kind::Thorp => {
                let folder = data(host).join("messages/outbox");
                return Publisher::Outbox { folder, target: self.place.receiver.name.clone() };
            }
            Kind::Mosquitto { .. } => {
                let mut command = host.command("mosquitto_pub");
                command.args(self.mosquitto_arguments()).args(["-t", "bench", "-l"]);
                command
            }
            Kind::Nats { .. } => play(host, &format!("publish {}", self.nats_address(host))),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a publisher");
        let input = child.stdin.take().expect("its input");
        Publisher::Lines { child, input }
    }

    /// The command that sends one message, if there is one that people have.
    pub fn command(&self, n: u64) -> Option<Vec<String>> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match &self.kind {
            Kind::Thorp => {
                let data = data(&self.place.sender);
                let mut words = own(&[&crate::cluster::text(&crate::cluster::binary()), "send", HOOKED]);
                words.extend(own(&["--target", &self.place.receiver.name, "--payload", &payload(n)]));
                words.extend(own(&["--data-dir", &crate::cluster::text(&data)]));
                Some(words)
            }
            Kind::Mosquitto { .. } => {
                let mut words = own(&["mosquitto_pub", "-t", "bench", "-m", &payload(n)]);
                words.extend(self.mosquitto_arguments());
                Some(words)
            }
            Kind::Nats { .. } => None,
        }
    }

    /// The inbox, where messages are files.
    pub fn inbox(&self) -> Option<PathBuf> {
        matches!(self.kind, Kind::Thorp).then(|| data(&self.place.receiver).join("messages/inbox"))
    }

    fn mosquitto_arguments(&self) -> Vec<String> {
        let kept = matches!(self.kind, Kind::Mosquitto { persistent: true });
        let port = (MOSQUITTO_PORT + u16::from(kept)).to_string();
        let server = self.place.server.address.to_string();
        ["-q", "1", "-h", &server, "-p", &port].map(str::to_owned).to_vec()
    }

    /// The server on the host itself where there is one.
    fn nats_address(&self, host: &Host) -> String {
        match &self.kind {
            Kind::Nats { replicas } if *replicas > 1 => {
                let place = &self.place;
                let has_one = [&place.sender, &place.server, &place.receiver].map(|host| host.number);
                let near = if has_one.contains(&host.number) { host } else { &place.server };
                format!("{}:{}", near.address, NATS_PORT + 1)
            }
            _ => format!("{}:{NATS_PORT}", self.place.server.address),
        }
    }
}

fn nats_server(host: &Host, place: &Place, replicas: usize) -> Process {
    let folder = host.folder.join(format!("nats-{replicas}"));
    fs::create_dir_all(&folder).expect("a folder for NATS");
    let of_many = u16::from(replicas > 1);
    let sync = if replicas > 1 { ", sync_interval: always" } else { "" };
    let mut config = format!(
        "listen: {}:{}\nserver_name: {}\njetstream {{ store_dir: \"{}\"{sync} }}\n",
        host.address,
        NATS_PORT + of_many,
        host.name,
        folder.display()
    );
    if replicas > 1 {
        let routes = [&place.sender, &place.server, &place.receiver]
            .map(|host| format!("nats://{}:{NATS_CLUSTER_PORT}", host.address));
        config += &format!(
            "cluster {{ name: bench, listen: {}:{NATS_CLUSTER_PORT}, routes: [{}] }}\n",
            host.address,
            routes.join(", ")
        );
    }
    let file = folder.join("nats.conf");
    fs::write(&file, config).expect("its configuration");
    let mut command = host.command("nats-server");
    command.arg("-c").arg(&file);
    host.start(command, "nats-server")
}

/// The data folder of a host's node.
fn data(host: &Host) -> PathBuf {
    host.folder.join("node")
}

/// This binary, to play a part on a host.
pub fn play(host: &Host, part: &str) -> Command {
    let mut command = host.command(std::env::current_exe().expect("this binary"));
    command.env(PART, part);
    command
}

/// A payload with this number in it.
pub fn payload(n: u64) -> String {
    let (begin, end) = (format!("{{\"n\":{n},\"pad\":\""), "\"}");
    let pad = PAYLOAD_BYTES - begin.len() - end.len();
    format!("{begin}{}{end}", "x".repeat(pad))
}

/// The number in a payload, whatever is around it.
pub fn number(text: &str) -> Option<u64> {
    let after = text.split_once("\"n\":")?.1.trim_start();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

impl Receipts {
    fn of_program(mut command: Command) -> Receipts {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a subscriber");
        let output = child.stdout.take().expect("its output");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let at = clock::wall_us();
                let Ok(line) = line else { return };
                let Some(n) = number(&line) else { continue };
                if sender.send((n, at)).is_err() {
                    return;
                }
            }
        });
        Receipts { lines, child: Some(child) }
    }

    /// Of a pipe in which the lines begin with the time.
    fn of_times(pipe: File) -> Receipts {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                let at = line.split_once(' ').and_then(|(at, _)| at.parse().ok());
                let (Some(at), Some(n)) = (at, number(&line)) else { continue };
                if sender.send((n, at)).is_err() {
                    return;
                }
            }
        });
        Receipts { lines, child: None }
    }

    /// When the message of this number came; others are passed over.
    pub fn wait(&self, n: u64, limit_ms: u64) -> Option<u64> {
        let begun = clock::now();
        loop {
            let left = limit_ms.saturating_sub(clock::now().since(begun));
            let (got, at) = self.lines.recv_timeout(std::time::Duration::from_millis(left)).ok()?;
            if got == n {
                return Some(at);
            }
        }
    }

    /// The next message.
    pub fn next(&self, limit_ms: u64) -> Option<(u64, u64)> {
        self.lines.recv_timeout(std::time::Duration::from_millis(limit_ms)).ok()
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Publisher {
    /// Gives the message of this number over; says when that began, in microseconds. `kind` is its type where
    /// messages have types.
    pub fn hand(&mut self, n: u64, kind: &str) -> u64 {
        let payload = payload(n);
        match self {
            Publisher::Outbox { folder, target } => {
                let text = format!("{{\"type\":\"{kind}\",\"target\":\"{target}\",\"payload\":{payload}}}");
                // Names in the order of sending, written aside and renamed, as the documentation advises.
                let (aside, path) = (folder.join(format!(".{n:012}")), folder.join(format!("{n:012}.json")));
                let at = clock::wall_us();
                fs::write(&aside, text)
                    .and_then(|()| fs::rename(&aside, &path))
                    .expect("a file for the outbox");
                at
            }
            Publisher::Lines { input, .. } => {
                let at = clock::wall_us();
                input.write_all(format!("{payload}\n").as_bytes()).expect("a line for the publisher");
                at
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Publisher::Lines { child, .. } = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Starts nodes of thorp on these hosts and finds out which of the first three leads.
pub fn thorp_cluster(hosts: &[Host], store: &'static str) -> (Vec<Node>, Place) {
    let started: Vec<Node> = hosts.iter().map(|host| host.client().node(&[])).collect();
    let nodes: Vec<Node> = started.into_iter().map(Node::ready).collect();
    let cluster = crate::cluster::Cluster { nodes };
    let proxy = cluster.settle(s(30)).proxy_name();
    let server = hosts.iter().find(|host| host.name == proxy).expect("the proxy's host").clone();
    let mut others = hosts.iter().filter(|host| host.name != proxy).cloned();
    let (sender, receiver) = (others.next().expect("a sender"), others.next().expect("a receiver"));
    (cluster.nodes, Place { store, sender, server, receiver })
}

/// Waits until a program can be reached: its first message has come.
pub fn warm_up(system: &System, receipts: &Receipts, hand: impl FnMut() -> u64) {
    let mut hand = hand;
    wait_until(s(40), &format!("the first message of {} comes", system.name), || {
        let n = hand();
        receipts.wait(n, 500).map(drop).ok_or_else(|| format!("message {n} is not there"))
    });
}
