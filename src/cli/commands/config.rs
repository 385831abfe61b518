//! `thorp config`: each setting, its value, and what decided it.
//!
//! It resolves settings as every command does and adds nothing, so that it cannot say otherwise.
//! The cluster key is never shown: only that there is one, and where.

use crate::cli::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{Origin, SettingRow, setting_value};
use crate::cli::printer::{Printer, Style};
use crate::cli::table::{Align, Table};
use crate::config::{Folders, KEY_VARIABLE, KeySource, SETTINGS, Value};
use std::path::Path;

/// Prints all settings.
///
/// # Errors
/// None: what can be wrong with settings was found before.
pub fn run(context: &Context) -> Result<Outcome, Failure> {
    let rows = rows(context);
    context.printer.result(&rows, |printer| show(printer, &rows));
    if let (None, Some(path)) = (&context.settings.config_file, Folders::of_platform().config_file()) {
        context.printer.note(format_args!("there is no config file `{}`", path.display()));
    }
    Ok(Outcome::Done)
}

/// The file and the key first, which are no settings in the file themselves.
fn rows(context: &Context) -> Vec<SettingRow> {
    let settings = &context.settings;
    let file = settings.config_file.as_deref().map_or(Value::Unset, path);
    let (key, key_origin) = match &settings.key {
        KeySource::Open => (Value::Unset, Origin::DEFAULT),
        KeySource::Text(_) => (Value::Text("set".to_owned()), Origin::variable(KEY_VARIABLE)),
        KeySource::File(path) => (
            Value::Text("set".to_owned()),
            Origin { from: Some(path.display().to_string()), ..origin(context, "key_file") },
        ),
    };
    let row = |key, value, origin| SettingRow { key, value: setting_value(value), origin };
    let first = [row("config", file, origin(context, "config")), row("key", key, key_origin)];
    let listed = SETTINGS
        .iter()
        .map(|setting| row(setting.key, (setting.value)(settings), origin(context, setting.key)));
    first.into_iter().chain(listed).collect()
}

fn path(path: &Path) -> Value {
    Value::Text(path.display().to_string())
}

/// Option, environment, file, default: in this order, as [`crate::config::Settings::load`] has it.
fn origin(context: &Context, key: &str) -> Origin {
    let settings = &context.settings;
    if key == "key_file" && matches!(settings.key, KeySource::Text(_)) {
        // The key itself is there instead of a file, whatever the config file says.
        return Origin::variable(KEY_VARIABLE);
    }
    match (context.sources.of(key), &settings.config_file) {
        (Some(source), _) => Origin::typed(source),
        (None, Some(path)) if settings.file_keys.contains(key) => Origin::file(path),
        (None, _) => Origin::DEFAULT,
    }
}

/// A table; what was left at its default stands back.
fn show(printer: &Printer, rows: &[SettingRow]) {
    let mut table = Table::new(&[("setting", Align::Left), ("value", Align::Left), ("source", Align::Left)]);
    for row in rows {
        let source = match &row.origin.from {
            Some(from) => format!("{} {}", row.origin.source, printer.name(from)),
            None => row.origin.source.to_owned(),
        };
        let style = (row.origin == Origin::DEFAULT).then_some(Style::Dim);
        let value = words(&row.value);
        table.row(vec![row.key.to_owned(), printer.name(&value).into_owned(), source], style);
    }
    printer.table(&table);
}

/// A value without quotes, a list with commas as in a variable.
fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) if !list.is_empty() => {
            list.iter().map(words).collect::<Vec<_>>().join(",")
        }
        serde_json::Value::Null | serde_json::Value::Array(_) => "-".to_owned(),
        number => number.to_string(),
    }
}
