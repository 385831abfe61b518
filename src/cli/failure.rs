//! What can go wrong, in words and exit codes.
//!
//! Every command ends in an [`Outcome`] or a [`Failure`]. Messages say what failed and why, hints
//! what to do; both are one line without a final period, literals in backticks. Exit codes and
//! JSON codes are promises: scripts are written against them.

use crate::config::ConfigError;
use crate::types::NameError;
use crate::wire::message::ErrorCode;
use crate::wire::run::Denial;
use std::fmt;
use std::io;
use std::path::Path;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All done.
    Done = 0,
    /// It failed; the message says why.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// No proxy was found in time.
    NoProxy = 3,
    /// No such file, machine or message.
    NotFound = 4,
    /// Accepted, but fewer copies than asked for now.
    Fewer = 5,
    /// Wrong or missing key, or not enabled there.
    NotAllowed = 6,
    /// A program could not be started elsewhere, for thorp's own reasons.
    NotStarted = 125,
    /// It is there, and is none.
    NotExecutable = 126,
    /// It is not there.
    NoSuchProgram = 127,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it.
    Done,
    /// Accepted, with fewer copies than asked for now, where `--strict` or `--wait` makes that matter.
    Fewer,
    /// What it was to find out is told, and it is bad news.
    Bad,
    /// A program elsewhere ended with this.
    Program(u8),
}

impl From<Outcome> for std::process::ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => ExitCode::Done.into(),
            Outcome::Fewer => ExitCode::Fewer.into(),
            Outcome::Bad => ExitCode::Failed.into(),
            Outcome::Program(code) => code.into(),
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub code: ExitCode,
    /// For programs: the `code` of the JSON error.
    pub json_code: &'static str,
    /// What failed and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with this exit code and the JSON code that belongs to it.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Failure {
        let json_code = match code {
            ExitCode::Done | ExitCode::Failed => "failed",
            ExitCode::Usage => "usage",
            ExitCode::NoProxy => "no_proxy",
            ExitCode::NotFound => "not_found",
            ExitCode::Fewer => "fewer_copies",
            ExitCode::NotAllowed => "not_allowed",
            ExitCode::NotStarted | ExitCode::NotExecutable | ExitCode::NoSuchProgram => "not_started",
        };
        Failure { code, json_code, message: message.into(), hint: None }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Usage, message)
    }

    /// Exit code 3, with what usually helps.
    pub fn no_proxy(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::NoProxy, message)
            .hint("start a node with `thorp up`, or name one that broadcasts do not reach with `--peer HOST`")
    }

    /// With another hint, if this is its exit code.
    #[must_use]
    pub fn hint_if(self, code: ExitCode, hint: &str) -> Failure {
        if self.code == code { self.hint(hint) } else { self }
    }

    /// Exit code 4.
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::NotFound, message)
    }

    /// Exit code 6.
    pub fn not_allowed(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::NotAllowed, message)
    }

    /// What keeps a folder or program from another machine, and what to do.
    #[must_use]
    pub fn denied(message: String, why: &Denial) -> Failure {
        Failure::not_allowed(message).hint(match why {
            Denial::Open => {
                "close the LAN: `thorp key new` makes a key; give it to every machine with `--key-file`, and start that \
                 one with `thorp up --allow-run`"
            }
            Denial::NotAllowed => "start it with `thorp up --allow-run`, or set `allow_run = true` there",
            Denial::NotFrom => "add this machine to `run_from` in its settings",
            Denial::NotProgram(_) => "add the program to `run_programs` in its settings",
        })
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Gives it a JSON code of its own.
    #[must_use]
    pub fn json_code(mut self, json_code: &'static str) -> Failure {
        self.json_code = json_code;
        self
    }

    /// A local file that could not be used; `doing` is the verb: `read`, `write`. What is not there
    /// is exit code 4.
    #[must_use]
    pub fn local_file(doing: &str, path: &Path, error: &io::Error) -> Failure {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(format!("there is no `{path}` here")),
            io::ErrorKind::PermissionDenied => {
                Failure::failed(format!("cannot {doing} `{path}`: {}", words(error)))
                    .hint("look at who owns it and its permissions")
            }
            io::ErrorKind::StorageFull => {
                Failure::failed(format!("cannot {doing} `{path}`: {}", words(error)))
                    .json_code("no_space")
                    .hint("make room on that disk")
            }
            _ => Failure::failed(format!("cannot {doing} `{path}`: {}", words(error))),
        }
    }

    /// What the proxy answered instead of doing it.
    #[must_use]
    pub fn from_reply(code: ErrorCode, message: &str) -> Failure {
        let message = sentence(message);
        match code {
            ErrorCode::NotFound => Failure::not_found(message).hint("`thorp ls` shows what is there"),
            ErrorCode::NotReady => Failure::failed(message)
                .json_code("not_ready")
                .hint("the proxy is new and has not heard from every machine yet; try again in some seconds"),
            ErrorCode::NameTaken => Failure::failed(message)
                .json_code("name_taken")
                .hint("choose another name with `--as` or `--into`, or remove what is there"),
            ErrorCode::NoStorage => Failure::failed(message)
                .json_code("no_storage")
                .hint("`thorp status` shows which machines store; start one with `thorp up`"),
            ErrorCode::NoSpace => Failure::failed(message)
                .json_code("no_space")
                .hint("`thorp status` shows the free room; remove files or add a machine"),
            ErrorCode::Invalid => Failure::usage(message),
            ErrorCode::Denied => Failure::not_allowed(message),
            ErrorCode::Disk => {
                Failure::failed(message).json_code("disk").hint("`thorp status` shows the machines")
            }
            ErrorCode::Connection => Failure::failed(message).json_code("connection").hint("try again"),
            ErrorCode::Unknown => Failure::failed(message)
                .json_code("unknown")
                .hint("it may or may not have happened; `thorp ls` shows how it stands"),
        }
    }
}

/// The operating system's words, without the number that Rust adds.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// In our style: without a final period.
fn sentence(text: &str) -> String {
    text.trim().trim_end_matches('.').to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// The failure that travelled in the chain, or the chain's words: outer causes first, an inner
    /// one that the outer already quotes left out.
    fn from(error: anyhow::Error) -> Failure {
        let error = match error.downcast::<Failure>() {
            Ok(failure) => return failure,
            Err(error) => error,
        };
        let mut message = String::new();
        for cause in error.chain() {
            let text = match cause.downcast_ref::<io::Error>() {
                Some(cause) => words(cause),
                None => sentence(&cause.to_string()),
            };
            if message.is_empty() {
                message = text;
            } else if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
        }
        Failure::failed(message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let hint = match &error {
            ConfigError::Missing { .. } => "give `--config` a file that exists, or leave it out",
            ConfigError::Read { .. } => "look at who owns it and its permissions",
            ConfigError::TooLarge { .. } | ConfigError::NotText { .. } => {
                "a config file is a short text in TOML; is it another file?"
            }
            ConfigError::Syntax { .. } => "the file is TOML: one `key = value` a line, text in quotes",
            ConfigError::Value { .. } => "correct that value, or remove it for the default",
            ConfigError::TwoKeys => "give the cluster key once: unset one of them",
            ConfigError::EmptyKey => "unset it for an open LAN, or put the key in it",
            ConfigError::KeyNotText => "make a key with `thorp key new`",
            ConfigError::NoDataFolder => "say where with `--data-dir DIR`",
        };
        // A value in the file is judged as in an option; what the disk does is no wrong usage.
        let code = match &error {
            ConfigError::Read { .. } | ConfigError::NoDataFolder => ExitCode::Failed,
            _ => ExitCode::Usage,
        };
        let failure = Failure::from(anyhow::Error::new(error));
        Failure { code, json_code: Failure::new(code, "").json_code, ..failure }.hint(hint)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Failure {
        Failure::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_chain_is_told_once_and_without_numbers() {
        let missing = io::Error::from_raw_os_error(13);
        let error = anyhow::Error::new(missing).context("cannot read `a`.").context("put stopped");
        let failure = Failure::from(error);
        assert_eq!(failure.message, "put stopped: cannot read `a`: permission denied");
        assert_eq!((failure.code, failure.json_code), (ExitCode::Failed, "failed"));
    }

    #[test]
    fn a_failure_keeps_its_code_through_a_chain() {
        let inner = Failure::not_allowed("another key");
        let chain: Result<(), _> = Err(anyhow::Error::new(inner.clone()));
        let failure = Failure::from(chain.context("while asking").expect_err("an error"));
        assert_eq!(failure, inner);
    }

    #[test]
    fn what_the_proxy_refuses_keeps_its_meaning() {
        for (code, exit, json) in [
            (ErrorCode::NotFound, ExitCode::NotFound, "not_found"),
            (ErrorCode::Denied, ExitCode::NotAllowed, "not_allowed"),
            (ErrorCode::NoSpace, ExitCode::Failed, "no_space"),
            (ErrorCode::Unknown, ExitCode::Failed, "unknown"),
        ] {
            let failure = Failure::from_reply(code, "it is so.");
            assert_eq!((failure.code, failure.json_code, &*failure.message), (exit, json, "it is so"));
        }
    }

    #[test]
    fn a_local_file_that_is_not_there_is_not_found() {
        let error = io::Error::from(io::ErrorKind::NotFound);
        let failure = Failure::local_file("read", Path::new("x.txt"), &error);
        assert_eq!(failure.code, ExitCode::NotFound);
        assert!(failure.message.contains("`x.txt`"));
    }
}
