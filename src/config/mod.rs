//! Settings: option, then environment, then `config.toml`, then default.
//!
//! The command line gives what options and environment say ([`Given`]); this module reads the
//! file, fills in what was left unset and checks it. Invariant: a [`Settings`] that exists is
//! valid, and nothing in the file is ignored: an unknown key is an error that names it.
//!
//! The cluster key itself is never in the file nor in an argument, which others could read: it
//! comes from a file of its own or from the environment, and [`Secret`] hides it from every log.

mod listing;
mod values;

pub use listing::{SETTINGS, Setting, Value};
use values::check_port;
pub use values::{
    HttpHost, Peer, ROLES, check_hook_tries, check_hooks_at_once, check_replicas, host_name, parse_address,
    parse_hook_timeout, parse_http, parse_http_host, parse_label, parse_lifetime, parse_machine, parse_peer,
    parse_port, parse_role, parse_run_program, parse_run_user, parse_scrub_every,
};

use crate::limits::{
    COMMAND_TIMEOUT, CONFIG_BYTES_MAX, HEAL_AFTER_DEFAULT, HOOK_TIMEOUT_DEFAULT, HOOK_TRIES_DEFAULT,
    HOOKS_AT_ONCE_DEFAULT, KEEP_REMOVED_DEFAULT, PORT_DEFAULT, REPLICAS_DEFAULT, SCRUB_EVERY_DEFAULT,
    SENT_TTL_DEFAULT,
};
use crate::types::{MachineId, Origin, Pin};
use etcetera::BaseStrategy;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The environment variable that holds the cluster key itself.
pub const KEY_VARIABLE: &str = "THORP_KEY";
/// The cluster of those who name none.
pub const CLUSTER_DEFAULT: &str = "default";
/// Name of the folder in the platform's data and config folders.
const FOLDER: &str = "thorp";
/// Name of the file in the config folder.
const FILE: &str = "config.toml";

/// All settings, resolved and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All state of this node.
    pub data_dir: PathBuf,
    /// The file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    /// The keys that it has; an option or the environment may still have gone first.
    pub file_keys: BTreeSet<String>,
    /// Nodes of other clusters are ignored. At most [`crate::limits::LABEL_BYTES_MAX`] bytes.
    pub cluster: Box<str>,
    /// Where the cluster key is.
    pub key: KeySource,
    /// Use only this address and its network.
    pub bind: Option<IpAddr>,
    /// UDP port of discovery, and the TCP port unless it is taken.
    pub port: u16,
    /// Where to look as well.
    pub peers: Vec<Peer>,
    /// How long a command waits for a proxy.
    pub timeout: Duration,
    /// Copies that `put` asks for when it is not told, 1 to [`crate::limits::REPLICAS_MAX`].
    pub replicas: u8,
    /// What concerns `thorp up` alone.
    pub node: NodeSettings,
}

/// Settings of a node that runs.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The role it is told to take.
    pub role: Pin,
    /// Display name; the host's unless given.
    pub name: Box<str>,
    /// Most bytes that it stores; `None`: what is free, less headroom.
    pub capacity_bytes: Option<u64>,
    /// The machine that it counts as; `None`: the one that it is on.
    pub machine: Option<MachineId>,
    /// Silence after which another node's copies are replaced.
    pub heal_after: Duration,
    /// How often each copy is hashed anew.
    pub scrub_every: ScrubEvery,
    /// How long removed and replaced versions are kept; zero for not at all.
    pub keep_removed: Duration,
    /// How long messages that were sent are kept.
    pub sent_ttl: Lifetime,
    /// The same of messages that came.
    pub inbox_ttl: Lifetime,
    /// How long the hook of a message may run.
    pub hook_timeout: Duration,
    /// How often a hook is tried.
    pub hook_tries: u32,
    /// How many hooks run at once.
    pub hooks_at_once: u32,
    /// Whether clients of channels must show their tokens.
    pub channels_strict: bool,
    /// Whether others may run programs here.
    pub allow_run: bool,
    /// Who may, if not everybody with the cluster key: addresses, networks, ids of nodes and machines.
    pub run_from: Vec<Origin>,
    /// Which programs they may run, if not every one.
    pub run_programs: Vec<Box<str>>,
    /// As whom programs run, if not as whoever started the node.
    pub run_user: Option<Box<str>>,
    /// Where their folders are, if not below the data folder.
    pub run_folder: Option<PathBuf>,
    /// Where it serves HTTP.
    pub http: Http,
    /// Further names under which HTTP is asked for, with a port if it is another one.
    pub http_hosts: Vec<HttpHost>,
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody removes it.
    Endless,
    /// This long.
    For(Duration),
}

impl Lifetime {
    /// The time, if there is one.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Lifetime::Endless => None,
            Lifetime::For(duration) => Some(duration),
        }
    }
}

/// How often each copy is hashed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubEvery {
    /// Never; only on request, and after a crash.
    Off,
    /// At least this often.
    Interval(Duration),
}

impl ScrubEvery {
    /// The interval, if there is one.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        match self {
            ScrubEvery::Off => None,
            ScrubEvery::Interval(interval) => Some(interval),
        }
    }
}

/// Where a node serves HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// On the node's addresses if the LAN is open, else on loopback; on the usual port, or another one if it is taken.
    #[default]
    Usual,
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

/// Where the cluster key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// None: an open LAN.
    Open,
    /// In this file, to be read (and refused if others can read it) by `identity`.
    File(PathBuf),
    /// This is it, from [`KEY_VARIABLE`]. Not checked yet.
    Text(Secret),
}

/// Text that no log, error or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What options and environment gave; `None` for what they left unset.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the setting of its name in `Settings` and `NodeSettings`")]
pub struct Given {
    pub data_dir: Option<PathBuf>,
    /// The file to read, which must then exist.
    pub config: Option<PathBuf>,
    pub cluster: Option<Box<str>>,
    pub key_file: Option<PathBuf>,
    /// From [`key_in_environment`].
    pub key: Option<Secret>,
    pub bind: Option<IpAddr>,
    pub port: Option<u16>,
    pub peers: Option<Vec<Peer>>,
    pub timeout: Option<Duration>,
    pub replicas: Option<u8>,
    pub role: Option<Pin>,
    pub name: Option<Box<str>>,
    pub capacity_bytes: Option<u64>,
    pub machine: Option<MachineId>,
    pub heal_after: Option<Duration>,
    pub scrub_every: Option<ScrubEvery>,
    pub keep_removed: Option<Duration>,
    pub sent_ttl: Option<Lifetime>,
    pub inbox_ttl: Option<Lifetime>,
    pub hook_timeout: Option<Duration>,
    pub hook_tries: Option<u32>,
    pub hooks_at_once: Option<u32>,
    pub channels_strict: Option<bool>,
    pub allow_run: Option<bool>,
    pub run_from: Option<Vec<Origin>>,
    pub run_programs: Option<Vec<Box<str>>>,
    pub run_user: Option<Box<str>>,
    pub run_folder: Option<PathBuf>,
    pub http: Option<Http>,
    pub http_hosts: Option<Vec<HttpHost>>,
}

/// How sizes and durations are read: the file writes them as the options do, and those who print
/// them know how.
#[derive(Clone, Copy, Debug)]
pub struct UnitParsers {
    /// Bytes of a size.
    pub size: fn(&str) -> Result<u64, String>,
    /// A duration.
    pub duration: fn(&str) -> Result<Duration, String>,
}

/// The platform's folders for programs' data and settings.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// For data.
    pub data: Option<PathBuf>,
    /// For settings.
    pub config: Option<PathBuf>,
}

impl Folders {
    /// Those of the user who runs this; unknown if the user has no home.
    #[must_use]
    pub fn of_platform() -> Folders {
        match etcetera::base_strategy::choose_native_strategy() {
            Ok(platform) => Folders { data: Some(platform.data_dir()), config: Some(platform.config_dir()) },
            Err(_) => Folders::default(),
        }
    }

    /// The config file that is read when none is named, if it is there.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|folder| folder.join(FOLDER).join(FILE))
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--config` names a file that is not there.
    #[error("there is no config file `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the config file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Over [`CONFIG_BYTES_MAX`].
    #[error("the config file `{}` is larger than {CONFIG_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("the config file `{}` is not UTF-8 text (the first wrong byte is number {at})", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Which byte, from 1.
        at: usize,
    },
    /// Not TOML, an unknown key, or a value of another kind.
    #[error("the config file `{}`, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, naming the key.
        reason: Box<str>,
    },
    /// A value that is not allowed.
    #[error("the config file `{}`, `{key}`: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is allowed.
        reason: Box<str>,
    },
    /// Both a key file and the key itself.
    #[error("both `{KEY_VARIABLE}` and a key file (`--key-file` or `THORP_KEY_FILE`) are given")]
    TwoKeys,
    /// [`KEY_VARIABLE`] is set to nothing: meant to be closed, it would be open.
    #[error("`{KEY_VARIABLE}` is set but empty")]
    EmptyKey,
    /// [`KEY_VARIABLE`] is not UTF-8.
    #[error("`{KEY_VARIABLE}` is not UTF-8 text")]
    KeyNotText,
    /// No `--data-dir`, and the platform names none.
    #[error("there is no home folder to keep data in")]
    NoDataFolder,
}

/// `config.toml` as it is written. Sizes and durations are text, as in the options.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    cluster: Option<String>,
    key_file: Option<PathBuf>,
    bind: Option<String>,
    port: Option<i64>,
    peer: Option<Vec<String>>,
    timeout: Option<String>,
    replicas: Option<i64>,
    role: Option<String>,
    name: Option<String>,
    capacity: Option<String>,
    machine: Option<String>,
    heal_after: Option<String>,
    scrub_every: Option<String>,
    keep_removed: Option<String>,
    sent_ttl: Option<String>,
    inbox_ttl: Option<String>,
    hook_timeout: Option<String>,
    hook_tries: Option<i64>,
    hooks_at_once: Option<i64>,
    channels_strict: Option<bool>,
    allow_run: Option<bool>,
    run_from: Option<Vec<String>>,
    run_programs: Option<Vec<String>>,
    run_user: Option<String>,
    run_folder: Option<PathBuf>,
    http: Option<String>,
    http_host: Option<Vec<String>>,
}

impl Settings {
    /// Reads the config file and fills in what `given` leaves unset.
    ///
    /// # Errors
    /// When the file is unreadable or wrong, the cluster key is given twice, or there is no
    /// folder for data.
    pub fn load(given: Given, folders: &Folders, units: UnitParsers) -> Result<Settings, ConfigError> {
        let (config_file, path) = match (&given.config, folders.config_file()) {
            (Some(path), _) => {
                (Some(read(path)?.ok_or(ConfigError::Missing { path: path.clone() })?), path.clone())
            }
            (None, Some(path)) => (read(&path)?, path),
            (None, None) => (None, PathBuf::new()),
        };
        let found = config_file.is_some();
        let (file, file_keys) = match config_file {
            Some(text) => {
                let file: File = parse(&path, &text)?;
                let keys: BTreeMap<String, IgnoredAny> = parse(&path, &text)?;
                (file.check(&path, units)?, keys.into_keys().collect())
            }
            None => (Given::default(), BTreeSet::new()),
        };
        let key = key_source(given.key, given.key_file, file.key_file)?;
        let data_dir = given
            .data_dir
            .or(file.data_dir)
            .or_else(|| folders.data.as_ref().map(|folder| folder.join(FOLDER)))
            .ok_or(ConfigError::NoDataFolder)?;
        Ok(Settings {
            data_dir,
            config_file: found.then_some(path),
            file_keys,
            cluster: given.cluster.or(file.cluster).unwrap_or_else(|| CLUSTER_DEFAULT.into()),
            key,
            bind: given.bind.or(file.bind),
            port: given.port.or(file.port).unwrap_or(PORT_DEFAULT),
            peers: given.peers.or(file.peers).unwrap_or_default(),
            timeout: given.timeout.or(file.timeout).unwrap_or(COMMAND_TIMEOUT),
            replicas: given.replicas.or(file.replicas).unwrap_or(REPLICAS_DEFAULT),
            node: NodeSettings {
                role: given.role.or(file.role).unwrap_or_default(),
                name: given.name.or(file.name).unwrap_or_else(host_name),
                capacity_bytes: given.capacity_bytes.or(file.capacity_bytes),
                machine: given.machine.or(file.machine),
                heal_after: given.heal_after.or(file.heal_after).unwrap_or(HEAL_AFTER_DEFAULT),
                scrub_every: given
                    .scrub_every
                    .or(file.scrub_every)
                    .unwrap_or(ScrubEvery::Interval(SCRUB_EVERY_DEFAULT)),
                keep_removed: given.keep_removed.or(file.keep_removed).unwrap_or(KEEP_REMOVED_DEFAULT),
                sent_ttl: given.sent_ttl.or(file.sent_ttl).unwrap_or(Lifetime::For(SENT_TTL_DEFAULT)),
                inbox_ttl: given.inbox_ttl.or(file.inbox_ttl).unwrap_or(Lifetime::Endless),
                hook_timeout: given.hook_timeout.or(file.hook_timeout).unwrap_or(HOOK_TIMEOUT_DEFAULT),
                hook_tries: given.hook_tries.or(file.hook_tries).unwrap_or(HOOK_TRIES_DEFAULT),
                hooks_at_once: given.hooks_at_once.or(file.hooks_at_once).unwrap_or(HOOKS_AT_ONCE_DEFAULT),
                channels_strict: given.channels_strict.or(file.channels_strict).unwrap_or(false),
                allow_run: given.allow_run.or(file.allow_run).unwrap_or(false),
                run_from: given.run_from.or(file.run_from).unwrap_or_default(),
                run_programs: given.run_programs.or(file.run_programs).unwrap_or_default(),
                run_user: given.run_user.or(file.run_user),
                run_folder: given.run_folder.or(file.run_folder),
                http: given.http.or(file.http).unwrap_or_default(),
                http_hosts: given.http_hosts.or(file.http_hosts).unwrap_or_default(),
            },
        })
    }
}

/// The cluster key in the environment, if [`KEY_VARIABLE`] is set.
///
/// # Errors
/// When it is empty or not UTF-8.
pub fn key_in_environment() -> Result<Option<Secret>, ConfigError> {
    match std::env::var(KEY_VARIABLE) {
        // Whoever sets a key wants a closed LAN: nothing must not mean an open one.
        Ok(text) if text.is_empty() => Err(ConfigError::EmptyKey),
        Ok(text) => Ok(Some(Secret::new(&text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(ConfigError::KeyNotText),
    }
}

/// Option and environment before the file; of the first two, either but not both.
fn key_source(
    variable: Option<Secret>,
    given: Option<PathBuf>,
    file: Option<PathBuf>,
) -> Result<KeySource, ConfigError> {
    match (variable, given) {
        (Some(_), Some(_)) => Err(ConfigError::TwoKeys),
        (Some(text), None) => Ok(KeySource::Text(text)),
        (None, Some(path)) => Ok(KeySource::File(path)),
        (None, None) => Ok(file.map_or(KeySource::Open, KeySource::File)),
    }
}

/// The file's text; `None` if it is not there.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.into(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    // Not by the length it claims: it may be a pipe.
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.into() });
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| ConfigError::NotText { path: path.into(), at: error.utf8_error().valid_up_to() + 1 })
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // Only the key, never the line: a secret put here by mistake must not be shown.
        let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
        let message = error.message().replace("unknown field", "unknown key");
        let reason = match key {
            Some(key) if !message.contains(&format!("`{key}`")) => format!("`{key}`: {message}"),
            _ => message,
        };
        ConfigError::Syntax { path: path.into(), line, reason: reason.into() }
    })
}

impl File {
    /// Checks the values; relative paths are relative to the file's own folder.
    fn check(self, path: &Path, units: UnitParsers) -> Result<Given, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let values = Values { path };
        Ok(Given {
            data_dir: self.data_dir.map(|data_dir| folder.join(data_dir)),
            config: None,
            cluster: values.text("cluster", self.cluster, parse_label)?,
            key_file: self.key_file.map(|key_file| folder.join(key_file)),
            key: None,
            bind: values.text("bind", self.bind, parse_address)?,
            port: values.number("port", self.port, |port| check_port(u16::try_from(port).unwrap_or(0)))?,
            peers: values.list("peer", self.peer, parse_peer)?,
            timeout: values.text("timeout", self.timeout, units.duration)?,
            replicas: values.number("replicas", self.replicas, check_replicas)?,
            role: values.text("role", self.role, parse_role)?,
            name: values.text("name", self.name, parse_label)?,
            capacity_bytes: values.text("capacity", self.capacity, units.size)?,
            machine: values.text("machine", self.machine, parse_machine)?,
            heal_after: values.text("heal_after", self.heal_after, units.duration)?,
            scrub_every: values
                .text("scrub_every", self.scrub_every, |text| parse_scrub_every(text, units.duration))?,
            keep_removed: values.text("keep_removed", self.keep_removed, units.duration)?,
            sent_ttl: values.text("sent_ttl", self.sent_ttl, |text| parse_lifetime(text, units.duration))?,
            inbox_ttl: values
                .text("inbox_ttl", self.inbox_ttl, |text| parse_lifetime(text, units.duration))?,
            hook_timeout: values
                .text("hook_timeout", self.hook_timeout, |text| parse_hook_timeout(text, units.duration))?,
            hook_tries: values.number("hook_tries", self.hook_tries, check_hook_tries)?,
            hooks_at_once: values.number("hooks_at_once", self.hooks_at_once, check_hooks_at_once)?,
            channels_strict: self.channels_strict,
            allow_run: self.allow_run,
            run_from: values.list("run_from", self.run_from, Origin::parse)?,
            run_programs: values.list("run_programs", self.run_programs, parse_run_program)?,
            run_user: values.text("run_user", self.run_user, parse_run_user)?,
            run_folder: self.run_folder.map(|run_folder| folder.join(run_folder)),
            http: values.text("http", self.http, parse_http)?,
            http_hosts: values.list("http_host", self.http_host, parse_http_host)?,
        })
    }
}

/// Names file and key in what is wrong with a value.
struct Values<'path> {
    path: &'path Path,
}

impl Values<'_> {
    fn text<T>(
        &self,
        key: &'static str,
        value: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        value.map(|text| parse(&text).map_err(|reason| self.refuse(key, reason))).transpose()
    }

    fn number<T>(
        &self,
        key: &'static str,
        value: Option<i64>,
        parse: impl Fn(i64) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        value.map(|number| parse(number).map_err(|reason| self.refuse(key, reason))).transpose()
    }

    fn list<T>(
        &self,
        key: &'static str,
        value: Option<Vec<String>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let parsed = value.map(|list| list.iter().map(|text| parse(text)).collect::<Result<_, _>>());
        parsed.transpose().map_err(|reason| self.refuse(key, reason))
    }

    fn refuse(&self, key: &'static str, reason: String) -> ConfigError {
        ConfigError::Value { path: self.path.into(), key, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
