//! As whom programs run here, and whose the files of workspaces therefore are.

use rustix::fs::{Gid, Uid};
use std::fs;
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
        let accounts = fs::read_to_string("/etc/passwd")?;
        match Owner::find(user, &accounts) {
            Some(owner) => Ok(Some(owner)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{user}`"))),
        }
    }

    /// Looks for a user, by name or number, in the text of `/etc/passwd`.
    fn find(user: &str, accounts: &str) -> Option<Owner> {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, id, group) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            if name != user && id != user {
                return None;
            }
            Some(Owner { user: Uid::from_raw(id.parse().ok()?), group: Gid::from_raw(group.parse().ok()?) })
        })
    }

    /// As the system wants them.
    #[must_use]
    pub fn ids(self) -> (Uid, Gid) {
        (self.user, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nbroken\nbuild:x:1001:1002::/home/build:/bin/sh\n";
        let build = Some(Owner { user: Uid::from_raw(1001), group: Gid::from_raw(1002) });
        assert_eq!(Owner::find("build", accounts), build);
        assert_eq!(Owner::find("1001", accounts), build);
        assert_eq!(Owner::find("nobody", accounts), None);
    }
}
