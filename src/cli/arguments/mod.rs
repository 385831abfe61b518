//! What can be typed: options, commands, and the help that explains them.
//!
//! Invariant: what passes here is well-formed, so commands check nothing again. The cluster key is
//! no argument, ever: others can read those in the process list.

mod channel;
mod help;
mod node;
mod run;
mod sources;
mod sync;

#[cfg(test)]
mod tests;

pub use channel::{
    ChannelArguments, ChannelCommand, ChannelFollowArguments, ChannelGetArguments, ChannelPostArguments,
};
pub use help::{ABOUT, INTRODUCTION};
pub use node::NodeArguments;
pub use run::{AttachArguments, JobsArguments, LogsArguments, RunArguments, StopArguments};
pub use sources::{Source, Sources};
pub use sync::{SyncArguments, SyncPlace};

use crate::cli::failure::Failure;
use crate::cli::letters::{PLACES, parse_letter_name, parse_place};
use crate::cli::names::{NamePattern, parse_folder, parse_name, parse_pattern};
use crate::cli::units::parse_duration;
use crate::config::{Given, Peer, check_replicas, parse_address, parse_label, parse_peer, parse_port};
use crate::limits::{
    DEMO_NODES_MAX, DEMO_NODES_MIN, LETTER_LIVES_MAX, LETTER_TYPE_BYTES_MAX, NAME_BYTES_MAX, REPLICAS_MAX,
};
use crate::messages::folders::Place;
use crate::types::{FileName, LetterType, Lineage, Priority};
use crate::web::share;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "thorp",
    bin_name = "thorp",
    version,
    about = help::INTRODUCTION,
    after_help = help::EXAMPLES,
    arg_required_else_help = true,
    subcommand_required = true,
    infer_long_args = false,
    max_term_width = 100,
)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn parse_letter_type(text: &str) -> Result<LetterType, String> {
    match LetterType::parse(text) {
        Some(kind) if kind.is_own() => Err("types that begin with `thorp.` are thorp's own".to_owned()),
        Some(kind) => Ok(kind),
        None => Err(format!(
            "a type has letters, digits, `.`, `_` and `-`, begins with a letter or digit, and has at most \
             {LETTER_TYPE_BYTES_MAX} bytes"
        )),
    }
}

fn parse_lives(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a message that is of no use at once needs not be sent".to_owned()),
        lives if lives > LETTER_LIVES_MAX => Err("at most 31d; `thorp put` what is to stay".to_owned()),
        lives => Ok(lives),
    }
}

/// A flag's variable: the usual words for yes and no; nothing is no.
fn parse_flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("use `1` or `0`".to_owned()),
    }
}

/// Options of every command, before or after it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options everywhere")]
pub struct GlobalArguments {
    /// Where all state of this node is kept [default: the platform's data folder + `thorp`]
    #[arg(long, global = true, value_name = "DIR", env = "THORP_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Settings to read [default: the platform's config folder + `thorp/config.toml`]
    #[arg(long, global = true, value_name = "FILE", env = "THORP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Take part in this cluster; others on the same LAN are ignored [default: default]
    #[arg(long, global = true, value_name = "NAME", env = "THORP_CLUSTER", hide_env_values = true,
          value_parser = parse_label)]
    pub cluster: Option<Box<str>>,
    /// File with the cluster key, one line that only you can read [default: none, an open LAN]
    #[arg(long, global = true, value_name = "FILE", env = "THORP_KEY_FILE", hide_env_values = true)]
    pub key_file: Option<PathBuf>,
    /// Use only this address and its network; 127.0.0.1: this machine only [default: every interface]
    #[arg(long, global = true, value_name = "ADDR", env = "THORP_BIND", hide_env_values = true,
          value_parser = parse_address)]
    pub bind: Option<IpAddr>,
    /// UDP port of discovery, and the TCP port unless it is taken [default: 7667]
    #[arg(long, global = true, value_name = "PORT", env = "THORP_PORT", hide_env_values = true,
          value_parser = parse_port, allow_negative_numbers = true)]
    pub port: Option<u16>,
    /// Look there too, where broadcasts do not reach; may be repeated
    #[arg(long = "peer", global = true, value_name = "HOST[:PORT]", env = "THORP_PEER", hide_env_values = true,
          value_delimiter = ',', action = ArgAction::Append, value_parser = parse_peer)]
    pub peers: Option<Vec<Peer>>,
    /// How long a command waits for a proxy [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", env = "THORP_TIMEOUT", hide_env_values = true,
          value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Print one JSON document on standard output and nothing else there
    #[arg(long, global = true, env = "THORP_JSON", hide_env_values = true, value_parser = parse_flag)]
    pub json: bool,
    /// No progress and notes; twice: no warnings either
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// More detail in the logs on standard error; up to three times
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make this machine part of the LAN's store, until Ctrl-C
    #[command(after_help = help::UP_EXAMPLES)]
    Up(UpArguments),
    /// Show machines, their roles, and how the files are
    #[command(after_help = help::STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Print the address of the page, for browsers and phones
    #[command(after_help = help::OPEN_EXAMPLES)]
    Open(OpenArguments),
    /// Store files and folders
    #[command(after_help = help::PUT_EXAMPLES)]
    Put(PutArguments),
    /// Get files back
    #[command(after_help = help::GET_EXAMPLES)]
    Get(GetArguments),
    /// Have every copy read and hashed anew, and the bad ones mended
    #[command(after_help = help::VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// List what is stored, in how many copies, and where
    #[command(after_help = help::LS_EXAMPLES)]
    Ls(LsArguments),
    /// Show or set how many copies a file has
    #[command(after_help = help::REPLICAS_EXAMPLES)]
    Replicas(ReplicasArguments),
    /// Remove files, to the trash
    #[command(after_help = help::RM_EXAMPLES)]
    Rm(RmArguments),
    /// Explain where a file's copies are and what the next step waits for
    #[command(after_help = help::WHY_EXAMPLES)]
    Why(WhyArguments),
    /// Move a machine's copies elsewhere, so that it may be switched off
    #[command(after_help = help::DRAIN_EXAMPLES)]
    Drain(DrainArguments),
    /// Make this cluster and another one in sight one
    #[command(after_help = help::MERGE_EXAMPLES)]
    Merge(MergeArguments),
    /// Bring removed and replaced files back
    #[command(after_help = help::RESTORE_EXAMPLES)]
    Restore(RestoreArguments),
    /// Make a link that gives one file to whoever has a browser on the LAN
    #[command(after_help = help::SHARE_EXAMPLES)]
    Share(ShareArguments),
    /// Make a folder on another machine equal to one here
    #[command(after_help = help::SYNC_EXAMPLES)]
    Sync(SyncArguments),
    /// Send a message to other machines
    #[command(after_help = help::SEND_EXAMPLES)]
    Send(SendArguments),
    /// Show the messages that came, and what became of their hooks
    #[command(after_help = help::INBOX_EXAMPLES)]
    Inbox(InboxArguments),
    /// List the messages of one folder, and why they failed
    #[command(after_help = help::LIST_EXAMPLES)]
    List(ListArguments),
    /// Try failed messages again
    #[command(after_help = help::RETRY_EXAMPLES)]
    Retry(RetryArguments),
    /// Remove all messages of one folder
    #[command(after_help = help::FLUSH_EXAMPLES)]
    Flush(FlushArguments),
    /// Print the content id of local files, to compare with `ls`
    #[command(after_help = help::HASH_EXAMPLES)]
    Hash(HashArguments),
    /// Show on this machine alone how it works
    #[command(after_help = help::DEMO_EXAMPLES)]
    Demo(DemoArguments),
    /// Show each setting, its value, and what decided it
    #[command(after_help = help::CONFIG_EXAMPLES)]
    Config(ConfigArguments),
    /// Run a program on another machine as if it were here
    #[command(after_help = help::RUN_EXAMPLES)]
    Run(RunArguments),
    /// Show programs that run or ran for others
    #[command(after_help = help::JOBS_EXAMPLES)]
    Jobs(JobsArguments),
    /// Come back to a program: its output so far, then live
    #[command(after_help = help::ATTACH_EXAMPLES)]
    Attach(AttachArguments),
    /// Show what a program has said so far
    #[command(after_help = help::LOGS_EXAMPLES)]
    Logs(LogsArguments),
    /// End a program that runs for somebody
    #[command(after_help = help::STOP_EXAMPLES)]
    Stop(StopArguments),
    /// Live state that programs share: post yours, see the others'
    Channel(ChannelArguments),
    /// Make a cluster key
    #[command(after_help = help::KEY_EXAMPLES, arg_required_else_help = true)]
    Key(KeyArguments),
    /// Print completions for a shell
    #[command(after_help = help::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print the manual page
    #[command(after_help = help::MAN_EXAMPLES)]
    Man(ManArguments),
}

/// `thorp up`.
#[derive(Args, Clone, Debug)]
pub struct UpArguments {
    /// Settings of the node.
    #[command(flatten)]
    pub node: NodeArguments,
    /// Start although the catalog is damaged or missing: put it aside, take in the stored contents
    /// that are whole, and get the rest from the other machines
    #[arg(long)]
    pub rebuild: bool,
}

/// `thorp send`.
#[derive(Args, Clone, Debug)]
pub struct SendArguments {
    /// What kind of message; the hook of that name is run where it arrives
    #[arg(value_name = "TYPE", value_parser = parse_letter_type)]
    pub kind: LetterType,
    /// JSON: itself, `@FILE`, or `-` for standard input [default: {}]
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        env = "THORP_PAYLOAD",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub payload: Option<String>,
    /// To this machine alone, by its name or id [default: all others]
    #[arg(long, value_name = "NODE", env = "THORP_TARGET", hide_env_values = true, value_parser = parse_label)]
    pub target: Option<Box<str>>,
    /// Of messages that wait together the more urgent ones go first
    #[arg(long, value_name = "PRIORITY", env = "THORP_PRIORITY", hide_env_values = true, default_value = "normal",
          value_parser = PossibleValuesParser::new(Priority::ALL.map(Priority::as_str))
              .map(|word| Priority::parse(&word).unwrap_or_default()))]
    pub priority: Priority,
    /// Of no use after this time, at most 31d [default: 7d]
    #[arg(long, value_name = "DURATION", env = "THORP_EXPIRES", hide_env_values = true,
          value_parser = parse_lives, allow_hyphen_values = true)]
    pub expires: Option<Duration>,
    /// Store this file and name it in the message; may be repeated
    #[arg(long, value_name = "FILE", env = "THORP_ATTACH", hide_env_values = true, value_delimiter = ',')]
    pub attach: Vec<PathBuf>,
    /// Wait until every addressee that is up has it, at most as long as `--timeout`
    #[arg(long, env = "THORP_WAIT", hide_env_values = true, value_parser = parse_flag)]
    pub wait: bool,
    /// Sender's name, where no node runs with this data folder [default: the host name]
    #[arg(long, value_name = "NAME", env = "THORP_NAME", hide_env_values = true, value_parser = parse_label)]
    pub name: Option<Box<str>>,
}

/// `thorp inbox`.
#[derive(Args, Clone, Debug)]
pub struct InboxArguments {
    /// Go on and show each new message as it comes
    #[arg(long, env = "THORP_FOLLOW", hide_env_values = true, value_parser = parse_flag)]
    pub follow: bool,
    /// Remove from the inbox what was shown, once its hook is done
    #[arg(long, env = "THORP_ACK", hide_env_values = true, value_parser = parse_flag)]
    pub ack: bool,
}

/// `thorp list`.
#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    /// Which folder
    #[arg(value_name = "FOLDER", value_parser = PossibleValuesParser::new(PLACES).map(|place| parse_place(&place)))]
    pub folder: Place,
}

/// `thorp retry`.
#[derive(Args, Clone, Debug)]
pub struct RetryArguments {
    /// Ids as `thorp list failed` shows them, or their first characters [default: all that failed]
    #[arg(value_name = "ID", value_parser = parse_letter_name)]
    pub ids: Vec<Box<str>>,
}

/// `thorp flush`.
#[derive(Args, Clone, Debug)]
pub struct FlushArguments {
    /// Which folder
    #[arg(value_name = "FOLDER", value_parser = PossibleValuesParser::new(PLACES).map(|place| parse_place(&place)))]
    pub folder: Place,
}

/// `thorp config`: the options of all settings, to see what they would do.
#[derive(Args, Clone, Debug)]
pub struct ConfigArguments {
    /// Settings of `thorp up`.
    #[command(flatten)]
    pub node: NodeArguments,
    /// Settings of `thorp put`.
    #[command(flatten)]
    pub copies: CopiesArguments,
}

/// `thorp status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    /// Print the token that HTTP needs where there is a cluster key, and nothing else
    #[arg(long, env = "THORP_TOKEN", hide_env_values = true, value_parser = parse_flag)]
    pub token: bool,
}

/// `thorp demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArguments {
    /// The file to use [default: a generated one of 64 MiB]
    pub file: Option<PathBuf>,
    /// How many nodes
    #[arg(long, value_name = "N", env = "THORP_NODES", hide_env_values = true, default_value_t = 5,
          value_parser = clap::value_parser!(u8).range(i64::from(DEMO_NODES_MIN)..=i64::from(DEMO_NODES_MAX)))]
    pub nodes: u8,
    /// Leave the folder of the demo in place
    #[arg(long, env = "THORP_KEEP", hide_env_values = true, value_parser = parse_flag)]
    pub keep: bool,
}

/// `thorp key`.
#[derive(Args, Clone, Debug)]
pub struct KeyArguments {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum KeyCommand {
    /// Print a new random key of 128 bits
    #[command(after_help = help::KEY_EXAMPLES)]
    New,
}

/// `thorp completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `thorp man`.
#[derive(Args, Clone, Debug)]
pub struct ManArguments {}

/// `thorp put`.
#[derive(Args, Clone, Debug)]
pub struct PutArguments {
    /// Files and folders; `-` is standard input and needs --as
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Store the one PATH under this name
    #[arg(long = "as", value_name = "NAME", env = "THORP_AS", hide_env_values = true, value_parser = parse_name)]
    pub as_name: Option<FileName>,
    /// Store everything under PREFIX/
    #[arg(long, value_name = "PREFIX", env = "THORP_INTO", hide_env_values = true, value_parser = parse_folder)]
    pub into: Option<FileName>,
    /// How many copies.
    #[command(flatten)]
    pub copies: CopiesArguments,
    /// Exit with 5 if there are fewer copies than asked for now
    #[arg(long, env = "THORP_STRICT", hide_env_values = true, value_parser = parse_flag)]
    pub strict: bool,
}

/// How many copies to make.
#[derive(Args, Clone, Copy, Debug)]
pub struct CopiesArguments {
    /// How many copies, each on another machine [default: 2; what is stored already keeps its number]
    #[arg(short = 'n', long, value_name = "N", env = "THORP_REPLICAS", hide_env_values = true,
          value_parser = parse_replicas_to_put, allow_negative_numbers = true)]
    pub replicas: Option<u8>,
}

/// `thorp get`.
#[derive(Args, Clone, Debug)]
pub struct GetArguments {
    /// Names as `ls` shows them; with `/` at its end, everything under it
    #[arg(required = true, value_name = "NAME", value_parser = parse_pattern)]
    pub names: Vec<NamePattern>,
    /// Where to write: a file, a folder, or `-` for standard output [default: this folder]
    #[arg(short, long, value_name = "PATH", env = "THORP_OUTPUT", hide_env_values = true)]
    pub output: Option<PathBuf>,
    /// Overwrite files that are different
    #[arg(long, env = "THORP_FORCE", hide_env_values = true, value_parser = parse_flag)]
    pub force: bool,
}

/// `thorp ls`.
#[derive(Args, Clone, Debug)]
pub struct LsArguments {
    /// Only names that start with this
    #[arg(value_name = "PREFIX", value_parser = parse_prefix)]
    pub prefix: Option<Box<str>>,
    /// Also content ids, times, and who holds the copies
    #[arg(short, long, env = "THORP_LONG", hide_env_values = true, value_parser = parse_flag)]
    pub long: bool,
    /// What is in the trash instead, and when it was removed
    #[arg(long, env = "THORP_REMOVED", hide_env_values = true, value_parser = parse_flag)]
    pub removed: bool,
}

/// `thorp replicas`.
#[derive(Args, Clone, Debug)]
pub struct ReplicasArguments {
    /// A name as `ls` shows it
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: FileName,
    /// How many copies to keep from now on
    #[arg(value_name = "N", value_parser = parse_replicas_to_keep, allow_negative_numbers = true)]
    pub count: Option<u8>,
    /// Wait, and show progress, until there are that many
    #[arg(long, env = "THORP_WAIT", hide_env_values = true, value_parser = parse_flag)]
    pub wait: bool,
    /// Exit with 5 if there are fewer copies than asked for now
    #[arg(long, env = "THORP_STRICT", hide_env_values = true, value_parser = parse_flag)]
    pub strict: bool,
}

/// `thorp rm`.
#[derive(Args, Clone, Debug)]
pub struct RmArguments {
    /// Names as `ls` shows them
    #[arg(required = true, value_name = "NAME", value_parser = parse_pattern)]
    pub names: Vec<NamePattern>,
    /// Also everything under a name
    #[arg(short, long, env = "THORP_RECURSIVE", hide_env_values = true, value_parser = parse_flag)]
    pub recursive: bool,
    /// Not to the trash: at once and for good, with what the trash has of these names
    #[arg(long, env = "THORP_NOW", hide_env_values = true, value_parser = parse_flag)]
    pub now: bool,
}

/// `thorp open`.
#[derive(Args, Clone, Debug)]
pub struct OpenArguments {
    /// Print no picture for a phone's camera
    #[arg(long, env = "THORP_NO_QR", hide_env_values = true, value_parser = parse_flag)]
    pub no_qr: bool,
}

/// `thorp why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArguments {
    /// A name as `ls` shows it
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: FileName,
}

/// `thorp drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArguments {
    /// The machine's name or id, as `status` shows them
    #[arg(value_name = "NODE", value_parser = parse_label)]
    pub node: Box<str>,
    /// It stays after all
    #[arg(long, env = "THORP_UNDO", hide_env_values = true, value_parser = parse_flag)]
    pub undo: bool,
}

/// `thorp merge`.
#[derive(Args, Clone, Debug)]
pub struct MergeArguments {
    /// The other cluster's id, as `status` shows it
    #[arg(value_name = "ID", value_parser = parse_cluster)]
    pub other: Lineage,
}

/// `thorp restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArguments {
    /// Names as `ls --removed` shows them; with `/` at its end, everything under it
    #[arg(required = true, value_name = "NAME", value_parser = parse_pattern)]
    pub names: Vec<NamePattern>,
}

/// `thorp share`.
#[derive(Args, Clone, Debug)]
pub struct ShareArguments {
    /// A name as `ls` shows it
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: FileName,
    /// How long the link works, at most 31d [default: 24h]
    #[arg(long, value_name = "DURATION", env = "THORP_EXPIRES", hide_env_values = true,
          value_parser = share::parse_lives, allow_hyphen_values = true)]
    pub expires: Option<Duration>,
}

/// `thorp verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArguments {
    /// Names as `ls` shows them; with `/` at its end, everything under it [default: everything]
    #[arg(value_name = "NAME", value_parser = parse_pattern)]
    pub names: Vec<NamePattern>,
}

/// `thorp hash`.
#[derive(Args, Clone, Debug)]
pub struct HashArguments {
    /// Files, and folders for every file below them; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

fn parse_cluster(text: &str) -> Result<Lineage, String> {
    Lineage::parse(text)
        .ok_or_else(|| "a cluster's id has 32 hexadecimal digits; `thorp status` shows it".to_owned())
}

fn parse_replicas_to_put(text: &str) -> Result<u8, String> {
    check_replicas(text.parse().unwrap_or(-1))
}

fn parse_replicas_to_keep(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(0) => Err(format!(
            "with 0 copies there is no file: to remove it, use `thorp rm`; copies are 1 to {REPLICAS_MAX}"
        )),
        Ok(count) => check_replicas(count),
        Err(_) => check_replicas(-1),
    }
}

fn parse_prefix(text: &str) -> Result<Box<str>, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("no name is longer than {NAME_BYTES_MAX} bytes"));
    }
    Ok(text.into())
}

impl Arguments {
    /// What options and environment say of settings. The cluster key is not among them: it comes
    /// from [`crate::config::key_in_environment`].
    #[must_use]
    pub fn given(&self) -> Given {
        let global = &self.global;
        let given = Given {
            data_dir: global.data_dir.clone(),
            config: global.config.clone(),
            cluster: global.cluster.clone(),
            key_file: global.key_file.clone(),
            bind: global.bind,
            port: global.port,
            peers: global.peers.clone(),
            timeout: global.timeout,
            ..Given::default()
        };
        match &self.command {
            Command::Up(up) => up.node.add_to(given),
            Command::Send(send) => Given { name: send.name.clone(), ..given },
            Command::Channel(ChannelArguments { command: ChannelCommand::Post(post) }) => {
                Given { name: post.name.clone(), ..given }
            }
            Command::Put(put) => Given { replicas: put.copies.replicas, ..given },
            Command::Config(all) => Given { replicas: all.copies.replicas, ..all.node.add_to(given) },
            _ => given,
        }
    }

    /// Rules between arguments, which the parser does not know.
    ///
    /// # Errors
    /// Wrong usage.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Put(put) => put.check(),
            Command::Get(get) => get.check(self.global.json),
            Command::Rm(rm) => rm.check(),
            Command::Hash(hash) => standard_input_once(&hash.paths),
            _ => Ok(()),
        }
    }
}

impl PutArguments {
    fn check(&self) -> Result<(), Failure> {
        standard_input_once(&self.paths)?;
        if self.as_name.is_some() && self.paths.len() > 1 {
            return Err(Failure::usage("`--as` names one PATH, and there are several")
                .hint("put them one by one, or under one folder with `--into PREFIX`"));
        }
        if self.as_name.is_none() && self.paths.iter().any(|path| is_standard(path)) {
            return Err(Failure::usage("standard input has no name").hint("name it: `thorp put - --as NAME`"));
        }
        Ok(())
    }
}

impl GetArguments {
    /// Whether the output is standard output.
    #[must_use]
    pub fn to_standard_output(&self) -> bool {
        self.output.as_deref().is_some_and(is_standard)
    }

    fn check(&self, json: bool) -> Result<(), Failure> {
        if !self.to_standard_output() {
            return Ok(());
        }
        if json {
            return Err(
                Failure::usage("`-o -` and `--json` both need standard output").hint("use one of them")
            );
        }
        if !matches!(self.names.as_slice(), [NamePattern::File(_)]) {
            return Err(
                Failure::usage("`-o -` writes one file").hint("get a folder or several files with `-o DIR`")
            );
        }
        Ok(())
    }
}

impl RmArguments {
    fn check(&self) -> Result<(), Failure> {
        match self.names.iter().find(|name| matches!(name, NamePattern::Under(_))) {
            Some(name) if !self.recursive => {
                Err(Failure::usage(format!("`{name}` is everything under a name")).hint("say so with `-r`"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a path argument stands for standard input or output.
#[must_use]
pub fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn standard_input_once(paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.iter().filter(|path| is_standard(path)).count() > 1 {
        return Err(Failure::usage("standard input can be read only once").hint("give `-` once"));
    }
    Ok(())
}
