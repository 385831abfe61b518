//! Identifiers. All are fixed-size bytes shown in lower-case hexadecimal.

use std::fmt;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl $name {
            /// Reads the form that `Display` writes; `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.as_bytes();
                if digits.len() != 2 * $bytes {
                    return None;
                }
                let mut id = [0_u8; $bytes];
                for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
                    let high = char::from(pair[0]).to_digit(16)?;
                    let low = char::from(pair[1]).to_digit(16)?;
                    *byte = u8::try_from(high * 16 + low).ok()?;
                }
                Some($name(id))
            }
        }
    };
}

hex_id!(
    /// Who a node is: the first half of the SHA-256 of its Ed25519 public key. Proved in the TLS
    /// handshake, merely claimed in a beacon.
    NodeId, 16
);
hex_id!(
    /// What a content is: the SHA-256 of its manifest (see [`crate::transfer::manifest`]).
    ContentId, 32
);
hex_id!(
    /// The SHA-256 of a chunk's bytes.
    ChunkHash, 32
);
hex_id!(
    /// Which data folder a node serves, drawn when the folder is made: another disk, another id.
    DiskId, 16
);
hex_id!(
    /// A cluster's own uuid, drawn by its first node. Clusters that were merged keep each other's;
    /// two clusters are one when their sets of lineages meet.
    Lineage, 16
);

hex_id!(
    /// A program that runs, or ran, for somebody: drawn at random by whoever starts it, so that a
    /// repeated start is known as one.
    JobId, 4
);

/// One run of a node's process, drawn at random at its start. Dots are minted under it, so a
/// counter that starts again at 1 can never mint a dot twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// The physical machine a node runs on: nodes of one machine count once for placement.
/// At most [`crate::limits::LABEL_BYTES_MAX`] bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(Box<str>);

impl MachineId {
    /// A machine's label; `None` if it is empty, too long or has control characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<MachineId> {
        let valid = !text.is_empty()
            && text.len() <= crate::limits::LABEL_BYTES_MAX
            && !text.chars().any(char::is_control);
        valid.then(|| MachineId(text.into()))
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_refuses_the_rest() {
        let id = NodeId([0xa5; 16]);
        assert_eq!(NodeId::parse(&id.to_string()), Some(id));
        assert_eq!(NodeId::parse(""), None);
        assert_eq!(NodeId::parse("zz"), None);
        assert_eq!(NodeId::parse(&"é".repeat(16)), None);
    }
}
