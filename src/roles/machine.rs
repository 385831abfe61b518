//! Which machine this is, and what it is called. Shell.
//!
//! Invariant: nodes on one machine have one id, whatever folders they use, and machines that were
//! cloned from one disk image have different ones: their kernels booted apart.

use crate::limits::LABEL_BYTES_MAX;
use crate::types::MachineId;
use sha2::{Digest, Sha256};

/// Why there is no machine id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The label given in its place does not do.
    #[error("`{given}` is no machine label: 1 to {LABEL_BYTES_MAX} bytes without control characters")]
    Label {
        /// What was given, control characters escaped.
        given: Box<str>,
    },
}

/// The id of this machine: `label` if one is given, else 16 hexadecimal digits that stay the same
/// until it reboots.
///
/// # Errors
/// When `label` is empty, too long or has control characters.
pub fn machine_id(label: Option<&str>) -> Result<MachineId, MachineError> {
    let refused = |text: &str| MachineError::Label { given: text.escape_debug().take(80).collect() };
    match label {
        Some(label) => MachineId::parse(label).ok_or_else(|| refused(label)),
        None => {
            let digits = fingerprint(&marks());
            MachineId::parse(&digits).ok_or_else(|| refused(&digits))
        }
    }
}

/// This machine's host name as a display name: 1 to [`LABEL_BYTES_MAX`] bytes, printable.
#[must_use]
pub fn host_name() -> String {
    let name = clean_label(&rustix::system::uname().nodename().to_string_lossy());
    if name.is_empty() { "unnamed".into() } else { name }
}

/// What tells this machine from others. A container without a machine id still has its kernel's
/// boot id; where there is neither (not Linux), the host name and the kind of system must do.
fn marks() -> Vec<String> {
    let machine = mark_in("/etc/machine-id").or_else(|| mark_in("/var/lib/dbus/machine-id"));
    let boot = mark_in("/proc/sys/kernel/random/boot_id");
    if machine.is_some() || boot.is_some() {
        return vec![machine.unwrap_or_default(), boot.unwrap_or_default()];
    }
    let system = rustix::system::uname();
    [system.nodename(), system.sysname(), system.machine()].map(|part| part.to_string_lossy().into()).into()
}

/// The text of a file that holds one id, unless it is missing or empty.
fn mark_in(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mark = text.trim();
    // systemd writes this word until the first boot has drawn an id.
    (!mark.is_empty() && mark != "uninitialized").then(|| mark.to_owned())
}

/// The first 8 bytes of the hash of the marks, each ended by a zero, so that they cannot run together.
fn fingerprint(marks: &[String]) -> String {
    let mut hash = Sha256::new_with_prefix("thorp machine 1\0");
    for mark in marks {
        hash.update(mark);
        hash.update([0]);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// `text` without what cannot be printed on one line and without white space at its ends, cut to
/// [`LABEL_BYTES_MAX`] bytes between characters.
fn clean_label(text: &str) -> String {
    let mut label = String::new();
    for character in text.trim().chars().filter(|character| is_printable(*character)) {
        if label.len() + character.len_utf8() > LABEL_BYTES_MAX {
            break;
        }
        label.push(character);
    }
    label.truncate(label.trim_end().len());
    label
}

/// No control character, line separator, or mark that turns the direction of writing.
fn is_printable(character: char) -> bool {
    let turns = matches!(character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}');
    !character.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_keeps_its_id_and_a_label_is_taken_as_it_is() {
        let id = machine_id(None).expect("an id");
        assert_eq!(machine_id(None), Ok(id.clone()));
        assert_eq!(id.as_str().len(), 16);
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(machine_id(Some("shelf 3")).expect("valid").as_str(), "shelf 3");
        for wrong in ["", "a\nb", &"x".repeat(LABEL_BYTES_MAX + 1)] {
            assert!(machine_id(Some(wrong)).is_err(), "{wrong:?}");
        }
        let told = machine_id(Some("a\u{1b}[2J")).expect_err("refused").to_string();
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn clones_of_one_image_differ_once_booted() {
        let marks = |machine: &str, boot: &str| fingerprint(&[machine.to_owned(), boot.to_owned()]);
        assert_eq!(marks("image", "boot"), marks("image", "boot"));
        assert_ne!(marks("image", "boot"), marks("image", "boot2"));
        assert_ne!(marks("image", "boot"), marks("imageb", "oot"));
        assert_ne!(marks("", "boot"), marks("boot", ""));
    }

    #[test]
    fn a_host_name_is_one_printable_line() {
        assert_eq!(clean_label(" my-pi \n"), "my-pi");
        assert_eq!(clean_label("a\u{1b}[31m\u{202e}b\u{2028}c"), "a[31mbc");
        assert_eq!(clean_label("\u{7}\u{200b}"), "");
        assert_eq!(clean_label(&"é".repeat(40)), "é".repeat(32));
        assert_eq!(clean_label(&"日".repeat(40)).len(), 63);
        let name = host_name();
        assert!(MachineId::parse(&name).is_some(), "{name:?} is as good as a label");
    }
}
