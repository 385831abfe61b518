//! The stretched cluster key, kept so that a command does not pay for Argon2id each time.
//!
//! One file for each cluster name, `derived-<8 hex>.key`, sealed (ChaCha20-Poly1305) under the
//! cluster key itself. Invariant: it opens only with the key and the name it was made for. Its
//! name follows from the cluster's public name alone; its content is of no use without the key,
//! and to whoever guesses keys each guess costs a PBKDF2 of 1 ms. It is never needed: one that is
//! missing, damaged or readable by others is made again.

use super::key_file::{self, Existing};
use crate::clock;
use ring::aead::{self, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"thorpdk1";
const DRAWN_BYTES: usize = 16;
const SEALED_BYTES: usize = 32 + 16;
const FILE_BYTES: usize = MAGIC.len() + DRAWN_BYTES + SEALED_BYTES;
/// About 1 ms: felt by who guesses, not by who runs a command.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_999);

/// The stretched key of `secret`, if it is kept in `folder`.
pub fn load(folder: &Path, salt: &[u8; 16], secret: &str) -> Option<[u8; 32]> {
    let bytes = key_file::read(&path_in(folder, salt), FILE_BYTES).ok()?;
    if bytes.len() != FILE_BYTES {
        return None;
    }
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (drawn, sealed) = rest.split_first_chunk::<DRAWN_BYTES>()?;
    if *magic != MAGIC {
        return None;
    }
    let mut sealed = sealed.to_vec();
    let key = sealing_key(drawn, salt, secret)?;
    let opened = key.open_in_place(nonce(), Aad::from(salt), &mut sealed).ok()?;
    (&*opened).try_into().ok()
}

/// Keeps the stretched key of `secret` in `folder`, in place of what is kept for that cluster's
/// name. Failing that (a disk that is full or read-only), nothing is kept.
pub fn store(folder: &Path, salt: &[u8; 16], secret: &str, stretched: &[u8; 32]) {
    let path = path_in(folder, salt);
    let kept = seal(salt, secret, stretched)
        .ok_or_else(|| std::io::Error::other("cannot seal"))
        .and_then(|bytes| key_file::write(&path, &bytes, Existing::Replace));
    if let Err(error) = kept {
        tracing::debug!(path = %path.display(), %error, "the stretched cluster key is not kept");
    }
}

fn seal(salt: &[u8; 16], secret: &str, stretched: &[u8; 32]) -> Option<Vec<u8>> {
    let drawn: [u8; DRAWN_BYTES] = clock::entropy().ok()?;
    let key = sealing_key(&drawn, salt, secret)?;
    let mut sealed = stretched.to_vec();
    key.seal_in_place_append_tag(nonce(), Aad::from(salt), &mut sealed).ok()?;
    Some([MAGIC.as_slice(), &drawn, &sealed].concat())
}

/// A key for one file: `drawn` is new for each, so the nonce may always be the same.
fn sealing_key(drawn: &[u8; DRAWN_BYTES], salt: &[u8; 16], secret: &str) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    let salt = [drawn.as_slice(), salt].concat();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, secret.as_bytes(), &mut key);
    UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

fn path_in(folder: &Path, salt: &[u8; 16]) -> PathBuf {
    let name: String = Sha256::digest(salt).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("derived-{name}.key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SALT: [u8; 16] = [7; 16];

    #[test]
    fn what_was_kept_is_found_with_the_same_key_only() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(load(folder.path(), &SALT, "key"), None);
        store(folder.path(), &SALT, "key", &[1; 32]);
        assert_eq!(load(folder.path(), &SALT, "key"), Some([1; 32]));
        assert_eq!(load(folder.path(), &SALT, "kez"), None);
        assert_eq!(load(folder.path(), &[8; 16], "key"), None);
        store(folder.path(), &SALT, "kez", &[2; 32]);
        assert_eq!(load(folder.path(), &SALT, "kez"), Some([2; 32]));
        assert_eq!(load(folder.path(), &SALT, "key"), None);
    }

    #[test]
    fn a_file_moved_to_another_clusters_place_does_not_open() {
        let folder = tempfile::tempdir().expect("a folder");
        store(folder.path(), &SALT, "key", &[1; 32]);
        std::fs::rename(path_in(folder.path(), &SALT), path_in(folder.path(), &[8; 16])).expect("ours");
        assert_eq!(load(folder.path(), &[8; 16], "key"), None);
    }

    #[test]
    fn a_damaged_or_exposed_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        store(folder.path(), &SALT, "key", &[1; 32]);
        let path = path_in(folder.path(), &SALT);
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o7777, 0o600);
        let whole = std::fs::read(&path).expect("readable");
        assert!(!whole.windows(8).any(|part| part == [1; 8]), "the key does not stand in the clear");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("ours");
            assert_eq!(load(folder.path(), &SALT, "key"), None, "byte {at}");
        }
        std::fs::write(&path, [whole.as_slice(), b"x"].concat()).expect("ours");
        assert_eq!(load(folder.path(), &SALT, "key"), None);
        std::fs::write(&path, &whole).expect("ours");
        assert_eq!(load(folder.path(), &SALT, "key"), Some([1; 32]));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(load(folder.path(), &SALT, "key"), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_error() {
        store(Path::new("/nowhere/at/all"), &SALT, "key", &[1; 32]);
    }
}
