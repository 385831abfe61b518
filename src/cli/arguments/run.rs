//! `thorp run` and what belongs to it.

use super::parse_flag;
use crate::cli::names::parse_name;
use crate::cli::units::parse_duration;
use crate::config::check_replicas;
use crate::limits::JOB_LINGER_MAX;
use crate::types::{FileName, JobId};
use clap::{ArgAction, Args};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// `thorp run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Where: a machine's name or id, `any` for the one that has least to do, `all` for every one that allows it
    #[arg(long, value_name = "NODE", env = "THORP_ON", hide_env_values = true)]
    pub on: String,
    /// Sync this folder first, and run in it
    #[arg(long, value_name = "DIR", env = "THORP_DIR", hide_env_values = true)]
    pub dir: Option<PathBuf>,
    /// Sync this file or folder as well, to the same place relative to the working directory; may be repeated
    #[arg(long = "asset", value_name = "PATH", env = "THORP_ASSET", hide_env_values = true, action = ArgAction::Append)]
    pub assets: Vec<PathBuf>,
    /// Add to its environment; may be repeated
    #[arg(long = "env", value_name = "K=V", env = "THORP_ENV", hide_env_values = true, action = ArgAction::Append,
          value_parser = clap::builder::OsStringValueParser::new())]
    pub env: Vec<OsString>,
    /// Give it the whole environment of the node, not just what every program needs
    #[arg(long, env = "THORP_BASE_ENV", hide_env_values = true, value_parser = parse_flag)]
    pub base_env: bool,
    /// Sync nothing: run what is there
    #[arg(long, env = "THORP_NO_SYNC", hide_env_values = true, value_parser = parse_flag)]
    pub no_sync: bool,
    /// Remove there what is not in `--dir` here
    #[arg(long, env = "THORP_DELETE", hide_env_values = true, value_parser = parse_flag, requires = "dir")]
    pub delete: bool,
    /// Sync also what `.gitignore` and `.thorpignore` leave out
    #[arg(long, env = "THORP_NO_IGNORE", hide_env_values = true, value_parser = parse_flag)]
    pub no_ignore: bool,
    /// Print the job's id and leave it alone; `thorp attach` comes back to it
    #[arg(long, env = "THORP_DETACH", hide_env_values = true, value_parser = parse_flag, conflicts_with_all = ["get", "keep"])]
    pub detach: bool,
    /// Give it a terminal, as full-screen programs need
    #[arg(short = 't', long, env = "THORP_TTY", hide_env_values = true, value_parser = parse_flag)]
    pub tty: bool,
    /// How long it goes on when this command is gone, and between the request to end and the end
    /// [default: 10s]
    #[arg(long, value_name = "DURATION", env = "THORP_LINGER", hide_env_values = true, value_parser = parse_linger,
          allow_hyphen_values = true)]
    pub linger: Option<Duration>,
    /// Afterwards fetch this file or folder back, to the same place relative to the working directory; may be
    /// repeated
    #[arg(long = "get", value_name = "PATH", env = "THORP_GET", hide_env_values = true, action = ArgAction::Append)]
    pub get: Vec<PathBuf>,
    /// Afterwards store what `--get` fetched under this name
    #[arg(long, value_name = "NAME", env = "THORP_KEEP", hide_env_values = true, value_parser = parse_name, requires = "get")]
    pub keep: Option<FileName>,
    /// In so many copies [default: 2]
    #[arg(short = 'n', long, value_name = "N", env = "THORP_REPLICAS", hide_env_values = true,
          value_parser = copies, allow_negative_numbers = true)]
    pub replicas: Option<u8>,
    /// The program: with a slash a file here, else one that is found in `PATH` there; and its arguments
    #[arg(value_name = "PROGRAM", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true,
          value_parser = clap::builder::OsStringValueParser::new())]
    pub command: Vec<OsString>,
}

impl RunArguments {
    /// The variables of `--env`.
    ///
    /// # Errors
    /// The first that is none.
    pub fn variables(&self) -> Result<Vec<(OsString, OsString)>, String> {
        let parse = |text: &OsString| {
            let bytes = text.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
            let at = at.ok_or_else(|| format!("`{}` is not `NAME=VALUE`", text.display()))?;
            let (name, value) = (bytes[..at].to_vec(), bytes[at + 1..].to_vec());
            Ok((OsString::from_vec(name), OsString::from_vec(value)))
        };
        self.env.iter().map(parse).collect()
    }
}

fn copies(text: &str) -> Result<u8, String> {
    check_replicas(text.parse().unwrap_or(-1))
}

fn parse_linger(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        linger if linger > JOB_LINGER_MAX => {
            Err("at most 24h; `--detach` lets it run without you".to_owned())
        }
        linger => Ok(linger),
    }
}

/// `thorp jobs`.
#[derive(Args, Clone, Debug)]
pub struct JobsArguments {
    /// On this machine alone [default: on all]
    #[arg(value_name = "NODE")]
    pub node: Option<String>,
}

/// `thorp attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachArguments {
    /// Its id as `thorp jobs` shows it, or the first characters of it
    #[arg(value_name = "JOB", value_parser = parse_job)]
    pub job: Box<str>,
}

/// `thorp logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArguments {
    /// Its id as `thorp jobs` shows it, or the first characters of it
    #[arg(value_name = "JOB", value_parser = parse_job)]
    pub job: Box<str>,
    /// Go on and show what it says, until it has ended
    #[arg(short, long, env = "THORP_FOLLOW", hide_env_values = true, value_parser = parse_flag)]
    pub follow: bool,
}

/// `thorp stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArguments {
    /// Its id as `thorp jobs` shows it, or the first characters of it
    #[arg(value_name = "JOB", value_parser = parse_job)]
    pub job: Box<str>,
}

fn parse_job(text: &str) -> Result<Box<str>, String> {
    let text = text.to_ascii_lowercase();
    let whole = format!("{text:0<8}");
    match JobId::parse(&whole) {
        Some(_) if !text.is_empty() => Ok(text.into()),
        _ => Err("a job's id has 8 characters of 0-9 and a-f".to_owned()),
    }
}
