//! What this binary plays on a host for the comparisons: of messages, the hook, the one that starts a
//! command for each message, and the two ends of NATS, whose own tools few have.
//!
//! Every line that a program hears has the time at which it was heard in front, in microseconds of
//! the wall clock, which all hosts share because they are one machine.

use super::nats::Nats;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::sync_channel;
use thorp::clock;

/// Set on a host: what this binary plays there.
pub const PART: &str = "LAN_BENCH_PART";
/// The type of messages that have a hook.
pub const HOOKED: &str = "bench";
/// Beside a node's data folder: where its hook says when it was started.
pub const HOOK_TIMES: &str = "hook-times";
/// Messages on their way to a NATS server: as many as a node of thorp takes from its outbox at once.
const NATS_WINDOW: usize = thorp::limits::OUTBOX_POSTS_MAX;

/// Plays a part if it was given one.
pub fn answer() -> Option<ExitCode> {
    let at = clock::wall_us();
    let done = match std::env::var(PART) {
        Ok(part) => play(&part),
        Err(_) if is_hook() => hook(at),
        Err(_) => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn play(part: &str) -> io::Result<()> {
    let words: Vec<&str> = part.split(' ').collect();
    match words.as_slice() {
        ["each"] => each(),
        ["publish", server] => publish(server),
        ["subscribe", server, replicas] => subscribe(server, replicas),
        ["web", rest @ ..] => super::web::load::play(rest),
        _ => Err(io::Error::other(format!("no such part: {part}"))),
    }
}

fn is_hook() -> bool {
    let program = std::env::args_os().next().map(PathBuf::from);
    program.is_some_and(|program| program.ends_with(Path::new("hooks").join(HOOKED)))
}

/// Says when it was started, and for which message.
fn hook(at: u64) -> io::Result<()> {
    let document = io::read_to_string(io::stdin())?;
    let data = std::env::var_os("THORP_DATA_DIR").map(PathBuf::from).unwrap_or_default();
    let mut times = std::fs::OpenOptions::new().write(true).open(data.with_file_name(HOOK_TIMES))?;
    times.write_all(format!("{at} {}\n", document.trim()).as_bytes())
}

/// Runs a command for each line, its words parted by tabs; says when it began, when it ended, and how.
fn each() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split('\t');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_remove(PART).stdin(Stdio::null()).stdout(Stdio::null());
        let begun = clock::wall_us();
        let status = command.status()?;
        println!("{begun} {} {}", clock::wall_us(), status.code().unwrap_or(-1));
    }
    Ok(())
}

/// Publishes each line and waits until the server has it, for several at once.
fn publish(server: &str) -> io::Result<()> {
    let mut nats = Nats::connect(server)?;
    let mut acks = nats.another()?;
    nats.subscribe("acks.*")?;
    let (begin, ended) = sync_channel(NATS_WINDOW);
    let hearing = std::thread::spawn(move || -> io::Result<()> {
        loop {
            let (_, _, answer) = acks.message()?;
            if !answer.contains("\"seq\"") {
                return Err(io::Error::other(answer));
            }
            if ended.recv().is_err() {
                return Ok(());
            }
        }
    });
    for (number, line) in io::stdin().lock().lines().enumerate() {
        if begin.send(()).is_err() {
            break;
        }
        nats.publish("bench.messages", &format!("acks.{}", number % NATS_WINDOW), &line?)?;
    }
    drop(begin);
    if hearing.is_finished() { hearing.join().unwrap_or(Ok(())) } else { Ok(()) }
}

/// Prints each message and says that it was got.
fn subscribe(server: &str, replicas: &str) -> io::Result<()> {
    let mut nats = Nats::connect(server)?;
    let stream = format!(
        r#"{{"name":"BENCH","subjects":["bench.*"],"storage":"file","num_replicas":{replicas},"max_age":600000000000}}"#
    );
    nats.ask("$JS.API.STREAM.CREATE.BENCH", &stream)?;
    nats.subscribe("to.receiver")?;
    let consumer = r#"{"stream_name":"BENCH","config":{"durable_name":"receiver","deliver_subject":"to.receiver","ack_policy":"explicit","deliver_policy":"new"}}"#;
    nats.ask("$JS.API.CONSUMER.DURABLE.CREATE.BENCH.receiver", consumer)?;
    let mut output = io::stdout().lock();
    loop {
        let (_, reply, text) = nats.message()?;
        writeln!(output, "{text}")?;
        if !nats.has_more() {
            output.flush()?;
        }
        nats.publish(&reply, "", "+ACK")?;
    }
}
