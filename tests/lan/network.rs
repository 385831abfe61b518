//! The LAN: a bridge for each segment, a network namespace for each host, a veth pair between.
//!
//! Host `i` is called `hi` and has the address `10.77.0.i/24` on `eth0`; a second segment is
//! `10.78.0.0/24`. Each host has its own host name and its own `/etc/machine-id` (where the machine
//! has that file), so that nodes on two hosts count as two machines. A default route that leads
//! nowhere gives 255.255.255.255 a way out, as on a real host.

use crate::enter;
use crate::process::{self, Output, Process, s};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A LAN; all of it goes when this goes.
pub struct Lan {
    hosts: Vec<Host>,
    holders: Vec<Child>,
    ports: Vec<Port>,
    bridges: Vec<String>,
    folder: Option<tempfile::TempDir>,
}

/// A host of the LAN: a network, a name and a machine id of its own.
#[derive(Clone)]
pub struct Host {
    /// From 1.
    pub number: usize,
    /// `h1`, `h2`, …
    pub name: String,
    /// Its first address.
    pub address: Ipv4Addr,
    /// A folder of its own.
    pub folder: PathBuf,
    /// Whether the kernel gave it its own host name and machine id; otherwise nodes are told theirs.
    pub is_named: bool,
    pid: u32,
}

/// Where a host is plugged in.
struct Port {
    host: usize,
    name: String,
    interface: String,
    mac: String,
    address: Ipv4Addr,
}

/// Keeps a host's namespaces open. `$0` is its name, `$1` its machine id's file.
const HOLD: &str = "hostname \"$0\" 2>/dev/null
mount --bind \"$1\" /etc/machine-id 2>/dev/null && machine=$(cat /etc/machine-id)
echo \"$(uname -n) $machine\"
exec sleep 2147483647";

impl Lan {
    /// Hosts `h1` to `hN` on one segment.
    pub fn new(hosts: usize) -> Lan {
        Lan::of(hosts, &[(77, &(1..=hosts).collect::<Vec<_>>())])
    }

    /// Hosts `h1` to `hN`, and for each segment `10.<net>.0.0/24` which of them are on it.
    pub fn of(hosts: usize, segments: &[(u8, &[usize])]) -> Lan {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new()
            .prefix("lan-")
            .disable_cleanup(std::env::var_os("THORP_LAN_KEEP").is_some())
            .tempdir_in(enter::folder())
            .expect("a folder for the LAN");
        let mut lan = Lan {
            hosts: Vec::new(),
            holders: Vec::new(),
            ports: Vec::new(),
            bridges: Vec::new(),
            folder: Some(folder),
        };
        for host in 1..=hosts {
            lan.add_host(host);
        }
        for (index, (net, members)) in segments.iter().enumerate() {
            lan.add_segment(&format!("l{number}s{index}"), *net, members);
        }
        lan
    }

    /// Host `hi`.
    pub fn host(&self, i: usize) -> Host {
        self.hosts[i - 1].clone()
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Takes all cables out of host `i`.
    pub fn unplug(&self, i: usize) {
        self.ports_of(i).for_each(|port| ip(&["link", "set", "dev", &port.name, "down"]));
    }

    /// Puts the cables back.
    pub fn plug(&self, i: usize) {
        self.ports_of(i).for_each(|port| ip(&["link", "set", "dev", &port.name, "up"]));
    }

    /// From now on no broadcast reaches host `i`. It knows everybody's hardware address, because
    /// asking for one is a broadcast too.
    pub fn deafen(&self, i: usize) {
        for port in self.ports_of(i) {
            ip(&["link", "set", "dev", &port.name, "type", "bridge_slave", "bcast_flood", "off"]);
        }
        for other in self.ports.iter().filter(|port| port.host != i) {
            let to_all = self.ports_of(i).filter(|port| same_segment(port.address, other.address));
            for port in to_all {
                self.hosts[i - 1].learn(&port.interface, other);
                self.hosts[other.host - 1].learn(&other.interface, port);
            }
        }
    }

    /// From now on the LAN carries nothing from `.0` to `.1` of these pairs of hosts, and everything
    /// else. Needs `nft`, see [`can_cut`].
    pub fn cut(&self, pairs: &BTreeSet<(usize, usize)>) {
        let mut script =
            format!("add table bridge {CUTS}; delete table bridge {CUTS}; add table bridge {CUTS}; ");
        script += &format!("add chain bridge {CUTS} cut {{ type filter hook forward priority 0; }}; ");
        for (from, to) in pairs {
            for from in self.ports_of(*from) {
                for to in self.ports_of(*to) {
                    let (from, to) = (&from.name, &to.name);
                    script += &format!("add rule bridge {CUTS} cut iifname {from} oifname {to} drop; ");
                }
            }
        }
        run(Command::new("nft").arg(script));
    }

    /// Bytes that the LAN has carried to host `i` so far.
    pub fn bytes_to(&self, i: usize) -> u64 {
        let count = |port: &Port| {
            let output = run(Command::new("ip").args(["-j", "-s", "link", "show", "dev", &port.name]));
            let shown: serde_json::Value = serde_json::from_str(&output).expect("JSON from `ip`");
            // What the switch sends is what the host receives.
            shown[0]["stats64"]["tx"]["bytes"].as_u64().expect("a count of bytes")
        };
        self.ports_of(i).map(count).sum()
    }

    fn ports_of(&self, i: usize) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(move |port| port.host == i)
    }

    fn add_host(&mut self, number: usize) {
        let name = format!("h{number}");
        let folder = self.folder.as_ref().expect("the LAN's folder").path().join(&name);
        fs::create_dir_all(&folder).expect("a folder for the host");
        let machine = format!("{:032x}", 0x7_0000 + number);
        let machine_file = folder.join("machine-id");
        fs::write(&machine_file, format!("{machine}\n")).expect("the machine id");
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "sh", "-c", HOLD, &name])
            .arg(&machine_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a host's namespaces");
        let mut line = String::new();
        let output = holder.stdout.take().expect("the holder's output");
        BufReader::new(output).read_line(&mut line).expect("the holder's word");
        let is_named = line.trim() == format!("{name} {machine}");
        let pid = holder.id();
        self.holders.push(holder);
        let address = Ipv4Addr::UNSPECIFIED;
        self.hosts.push(Host { number, name, address, folder, is_named, pid });
    }

    fn add_segment(&mut self, bridge: &str, net: u8, members: &[usize]) {
        ip(&["link", "add", bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"]);
        ip(&["link", "set", "dev", bridge, "up"]);
        self.bridges.push(bridge.to_owned());
        for &member in members {
            let number = u8::try_from(member).expect("at most 253 hosts");
            let port = Port {
                host: member,
                name: format!("{bridge}h{member}"),
                interface: format!("eth{}", self.ports_of(member).count()),
                mac: format!("02:00:00:{net:02x}:00:{number:02x}"),
                address: Ipv4Addr::new(10, net, 0, number),
            };
            let host = &mut self.hosts[member - 1];
            if host.address.is_unspecified() {
                host.address = port.address;
            }
            let pid = host.pid.to_string();
            ip(&[
                "link",
                "add",
                &port.name,
                "type",
                "veth",
                "peer",
                "name",
                &port.interface,
                "address",
                &port.mac,
                "netns",
                &pid,
            ]);
            ip(&["link", "set", "dev", &port.name, "master", bridge]);
            ip(&["link", "set", "dev", &port.name, "up"]);
            host.configure(&port, net);
            self.ports.push(port);
        }
    }
}

/// The table of cut links.
const CUTS: &str = "thorp_cuts";

/// Whether single directions of links can be cut here, or why not.
pub fn can_cut() -> Result<(), String> {
    let tried =
        Command::new("nft").arg(format!("add table bridge {CUTS}; delete table bridge {CUTS}")).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("nft: {error}")),
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // There is one only if links were cut.
        drop(Command::new("nft").args(["delete", "table", "bridge", CUTS]).stderr(Stdio::null()).status());
        for holder in &mut self.holders {
            drop(holder.kill());
            drop(holder.wait());
        }
        for bridge in &self.bridges {
            drop(Command::new("ip").args(["link", "del", "dev", bridge]).status());
        }
    }
}

impl Host {
    /// `program`, to be run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--uts", "--target", &self.pid.to_string(), "--"]);
        // The mount namespace decides where one is; start in the host's own folder.
        command.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(&self.folder).arg(program);
        command.env("HOME", &self.folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        for (name, _) in std::env::vars_os() {
            // What the person who runs the tests has set for thorp must not reach the nodes.
            if name.to_string_lossy().starts_with("THORP_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts `command`, with its output kept in this host's folder.
    #[track_caller]
    pub fn start(&self, command: Command, what: &str) -> Process {
        Process::start(command, &format!("{}: {what}", self.name), &self.folder.join("output"))
    }

    /// A disk of its own for this host's node, in memory and of this size.
    pub fn mount_disk(&self, at: &Path, mebibytes: u64) {
        fs::create_dir_all(at).expect("a mount point");
        let options = format!("mode=0700,size={mebibytes}m");
        self.run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", at.to_str().expect("UTF-8")]).ok();
    }

    /// Where this host's `path` is to be found from outside: a host has mounts of its own.
    pub fn outside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid, path.display()))
    }

    /// Runs a program to its end, at most 30 s.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        self.start(command, program).wait(s(30))
    }

    fn configure(&self, port: &Port, net: u8) {
        let Port { interface, address, .. } = port;
        self.ip(&["link", "set", "dev", "lo", "up"]);
        self.ip(&["link", "set", "dev", interface, "up"]);
        let (address, broadcast) = (format!("{address}/24"), format!("10.{net}.0.255"));
        self.ip(&["addr", "add", &address, "broadcast", &broadcast, "dev", interface]);
        if interface == "eth0" {
            self.ip(&["route", "add", "default", "via", &format!("10.{net}.0.254"), "dev", interface]);
        }
    }

    fn learn(&self, interface: &str, port: &Port) {
        let address = port.address.to_string();
        self.ip(&["neigh", "replace", &address, "lladdr", &port.mac, "dev", interface, "nud", "permanent"]);
    }

    fn ip(&self, args: &[&str]) {
        self.run("ip", args).ok();
    }
}

fn same_segment(a: Ipv4Addr, b: Ipv4Addr) -> bool {
    a.octets()[..3] == b.octets()[..3]
}

fn ip(args: &[&str]) {
    run(Command::new("ip").args(args));
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("a program of iproute2");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The files under `folder`, with their sizes; nothing if there is no such folder.
pub fn files_under(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            // A file may go between the listing and the look.
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) if data.is_file() => found.push((entry.path(), data.len())),
                _ => {}
            }
        }
    }
    found
}

/// Waits as [`process::wait_until`]; here so that tests import one module.
pub use process::wait_until;
