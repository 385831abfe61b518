//! The folders in which programs run.

use super::Consent;
use crate::types::WorkspaceName;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The folder of all workspaces.
pub struct Workspaces {
    folder: PathBuf,
}

impl Workspaces {
    /// That which the owner chose.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(consent: &Consent) -> io::Result<Workspaces> {
        Ok(Workspaces { folder: consent.folder.clone() })
    }

    /// The folder of one workspace, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn root(&self, name: &WorkspaceName) -> io::Result<PathBuf> {
        let root = self.folder.join(name.as_str());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(root)
    }
}
