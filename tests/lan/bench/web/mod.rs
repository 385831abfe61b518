//! thorp's HTTP beside other servers: channels beside an MQTT broker and a plain Flask server, files beside nginx
//! and thorp's own commands.
//!
//! Clients and servers are hosts of their own on one machine, so they share its processors: what the
//! clients take is missing to the servers, to all of them alike.

pub mod channels;
pub mod files;
mod http;
pub mod load;
mod mqtt;

use crate::network::Host;
use crate::process::s;
use load::Figures;
use std::fs;
use std::process::Stdio;

/// thorp's port for HTTP.
const THORP_PORT: u16 = thorp::limits::HTTP_PORT_DEFAULT;

/// Runs a part of [`load`] on `host` to its end.
fn run_part(host: &Host, part: &str) -> Figures {
    let mut command = super::systems::play(host, &format!("web {part}"));
    command.stdin(Stdio::null());
    let output = host.start(command, part).wait(s(300)).ok();
    Figures::read(&output.stdout)
}

/// Processor time that a process and its children have taken, in microseconds.
fn cpu_us(process: u32) -> u64 {
    let stat = |entry: &str| {
        let text = fs::read_to_string(format!("/proc/{entry}/stat")).ok()?;
        let words: Vec<u64> = text.rsplit_once(") ")?.1.split(' ').map(|w| w.parse().unwrap_or(0)).collect();
        // The parent, and ticks of 10 ms as the process and as the kernel.
        Some((u32::try_from(*words.get(1)?).ok()?, (words.get(11)? + words.get(12)?) * 10_000))
    };
    let own = stat(&process.to_string()).map_or(0, |(_, us)| us);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| stat(entry.file_name().to_str()?));
    own + all.filter(|(parent, _)| *parent == process).map(|(_, us)| us).sum::<u64>()
}

/// The middle one, if there is one.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// With so many places after the point, or `-`.
pub fn shown(value: Option<f64>, places: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.places$}"))
}

/// What the machine is, for the head of a table.
fn machine() {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("  {processors} processors, load {}; Linux {}", super::table::load(), kernel.trim());
}
