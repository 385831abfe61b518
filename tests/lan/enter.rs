//! Enters the namespaces in which the LAN is built: this process becomes `unshare`, which runs the
//! same binary again inside.
//!
//! Inside, the process namespace's first process is a small shell. When it ends, for whatever
//! reason (the tests are over, a signal, `unshare` was killed), the kernel ends everything in there
//! and takes the network down with it. So there is nothing to clean up but
//! the folder of the run, which that shell removes.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const INSIDE: &str = "THORP_LAN_INSIDE";

const NAMESPACES: [&str; 7] =
    ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Makes what the harness will make, and complains if it cannot.
const PROBE: &str = "set -e
ip link set lo up
ip link add thorpbr type bridge
ip link add thorpp1 type veth peer name thorpp2
ip link set thorpp1 master thorpbr
ip link set thorpbr up
ip link set dev thorpp1 type bridge_slave bcast_flood off
unshare --net --mount --uts true";

/// The first process inside: ends when the tests end or when it is told to, and takes the folder
/// with it.
const FIRST: &str = "end() { [ -n \"$THORP_LAN_KEEP\" ] || rm -rf -- \"$THORP_LAN_FOLDER\"; exit $1; }
trap 'end 130' INT TERM HUP
\"$@\" & wait $!
end $?";

/// Names the folder in which everything of this run lies.
const FOLDER: &str = "THORP_LAN_FOLDER";

/// Whether this process is the one inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether a LAN that cannot be made is a failure.
pub fn is_required() -> bool {
    std::env::var("THORP_REQUIRE_LAN").is_ok_and(|value| value == "1")
}

/// The folder in which everything of this run lies.
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER).map(PathBuf::from).expect("the run's folder")
}

/// Becomes the process inside. Comes back only if that is impossible, with the reason.
pub fn enter() -> String {
    for tool in ["unshare", "nsenter", "ip"] {
        let shown = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if let Err(error) = shown {
            return format!("`{tool}` cannot be run ({error})");
        }
    }
    let mut reasons = Vec::new();
    for &user in user_namespaces() {
        match probe(user) {
            Ok(()) => {
                return become_inside(user).map_or_else(|error| error.to_string(), |never| match never {});
            }
            Err(why) => reasons.push(why),
        }
    }
    reasons.join("; ")
}

fn become_inside(user: bool) -> std::io::Result<Infallible> {
    let mut builder = tempfile::Builder::new();
    // The shell inside removes it, because this process does not come back.
    builder.prefix("lan-").disable_cleanup(true);
    // Beside the build, where there is room; elsewhere if the build is somebody else's.
    let folder = builder.tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| builder.tempdir())?;
    let mut command = unshare(user);
    command.args(["sh", "-c", FIRST, "sh"]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(command.env(INSIDE, "1").env(FOLDER, folder.path()).exec())
}

/// Ways to try, best first: root needs no user namespace, everybody else does.
fn user_namespaces() -> &'static [bool] {
    let forced = std::env::var("THORP_LAN_USERNS").is_ok_and(|value| value == "1");
    if !forced && rustix::process::geteuid().is_root() { &[false, true] } else { &[true] }
}

fn unshare(user: bool) -> Command {
    let mut command = Command::new("unshare");
    if user {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(NAMESPACES);
    command
}

fn probe(user: bool) -> Result<(), String> {
    let output = unshare(user).args(["sh", "-c", PROBE]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let kind = if user { "in a user namespace" } else { "as root" };
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", ");
    Err(format!("no network namespaces {kind}: {words}"))
}
