//! Mounts and processes of their own: this process becomes `unshare`, which runs the same binary
//! again as the first process of a process namespace with a private view of mounts. However that
//! one ends, the kernel ends its nodes and takes its mounts and loop devices back.
//!
//! The images lie in memory where there is much of it: syncs are then quick, and each cut meets more of
//! them. What a cut loses is in the file system above the image either way.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Memory that must be free for the images to lie there, in KiB as the kernel counts it.
const MEMORY_KIB: u64 = 6 << 20;

const INSIDE: &str = "THORP_CUTS_INSIDE";

/// Whether this process is the one inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether what cannot be run here is a failure.
pub fn is_required() -> bool {
    std::env::var("THORP_REQUIRE_LAN").is_ok_and(|value| value == "1")
}

/// Becomes the process inside. Comes back only if that is impossible, with the reason.
pub fn enter() -> String {
    if !rustix::process::geteuid().is_root() {
        return "mounting a file system needs root".to_owned();
    }
    if !Path::new("/dev/loop-control").exists() {
        return "this kernel has no loop devices".to_owned();
    }
    let compiler = Command::new("cc").arg("--version").output();
    if !compiler.is_ok_and(|output| output.status.success()) {
        return "no `cc`, which compiles the call that cuts the power".to_owned();
    }
    become_inside().map_or_else(|error| format!("unshare: {error}"), |never| match never {})
}

fn become_inside() -> std::io::Result<Infallible> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(command.env(INSIDE, "1").exec())
}

/// The folder for everything, maybe in memory; it goes when this goes.
pub struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    /// Makes it.
    pub fn new() -> Room {
        let folder = tempfile::Builder::new().prefix("cuts-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let room = Room { folder: folder.expect("a folder") };
        if free_memory_kib() >= MEMORY_KIB {
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=4g", "cuts"])
                .arg(room.path())
                .status();
            assert!(mount.is_ok_and(|status| status.success()), "a file system in memory");
        }
        room
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Fails where nothing is mounted.
        drop(Command::new("umount").arg("-l").arg(self.path()).stderr(Stdio::null()).status());
    }
}

fn free_memory_kib() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
