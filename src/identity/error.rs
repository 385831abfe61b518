//! What can go wrong with keys and certificates, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key file or its folder could not be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can read a key file.
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The node key is not one that we wrote.
    #[error("the node key {} is damaged", path.display())]
    NodeKeyDamaged {
        /// Which file.
        path: PathBuf,
    },
    /// There is no cluster key where there should be one.
    #[error("the cluster key in {origin} is empty")]
    SecretEmpty {
        /// A path, or the name of a variable.
        origin: Box<str>,
    },
    /// More than [`crate::limits::CLUSTER_KEY_BYTES_MAX`].
    #[error("the cluster key in {origin} is longer than {max} bytes", max = crate::limits::CLUSTER_KEY_BYTES_MAX)]
    SecretTooLong {
        /// A path, or the name of a variable.
        origin: Box<str>,
    },
    /// Not UTF-8, or with control characters: not the file that was meant.
    #[error("the cluster key in {origin} is not text")]
    SecretNotText {
        /// A path, or the name of a variable.
        origin: Box<str>,
    },
    /// More than one line.
    #[error("the cluster key in {origin} has more than one line")]
    SecretLines {
        /// A path, or the name of a variable.
        origin: Box<str>,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for a new key")]
    Entropy {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cluster key could not be stretched (memory).
    #[error("cannot stretch the cluster key: {reason}")]
    Stretch {
        /// What the key function said.
        reason: Box<str>,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate {
        /// What the certificate library said.
        #[source]
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls {
        /// What the TLS library said.
        #[source]
        source: rustls::Error,
    },
}

impl IdentityError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            IdentityError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check the path, or make a key with `thorp key new`".into())
            }
            IdentityError::Read { .. } | IdentityError::Write { .. } => {
                Some("check who owns the file and its folder, and the room on its disk".into())
            }
            IdentityError::Exposed { path, .. } => {
                Some(format!("make it yours alone: chmod 600 {}", shell_quoted(&path.to_string_lossy())))
            }
            IdentityError::NodeKeyDamaged { path } => Some(format!(
                "restore it from a backup, or move {} away: the node then starts under a new id",
                path.display()
            )),
            IdentityError::SecretEmpty { .. }
            | IdentityError::SecretTooLong { .. }
            | IdentityError::SecretNotText { .. }
            | IdentityError::SecretLines { .. } => {
                Some("a cluster key is one line of text; `thorp key new` makes one".into())
            }
            IdentityError::Entropy { .. }
            | IdentityError::Stretch { .. }
            | IdentityError::Certificate { .. }
            | IdentityError::Tls { .. } => None,
        }
    }
}

/// The path as one word of a shell, so that the hint can be pasted.
fn shell_quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_of_an_exposed_file_can_be_pasted() {
        let hint = |path: &str| IdentityError::Exposed { path: path.into(), mode: 0o644 }.hint();
        assert_eq!(hint("/a/b.key").as_deref(), Some("make it yours alone: chmod 600 /a/b.key"));
        assert_eq!(hint("/a b'c").as_deref(), Some(r"make it yours alone: chmod 600 '/a b'\''c'"));
    }
}
