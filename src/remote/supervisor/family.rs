//! All processes that descend from this one.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;

/// Orphans among the descendants become children of this process.
pub(super) fn adopt_orphans() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Sends a signal to a process group and to all descendants outside of it.
pub(super) fn signal_all(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
    for (process, of) in descendants() {
        if of != group.as_raw_nonzero().get()
            && let Some(process) = Pid::from_raw(process)
        {
            let _ = kill_process(process, signal);
        }
    }
}

/// Processes that descend from this one, each with its process group. Empty where there is no `/proc`.
fn descendants() -> Vec<(i32, i32)> {
    let mut children: BTreeMap<i32, Vec<(i32, i32)>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some((parent, group)) = parse(&stat) {
            children.entry(parent).or_default().push((process, group));
        }
    }
    let mut found = Vec::new();
    let mut look = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = look.pop() {
        for (process, group) in children.remove(&parent).unwrap_or_default() {
            found.push((process, group));
            look.push(process);
        }
    }
    found
}

/// Parent and process group in a `/proc/PID/stat`. The second field is the program's name in
/// parentheses, which may have spaces and parentheses in it.
fn parse(stat: &[u8]) -> Option<(i32, i32)> {
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        assert_eq!(parse(b"42 (a) b) (c) S 7 9 9 0 -1"), Some((7, 9)));
        assert_eq!(parse(b"42 (sh"), None);
        assert_eq!(parse(b""), None);
    }
}
