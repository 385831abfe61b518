//! The list of all settings, for those who ask what holds and why. Pure.
//!
//! Invariant: it has each key of `config.toml` once (a test compares them), with the value in
//! effect as the file would write it; written back there, it means the same. The cluster key is
//! no setting and not here: [`KeySource`] is asked for it, and never shows it.

use super::{Http, KeySource, Lifetime, ScrubEvery, Settings, values::role_name};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in `config.toml`; its option and its variable are named after it.
    pub key: &'static str,
    /// What holds.
    pub value: fn(&Settings) -> Value,
}

/// A setting's value, in the kinds that the file has. Sizes and durations are text there, which
/// those who print them write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, which the file can only leave out.
    Unset,
    /// A number without unit.
    Number(u64),
    /// A word, name, path or address.
    Text(String),
    /// Whether.
    Flag(bool),
    /// Bytes.
    Size(u64),
    /// How long.
    Duration(Duration),
    /// Several texts.
    List(Vec<String>),
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    Setting { key: "data_dir", value: |settings| Value::path(&settings.data_dir) },
    Setting { key: "cluster", value: |settings| Value::text(&settings.cluster) },
    Setting { key: "key_file", value: |settings| Value::key_file(&settings.key) },
    Setting { key: "bind", value: |settings| Value::or_unset(settings.bind, Value::text) },
    Setting { key: "port", value: |settings| Value::Number(settings.port.into()) },
    Setting { key: "peer", value: |settings| Value::list(&settings.peers) },
    Setting { key: "timeout", value: |settings| Value::Duration(settings.timeout) },
    Setting { key: "replicas", value: |settings| Value::Number(settings.replicas.into()) },
    Setting { key: "role", value: |settings| Value::text(role_name(settings.node.role)) },
    Setting { key: "name", value: |settings| Value::text(&settings.node.name) },
    Setting { key: "capacity", value: |settings| Value::or_unset(settings.node.capacity_bytes, Value::Size) },
    Setting {
        key: "machine",
        value: |settings| Value::or_unset(settings.node.machine.as_ref(), |id| Value::text(id.as_str())),
    },
    Setting { key: "heal_after", value: |settings| Value::Duration(settings.node.heal_after) },
    Setting { key: "scrub_every", value: |settings| Value::scrub_every(settings.node.scrub_every) },
    Setting { key: "keep_removed", value: |settings| Value::Duration(settings.node.keep_removed) },
    Setting { key: "sent_ttl", value: |settings| Value::lifetime(settings.node.sent_ttl) },
    Setting { key: "inbox_ttl", value: |settings| Value::lifetime(settings.node.inbox_ttl) },
    Setting { key: "hook_timeout", value: |settings| Value::Duration(settings.node.hook_timeout) },
    Setting { key: "hook_tries", value: |settings| Value::Number(settings.node.hook_tries.into()) },
    Setting { key: "hooks_at_once", value: |settings| Value::Number(settings.node.hooks_at_once.into()) },
    Setting { key: "channels_strict", value: |settings| Value::Flag(settings.node.channels_strict) },
    Setting { key: "allow_run", value: |settings| Value::Flag(settings.node.allow_run) },
    Setting { key: "run_from", value: |settings| Value::list(&settings.node.run_from) },
    Setting { key: "run_programs", value: |settings| Value::list(&settings.node.run_programs) },
    Setting {
        key: "run_user",
        value: |settings| Value::or_unset(settings.node.run_user.as_ref(), Value::text),
    },
    Setting {
        key: "run_folder",
        value: |settings| Value::or_unset(settings.node.run_folder.as_deref(), Value::path),
    },
    Setting { key: "http", value: |settings| Value::http(settings.node.http) },
    Setting { key: "http_host", value: |settings| Value::list(&settings.node.http_hosts) },
];

impl Value {
    fn text(text: impl Display) -> Value {
        Value::Text(text.to_string())
    }

    fn path(path: &Path) -> Value {
        Value::text(path.display())
    }

    fn list<T: Display>(list: &[T]) -> Value {
        Value::List(list.iter().map(ToString::to_string).collect())
    }

    fn or_unset<T>(value: Option<T>, set: impl FnOnce(T) -> Value) -> Value {
        value.map_or(Value::Unset, set)
    }

    fn key_file(key: &KeySource) -> Value {
        match key {
            KeySource::File(path) => Value::path(path),
            KeySource::Open | KeySource::Text(_) => Value::Unset,
        }
    }

    fn scrub_every(scrub_every: ScrubEvery) -> Value {
        match scrub_every {
            ScrubEvery::Off => Value::text("off"),
            ScrubEvery::Interval(interval) => Value::Duration(interval),
        }
    }

    fn lifetime(lifetime: Lifetime) -> Value {
        lifetime.duration().map_or_else(|| Value::text("off"), Value::Duration)
    }

    fn http(http: Http) -> Value {
        match http {
            Http::Usual => Value::text("usual"),
            Http::Off => Value::text("off"),
            Http::At(address) => Value::text(address),
        }
    }
}
