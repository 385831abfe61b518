//! Channels of thorp beside an MQTT broker and a plain Flask server, in one run: how many posts go
//! through in a second, and how long one takes to all who follow.
//!
//! Equal terms: every client gives its state and is told that of all others of its channel. Over HTTP that is a post and its
//! answer. With MQTT a client publishes with QoS 1 and subscribes to its channel, so the broker sends it every
//! state of the others; it waits until the broker has its own. The broker alone (nobody subscribed) is shown as well.
//!
//! Environment: `THORP_BENCH_ROUNDS`, `THORP_BENCH_SECONDS` (of each measurement and round),
//! `THORP_BENCH_CLIENTS`.

use super::load::Figures;
use super::{THORP_PORT, cpu_us, median, run_part, shown};
use crate::bench::tools;
use crate::cluster::Cluster;
use crate::measure::number;
use crate::network::{Host, Lan};
use crate::process::{Process, s, wait_until};
use crate::runner::{self, Verdict};
use std::fs;
use std::process::Command;

const TEST: &str = "measure_channels_beside_mosquitto_and_flask";
const MOSQUITTO_PORT: u16 = 1_884;
const FLASK_PORT: u16 = 5_000;
const GUNICORN_PORT: u16 = 5_001;
/// What is served by it: our own, as people write such things.
const FLASK: &str = include_str!("channels.py");
/// Threads of gunicorn's one process, which has the channels in its memory.
const GUNICORN_THREADS: &str = "16";

/// A server, with how it is spoken to.
struct Server {
    name: &'static str,
    address: String,
    /// How clients post.
    posts: &'static [&'static str],
    /// How clients follow.
    follows: &'static [&'static str],
    processes: Vec<u32>,
}

/// What was measured of a server in one way.
struct Row {
    server: usize,
    way: &'static str,
    rounds: Vec<Figures>,
}

impl Row {
    fn median(&self, name: &str) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.get(name)))
    }

    fn worst(&self, name: &str) -> f64 {
        self.rounds.iter().filter_map(|round| round.get(name)).fold(0.0, f64::max)
    }
}

/// Measures and prints the tables.
pub fn compare() -> Verdict {
    tools::require(TEST);
    let (rounds, seconds) = (number("THORP_BENCH_ROUNDS", 3), number("THORP_BENCH_SECONDS", 5));
    let clients = number("THORP_BENCH_CLIENTS", 100);
    runner::allow(s(rounds * (seconds + 10) * 30 + 120));
    let lan = Lan::new(3);
    // The first is alone and leads, and goes on leading.
    let first = lan.host(1).up(&[]);
    let lone = Cluster { nodes: vec![first] };
    lone.settle(s(30));
    let mut nodes = lone.nodes;
    nodes.push(lan.host(2).up(&[]));
    let cluster = Cluster { nodes };
    let leads = cluster.settle(s(30)).proxy_name();
    let (proxy, other) = if leads == "h1" { (0, 1) } else { (1, 0) };
    let started = start_others(&lan.host(1));
    let own = |node: usize| format!("{}:{THORP_PORT}", lan.host(cluster.nodes[node].number).address);
    let ids = |nodes: &[usize]| nodes.iter().map(|node| cluster.nodes[*node].process_id()).collect();
    let at = |port: u16| format!("{}:{port}", lan.host(1).address);
    let all: &[&str] = &["events", "socket", "polls"];
    let server =
        |name, address, posts, follows, processes| Server { name, address, posts, follows, processes };
    let servers = [
        server("thorp", own(proxy), &["http"], all, ids(&[proxy])),
        server("thorp, through a second node", own(other), &["http"], all, ids(&[proxy, other])),
        server("mosquitto", at(MOSQUITTO_PORT), &["mqtt", "mqtt-alone"], &["mqtt"], vec![started[0].id()]),
        server("Flask, its own server", at(FLASK_PORT), &["http"], &["polls"], vec![started[1].id()]),
        server("Flask, gunicorn", at(GUNICORN_PORT), &["http"], &["polls"], vec![started[2].id()]),
    ];
    println!("  {}", versions());
    super::machine();
    println!("  {rounds} rounds, {seconds} s of each; {clients} clients on one host; bodies of 200 bytes");
    measure(&servers, &lan.host(3), (clients, seconds), rounds)
}

fn measure(servers: &[Server], host: &Host, (clients, seconds): (u64, u64), rounds: u64) -> Verdict {
    let rows = |ways: fn(&Server) -> &'static [&'static str]| -> Vec<Row> {
        let all = servers.iter().enumerate();
        all.flat_map(|(server, of)| ways(of).iter().map(move |way| Row { server, way, rounds: Vec::new() }))
            .collect()
    };
    let mut posts = [1, 10].map(|channels| (channels, rows(|server| server.posts)));
    let mut follows = rows(|server| server.follows);
    let part = |row: &mut Row, part: &str| {
        let server = &servers[row.server];
        let cpu = || server.processes.iter().map(|process| cpu_us(*process)).sum::<u64>();
        let before = cpu();
        let figures = run_part(host, part);
        let each = (cpu() - before) as f64 / figures.get("count").unwrap_or(f64::NAN);
        row.rounds.push(figures.with("cpu", each));
    };
    for round in 0..rounds {
        for (channels, rows) in &mut posts {
            for row in rows {
                let (way, address) = (row.way, &servers[row.server].address);
                part(row, &format!("posts {way} {address} {clients} {channels} {seconds}"));
            }
        }
        for row in &mut follows {
            let (way, address) = (row.way, &servers[row.server].address);
            part(row, &format!("fan {way} {address} {clients} {seconds}"));
        }
        println!("  round {} of {rounds} is done, load {}", round + 1, crate::bench::table::load());
    }
    for (channels, rows) in &posts {
        print_posts(servers, rows, clients, *channels);
    }
    print_follows(servers, &follows, clients);
    let bad = |row: &&Row| row.server < 2 && (row.worst("refused") > 0.0 || row.worst("lost") > 0.0);
    let bad: Vec<&str> =
        posts.iter().flat_map(|of| &of.1).chain(&follows).filter(bad).map(|row| row.way).collect();
    assert!(bad.is_empty(), "thorp has refused or lost something: {bad:?}");
    Verdict::Passed
}

/// mosquitto, Flask's own server and gunicorn, ready.
fn start_others(host: &Host) -> [Process; 3] {
    let config =
        format!("listener {MOSQUITTO_PORT}\nallow_anonymous true\nuser root\nmax_queued_messages 0\n");
    let file = host.folder.join("mosquitto.conf");
    fs::write(&file, config).expect("a configuration");
    fs::write(host.folder.join("channels.py"), FLASK).expect("a program");
    let mut mosquitto = host.command("mosquitto");
    mosquitto.arg("-c").arg(&file);
    let python = |arguments: &str| {
        let mut command = host.command(tools::python());
        command.args(arguments.split(' ')).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let flask = python(&format!("-m flask --app channels run --host 0.0.0.0 --port {FLASK_PORT}"));
    let gunicorn = python(&format!(
        "-m gunicorn --workers 1 --threads {GUNICORN_THREADS} --keep-alive 60 --bind 0.0.0.0:{GUNICORN_PORT} channels:app"
    ));
    let started = [(mosquitto, "mosquitto"), (flask, "flask"), (gunicorn, "gunicorn")];
    let started = started.map(|(command, what)| host.start(command, what));
    for port in [MOSQUITTO_PORT, FLASK_PORT, GUNICORN_PORT] {
        wait_until(s(30), &format!("port {port} is served"), || {
            let mut look = host.command("sh");
            look.args(["-c", &format!("grep -qi ':{port:04X} 00000000:0000 0A' /proc/net/tcp")]);
            if look.status().is_ok_and(|status| status.success()) {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
    }
    started
}

fn versions() -> String {
    let first = |command: &mut Command| {
        let output = command.output().ok().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).lines().next().unwrap_or("?").trim().to_owned()
    };
    let of = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ('Flask', 'Werkzeug', 'gunicorn')))";
    let thorp = first(Command::new(crate::cluster::binary()).arg("--version"));
    let mosquitto = first(Command::new("mosquitto").arg("-h"));
    let python = first(Command::new(tools::python()).arg("--version"));
    format!("{thorp}; {mosquitto}; {python}, {}", first(Command::new(tools::python()).args(["-c", of])))
}

/// How a way is called in the table.
fn named(way: &str) -> &'static str {
    match way {
        "http" => "post, answer: the others",
        "mqtt" => "publish (QoS 1), subscribed",
        "mqtt-alone" => "publish (QoS 1), nobody subscribed",
        "events" => "server-sent events",
        "socket" => "WebSocket",
        _ => "polls, 20 a second",
    }
}

fn print_posts(servers: &[Server], rows: &[Row], clients: u64, channels: u64) {
    println!("\n  {clients} clients on {channels} channel(s), each posts when its last post is answered\n");
    println!(
        "  | server | way | posts/s | ms, median | 99 % | states that came with each | server's CPU, µs a post | refused | \
         thorp's posts/s divided by these |\n  |---|---|---|---|---|---|---|---|---|"
    );
    let own = rows.first().and_then(|row| row.median("rate"));
    for row in rows {
        let rate = row.median("rate");
        println!(
            "  | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            servers[row.server].name,
            named(row.way),
            shown(rate, 0),
            shown(row.median("half"), 2),
            shown(row.median("most"), 2),
            shown(row.median("others"), 1),
            shown(row.median("cpu"), 0),
            row.worst("refused"),
            shown(own.zip(rate).map(|(own, rate)| own / rate), 2),
        );
    }
}

fn print_follows(servers: &[Server], rows: &[Row], clients: u64) {
    println!("\n  one client posts 10 times a second, {clients} follow: from the post to each follower\n");
    println!(
        "  | server | way | ms, median | 99 % | looks/s | server's CPU, µs a receipt | lost |\n  |---|---|---|---|---|---|---|"
    );
    for row in rows {
        let looks = row.median("looks").filter(|looks| *looks > 0.0);
        println!(
            "  | {} | {} | {} | {} | {} | {} | {} |",
            servers[row.server].name,
            if row.way == "mqtt" { "publish (QoS 0), subscribed" } else { named(row.way) },
            shown(row.median("half"), 2),
            shown(row.median("most"), 2),
            shown(looks, 0),
            // Looks before the first and after the last post cost, too.
            shown(row.median("cpu").filter(|_| looks.is_none()), 0),
            row.worst("lost"),
        );
    }
}
