//! As whom programs run here, and whose the files of workspaces therefore are.

use crate::remote::account::Account;
use rustix::fs::{Gid, Uid};
use std::io;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    user: Uid,
    group: Gid,
}

impl Owner {
    /// The user to whom files are given: the one who is set, if this process may give files away.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn of(user: Option<&str>) -> io::Result<Option<Owner>> {
        let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(None) };
        let account = Account::of(user)?;
        Ok(Some(Owner { user: Uid::from_raw(account.uid), group: Gid::from_raw(account.gid) }))
    }

    /// As the system wants them.
    #[must_use]
    pub fn ids(self) -> (Uid, Gid) {
        (self.user, self.group)
    }
}
