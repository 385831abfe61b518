//! The cluster key: who may take part.
//!
//! Any text can be the key. It is stretched with Argon2id, salted with the cluster's name, and
//! HKDF-SHA256 makes one key for each purpose of the result. Without a key a well-known one takes
//! its place: the same code, and open to everybody.
//!
//! Invariant: neither the key nor what follows from it is ever shown, logged or sent, except the
//! eight bytes of the key tag, from which a key cannot be guessed faster than Argon2id allows.

use super::key_file;
use super::words::WORDS;
use super::{IdentityError, stretch_cache};
use crate::clock;
use crate::limits::CLUSTER_KEY_BYTES_MAX;
use crate::wire::datagram::Tags;
use argon2::{Algorithm, Argon2, Params, Version};
use ring::{hkdf, hmac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::hint::black_box;
use std::path::Path;

/// Argon2id: 19 MiB, 2 passes, 1 lane, the least that OWASP advises for it: some 20 ms, and a
/// small board has the memory.
const STRETCH: (u32, u32, u32) = (19 * 1024, 2, 1);

/// What the user gave as cluster key.
#[derive(Clone, PartialEq, Eq)]
pub enum ClusterSecret {
    /// Nothing: the well-known key, open to any thorp on the LAN.
    Open,
    /// One line of text, 1 to [`CLUSTER_KEY_BYTES_MAX`] bytes.
    Secret(Box<str>),
}

impl ClusterSecret {
    /// The key in a file: one line, a newline at its end ignored.
    ///
    /// # Errors
    /// When the file cannot be read, others can read it, or it is not one line of text.
    pub fn from_file(path: &Path) -> Result<ClusterSecret, IdentityError> {
        let origin = path.display().to_string();
        // Room for the line's end, which does not count.
        let bytes = key_file::read(path, CLUSTER_KEY_BYTES_MAX + 2)?;
        ClusterSecret::parse(&bytes, &origin)
    }

    /// The key given directly; `origin` (the name of the variable) is for the error's words.
    ///
    /// # Errors
    /// When it is not one line of text.
    pub fn from_text(text: &str, origin: &str) -> Result<ClusterSecret, IdentityError> {
        ClusterSecret::parse(text.as_bytes(), origin)
    }

    /// Whether this is a key of the user's own.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        matches!(self, ClusterSecret::Secret(_))
    }

    fn parse(bytes: &[u8], origin: &str) -> Result<ClusterSecret, IdentityError> {
        let origin = || origin.into();
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > CLUSTER_KEY_BYTES_MAX {
            return Err(IdentityError::SecretTooLong { origin: origin() });
        }
        let text = str::from_utf8(line).map_err(|_| IdentityError::SecretNotText { origin: origin() })?;
        if text.trim().is_empty() {
            return Err(IdentityError::SecretEmpty { origin: origin() });
        }
        if text.contains(['\n', '\r']) {
            return Err(IdentityError::SecretLines { origin: origin() });
        }
        if text.chars().any(char::is_control) {
            return Err(IdentityError::SecretNotText { origin: origin() });
        }
        Ok(ClusterSecret::Secret(text.into()))
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secured() { "Secret(…)" } else { "Open" })
    }
}

/// A fresh cluster key: 128 random bits as 16 words.
///
/// # Errors
/// When the system gives no random bytes.
pub fn generate_words() -> Result<String, IdentityError> {
    let bytes: [u8; 16] = clock::entropy().map_err(|source| IdentityError::Entropy { source })?;
    Ok(bytes.map(|byte| WORDS[usize::from(byte)]).join("-"))
}

/// The keys of a cluster, each for one purpose.
#[derive(Clone)]
pub struct ClusterKeys {
    /// What every datagram of this cluster shows.
    pub tags: Tags,
    /// Whether the user set a key; if not, anybody on the LAN has these keys too.
    pub secured: bool,
    beacon: hmac::Key,
    link: hmac::Key,
    http_token: [u8; 16],
    authority_seed: [u8; 32],
}

impl ClusterKeys {
    /// The keys that follow from a cluster's name and key. Takes some 20 ms and 19 MiB if a key is
    /// set and `cache` (the data folder) has no stretched key of it; nothing else is kept there.
    ///
    /// # Errors
    /// When there is no memory for the stretching. A cache that does not work is no error.
    pub fn derive(
        cache: Option<&Path>,
        name: &str,
        secret: &ClusterSecret,
    ) -> Result<ClusterKeys, IdentityError> {
        let stretched = match secret {
            ClusterSecret::Open => open_key(name),
            ClusterSecret::Secret(text) => {
                let salt = salt_of(name);
                let cached = cache.and_then(|folder| stretch_cache::load(folder, &salt, text));
                match cached {
                    Some(stretched) => stretched,
                    None => {
                        let stretched = stretch(&salt, text)?;
                        if let Some(folder) = cache {
                            stretch_cache::store(folder, &salt, text, &stretched);
                        }
                        stretched
                    }
                }
            }
        };
        Ok(ClusterKeys::expand(name, secret.is_secured(), &stretched))
    }

    fn expand(name: &str, secured: bool, stretched: &[u8; 32]) -> ClusterKeys {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"thorp 1").extract(stretched);
        let beacon: [u8; 32] = expand(&root, b"thorp 1 beacon");
        let link: [u8; 32] = expand(&root, b"thorp 1 http link");
        ClusterKeys {
            tags: Tags { name: name_tag(name), key: expand(&root, b"thorp 1 key tag") },
            secured,
            beacon: hmac::Key::new(hmac::HMAC_SHA256, &beacon),
            link: hmac::Key::new(hmac::HMAC_SHA256, &link),
            http_token: expand(&root, b"thorp 1 http token"),
            authority_seed: expand(&root, b"thorp 1 certificate authority"),
        }
    }

    /// The seal of a datagram: the first half of its HMAC-SHA256 with the beacon key.
    #[must_use]
    pub fn seal(&self, bytes: &[u8]) -> [u8; 16] {
        let mut seal = [0; 16];
        seal.copy_from_slice(&hmac::sign(&self.beacon, bytes).as_ref()[..16]);
        seal
    }

    /// Whether `seal` is the seal of `bytes`, in a time that tells nothing about how wrong it is.
    #[must_use]
    pub fn check(&self, bytes: &[u8], seal: &[u8; 16]) -> bool {
        ClusterKeys::are_equal(&self.seal(bytes), seal)
    }

    /// What a browser shows to any node of a closed LAN: whoever has the key can make it.
    #[must_use]
    pub fn http_token(&self) -> String {
        self.http_token.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The seal of a link to one file, which any node of the cluster can check.
    #[must_use]
    pub fn seal_link(&self, bytes: &[u8]) -> [u8; 16] {
        let mut seal = [0; 16];
        seal.copy_from_slice(&hmac::sign(&self.link, bytes).as_ref()[..16]);
        seal
    }

    /// Whether two secrets are equal, in a time that tells nothing about where they differ.
    #[must_use]
    pub fn are_equal(one: &[u8], other: &[u8]) -> bool {
        let difference = one.iter().zip(other).fold(0_u8, |all, (a, b)| black_box(all | (a ^ b)));
        one.len() == other.len() && black_box(difference) == 0
    }

    /// The seed of the Ed25519 key with which each node signs its own certificate.
    #[must_use]
    pub(super) fn authority_seed(&self) -> &[u8; 32] {
        &self.authority_seed
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKeys").field("tags", &self.tags).field("secured", &self.secured).finish()
    }
}

/// The tags that the cluster called `name` shows when no key is set: to tell a neighbour with
/// another key from one with none.
#[must_use]
pub fn open_tags(name: &str) -> Tags {
    ClusterKeys::expand(name, false, &open_key(name)).tags
}

/// The well-known key: no secret, so not stretched.
fn open_key(name: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"thorp open key 1").chain_update(name).finalize().into()
}

fn name_tag(name: &str) -> [u8; 8] {
    first(&Sha256::new().chain_update(b"thorp cluster name 1").chain_update(name).finalize())
}

fn salt_of(name: &str) -> [u8; 16] {
    first(&Sha256::new().chain_update(b"thorp cluster key 1").chain_update(name).finalize())
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[..N]);
    part
}

fn stretch(salt: &[u8; 16], text: &str) -> Result<[u8; 32], IdentityError> {
    let failed = |error: argon2::Error| IdentityError::Stretch { reason: error.to_string().into() };
    let (memory, passes, lanes) = STRETCH;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(failed)?;
    let mut stretched = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.as_bytes(), salt, &mut stretched)
        .map_err(failed)?;
    Ok(stretched)
}

/// A length for HKDF, which otherwise gives only keys of its own kinds.
struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// `N` bytes for one purpose. HKDF-SHA256 can only fail beyond 8,160 bytes.
fn expand<const N: usize>(root: &hkdf::Prk, purpose: &[u8]) -> [u8; N] {
    const { assert!(N <= 64) };
    let mut key = [0; N];
    let filled = root.expand(&[purpose], Bytes(N)).and_then(|output| output.fill(&mut key));
    debug_assert!(filled.is_ok());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key_file::Existing;
    use std::os::unix::fs::PermissionsExt;

    fn secret(text: &str) -> ClusterSecret {
        ClusterSecret::from_text(text, "a test").expect("valid")
    }

    fn keys(name: &str, secret: &ClusterSecret) -> ClusterKeys {
        ClusterKeys::derive(None, name, secret).expect("derived")
    }

    fn key_file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster.key");
        key_file::write(&path, bytes, Existing::Keep).expect("written");
        (folder, path)
    }

    #[test]
    fn the_end_of_the_line_is_no_part_of_the_key() {
        for bytes in ["a b-ü", "a b-ü\n", "a b-ü\r\n"] {
            let (_folder, path) = key_file(bytes.as_bytes());
            assert!(ClusterSecret::from_file(&path).expect("valid") == secret("a b-ü"), "{bytes:?}");
        }
        let longest = "x".repeat(CLUSTER_KEY_BYTES_MAX);
        let (_folder, path) = key_file(format!("{longest}\r\n").as_bytes());
        assert!(ClusterSecret::from_file(&path).expect("valid") == secret(&longest));
    }

    #[test]
    fn files_that_are_no_key_are_refused() {
        let refused = |bytes: &[u8]| {
            let (_folder, path) = key_file(bytes);
            ClusterSecret::from_file(&path).expect_err("refused")
        };
        for empty in ["", "\n", "\r\n", "  \n"] {
            assert!(matches!(refused(empty.as_bytes()), IdentityError::SecretEmpty { .. }), "{empty:?}");
        }
        for lines in ["a\nb", "a\n\n", "a\rb\n"] {
            assert!(matches!(refused(lines.as_bytes()), IdentityError::SecretLines { .. }), "{lines:?}");
        }
        assert!(matches!(refused(&[b'x'; CLUSTER_KEY_BYTES_MAX + 1]), IdentityError::SecretTooLong { .. }));
        assert!(matches!(refused(&vec![b'x'; 1 << 20]), IdentityError::SecretTooLong { .. }));
        assert!(matches!(refused(b"\xff\xfe\n"), IdentityError::SecretNotText { .. }));
        assert!(matches!(refused(b"a\0b\n"), IdentityError::SecretNotText { .. }));
        let (_folder, path) = key_file(b"fine\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(ClusterSecret::from_file(&path), Err(IdentityError::Exposed { .. })));
    }

    #[test]
    fn keys_follow_from_name_and_secret_and_nothing_else() {
        let house = keys("house", &secret("correct horse"));
        let again = keys("house", &secret("correct horse"));
        assert_eq!(house.tags, again.tags);
        assert_eq!(house.authority_seed, again.authority_seed);
        assert!(again.check(b"beacon", &house.seal(b"beacon")));
        for (other, name_differs) in [
            (keys("house", &secret("correct horsf")), false),
            (keys("house", &ClusterSecret::Open), false),
            (keys("barn", &secret("correct horse")), true),
        ] {
            assert_eq!(other.tags.name != house.tags.name, name_differs);
            assert_ne!(other.tags.key, house.tags.key);
            assert_ne!(other.authority_seed, house.authority_seed);
            assert!(!other.check(b"beacon", &house.seal(b"beacon")));
        }
    }

    #[test]
    fn a_changed_byte_breaks_the_seal() {
        let keys = keys("house", &ClusterSecret::Open);
        let seal = keys.seal(b"beacon");
        assert!(keys.check(b"beacon", &seal));
        assert!(!keys.check(b"beacoM", &seal));
        for bit in 0..128 {
            let mut wrong = seal;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!keys.check(b"beacon", &wrong), "bit {bit}");
        }
    }

    #[test]
    fn an_open_neighbour_is_told_from_one_with_another_key() {
        let open = keys("house", &ClusterSecret::Open);
        assert!(!open.secured);
        assert_eq!(open.tags, open_tags("house"));
        let closed = keys("house", &secret("x"));
        assert!(closed.secured);
        assert_eq!(closed.tags.name, open_tags("house").name);
        assert_ne!(closed.tags.key, open_tags("house").key);
    }

    /// Another program must come to the same bytes: a change here is a change of the protocol.
    #[test]
    fn the_derivation_is_frozen() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let open = keys("default", &ClusterSecret::Open);
        let closed = keys("default", &secret("key"));
        let got = [&open, &closed].map(|keys| {
            [hex(&keys.tags.name), hex(&keys.tags.key), hex(&keys.seal(b"thorp")), hex(&keys.authority_seed)]
        });
        let of_name = "96f613c11d312099";
        let of_open = [
            of_name,
            "2a038b78ba3838d5",
            "1f6bbd4a1d87b61ae6f43aa672ec1cf6",
            "185e89bc2d248fc02c6f99302b24bae8654054dbc5eb4be08c55e9765fc24f27",
        ];
        let of_closed = [
            of_name,
            "753bc439ea77d85f",
            "3eade038e35ee79706e1222913023ff6",
            "fa9a812b4c6d222e4416fa793438140f627a5feb5884b12938524f0fd22bb7e0",
        ];
        assert_eq!(got, [of_open, of_closed]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = secret("correct horse");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let keys = keys("house", &secret);
        let shown = format!("{keys:?}");
        assert!(!shown.contains("seed") && !shown.contains("beacon"), "{shown}");
    }

    #[test]
    fn generated_keys_are_sixteen_words_and_never_the_same() {
        let (one, two) = (generate_words().expect("made"), generate_words().expect("made"));
        assert_ne!(one, two);
        assert_eq!(one.split('-').count(), 16);
        assert!(one.split('-').all(|word| WORDS.contains(&word)));
        assert!(secret(&one).is_secured());
    }
}
