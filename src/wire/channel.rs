//! Channels: what is asked of the proxy about live state, and what it answers. See
//! `docs/protocol.md`, Channels.
//!
//! Invariant: requests on one connection are answered in their order, so several may be on their
//! way. After [`ChannelAsk::Follow`] there is nothing but what happens in that channel.

use crate::types::{ChannelKey, ClientId, ClientTime, ClientToken, NodeRoute};
use bincode::{Decode, Encode};

/// What a client says of itself beside its body; in HTTP these are headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ClientSays {
    /// Who it is.
    pub id: Option<ClientId>,
    /// When it asked, by its own clock.
    pub time: Option<ClientTime>,
    /// Proves the first.
    pub token: Option<ClientToken>,
}

/// Tells one state of a channel from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ChannelState {
    /// Drawn at random when a proxy begins to lead.
    pub epoch: u64,
    /// Grows with each change.
    pub version: u64,
}

/// What is asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChannelAsk {
    /// This is my state now; give me the others'.
    Post {
        /// Where.
        channel: ChannelKey,
        /// A JSON object with a `client_id`.
        body: Box<str>,
        /// Who posts.
        says: ClientSays,
        /// So long after its last post a client is gone, if this makes the channel.
        expiry_ms: Option<u64>,
        /// Random: what proves the client from now on, if it is new and shows no token. A post that is
        /// sent again, as its answer was lost or gave nothing out, is known by it.
        drawn: ClientToken,
    },
    /// Give me everybody's state.
    Get {
        /// Where.
        channel: ChannelKey,
        /// Who asks.
        says: ClientSays,
        /// Unless it is still this one.
        known: Option<ChannelState>,
    },
    /// Which channels are there?
    List,
    /// A client leaves.
    Leave {
        /// Where.
        channel: ChannelKey,
        /// Who.
        client: ClientId,
        /// Proves it.
        token: Option<ClientToken>,
    },
    /// Tell me what happens from now on. The last request on its connection.
    Follow {
        /// Where.
        channel: ChannelKey,
    },
}

/// The proxy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChannelReply {
    /// To `Post` and `Get`. The payload is a JSON list of bodies, each as it was posted.
    Bodies {
        /// Which state it is.
        state: ChannelState,
        /// How long this cluster's proxies have served channels, in milliseconds.
        server_time_ms: u64,
        /// To the first post of an id, and to that one sent again: what proves it from now on.
        token: Option<ClientToken>,
    },
    /// To `Get`: it is still the known one.
    Unchanged {
        /// Which.
        state: ChannelState,
        /// As above.
        server_time_ms: u64,
    },
    /// Keep what you have: the proxy changed and clients have not all posted again, or the request
    /// is older than one that came before it.
    NoUpdate {
        /// Whether it is the second.
        late: bool,
        /// As in `Bodies`: the post was stored all the same.
        token: Option<ClientToken>,
    },
    /// To `List`, sorted.
    Channels {
        /// Their keys.
        channels: Vec<ChannelKey>,
    },
    /// To `Leave`.
    Left,
    /// I do not lead; ask there, if I know where.
    NotProxy {
        /// Who does.
        proxy: Option<NodeRoute>,
    },
    /// It was not done, and why.
    Refused {
        /// Why.
        refusal: ChannelRefusal,
    },
    /// To `Follow`, first: what follows up to [`ChannelReply::Complete`] is everything.
    Reset,
    /// A client's state.
    Update {
        /// Whose.
        client: ClientId,
        /// As it was posted.
        body: Box<str>,
    },
    /// A client left, or has not posted for too long.
    Gone {
        /// Who.
        client: ClientId,
    },
    /// That is how it stands; what comes now are changes.
    Complete,
    /// Keep what you have, as with `NoUpdate`, until [`ChannelReply::Complete`].
    Wait,
}

/// Why a request about a channel was refused: stable numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, thiserror::Error)]
pub enum ChannelRefusal {
    /// Not JSON, not an object, too deep, a number that is none.
    #[error("the body is no JSON object")]
    Body,
    /// Of the body.
    #[error("the body has no `client_id`: a text of 1 to 128 bytes")]
    ClientId,
    /// Which of them would hold?
    #[error("the body has more than one `client_id`")]
    ClientIdTwice,
    /// Than beside the body.
    #[error("the body has another `client_id` than the request")]
    OtherClient,
    /// See `CHANNEL_BODY_BYTES_MAX`.
    #[error("the body is too large")]
    TooLarge,
    /// See `CHANNEL_EXPIRY_MIN` and `CHANNEL_EXPIRY_MAX`.
    #[error("an expiry is from 100 ms to 1 hour")]
    Expiry,
    /// The client has shown its token, or is bound to.
    #[error("this client's token is needed")]
    TokenNeeded,
    /// It is another client's, or nobody's.
    #[error("this is not the client's token")]
    WrongToken,
    /// In that channel.
    #[error("there is no such client")]
    NoClient,
    /// See `CHANNEL_POSTS_PER_SECOND`.
    #[error("the client posts too often")]
    TooFast,
    /// Channels, clients or bytes.
    #[error("there is no room for more")]
    Full,
    /// Too many answers are on their way at once.
    #[error("too many ask at once")]
    Busy,
}
