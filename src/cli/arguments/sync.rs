//! What can be typed about folders on other machines.

use super::parse_flag;
use crate::config::parse_label;
use crate::types::WorkspaceName;
use clap::Args;
use std::path::PathBuf;

/// `thorp sync`.
#[derive(Args, Clone, Debug)]
pub struct SyncArguments {
    /// The folder here
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The machine, by its name or id, and the workspace there [default: one for this folder]
    #[arg(value_name = "NODE[:NAME]", value_parser = parse_place)]
    pub to: SyncPlace,
    /// Remove there what is not here; what ignore rules leave out stays
    #[arg(long, env = "THORP_DELETE", hide_env_values = true, value_parser = parse_flag)]
    pub delete: bool,
    /// Stay, and sync again whenever something has changed
    #[arg(long, env = "THORP_WATCH", hide_env_values = true, value_parser = parse_flag)]
    pub watch: bool,
    /// Only say what would change
    #[arg(long, env = "THORP_DRY_RUN", hide_env_values = true, value_parser = parse_flag,
          conflicts_with = "watch")]
    pub dry_run: bool,
    /// Compare the bytes of all files, and not their sizes and times
    #[arg(long, env = "THORP_CHECKSUM", hide_env_values = true, value_parser = parse_flag)]
    pub checksum: bool,
    /// Take everything: `.git`, and what `.gitignore` and `.thorpignore` leave out
    #[arg(long, env = "THORP_NO_IGNORE", hide_env_values = true, value_parser = parse_flag)]
    pub no_ignore: bool,
    /// Remove all files there even if there is none here
    #[arg(long, env = "THORP_FORCE", hide_env_values = true, value_parser = parse_flag)]
    pub force: bool,
}

/// A machine, and a workspace of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncPlace {
    /// The machine's name or id.
    pub node: Box<str>,
    /// The workspace, if it was named.
    pub workspace: Option<WorkspaceName>,
}

fn parse_place(text: &str) -> Result<SyncPlace, String> {
    let (node, workspace) = match text.rsplit_once(':') {
        Some((node, workspace)) => (node, Some(workspace)),
        None => (text, None),
    };
    let node = parse_label(node)?;
    let workspace = match workspace {
        None => None,
        Some(name) => Some(WorkspaceName::parse(name).ok_or(
            "a workspace's name has 1 to 64 of the characters A-Z a-z 0-9 - _ . and does not begin with a dot",
        )?),
    };
    Ok(SyncPlace { node, workspace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_named_behind_the_machine() {
        let place = |node: &str, workspace| SyncPlace { node: node.into(), workspace };
        assert_eq!(parse_place("attic"), Ok(place("attic", None)));
        assert_eq!(parse_place("attic:game"), Ok(place("attic", WorkspaceName::parse("game"))));
        for wrong in ["", ":game", "attic:", "attic:../x", "attic:.x", "attic:a/b"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
