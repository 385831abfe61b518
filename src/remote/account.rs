//! A user of this machine, as `/etc/passwd` has it.

use std::io;

/// As whom programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it is called.
    pub name: Box<str>,
    /// Its number.
    pub uid: u32,
    /// That of its group.
    pub gid: u32,
    /// Its folder.
    pub home: Box<str>,
    /// Its shell.
    pub shell: Box<str>,
}

impl Account {
    /// The user of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(name: &str) -> io::Result<Account> {
        let users = std::fs::read_to_string("/etc/passwd")?;
        let found = users.lines().find_map(|line| parse(line).filter(|account| *account.name == *name));
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no user `{name}`")))
    }
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.into();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let (home, shell) = (fields.nth(1)?.into(), fields.next()?.into());
    Some(Account { name, uid, gid, home, shell })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_name_numbers_home_and_shell() {
        let account = parse("ada:x:1000:100:Ada,,:/home/ada:/bin/bash").expect("a user");
        assert_eq!((&*account.name, account.uid, account.gid), ("ada", 1000, 100));
        assert_eq!((&*account.home, &*account.shell), ("/home/ada", "/bin/bash"));
        assert_eq!(parse("ada:x:1000"), None);
        assert_eq!(parse(""), None);
    }
}
