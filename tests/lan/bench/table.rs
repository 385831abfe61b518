//! The figures as a table, with what they were measured on.

use super::systems::System;
use std::fs;
use std::path::Path;
use std::process::Command;
use thorp::clock;

/// What was measured of one system. Times are in microseconds.
pub struct Row {
    /// As [`System::name`].
    pub name: &'static str,
    store: &'static str,
    /// From a program that runs to one that follows.
    pub handed: Vec<u64>,
    /// … to the hook's start.
    pub handed_hook: Vec<u64>,
    /// From the start of a command to one that follows.
    pub command: Vec<u64>,
    /// … to the hook's start.
    pub command_hook: Vec<u64>,
    /// From the start of a command to its end.
    pub took: Vec<u64>,
    /// Messages a second from one sender.
    pub rates: Vec<f64>,
    /// Messages a second from many.
    pub rates_of_many: Vec<f64>,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came twice, or after one that was sent later.
    pub wrong: u64,
}

impl Row {
    /// Nothing yet.
    pub fn of(system: &System) -> Row {
        Row {
            name: system.name,
            store: system.place.store,
            handed: Vec::new(),
            handed_hook: Vec::new(),
            command: Vec::new(),
            command_hook: Vec::new(),
            took: Vec::new(),
            rates: Vec::new(),
            rates_of_many: Vec::new(),
            lost: 0,
            wrong: 0,
        }
    }
}

/// What it is measured on.
pub fn head(disk: &Path, memory: &Path, rounds: u64, each: u64, burst: u64) {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("not there").trim().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("  {} processors, load {}; Linux {}", processors, load(), said("uname", &["-r"]));
    let thorp = crate::cluster::text(&crate::cluster::binary());
    println!(
        "  {}; {}; {}",
        said(&thorp, &["--version"]),
        said("mosquitto", &["-h"]),
        said("nats-server", &["--version"])
    );
    for (name, folder) in [("disk", disk), ("memory", memory)] {
        let kind = said("stat", &["-f", "-c", "%T", &crate::cluster::text(folder)]);
        println!(
            "  {name}: {kind}; a new file of 512 bytes written and synced: {} us (median of 100)",
            sync_us(folder)
        );
    }
    println!("  {rounds} rounds; in each {each} messages of each kind one at a time, and a burst of {burst}");
}

fn sync_us(folder: &Path) -> u64 {
    let mut times: Vec<u64> = (0..100)
        .map(|n| {
            let path = folder.join(format!("probe-{n}"));
            let begun = clock::wall_us();
            fs::write(&path, [0; 512]).and_then(|()| fs::File::open(&path)?.sync_all()).expect("a probe");
            let took = clock::wall_us() - begun;
            drop(fs::remove_file(&path));
            took
        })
        .collect();
    median(&mut times)
}

/// The machine's load of the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Half of the times are below the first, 99 % below the second.
fn shares(times: &[u64]) -> Option<(f64, f64)> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map(|us| *us as f64 / 1e3);
    Some((at(50)?, at(99)?))
}

fn rate(rates: &[f64]) -> Option<f64> {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

fn times(of: Option<(f64, f64)>) -> String {
    of.map_or("-".to_owned(), |(half, most)| format!("{half:.2} / {most:.2}"))
}

fn ratio(of: Option<f64>, to: Option<f64>) -> String {
    of.zip(to).map_or("-".to_owned(), |(of, to)| format!("{:.2}", of / to))
}

/// Prints all, and what each is in comparison with thorp on the same store.
pub fn print(rows: &[Row], count: u64, burst: u64, senders: usize) {
    println!(
        "\n  latency in ms, median / 99 % of {count}; messages a second, {burst} of 200 bytes, median of the rounds\n"
    );
    println!(
        "  | store | system | handed over, to a follower | to the hook | command, to a follower | to the hook \
         | command ends | 1 sender | {senders} senders | lost | twice, disordered |"
    );
    println!("  |---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let all = [&row.handed, &row.handed_hook, &row.command, &row.command_hook, &row.took];
        let shown = all.map(|of| times(shares(of))).join(" | ");
        let rates = [&row.rates, &row.rates_of_many];
        let rates =
            rates.map(|rates| rate(rates).map_or("-".to_owned(), |rate| format!("{rate:.0}"))).join(" | ");
        println!("  | {} | {} | {shown} | {rates} | {} | {} |", row.store, row.name, row.lost, row.wrong);
    }
    println!(
        "\n  thorp's figure divided by the other's (latency: below 1, thorp is faster; rate: above 1)\n"
    );
    println!(
        "  | store | beside | handed over, median | 99 % | command, median | 99 % | command ends | 1 sender | {senders} senders |"
    );
    println!("  |---|---|---|---|---|---|---|---|---|");
    for row in rows.iter().filter(|row| row.name != "thorp") {
        let Some(own) = rows.iter().find(|own| own.name == "thorp" && own.store == row.store) else {
            continue;
        };
        let half = |times: &[u64]| shares(times).map(|shares| shares.0);
        let most = |times: &[u64]| shares(times).map(|shares| shares.1);
        let shown = [
            ratio(half(&own.handed), half(&row.handed)),
            ratio(most(&own.handed), most(&row.handed)),
            ratio(half(&own.command), half(&row.command)),
            ratio(most(&own.command), most(&row.command)),
            ratio(half(&own.took), half(&row.took)),
            ratio(rate(&own.rates), rate(&row.rates)),
            ratio(rate(&own.rates_of_many), rate(&row.rates_of_many)),
        ];
        println!("  | {} | {} | {} |", row.store, row.name, shown.join(" | "));
    }
    println!(
        "\n  What they promise by the time the sender has its answer: thorp, that the message is synced on the disks of two \
         machines,\n  and that it will be in the inbox once, also synced; mosquitto, that its server has it in memory (it saves \
         every 30 minutes\n  and when it ends); NATS with one server, that it is written and not synced (it syncs every 2 \
         minutes); NATS with three\n  servers and `sync_interval: always`, that most of them have synced it. thorp's messages \
         are encrypted, those of the others are not."
    );
}
