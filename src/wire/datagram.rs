//! Datagrams of discovery: beacon, query, goodbye.
//!
//! Layout (see `docs/protocol.md`, Datagrams): magic `THRP`, protocol version, kind, cluster-name
//! tag (8), key tag (8), seal (16), body. The seal is a MAC with the cluster's beacon key over all
//! the rest. The tags are readable without any key, so that a node with another key can be told
//! why it sees nothing. Invariant: nothing of the body is looked at before the seal is checked.

use super::{DecodeError, PROTOCOL_VERSION, decode, encode};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::types::{InstanceId, NodeId, Presence};

const MAGIC: [u8; 4] = *b"THRP";
const SEAL_AT: usize = 4 + 1 + 1 + 8 + 8;
const BODY_AT: usize = SEAL_AT + 16;

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// I am here.
    Beacon(Box<Presence>),
    /// Who leads? Answered by the proxy's next broadcast, never to the asker's address.
    Query {
        /// Random, so that no two queries are the same bytes.
        nonce: u64,
    },
    /// I leave on purpose: give me time to come back.
    Goodbye {
        /// Who.
        node: NodeId,
        /// Which run.
        instance: InstanceId,
        /// Next in the run's sequence of beacons.
        sequence: u64,
    },
}

/// Which cluster a datagram is for, readable by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tags {
    /// Follows from the cluster's name.
    pub name: [u8; 8],
    /// Follows from the cluster's key and name.
    pub key: [u8; 8],
}

/// A datagram whose seal has not been checked.
#[derive(Debug)]
pub struct Sealed<'bytes> {
    /// Whom it is for.
    pub tags: Tags,
    /// The MAC it carries.
    pub seal: [u8; 16],
    kind: u8,
    bytes: &'bytes [u8],
}

/// The bytes of a datagram. `seal` computes the MAC of its argument with the beacon key.
#[must_use]
pub fn encode_datagram(datagram: &Datagram, tags: Tags, seal: impl Fn(&[u8]) -> [u8; 16]) -> Vec<u8> {
    let (kind, body) = match datagram {
        Datagram::Beacon(presence) => (1, encode(presence.as_ref())),
        Datagram::Query { nonce } => (2, encode(nonce)),
        Datagram::Goodbye { node, instance, sequence } => (3, encode(&(*node, *instance, *sequence))),
    };
    let mut bytes = Vec::with_capacity(BODY_AT + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[PROTOCOL_VERSION, kind]);
    bytes.extend_from_slice(&tags.name);
    bytes.extend_from_slice(&tags.key);
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&body);
    let mac = seal(&bytes);
    bytes[SEAL_AT..BODY_AT].copy_from_slice(&mac);
    bytes
}

/// Reads the readable part of a datagram.
///
/// # Errors
/// When it is not ours, of another protocol version, too short or too long.
pub fn open_datagram(bytes: &[u8]) -> Result<Sealed<'_>, DecodeError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(DecodeError::TooLong { bytes: bytes.len(), limit: DATAGRAM_BYTES_MAX });
    }
    if bytes.len() < BODY_AT || bytes[..4] != MAGIC {
        return Err(DecodeError::Foreign);
    }
    if bytes[4] != PROTOCOL_VERSION {
        return Err(DecodeError::Version(bytes[4]));
    }
    let eight = |at: usize| {
        let mut part = [0; 8];
        part.copy_from_slice(&bytes[at..at + 8]);
        part
    };
    let mut seal = [0; 16];
    seal.copy_from_slice(&bytes[SEAL_AT..BODY_AT]);
    Ok(Sealed { tags: Tags { name: eight(6), key: eight(14) }, seal, kind: bytes[5], bytes })
}

impl Sealed<'_> {
    /// What the seal must cover: the datagram with zeros in the seal's place.
    #[must_use]
    pub fn sealed_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes[SEAL_AT..BODY_AT].fill(0);
        bytes
    }

    /// The datagram. Call it only once the seal was found right.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn datagram(&self) -> Result<Datagram, DecodeError> {
        let body = &self.bytes[BODY_AT..];
        match self.kind {
            1 => {
                let presence: Presence = decode(body)?;
                super::message::check_presence(&presence)?;
                Ok(Datagram::Beacon(Box::new(presence)))
            }
            2 => Ok(Datagram::Query { nonce: decode(body)? }),
            3 => {
                let (node, instance, sequence) = decode(body)?;
                Ok(Datagram::Goodbye { node, instance, sequence })
            }
            other => Err(DecodeError::Malformed(format!("unknown kind of datagram {other}").into())),
        }
    }
}
