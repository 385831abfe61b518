//! The node key: who this node is.
//!
//! An Ed25519 key pair in `<data-dir>/node.key`, PKCS#8 with the public key inside (RFC 8410), so
//! that a flipped bit is noticed instead of silently making another node. Invariant: a node key
//! that is there is never replaced; a damaged one is an error.

use super::IdentityError;
use super::key_file::{self, Existing};
use crate::types::NodeId;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::path::Path;

/// Name of the file in the data folder.
pub const NODE_KEY_FILE: &str = "node.key";
/// A PKCS#8 Ed25519 key is 83 to 85 bytes; more is not one.
const FILE_BYTES_MAX: usize = 256;

/// The key pair of a node.
pub struct NodeKey {
    pkcs8: Box<[u8]>,
    public: [u8; 32],
}

impl NodeKey {
    /// The key in `folder`, made there (and the folder with it) if there is none. Of several
    /// processes that start at once one makes the key and all get it.
    ///
    /// # Errors
    /// When the file cannot be read or written, can be read by others, or is damaged.
    pub fn load_or_create(folder: &Path) -> Result<NodeKey, IdentityError> {
        let path = folder.join(NODE_KEY_FILE);
        match NodeKey::load(&path) {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        key_file::make_folder(folder)?;
        let key = NodeKey::ephemeral()?;
        match key_file::write(&path, &key.pkcs8, Existing::Keep) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => NodeKey::load(&path),
            Err(source) => Err(IdentityError::Write { path, source }),
        }
    }

    /// A fresh key that is nowhere but in memory.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn ephemeral() -> Result<NodeKey, IdentityError> {
        let unavailable =
            || IdentityError::Entropy { source: io::Error::other("the system gives no random bytes") };
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| unavailable())?;
        NodeKey::from_pkcs8(pkcs8.as_ref()).ok_or_else(unavailable)
    }

    fn load(path: &Path) -> Result<NodeKey, IdentityError> {
        let bytes = key_file::read(path, FILE_BYTES_MAX)?;
        NodeKey::from_pkcs8(&bytes).ok_or_else(|| IdentityError::NodeKeyDamaged { path: path.into() })
    }

    /// Checks that the private key has the public key that stands beside it.
    fn from_pkcs8(pkcs8: &[u8]) -> Option<NodeKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(NodeKey { pkcs8: pkcs8.into(), public })
    }

    /// The id that follows from the key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        node_id_of(&self.public)
    }

    /// The raw public key, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// The key pair as PKCS#8. Secret: for the certificate and TLS alone.
    #[must_use]
    pub fn pkcs8(&self) -> PrivatePkcs8KeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.pkcs8.as_ref())
    }
}

/// The id of the node with this raw Ed25519 public key.
#[must_use]
pub fn node_id_of(public: &[u8; 32]) -> NodeId {
    let hash: [u8; 32] = Sha256::digest(public).into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    NodeId(id)
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?})", self.node_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_start_finds_the_key_of_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("new/data");
        let first = NodeKey::load_or_create(&data).expect("made").node_id();
        assert_eq!(NodeKey::load_or_create(&data).expect("there").node_id(), first);
        assert_ne!(NodeKey::ephemeral().expect("made").node_id(), first);
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o7777;
        assert_eq!(mode(&data.join(NODE_KEY_FILE)), 0o600);
        assert_eq!(mode(&data), 0o700);
    }

    #[test]
    fn nodes_that_start_at_once_in_one_folder_get_one_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let ids: Vec<NodeId> = std::thread::scope(|scope| {
            let start = || NodeKey::load_or_create(folder.path()).expect("a key").node_id();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        NodeKey::load_or_create(folder.path()).expect("made");
        let path = folder.path().join(NODE_KEY_FILE);
        let whole = std::fs::read(&path).expect("readable");
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|keep| whole[..keep].to_vec()).collect();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            damaged.push(bytes);
        }
        damaged.push(vec![0x30; 5000]);
        for bytes in damaged {
            std::fs::write(&path, &bytes).expect("ours");
            match NodeKey::load_or_create(folder.path()) {
                Err(IdentityError::NodeKeyDamaged { .. }) => {}
                other => panic!("{} bytes gave {other:?}", bytes.len()),
            }
            assert_eq!(std::fs::read(&path).expect("readable"), bytes);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        NodeKey::load_or_create(folder.path()).expect("made");
        let path = folder.path().join(NODE_KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        let error = NodeKey::load_or_create(folder.path()).expect_err("refused");
        assert!(matches!(error, IdentityError::Exposed { mode: 0o644, .. }));
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod 600")));
    }
}
