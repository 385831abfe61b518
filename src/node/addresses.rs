//! Remembers on disk where the others were, for the next start and for commands. Shell.
//!
//! A hint and no more: whoever answers there must prove itself. So it is written without sync, and
//! one that cannot be read counts as empty.

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

/// The file's name in the data folder.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// More addresses than this are not remembered.
const ADDRESSES_MAX: usize = 256;

/// Where nodes of this cluster were last heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Where the proxy was, likeliest first.
    pub proxy: Vec<SocketAddr>,
    /// Where any node was, this folder's own first.
    pub nodes: Vec<SocketAddr>,
}

impl Addresses {
    /// What is remembered in a data folder.
    #[must_use]
    pub fn load(folder: &Path) -> Addresses {
        let text = std::fs::read(folder.join(ADDRESSES_FILE)).unwrap_or_default();
        let mut addresses: Addresses = serde_json::from_slice(&text).unwrap_or_default();
        addresses.proxy.truncate(ADDRESSES_MAX);
        addresses.nodes.truncate(ADDRESSES_MAX);
        addresses
    }

    /// Remembers. The file appears whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, folder: &Path) -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".addresses").tempfile_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.persist(folder.join(ADDRESSES_FILE))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_read_back_and_damage_counts_as_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let addresses = Addresses { proxy: vec![SocketAddr::from(([10, 0, 0, 1], 7667))], nodes: Vec::new() };
        addresses.save(folder.path()).expect("saved");
        assert_eq!(Addresses::load(folder.path()), addresses);
        std::fs::write(folder.path().join(ADDRESSES_FILE), b"{").expect("written");
        assert_eq!(Addresses::load(folder.path()), Addresses::default());
    }
}
