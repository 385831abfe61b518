//! Datagrams: opened, their seal checked, handed to the engine. Shell.
//!
//! Invariant: nothing unsealed reaches the engine, and nothing is ever sent to an address because a
//! datagram came from it.

use super::Shared;
use crate::discovery::socket::DiscoverySocket;
use crate::engine::event::{Input, Via};
use crate::wire::datagram::{Datagram, open_datagram};
use std::net::IpAddr;
use std::sync::Arc;

/// Hears datagrams for as long as the node runs.
pub(super) async fn hear(shared: Arc<Shared>, socket: Arc<DiscoverySocket>) {
    let mut other_key_noted = false;
    loop {
        let (bytes, source) = socket.recv().await;
        let Ok(sealed) = open_datagram(&bytes) else {
            continue;
        };
        let ours = shared.identity.keys.tags;
        if sealed.tags.name != ours.name {
            continue;
        }
        if sealed.tags.key != ours.key {
            if !other_key_noted {
                other_key_noted = true;
                tracing::warn!(%source, "a thorp of this cluster name with another cluster key is on this LAN");
            }
            continue;
        }
        if !shared.identity.keys.check(&sealed.sealed_bytes(), &sealed.seal) {
            tracing::debug!(%source, "a datagram with a wrong seal");
            continue;
        }
        let input = match sealed.datagram() {
            Ok(Datagram::Beacon(presence)) => {
                Input::Announced { presence, source: IpAddr::V4(*source.ip()), via: Via::Datagram }
            }
            Ok(Datagram::Query { nonce: _ }) => Input::Queried,
            Ok(Datagram::Goodbye { node, instance, sequence: _ }) => Input::GoodbyeHeard { node, instance },
            Err(error) => {
                tracing::debug!(%source, %error, "a datagram that makes no sense");
                continue;
            }
        };
        // A full queue means overload: a beacon more or less does not matter then.
        if shared.datagrams.try_send(input).is_err() {
            tracing::debug!("busy: a datagram was not looked at");
        }
    }
}
