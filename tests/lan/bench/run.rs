//! `thorp sync` and `thorp run` beside rsync and ssh, in one run on one shaped link.
//!
//! A build folder of some 300 MB is synced to a second host; then one source is changed and built, which changes it, one
//! object file and the program; then nothing. Bytes are what the LAN carried to the second host, so with all overheads.
//! Last, how long it takes until a program that does nothing has run there.
//!
//! Environment: `THORP_BENCH_ROUNDS`, `THORP_BENCH_STARTS` (how often the program is run), `THORP_BENCH_LINK` (`free`
//! leaves the link as it is).

use super::tools;
use super::web::{median, shown};
use crate::cluster::{Cluster, Seat};
use crate::measure::number;
use crate::network::{Host, Lan, wait_until};
use crate::process::{Process, s};
use crate::runner::{self, Verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thorp::clock::{self, Rng};

const TEST: &str = "measure_sync_and_run_beside_rsync_and_ssh";
const KEY: &str = "seven quiet houses by the river";
const SSH_PORT: &str = "2222";
/// What a gigabit Ethernet carries, with queues as of a cheap switch.
const GIGABIT: &str = "qdisc add dev eth0 root tbf rate 1gbit burst 128k latency 20ms";
const MIB: usize = 1 << 20;

/// Measures and prints the tables.
pub fn compare() -> Verdict {
    tools::require(TEST);
    let (rounds, starts) = (number("THORP_BENCH_ROUNDS", 3), number("THORP_BENCH_STARTS", 20));
    runner::allow(s(rounds * 120 + 300));
    let lan = Lan::new(2);
    let (here, there) = (lan.host(1), lan.host(2));
    if std::env::var("THORP_BENCH_LINK").is_ok_and(|link| link == "free") {
        println!("  link: as fast as it goes");
    } else {
        for host in [&here, &there] {
            host.run("tc", &GIGABIT.split(' ').collect::<Vec<_>>()).ok();
        }
        println!("  link: 1 Gbit/s");
    }
    let _sshd = start_sshd(&here, &there);
    let cluster = Cluster::start_keyed(&lan, 1..=2, &["--allow-run"], Some(KEY));
    cluster.settle(s(10));
    let bench = Bench { lan: &lan, seat: here.client().key(Some(KEY)), here };
    bench.syncs(rounds);
    bench.starts(starts);
    Verdict::Passed
}

struct Bench<'lan> {
    lan: &'lan Lan,
    seat: Seat,
    here: Host,
}

impl Bench<'_> {
    fn syncs(&self, rounds: u64) {
        let steps = ["first", "one source changed and built", "nothing changed"];
        let mut figures = vec![[Vec::new(), Vec::new(), Vec::new(), Vec::new()]; steps.len()];
        for round in 0..rounds {
            let build = self.here.folder.join(format!("build-{round}"));
            let mut rng = Rng::seeded(round);
            make(&build, &mut rng);
            for (step, figures) in figures.iter_mut().enumerate() {
                if step == 1 {
                    rebuild(&build, &mut rng);
                }
                let from = format!("build-{round}");
                let (ms, bytes) = self.measure(|| {
                    let ended = self.seat.run(&[
                        "sync",
                        "--delete",
                        "--no-ignore",
                        &from,
                        &format!("h2:build-{round}"),
                    ]);
                    assert_eq!(ended.code, 0, "{ended}");
                });
                figures[0].push(ms);
                figures[1].push(bytes);
                let (ms, bytes) = self.measure(|| {
                    let shell = format!("ssh {}", ssh_options().join(" "));
                    let to = format!(
                        "root@10.77.0.2:{}",
                        self.lan.host(2).folder.join(format!("rsync-{round}/")).display()
                    );
                    let mut command = self.here.command("rsync");
                    command.args(["-a", "--delete", "-e", &shell, &format!("{from}/"), &to]);
                    let ended = self.here.start(command, "rsync").wait(s(120));
                    assert_eq!(ended.code, 0, "{ended}");
                });
                figures[2].push(ms);
                figures[3].push(bytes);
            }
            fs::remove_dir_all(&build).expect("removed");
        }
        println!("  | sync | thorp ms | rsync ms | ratio | thorp MB | rsync MB |");
        for (step, [ms, bytes, rsync_ms, rsync_bytes]) in steps.iter().zip(figures) {
            let of = |values: &[f64]| median(values.iter().copied());
            let ratio = of(&rsync_ms).zip(of(&ms)).map(|(rsync, thorp)| rsync / thorp);
            println!(
                "  | {step} | {} | {} | {} | {} | {} |",
                shown(of(&ms), 0),
                shown(of(&rsync_ms), 0),
                shown(ratio, 2),
                shown(of(&bytes), 2),
                shown(of(&rsync_bytes), 2),
            );
        }
    }

    /// Milliseconds, and megabytes to the second host.
    fn measure(&self, work: impl FnOnce()) -> (f64, f64) {
        let (before, started) = (self.lan.bytes_to(2), clock::wall_us());
        work();
        let ms = (clock::wall_us() - started) as f64 / 1e3;
        (ms, (self.lan.bytes_to(2) - before) as f64 / 1e6)
    }

    fn starts(&self, count: u64) {
        let (mut thorp, mut ssh, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            thorp.push(timed(|| assert_eq!(self.seat.run(&["run", "--on", "h2", "true"]).code, 0)));
            ssh.push(timed(|| {
                let mut command = self.here.command("ssh");
                command.args(ssh_options()).args(["root@10.77.0.2", "true"]);
                assert_eq!(self.here.start(command, "ssh").wait(s(20)).code, 0);
            }));
            bare.push(timed(|| assert_eq!(self.here.run("true", &[]).code, 0)));
        }
        println!("  | `true` runs on the other host | ms |");
        for (name, values) in [("thorp run", thorp), ("ssh", ssh), ("here, without either", bare)] {
            println!("  | {name} | {} |", shown(median(values), 1));
        }
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = clock::wall_us();
    work();
    (clock::wall_us() - started) as f64 / 1e3
}

/// A folder as a compiler leaves it: many sources, object files, and one large program.
fn make(build: &Path, rng: &mut Rng) {
    for folder in ["src", "objects"] {
        fs::create_dir_all(build.join(folder)).expect("a folder");
    }
    for number in 0..3_000 {
        fill(&build.join(format!("src/{number}.c")), 20_000, rng);
    }
    for number in 0..24 {
        fill(&build.join(format!("objects/{number}.o")), 5 * MIB, rng);
    }
    fill(&build.join("program"), 120 * MIB, rng);
}

fn fill(path: &Path, bytes: usize, rng: &mut Rng) {
    let mut content = vec![0; bytes];
    rng.fill(&mut content);
    fs::write(path, content).expect("a file");
}

/// One source was changed and built: its object is new, and in the program something moved and something is new.
fn rebuild(build: &Path, rng: &mut Rng) {
    fill(&build.join("src/7.c"), 20_100, rng);
    fill(&build.join("objects/7.o"), 5 * MIB, rng);
    let path = build.join("program");
    let mut content = fs::read(&path).expect("a file");
    let mut more = vec![0; 1_000];
    rng.fill(&mut more);
    rng.fill(&mut content[40 * MIB..42 * MIB]);
    content.splice(20 * MIB..20 * MIB, more);
    fs::write(&path, content).expect("a file");
}

fn ssh_options() -> Vec<String> {
    [
        "-p",
        SSH_PORT,
        "-i",
        "ssh-key",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn start_sshd(here: &Host, there: &Host) -> Process {
    let made = |path: PathBuf| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", ""]).arg("-f").arg(&path).stdin(Stdio::null());
        assert!(command.status().expect("ssh-keygen").success());
        path
    };
    let (host_key, key) = (made(there.folder.join("host-key")), made(here.folder.join("ssh-key")));
    let allowed = there.folder.join("authorized");
    fs::copy(key.with_extension("pub"), &allowed).expect("a key");
    fs::set_permissions(&allowed, PermissionsExt::from_mode(0o600)).expect("permissions");
    let _ = fs::create_dir_all("/run/sshd");
    let mut command = there.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", "/dev/null", "-p", SSH_PORT, "-h"]).arg(host_key);
    command.arg("-o").arg(format!("AuthorizedKeysFile={}", allowed.display()));
    for option in ["StrictModes=no", "UsePAM=no", "PermitRootLogin=yes", "PidFile=none"] {
        command.args(["-o", option]);
    }
    let sshd = there.start(command, "sshd");
    wait_until(s(10), "sshd listens", || {
        if sshd.stderr().contains("listening") { Ok(()) } else { Err(sshd.stderr()) }
    });
    sshd
}
