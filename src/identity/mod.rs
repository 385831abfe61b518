//! Who we are and who may take part: node key, cluster key, certificates, TLS. Shell.
//!
//! Two questions, two keys. The cluster key says who may take part: from it follow the seal of
//! datagrams and an authority that is the same on every node. The node key says who: its hash is
//! the node's id, and its certificate under that authority proves both in one handshake.
//! Invariant: a secret leaves this folder only inside a TLS configuration or as a seal.

mod certificates;
mod cluster_key;
mod error;
mod key_file;
mod node_key;
mod stretch_cache;
mod tls;
mod words;

#[cfg(test)]
mod handshake_tests;

pub use certificates::peer_node_id;
pub use cluster_key::{ClusterKeys, ClusterSecret, generate_words, open_tags};
pub use error::IdentityError;
pub use node_key::{NODE_KEY_FILE, NodeKey, node_id_of};
pub use tls::{ALPN, TlsIdentity, server_name};

use crate::types::NodeId;
use std::path::Path;

/// The name in every node's certificate, and the one that a client asks for.
const SERVER_NAME: &str = "thorp";

/// Everything that a node or command needs to prove itself.
#[derive(Debug)]
pub struct Identity {
    /// The id that follows from `key`.
    pub node: NodeId,
    /// The node key.
    pub key: NodeKey,
    /// The cluster's keys.
    pub keys: ClusterKeys,
    /// TLS for both ends.
    pub tls: TlsIdentity,
}

impl Identity {
    /// The identity of the node whose data folder is `folder`; its node key is made at the first
    /// start, and the stretched cluster key is kept there. Blocks: a few file reads, and some 20 ms
    /// when a cluster key is stretched for the first time.
    ///
    /// # Errors
    /// When a key cannot be read, made or trusted.
    pub fn load(folder: &Path, cluster: &str, secret: &ClusterSecret) -> Result<Identity, IdentityError> {
        let key = NodeKey::load_or_create(folder)?;
        Identity::new(key, ClusterKeys::derive(Some(folder), cluster, secret)?)
    }

    /// Whether a node has been started with this data folder.
    #[must_use]
    pub fn is_made(folder: &Path) -> bool {
        folder.join(NODE_KEY_FILE).is_file()
    }

    /// An identity for this process alone, as commands have it. The stretched cluster key is looked
    /// for and kept in `cache`, the data folder, if it is given and there.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn ephemeral(
        cache: Option<&Path>,
        cluster: &str,
        secret: &ClusterSecret,
    ) -> Result<Identity, IdentityError> {
        Identity::new(NodeKey::ephemeral()?, ClusterKeys::derive(cache, cluster, secret)?)
    }

    fn new(key: NodeKey, keys: ClusterKeys) -> Result<Identity, IdentityError> {
        let tls = TlsIdentity::new(&key, &keys)?;
        Ok(Identity { node: key.node_id(), key, keys, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_finds_the_stretched_key_that_the_node_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = ClusterSecret::from_text("correct horse", "a test").expect("valid");
        let node = Identity::load(folder.path(), "house", &secret).expect("loaded");
        let names = || {
            let mut names: Vec<_> = folder
                .path()
                .read_dir()
                .expect("readable")
                .map(|entry| entry.expect("readable").file_name())
                .collect();
            names.sort();
            names
        };
        let before = names();
        assert_eq!(before.len(), 2, "{before:?}");
        let command = Identity::ephemeral(Some(folder.path()), "house", &secret).expect("made");
        assert_eq!(command.keys.tags, node.keys.tags);
        assert_ne!(command.node, node.node);
        assert_eq!(names(), before);
        assert_eq!(Identity::load(folder.path(), "house", &secret).expect("loaded").node, node.node);
    }

    #[test]
    fn another_key_in_the_same_folder_is_not_taken_for_the_kept_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let load = |text: &str| {
            let secret = ClusterSecret::from_text(text, "a test").expect("valid");
            Identity::load(folder.path(), "house", &secret).expect("loaded").keys.tags
        };
        let (one, two) = (load("one"), load("two"));
        assert_ne!(one, two);
        assert_eq!(load("one"), one);
    }
}
