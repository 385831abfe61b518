//! The JSON documents of channels.

use serde::Serialize;
use serde_json::value::RawValue;

/// `thorp channel post` and `thorp channel get`.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelDocument {
    /// What the others, or all, have posted, in the order in which they came.
    pub clients: Vec<Box<RawValue>>,
    /// How long this cluster's proxies have served channels, in seconds.
    pub server_time: f64,
    /// Proves this client from now on; `null` unless this was its first post.
    pub token: Option<String>,
}

/// A line of `thorp channel follow`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub enum ChannelEvent {
    /// How it stands; what follows are changes.
    Snapshot {
        /// What all have posted.
        clients: Vec<Box<RawValue>>,
    },
    /// What a client has posted.
    Update(Box<RawValue>),
    /// A client that left, or has not posted for too long.
    Gone {
        /// Who.
        client_id: String,
    },
    /// There is no proxy, or it is new: what is known stays.
    Wait,
}
