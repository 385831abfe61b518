//! The documents of `thorp config`.

use crate::cli::arguments::Source;
use crate::cli::units::{write_duration, write_size};
use crate::config::Value;
use serde::Serialize;
use std::path::Path;

/// A row of `thorp config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingRow {
    /// As in `config.toml`.
    pub key: &'static str,
    /// As in `config.toml`: a number, a text or a list of texts; `null` for none.
    pub value: serde_json::Value,
    /// Where it came from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// What decided a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `option`, `environment`, `file` or `default`.
    pub source: &'static str,
    /// The option, the variable or the file; `null` for a default.
    pub from: Option<String>,
}

impl Origin {
    /// Nobody said anything.
    pub const DEFAULT: Origin = Origin { source: "default", from: None };

    /// An option or its variable.
    #[must_use]
    pub fn typed(source: &Source) -> Origin {
        match source {
            Source::Option(option) => Origin { source: "option", from: Some(option.clone()) },
            Source::Variable(variable) => Origin::variable(variable),
        }
    }

    /// A variable.
    #[must_use]
    pub fn variable(name: &str) -> Origin {
        Origin { source: "environment", from: Some(name.to_owned()) }
    }

    /// A config file.
    #[must_use]
    pub fn file(path: &Path) -> Origin {
        Origin { source: "file", from: Some(path.display().to_string()) }
    }
}

/// A value in the form in which `config.toml` has it.
#[must_use]
pub fn setting_value(value: Value) -> serde_json::Value {
    match value {
        Value::Unset => serde_json::Value::Null,
        Value::Number(number) => number.into(),
        Value::Text(text) => text.into(),
        Value::Flag(flag) => flag.into(),
        Value::Size(bytes) => write_size(bytes).into(),
        Value::Duration(duration) => write_duration(duration).into(),
        Value::List(list) => list.into(),
    }
}
