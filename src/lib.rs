//! thorp turns the machines of a LAN into one. This is the map of the crate.
//!
//! Pure logic decides, thin shells act. The pure part takes inputs with the time as an argument
//! and gives effects; it touches no socket, file, clock or thread, so one seed replays a whole
//! cluster in a test. From the ground up:
//!
//! | folder | what it is | |
//! |---|---|---|
//! | [`limits`] | every bound, port and timeout | ground |
//! | [`clock`] | moments, wall time, randomness | ground |
//! | [`types`] | shared nouns | pure |
//! | [`config`] | option, environment, file, default | ground |
//! | [`documents`] | JSON of commands and of HTTP | pure |
//! | [`wire`] | datagrams, frames, stored records: the only one that knows bytes | pure |
//! | [`discovery`] | who is here: membership (pure), broadcast (shell) | |
//! | [`roles`] | who leads: election (pure); what a disk can take (shell) | |
//! | [`replication`] | the catalog, where copies go, what to mend | pure |
//! | [`messages`] | letters: the mailbox (pure), folders and hooks (shell) | |
//! | [`channels`] | live state that clients share: who says what, and for how long | pure |
//! | [`engine`] | composes the pure parts: one input in, effects out | pure |
//! | [`identity`] | keys, certificates, TLS, the seal of beacons | shell |
//! | [`store`] | contents and catalog on disk | shell |
//! | [`transfer`] | moves contents: chunks and manifests (pure), put chain, striped get | |
//! | [`remote`] | folders kept equal on another machine, programs run there | shell |
//! | [`node`] | the daemon: selects one input, applies it, performs the effects | shell |
//! | [`web`] | HTTP: the page, files, channels, the cluster's state | shell |
//! | [`cli`] | commands, printing, exit codes | shell |
//!
//! `docs/architecture.md` has the import table, the decisions and their reasons.

pub mod channels;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod documents;
pub mod engine;
pub mod identity;
pub mod limits;
pub mod messages;
pub mod node;
pub mod remote;
pub mod replication;
pub mod roles;
pub mod store;
pub mod transfer;
pub mod types;
pub mod web;
pub mod wire;
