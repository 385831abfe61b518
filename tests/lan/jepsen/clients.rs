//! The load: one client a host, each giving one command after another.

use super::history::{Action, History, Outcome, content};
use crate::cluster::{Seat, text};
use crate::network::Host;
use crate::process::{Process, poll, s};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use thorp::clock::Rng;

/// Names that all clients write.
const SHARED_NAMES: u64 = 8;
/// Names of its own that a client chooses from: the latest ones.
const OWN_NAMES: usize = 24;

/// Lets the clients work, holds them up, ends them.
#[derive(Default)]
pub struct Gate {
    is_over: AtomicBool,
    /// Read while an operation runs.
    open: RwLock<()>,
}

/// Ends the clients when it goes.
pub struct End<'a>(&'a Gate);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

impl Gate {
    /// Ends the clients when what this gives goes.
    pub fn end_at_drop(&self) -> End<'_> {
        End(self)
    }

    /// Runs `work` while no operation runs.
    pub fn while_closed<T>(&self, work: impl FnOnce() -> T) -> T {
        let _closed = self.open.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// One client.
pub struct Client {
    number: usize,
    seat: Seat,
    folder: PathBuf,
    rng: Rng,
    next: u64,
    /// Its own names, and how often each was put: most are put once and perhaps removed.
    own: BTreeMap<String, u64>,
}

impl Client {
    /// A client on this host.
    pub fn new(number: usize, host: &Host, rng: Rng) -> Client {
        let folder = host.folder.join("files");
        fs::create_dir_all(&folder).expect("a folder");
        Client { number, seat: host.client(), folder, rng, next: 0, own: BTreeMap::new() }
    }

    /// Gives commands until all is over.
    pub fn work(mut self, gate: &Gate, history: &History) {
        while !gate.is_over() {
            let _open = gate.open.read().unwrap_or_else(PoisonError::into_inner);
            let (name, action) = self.draw();
            let number = history.begin(self.number, &name, action.clone());
            let (outcome, note) = match action {
                Action::Put { bytes, copies } => self.put(history, number, &name, bytes, copies),
                Action::Remove => self.command(&["rm", &name]),
                Action::Count(copies) => self.command(&["replicas", &name, &copies.to_string()]),
                Action::Get => self.get(history, number, &name),
            };
            history.end(number, outcome, note);
        }
    }

    fn draw(&mut self) -> (String, Action) {
        let shared = format!("shared/{}", self.rng.below(SHARED_NAMES));
        let copies = 2 + self.rng.below(3);
        let bytes = match self.rng.below(10) {
            0..5 => 20 + self.rng.below(8_000),
            5..9 => 33_000 + self.rng.below(60_000),
            _ => 300_000 + self.rng.below(700_000),
        };
        let put = Action::Put { bytes, copies };
        let own = self.draw_own();
        match (self.rng.below(100), own) {
            (0..30, _) | (_, None) => {
                self.next += 1;
                let name = format!("own/{}-{}", self.number, self.next);
                self.own.insert(name.clone(), self.next);
                while self.own.len() > OWN_NAMES {
                    let oldest = self.own.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
                    self.own.remove(&oldest.unwrap_or_default());
                }
                (name, put)
            }
            (30..52, _) => (shared, put),
            (52..60, Some(name)) => (name, put),
            (60..72, Some(name)) => (name, Action::Remove),
            (72..76, _) => (shared, Action::Remove),
            (76..84, Some(name)) => (name, Action::Count(copies)),
            (84..92, _) => (shared, Action::Get),
            (_, Some(name)) => (name, Action::Get),
        }
    }

    fn draw_own(&mut self) -> Option<String> {
        let chosen = usize::try_from(self.rng.below(self.own.len() as u64)).unwrap_or(0);
        self.own.keys().nth(chosen).cloned()
    }

    fn put(
        &self,
        history: &History,
        number: usize,
        name: &str,
        bytes: u64,
        copies: u64,
    ) -> (Outcome, String) {
        let path = self.folder.join("put");
        let bytes = content(number, usize::try_from(bytes).expect("a small number"));
        fs::write(&path, bytes).expect("a file to put");
        let ended = self.command(&["put", &text(&path), "--as", name, "-n", &copies.to_string()]);
        if ended.0 == Outcome::Done {
            let answer: serde_json::Value = serde_json::from_str(&ended.1).unwrap_or_default();
            let have = answer["files"][0]["replicas"].as_u64().unwrap_or(0);
            if have == 0 {
                history.wrong(format!("#{number}: a put without a copy was acknowledged: {}", ended.1));
            }
        }
        ended
    }

    fn get(&self, history: &History, number: usize, name: &str) -> (Outcome, String) {
        let path = self.folder.join("got");
        // Not there at first.
        drop(fs::remove_file(&path));
        let (outcome, note) = self.command(&["get", name, "-o", &text(&path)]);
        if outcome != Outcome::Done {
            if path.exists() {
                history.wrong(format!("#{number}: a failed get of {name} left its output"));
            }
            return (outcome, note);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let origin = history.origin(&bytes);
        match origin.and_then(|origin| history.operations().get(origin).cloned()) {
            Some(put) if put.name == name && put.outcome != Outcome::Failed => {}
            put => history.wrong(format!(
                "#{number}: get of {name} gave {} bytes which nobody put there: {put:?}",
                bytes.len()
            )),
        }
        (outcome, format!("of #{}", origin.map_or("?".to_owned(), |origin| origin.to_string())))
    }

    /// Runs a command to its end, or to the end of patience.
    fn command(&self, args: &[&str]) -> (Outcome, String) {
        let args: Vec<&str> = args.iter().copied().chain(["--timeout", "3s", "--json"]).collect();
        let mut process = self.seat.start(&args);
        let ended = poll(s(15), || process.code().ok_or_else(String::new));
        let said = said(&process);
        match ended {
            Ok(0) => (Outcome::Done, said),
            // No proxy to ask; no such file. Nothing was changed, says the contract.
            Ok(3 | 4) => (Outcome::Failed, said),
            Ok(code) => (Outcome::Unknown, format!("exit {code}: {said}")),
            Err(_) => {
                process.kill9();
                (Outcome::Unknown, "it was killed after 15 s".to_owned())
            }
        }
    }
}

fn said(process: &Process) -> String {
    process.stdout().trim().to_owned()
}
