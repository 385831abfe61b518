//! Finding the others on a LAN with nothing configured.
//!
//! [`membership`] (pure) keeps who is here and how fresh; [`socket`] (shell) carries datagrams on
//! every interface. What a datagram says is a hint: what a node is, it proves in the TLS handshake.

pub mod membership;
pub mod socket;
