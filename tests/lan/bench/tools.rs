//! Programs that the comparisons need beside thorp: looked for, and installed where that can be done,
//! before the hosts are made (these have no way out to a package archive).

use rustix::process::geteuid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a measurement needs: a program and Debian's package of it.
const NEEDED: &[(&str, &[(&str, &str)])] = &[
    (
        "measure_channels_beside_mosquitto_and_flask",
        &[("mosquitto", "mosquitto"), ("python3", "python3-venv")],
    ),
    (
        "measure_sync_and_run_beside_rsync_and_ssh",
        &[("rsync", "rsync"), ("/usr/sbin/sshd", "openssh-server")],
    ),
    ("measure_http_beside_nginx_and_native", &[("nginx", "nginx-light"), ("curl", "curl")]),
];
/// A Python that has Flask and gunicorn.
const PYTHON: &str = "THORP_BENCH_PYTHON";

/// Looks for what `test` needs and installs what is missing.
pub fn prepare(test: &str) {
    let Some((name, needed)) = NEEDED.iter().find(|(name, _)| *name == test) else { return };
    for (program, package) in *needed {
        if !is_there(program) && geteuid().is_root() {
            println!("  {name}: installing {package}");
            run(Command::new("apt-get").args(["install", "-y", "-q", "--no-install-recommends", package]));
        }
    }
    if name.contains("flask") && !has_flask(&python()) && std::env::var_os(PYTHON).is_none() {
        println!("  {name}: installing Flask and gunicorn");
        run(Command::new("python3").args(["-m", "venv"]).arg(own()));
        run(Command::new(python()).args(["-m", "pip", "install", "-q", "flask", "gunicorn"]));
    }
}

/// Fails if something that `test` needs is not there.
#[track_caller]
pub fn require(test: &str) {
    let needed = NEEDED.iter().filter(|(name, _)| *name == test).flat_map(|(_, needed)| *needed);
    let missing: Vec<&str> = needed.filter(|(program, _)| !is_there(program)).map(|of| of.1).collect();
    assert!(missing.is_empty(), "not installed: {}", missing.join(", "));
    let has_python = !test.contains("flask") || has_flask(&python());
    assert!(has_python, "Flask and gunicorn are not there: set {PYTHON} to a Python that has them");
}

/// The Python that has them, or will.
pub fn python() -> PathBuf {
    std::env::var_os(PYTHON).map_or_else(|| own().join("bin/python3"), PathBuf::from)
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("flask")
}

fn has_flask(python: &Path) -> bool {
    quietly(Command::new(python).args(["-c", "import flask, gunicorn"]))
}

fn is_there(program: &str) -> bool {
    quietly(Command::new("sh").args(["-c", "command -v \"$0\"", program]))
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What fails here is found missing by [`require`].
fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        println!("  failed: {command:?}");
    }
}
