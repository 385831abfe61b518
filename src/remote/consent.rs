//! Whether a peer may sync folders to this machine and run programs on it. Pure.
//!
//! Invariant (promise P10): nobody may unless the LAN has a cluster key and the machine's owner has said
//! so here. What the peer says changes nothing about it.

use crate::types::Origin;
use crate::wire::message::Hello;
use crate::wire::run::Denial;
use std::net::IpAddr;
use std::path::PathBuf;

/// What the owner of this machine allows.
#[derive(Clone, Debug)]
pub struct Consent {
    /// `--allow-run`.
    pub allow_run: bool,
    /// The cluster has a key of its own.
    pub secured: bool,
    /// From where; everywhere if that is empty.
    pub from: Vec<Origin>,
    /// Which programs; every one if that is empty.
    pub programs: Vec<Box<str>>,
    /// As whom they run.
    pub user: Option<Box<str>>,
    /// The folder of all workspaces.
    pub folder: PathBuf,
}

impl Consent {
    /// Whether this peer may do anything at all.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, peer: &Hello, from: IpAddr) -> Result<(), Denial> {
        if !self.secured {
            return Err(Denial::Open);
        }
        if !self.allow_run {
            return Err(Denial::NotAllowed);
        }
        let covers = |origin: &Origin| origin.covers(peer.node, &peer.machine, from);
        if !self.from.is_empty() && !self.from.iter().any(covers) {
            return Err(Denial::NotFrom);
        }
        Ok(())
    }

    /// Whether this program may be run, as the peer names it.
    ///
    /// # Errors
    /// That it may not.
    pub fn check_program(&self, program: &str) -> Result<(), Denial> {
        if self.programs.is_empty() || self.programs.iter().any(|allowed| **allowed == *program) {
            return Ok(());
        }
        Err(Denial::NotProgram(program.into()))
    }
}
