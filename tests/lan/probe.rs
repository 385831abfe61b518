//! The harness tested by itself: does the LAN behave as one? The test binary plays the hosts.

use crate::network::{Host, Lan, wait_until};
use crate::process::{Process, s};
use crate::runner::Verdict;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::Duration;

/// Set on a host: what this binary plays there.
const PART: &str = "LAN_PROBE_PART";
const PORT: u16 = 7_777;

/// Plays a part if it was given one.
pub fn answer() -> Option<ExitCode> {
    let part = std::env::var(PART).ok()?;
    let done = match part.split_once(' ') {
        Some(("listen", _)) => listen(),
        Some(("say", rest)) => rest.split_once(' ').map_or(Ok(()), |(to, word)| say(to, word)),
        _ => Ok(()),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{part}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Prints every word that comes, until it is killed.
fn listen() -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", PORT))?;
    println!("listening");
    let mut word = [0_u8; 64];
    loop {
        let length = socket.recv(&mut word)?;
        println!("{}", String::from_utf8_lossy(&word[..length]));
    }
}

fn say(to: &str, word: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_broadcast(true)?;
    socket.send_to(word.as_bytes(), (to, PORT)).map(drop)
}

/// Something that prints the words that reach a host.
struct Listener(Process);

impl Listener {
    fn on(host: &Host) -> Listener {
        let listener = Listener(play(host, "listen "));
        wait_until(s(5), "a listener listens", || listener.heard("listening"));
        listener
    }

    fn heard(&self, word: &str) -> Result<(), String> {
        let words = self.0.stdout();
        if words.lines().any(|line| line == word) { Ok(()) } else { Err(words) }
    }
}

fn play(host: &Host, part: &str) -> Process {
    let mut command = host.command(std::env::current_exe().expect("this binary"));
    command.env(PART, part);
    host.start(command, part)
}

fn say_from(host: &Host, to: &str, word: &str) {
    play(host, &format!("say {to} {word}")).wait(s(5)).ok();
}

/// Both kinds of broadcast reach every other host.
pub fn hosts_hear_each_others_broadcasts() -> Verdict {
    let lan = Lan::new(4);
    let listeners: Vec<Listener> = lan.hosts()[1..].iter().map(Listener::on).collect();
    for (to, word) in [("10.77.0.255", "subnet"), ("255.255.255.255", "everybody")] {
        say_from(&lan.host(1), to, word);
        for listener in &listeners {
            wait_until(s(3), word, || listener.heard(word));
        }
    }
    Verdict::Passed
}

/// A cut is a cut, and it heals.
pub fn unplugged_hosts_hear_nothing() -> Verdict {
    let lan = Lan::new(3);
    let (second, third) = (Listener::on(&lan.host(2)), Listener::on(&lan.host(3)));
    lan.unplug(2);
    say_from(&lan.host(1), "10.77.0.255", "first");
    wait_until(s(3), "the third host hears", || third.heard("first"));
    lan.plug(2);
    wait_until(s(5), "the second host hears again", || {
        say_from(&lan.host(1), "10.77.0.255", "second");
        second.heard("second")
    });
    assert!(second.heard("first").is_err(), "an unplugged host has heard a broadcast");
    assert!(lan.bytes_to(2) > 0, "the switch counts what it carries");
    Verdict::Passed
}

/// A dropped broadcast stops no packet that has an address.
pub fn deaf_hosts_still_reach_each_other() -> Verdict {
    let lan = Lan::new(3);
    let (second, third) = (Listener::on(&lan.host(2)), Listener::on(&lan.host(3)));
    lan.deafen(2);
    say_from(&lan.host(1), "10.77.0.255", "broadcast");
    wait_until(s(3), "the third host hears", || third.heard("broadcast"));
    say_from(&lan.host(1), "10.77.0.2", "direct");
    wait_until(Duration::from_secs(3), "the second host is reached", || second.heard("direct"));
    assert!(second.heard("broadcast").is_err(), "a deaf host has heard a broadcast");
    Verdict::Passed
}

/// Hosts have their own names and machine ids, or are known not to.
pub fn every_host_is_a_machine_of_its_own() -> Verdict {
    let lan = Lan::new(2);
    let (first, second) = (lan.host(1), lan.host(2));
    if !(first.is_named && second.is_named) {
        return Verdict::Skipped(
            "no host name or no /etc/machine-id to replace; nodes are told theirs".into(),
        );
    }
    for host in [&first, &second] {
        assert_eq!(host.run("uname", &["-n"]).ok().stdout.trim(), host.name);
    }
    let id = |host: &Host| host.run("cat", &["/etc/machine-id"]).ok().stdout;
    assert_ne!(id(&first), id(&second));
    Verdict::Passed
}
