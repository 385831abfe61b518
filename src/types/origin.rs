//! Where a peer may come from: what a node's owner writes to say who may run programs there.

use super::{MachineId, NodeId};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Peers that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All whose address begins with the same so many bits.
    Network {
        /// Any address of it.
        address: IpAddr,
        /// How many bits.
        prefix_bits: u8,
    },
    /// One node, as TLS proves it.
    Node(NodeId),
    /// All nodes and commands of a machine. Only who has the cluster key can say that they are one.
    Machine(MachineId),
}

impl Origin {
    /// An address, a network (`10.0.0.0/24`), a node's id or a machine's.
    ///
    /// # Errors
    /// When it is none of those.
    pub fn parse(text: &str) -> Result<Origin, String> {
        let text = text.trim();
        let wrong =
            || "it is an address, a network like `10.0.0.0/24`, or the id of a node or machine".to_owned();
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let prefix_bits: u8 = bits.parse().map_err(|_| wrong())?;
            return match prefix_bits <= width(address) {
                true => Ok(Origin::Network { address, prefix_bits }),
                false => Err(format!("a network of this kind has at most {} bits", width(address))),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Origin::Network { address, prefix_bits: width(address) });
        }
        NodeId::parse(text)
            .map(Origin::Node)
            .or_else(|| MachineId::parse(text).map(Origin::Machine))
            .ok_or_else(wrong)
    }

    /// Whether a peer is meant: its node, its machine, its address.
    #[must_use]
    pub fn covers(&self, node: NodeId, machine: &MachineId, from: IpAddr) -> bool {
        match self {
            Origin::Network { address, prefix_bits } => {
                let (a, b) = (bits(*address), bits(from));
                let host_bits = u32::from(width(*address) - prefix_bits);
                width(address.to_canonical()) == width(from.to_canonical())
                    && a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
            }
            Origin::Node(meant) => *meant == node,
            Origin::Machine(meant) => meant == machine,
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => Ipv6Addr::to_bits(address),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Network { address, prefix_bits } if *prefix_bits == width(*address) => {
                write!(f, "{address}")
            }
            Origin::Network { address, prefix_bits } => write!(f, "{address}/{prefix_bits}"),
            Origin::Node(node) => write!(f, "{node}"),
            Origin::Machine(machine) => write!(f, "{machine}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_covers_what_it_names_and_nothing_else() {
        let (node, machine) = (NodeId([7; 16]), MachineId::parse("attic").expect("valid"));
        let covers = |origin: &str, from: &str| {
            let origin = Origin::parse(origin).expect(origin);
            assert_eq!(Origin::parse(&origin.to_string()), Ok(origin.clone()));
            origin.covers(node, &machine, from.parse().expect("an address"))
        };
        assert!(covers("10.0.0.0/24", "10.0.0.77") && !covers("10.0.0.0/24", "10.0.1.77"));
        assert!(covers("10.0.0.9", "10.0.0.9") && !covers("10.0.0.9", "10.0.0.8"));
        assert!(covers("0.0.0.0/0", "10.0.0.9") && !covers("0.0.0.0/0", "fd00::1"));
        assert!(covers("fd00::/8", "fd12::1") && !covers("fd00::/8", "fe80::1"));
        assert!(covers("10.0.0.0/24", "::ffff:10.0.0.5"));
        assert!(covers("attic", "10.0.0.9") && !covers("cellar", "10.0.0.9"));
        assert!(covers(&node.to_string(), "::1") && !covers(&NodeId([8; 16]).to_string(), "::1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/x", "fd00::/129"] {
            assert!(Origin::parse(wrong).is_err(), "{wrong}");
        }
    }
}
