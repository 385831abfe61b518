//! Nodes that serve the page, each on a port of its own.

use crate::process::{Process, s, wait_until};
use crate::village::{Village, text};
use serde_json::Value;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: browsers are heavy, and times are waited for.
static TURN: Mutex<()> = Mutex::new(());

/// A cluster whose nodes serve HTTP.
pub struct Street {
    houses: Vec<House>,
    options: Vec<String>,
    pub village: Village,
    _turn: MutexGuard<'static, ()>,
}

struct House {
    name: String,
    http: String,
    process: Process,
}

impl Street {
    /// Nodes `a`, `b`, … with `options`, which have found each other.
    #[track_caller]
    pub fn of(count: u8, options: &[&str]) -> Street {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut street = Street { houses: Vec::new(), options, village: Village::new(), _turn: turn };
        let names: Vec<String> = (0..count).map(|index| char::from(b'a' + index).to_string()).collect();
        for name in &names {
            street.start(name, "127.0.0.1:0", &[]);
        }
        wait_until(s(30), "all nodes are one cluster", || {
            let status = street.status()?;
            let nodes = status["nodes"].as_array().expect("nodes");
            let up = nodes.iter().filter(|node| node["state"] == "up").count();
            if up == names.len() { Ok(()) } else { Err(status.to_string()) }
        });
        street
    }

    /// Starts a node that serves HTTP there, and waits until it is ready.
    #[track_caller]
    fn start(&mut self, name: &str, http: &str, more: &[&str]) {
        let mut args = vec!["up", "--name", name, "--machine", name, "--http", http];
        args.extend(self.options.iter().map(String::as_str).chain(more.iter().copied()));
        let command = self.village.command(&self.village.data(name), &args);
        let mut process = self.village.spawn(command, &format!("node {name}"));
        let http = wait_until(s(20), &format!("{name} is ready"), || {
            if let Some(code) = process.code() {
                panic!("{name} ended with {code} before it was ready: {}", process.stderr());
            }
            let said = String::from_utf8(process.stdout()).expect("text");
            match said.trim_end().split(' ').collect::<Vec<_>>().as_slice() {
                ["ready", _, _, http] if said.ends_with('\n') => Ok((*http).to_owned()),
                _ => Err(format!("stdout: {said:?}")),
            }
        });
        self.houses.push(House { name: name.to_owned(), http, process });
    }

    /// Where the node of that name serves HTTP.
    #[track_caller]
    pub fn http(&self, name: &str) -> &str {
        &self.houses.iter().find(|house| house.name == name).unwrap_or_else(|| panic!("no node {name}")).http
    }

    /// Ends a node as a power cut would; gives where it served HTTP.
    #[track_caller]
    pub fn kill9(&mut self, name: &str) -> String {
        let position = self.houses.iter().position(|house| house.name == name);
        let mut house = self.houses.remove(position.unwrap_or_else(|| panic!("no node {name}")));
        house.process.kill9();
        house.http
    }

    /// Starts a node again that was killed, where it served HTTP.
    #[track_caller]
    pub fn revive(&mut self, name: &str, http: &str) {
        self.start(name, http, &[]);
    }

    /// One more node, with options of its own.
    #[track_caller]
    pub fn add(&mut self, name: &str, more: &[&str]) {
        self.start(name, "127.0.0.1:0", more);
    }

    /// What `status --json` says, or why it says nothing.
    #[track_caller]
    pub fn status(&self) -> Result<Value, String> {
        let mut args = vec!["status", "--json", "--timeout", "2s"];
        args.extend(self.key());
        let output = self.village.run(&args);
        if output.code == 0 { Ok(output.json()) } else { Err(output.to_string()) }
    }

    /// Stores a file under a name.
    #[track_caller]
    pub fn put(&self, path: &Path, name: &str, copies: &str) {
        self.village.run(&["put", text(path), "--as", name, "-n", copies]).ended(0);
    }

    /// The token that browsers need where there is a key.
    #[track_caller]
    pub fn token(&self) -> String {
        let args: Vec<&str> = ["status", "--token"].into_iter().chain(self.key()).collect();
        self.village.run(&args).ended(0).stdout().trim().to_owned()
    }

    /// The options that say which key, if there is one.
    fn key(&self) -> Vec<&str> {
        let at = self.options.iter().position(|option| option == "--key-file");
        at.map(|at| self.options[at..at + 2].iter().map(String::as_str).collect()).unwrap_or_default()
    }
}
