//! Files over thorp's HTTP beside thorp's own `put` and `get` and beside nginx, in one run.
//!
//! The server and the client are two hosts, a third has the second copy. Large files go by curl and
//! by thorp's commands, over one connection where that is HTTP; each file is new, so nothing of it is there already.
//! Small files go over connections that are kept.
//!
//! Environment: `THORP_BENCH_ROUNDS`, `THORP_BENCH_MIB` (of the large file), `THORP_BENCH_SMALL` (how many
//! small ones), `THORP_BENCH_STORE=memory` (all disks in memory), `THORP_BENCH_LINK` (`gigabit`, `free`; both unless said).

use super::http::Http;
use super::load::Figures;
use super::{THORP_PORT, median, run_part, shown};
use crate::bench::{Memory, moved, tools};
use crate::cluster::{Cluster, are_equal, random_file, text};
use crate::measure::number;
use crate::network::{Host, Lan};
use crate::process::{Process, s, wait_until};
use crate::runner::{self, Verdict};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use thorp::clock;

const TEST: &str = "measure_http_beside_nginx_and_native";
const NGINX_PORT: u16 = 8_080;
const SMALL_BYTES: u64 = 10_000;
/// Connections with small files, beside a single one.
const AT_ONCE: u64 = 8;
/// What a gigabit Ethernet carries, with queues as of a cheap switch.
const GIGABIT: &str = "root tbf rate 1gbit burst 128k latency 20ms";

/// Measured figures by what was done and by whom; rounds.
type Table = BTreeMap<(usize, &'static str, usize), Vec<f64>>;
/// Who: columns of the tables.
const SYSTEMS: [&str; 3] = ["thorp HTTP", "thorp native", "nginx"];

/// Measures and prints the tables.
pub fn compare() -> Verdict {
    tools::require(TEST);
    let rounds = number("THORP_BENCH_ROUNDS", 3);
    let (mebibytes, small) = (number("THORP_BENCH_MIB", 1_024), number("THORP_BENCH_SMALL", 1_000));
    let links = std::env::var("THORP_BENCH_LINK").unwrap_or_default();
    runner::allow(s(rounds * (mebibytes + small) + 600));
    let is_memory = std::env::var("THORP_BENCH_STORE").is_ok_and(|store| store == "memory");
    let memory = is_memory.then(Memory::mount);
    let lan = Lan::new(3);
    let host =
        |i: usize| memory.as_ref().map_or_else(|| lan.host(i), |memory| moved(&lan.host(i), &memory.0));
    let hosts = [host(1), host(2), host(3)];
    println!("  {}; {}", said("nginx", "-v"), said("curl", "--version"));
    super::machine();
    println!(
        "  store: {}; {rounds} rounds; one file of {mebibytes} MiB, {small} of {SMALL_BYTES} bytes",
        if is_memory { "memory" } else { "disk" }
    );
    let nginx = start_nginx(&hosts[0]);
    let mut bench = Bench { hosts, bytes: mebibytes << 20, small, seed: 0, link: 0, table: Table::new() };
    // It must lead before anything is measured: until then a put waits.
    let mut cluster = Cluster { nodes: vec![bench.hosts[0].up(&[])] };
    cluster.settle(s(30));
    for copies in [1, 2] {
        if copies == 2 {
            cluster.nodes.push(bench.hosts[1].up(&[]));
            cluster.settle(s(30));
        }
        for (link, name) in [(0, "free"), (1, "gigabit")] {
            if !links.is_empty() && links != name || !shape(&bench.hosts, link == 1) {
                continue;
            }
            bench.link = link;
            for round in 1..=rounds {
                bench.large(copies);
                if copies == 1 {
                    bench.many();
                }
                println!(
                    "  {copies} copies, link {name}: round {round}, load {}",
                    crate::bench::table::load()
                );
            }
        }
        shape(&bench.hosts, false);
    }
    drop((cluster, nginx));
    bench.print();
    Verdict::Passed
}

fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().ok();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("?").trim().to_owned()
}

/// Makes the links slow, or as fast as they go. Says if that cannot be done.
fn shape(hosts: &[Host], slow: bool) -> bool {
    let tc = |host: &Host, words: &str| {
        let mut command = host.command("tc");
        command.args(words.split(' ')).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    for host in hosts {
        tc(host, "qdisc del dev eth0 root");
    }
    let done = !slow || hosts.iter().all(|host| tc(host, &format!("qdisc add dev eth0 {GIGABIT}")));
    if !done {
        println!("  `tc` cannot shape a link here: only the free one is measured");
    }
    done
}

/// nginx as Debian configures it, with what a plain file server needs.
fn start_nginx(host: &Host) -> Process {
    let folder = host.folder.join("nginx");
    for name in ["files", "bodies"] {
        fs::create_dir_all(folder.join(name)).expect("a folder for nginx");
    }
    let at = folder.display();
    let config = format!(
        "user root;\nworker_processes auto;\npid {at}/pid;\nerror_log {at}/errors;\ndaemon off;\n\
         events {{ worker_connections 768; }}\n\
         http {{\n sendfile on;\n tcp_nopush on;\n access_log off;\n keepalive_requests 1000000;\n \
         client_max_body_size 0;\n client_body_temp_path {at}/bodies;\n \
         server {{ listen {NGINX_PORT};\n location / {{ root {at}/files; dav_methods PUT DELETE; create_full_put_path on; }} }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).expect("a configuration");
    let mut command = host.command("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&folder);
    let mut nginx = host.start(command, "nginx");
    wait_until(s(10), "nginx is there", || match (folder.join("pid").exists(), nginx.code()) {
        (_, Some(code)) => panic!("nginx ended with {code}"),
        (true, None) => Ok(()),
        (false, None) => Err("not yet".to_owned()),
    });
    nginx
}

struct Bench {
    /// With the server, the second copy, the client.
    hosts: [Host; 3],
    bytes: u64,
    small: u64,
    seed: u64,
    /// 0: free, 1: a gigabit.
    link: usize,
    table: Table,
}

impl Bench {
    fn note(&mut self, what: &'static str, system: usize, value: f64) {
        self.table.entry((self.link, what, system)).or_default().push(value);
    }

    /// Where nginx and thorp serve files.
    fn address(&self, system: usize) -> String {
        let port = if system == 2 { NGINX_PORT } else { THORP_PORT };
        format!("{}:{port}", self.hosts[0].address)
    }

    fn url(&self, system: usize, name: &str) -> String {
        let path = if system == 2 { "" } else { "/api/files" };
        format!("http://{}{path}/{name}", self.address(system))
    }

    /// A new file on the client's host.
    fn fresh(&mut self) -> PathBuf {
        self.seed += 1;
        let path = self.hosts[2].folder.join("large");
        random_file(&path, self.bytes, self.seed);
        // Nothing of making it is to be written while it is sent.
        rustix::fs::sync();
        path
    }

    /// Runs a program on the client's host; megabytes a second.
    fn timed(&self, program: &str, arguments: &[&str], to: Option<&str>) -> f64 {
        let mut command = self.hosts[2].command("sh");
        let script = format!("exec \"$0\" \"$@\" >{}", to.unwrap_or("/dev/null"));
        command.args(["-c", &script, program]).args(arguments).stdin(Stdio::null());
        let begun = clock::wall_us();
        let status = command.status();
        let took = clock::wall_us() - begun;
        assert!(status.is_ok_and(|status| status.success()), "{program} {}", arguments.join(" "));
        self.bytes as f64 / took as f64
    }

    /// One large file there and back, by each.
    fn large(&mut self, copies: u64) {
        let number = copies.to_string();
        let (put, get, thrown) = match copies {
            1 => ("put, 1 copy", "get, to a file", "get, thrown away"),
            _ => ("put, 2 copies", "get of two, to a file", "get of two, thrown away"),
        };
        let data = text(&self.hosts[2].folder.join("client"));
        let thorp = text(&crate::cluster::binary());
        for (system, by) in SYSTEMS.iter().enumerate() {
            if system == 2 && copies == 2 {
                continue;
            }
            let file = self.fresh();
            let (from, back) = (text(&file), text(&self.hosts[2].folder.join("back")));
            let url = self.url(system, "large");
            let native = ["--data-dir", &data, "-q", "-q"];
            let upload = match system {
                0 => self.timed("curl", &["-sSf", "-T", &from, &format!("{url}?replicas={number}")], None),
                1 => self.timed(
                    &thorp,
                    &[&["put", &from, "--as", "large", "-n", &number], &native[..]].concat(),
                    None,
                ),
                _ => self.timed("curl", &["-sSf", "-T", &from, &url], None),
            };
            self.note(put, system, upload);
            let drained = match system {
                1 => self.timed(&thorp, &[&["get", "large", "-o", "-"], &native[..]].concat(), None),
                _ => self.timed("curl", &["-sSf", &url], None),
            };
            self.note(thrown, system, drained);
            let download = match system {
                1 => self.timed(&thorp, &[&["get", "large", "-o", &back], &native[..]].concat(), None),
                _ => self.timed("curl", &["-sSf", "-o", &back, &url], None),
            };
            self.note(get, system, download);
            assert!(are_equal(&file, PathBuf::from(&back).as_path()), "{by} gave other bytes");
            drop(fs::remove_file(&back));
            let now = if system == 2 { "" } else { "?now=1" };
            self.timed("curl", &["-sSf", "-X", "DELETE", &format!("{url}{now}")], None);
        }
    }

    /// Many small files there and back: by HTTP each over a connection that is kept, natively as a folder.
    fn many(&mut self) {
        let (small, client) = (self.small, self.hosts[2].clone());
        for (connections, put, get) in [
            (1, "small files, put", "small files, get"),
            (AT_ONCE, "small files, put, 8 at once", "small files, get, 8 at once"),
        ] {
            for system in [0, 2] {
                let address = self.address(system);
                for (verb, what) in [("PUT", put), ("GET", get)] {
                    let figures = run_part(
                        &client,
                        &format!("files {verb} {address} {small} {SMALL_BYTES} {connections}"),
                    );
                    self.note(what, system, figures.get("rate").unwrap_or(f64::NAN));
                }
                run_part(&client, &format!("files DELETE {address} {small} {SMALL_BYTES} {connections}"));
            }
        }
        let folder = client.folder.join("many");
        for n in 0..small {
            self.seed += 1;
            random_file(&folder.join(n.to_string()), SMALL_BYTES, self.seed);
        }
        rustix::fs::sync();
        let data = text(&client.folder.join("client"));
        let native = ["--data-dir", &data, "-q", "-q"];
        let thorp = text(&crate::cluster::binary());
        let (from, back) = (text(&folder), client.folder.join("many-back"));
        fs::create_dir_all(&back).expect("a folder");
        let rate = |bytes_per_us: f64| small as f64 * 1e6 * bytes_per_us / self.bytes as f64;
        let put = rate(self.timed(&thorp, &[&["put", &from, "-n", "1"], &native[..]].concat(), None));
        let get =
            rate(self.timed(&thorp, &[&["get", "many/", "-o", &text(&back)], &native[..]].concat(), None));
        for what in ["small files, put", "small files, put, 8 at once"] {
            self.note(what, 1, put);
        }
        for what in ["small files, get", "small files, get, 8 at once"] {
            self.note(what, 1, get);
        }
        self.timed(&thorp, &[&["rm", "-r", "many", "--now"], &native[..]].concat(), None);
        drop((fs::remove_dir_all(&back), fs::remove_dir_all(&folder)));
    }

    fn print(&self) {
        for (link, name) in [(0, "as fast as it goes"), (1, "1 Gbit/s")] {
            let rows: Vec<&'static str> =
                ROWS.iter().copied().filter(|what| self.table.contains_key(&(link, *what, 0))).collect();
            if rows.is_empty() {
                continue;
            }
            println!("\n  link: {name}; large file: MB/s, small files: files a second; medians\n");
            println!(
                "  | what | {} | HTTP/native | HTTP/nginx | lowest and highest of HTTP |",
                SYSTEMS.join(" | ")
            );
            println!("  |---|---|---|---|---|---|---|");
            for what in rows {
                let all = |system: usize| self.table.get(&(link, what, system)).cloned().unwrap_or_default();
                let [http, native, nginx] = [0, 1, 2].map(|system| median(all(system)));
                let ratio = |to: Option<f64>| shown(http.zip(to).map(|(http, to)| http / to), 2);
                let (low, high) =
                    all(0).into_iter().fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
                println!(
                    "  | {what} | {} | {} | {} | {} | {} | {low:.0} to {high:.0} |",
                    shown(http, 0),
                    shown(native, 0),
                    shown(nginx, 0),
                    ratio(native),
                    ratio(nginx)
                );
            }
        }
    }
}

/// Rows in the order in which they are shown.
const ROWS: [&str; 10] = [
    "put, 1 copy",
    "put, 2 copies",
    "get, to a file",
    "get, thrown away",
    "get of two, to a file",
    "get of two, thrown away",
    "small files, put",
    "small files, get",
    "small files, put, 8 at once",
    "small files, get, 8 at once",
];

/// Many small files over some connections that are kept; what the client's host plays.
pub fn many(verb: &str, address: &str, files: u64, bytes: u64, connections: u64) -> io::Result<Figures> {
    let folder = if address.ends_with(&format!(":{NGINX_PORT}")) { "" } else { "/api/files" };
    let end = match (verb, folder) {
        ("PUT", "/api/files") => "?replicas=1",
        ("DELETE", "/api/files") => "?now=1",
        _ => "",
    };
    let mut contents = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    clock::Rng::seeded(clock::wall_us()).fill(&mut contents);
    let begun = clock::wall_us();
    let threads: Vec<_> = (0..connections)
        .map(|connection| {
            let (verb, address, mut contents) = (verb.to_owned(), address.to_owned(), contents.clone());
            std::thread::spawn(move || -> io::Result<()> {
                let mut http = Http::new(&address);
                for file in (connection..files).step_by(usize::try_from(connections).unwrap_or(1)) {
                    // Each is another one.
                    contents[..8].copy_from_slice(&file.to_be_bytes());
                    let body: &[u8] = if verb == "PUT" { &contents } else { b"" };
                    let answer = http.ask(&verb, &format!("{folder}/small/{file}{end}"), body)?;
                    let is_whole = verb != "GET" || answer.body.len() as u64 == bytes;
                    if !(200..300).contains(&answer.status) || !is_whole {
                        let words = String::from_utf8_lossy(&answer.body).into_owned();
                        return Err(io::Error::other(format!("{verb} {file}: {} {words}", answer.status)));
                    }
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a client has failed"))??;
    }
    Ok(Figures::default().with("rate", files as f64 * 1e6 / (clock::wall_us() - begun) as f64))
}
