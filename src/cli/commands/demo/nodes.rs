//! The nodes of the demo: real processes of this program, on loopback, in one temporary folder.
//!
//! Invariant: whatever happens, no process is left behind; a node that is dropped is killed.

use crate::cli::failure::Failure;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How all nodes of one demo are started.
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) cluster: String,
    pub(super) port: u16,
    pub(super) heal_after: &'static str,
}

/// One node: running, or killed.
pub(super) struct DemoNode {
    pub(super) name: String,
    child: Option<Child>,
}

impl Plan {
    /// Where a node keeps its files.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts the node `name` as a machine of its own, and waits until it is ready.
    pub(super) fn start(&self, name: &str) -> Result<DemoNode, Failure> {
        let log = self.folder.join(format!("{name}.log"));
        let failed =
            |error: &std::io::Error| Failure::failed(format!("node {name} could not be started: {error}"));
        let errors =
            fs::File::options().create(true).append(true).open(&log).map_err(|error| failed(&error))?;
        let mut command = Command::new(&self.program);
        for (variable, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"THORP_"))
        {
            command.env_remove(variable);
        }
        let empty = self.folder.join("config.toml");
        command
            .args(["up", "--bind", "127.0.0.1", "--http", "off", "--heal-after", self.heal_after])
            .args(["--port", &self.port.to_string(), "--cluster", &self.cluster])
            .args(["--name", name, "--machine", &format!("demo-{name}")])
            .arg("--config")
            .arg(empty)
            .arg("--data-dir")
            .arg(self.data_dir(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let output = child.stdout.take();
        let node = DemoNode { name: name.to_owned(), child: Some(child) };
        let mut line = String::new();
        if let Some(output) = output {
            // A node that cannot start ends, which ends the line too.
            BufReader::new(output).read_line(&mut line).map_err(|error| failed(&error))?;
        }
        if line.starts_with("ready ") {
            return Ok(node);
        }
        Err(Failure::failed(format!("node {name} did not start: {}", last_line(&log))))
    }
}

impl DemoNode {
    /// Whether it runs, as far as the demo knows.
    pub(super) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it without any warning, as a power cut would.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for DemoNode {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| line.starts_with("error")).unwrap_or("it said nothing").to_owned()
}
