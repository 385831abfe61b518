//! Messages as lines for people, and how they are named in arguments.

use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::json::LetterRow;
use crate::cli::printer::{Printer, Style};
use crate::cli::table::{Align, Table};
use crate::cli::units::format_duration;
use crate::messages::folders::{Folders, Place};
use std::io;
use std::time::Duration;

/// Most characters of a payload or a reason in a table.
const SHOWN_MAX: usize = 60;
/// Digits of an id in a table; `retry` takes as few as [`PREFIX_MIN`].
const ID_SHOWN: usize = 8;
/// Fewest characters of an id that name a message.
const PREFIX_MIN: usize = 4;

/// The names of the folders, as arguments have them.
pub const PLACES: [&str; 4] = ["outbox", "inbox", "sent", "failed"];

/// Reads the name of a folder; one of [`PLACES`].
#[must_use]
pub fn parse_place(text: &str) -> Place {
    let places = [Place::Outbox, Place::Inbox, Place::Sent, Place::Failed];
    places.into_iter().find(|place| place.as_str() == text).unwrap_or(Place::Failed)
}

/// Part of an id, or the name of a file, that names a message.
///
/// # Errors
/// When it is too short to name one.
pub fn parse_letter_name(text: &str) -> Result<Box<str>, String> {
    if text.chars().count() < PREFIX_MIN {
        return Err(format!("give at least the first {PREFIX_MIN} characters of the id"));
    }
    Ok(text.to_ascii_lowercase().into())
}

/// Whether a message is the one that `name` names.
#[must_use]
pub fn is_named(name: &str, id: Option<&str>, file: &str) -> bool {
    file.eq_ignore_ascii_case(name) || id.is_some_and(|id| id.starts_with(name))
}

/// The folders of the node whose data folder this is, as they are.
#[must_use]
pub fn folders(context: &Context) -> Folders {
    Folders::at(&context.settings.data_dir)
}

/// A folder of messages that cannot be used.
#[must_use]
pub fn refused(folders: &Folders, place: Place, doing: &str, error: &io::Error) -> Failure {
    Failure::local_file(doing, &folders.place(place), error)
}

/// A table of messages. `reasons` shows why they failed rather than what they say.
#[must_use]
pub fn table(printer: &Printer, rows: &[LetterRow], reasons: bool) -> Table {
    let mut columns = vec![("time", Align::Left), ("id", Align::Left), ("type", Align::Left)];
    columns.extend([("from", Align::Left), ("to", Align::Left), ("priority", Align::Left)]);
    columns.extend([("hook", Align::Left), (if reasons { "reason" } else { "payload" }, Align::Left)]);
    let mut table = Table::new(&columns);
    for row in rows {
        let style = is_bad(row).then_some(Style::Bad);
        table.row(cells(printer, row, reasons), style);
    }
    table
}

/// One message as one line, where those that follow are not known yet.
#[must_use]
pub fn line(printer: &Printer, row: &LetterRow) -> String {
    cells(printer, row, false).join("  ")
}

fn is_bad(row: &LetterRow) -> bool {
    row.reason.is_some() || row.hook.as_ref().is_some_and(|hook| hook.state == "failed")
}

fn cells(printer: &Printer, row: &LetterRow, reasons: bool) -> Vec<String> {
    let text = |text: Option<&str>| printer.name(text.unwrap_or("-")).into_owned();
    let time = row.created_at.as_deref().map(|time| time.split('.').next().unwrap_or(time));
    let id = match &row.id {
        Some(id) => id.chars().take(ID_SHOWN).collect(),
        None => row.file.clone(),
    };
    let last = match (&row.reason, &row.payload) {
        // Whole: it says what to do.
        (Some(reason), _) if reasons => reason.to_string(),
        (_, Some(payload)) => short(payload.get()),
        _ => "-".to_owned(),
    };
    vec![
        text(time),
        text(Some(&id)),
        text(row.kind.as_deref()),
        text(row.source.as_deref()),
        text(row.target.as_deref().or(Some("all"))),
        text(row.priority.as_deref()),
        text(Some(&hook(row))),
        text(Some(&last)),
    ]
}

/// How the last run of its hook ended.
fn hook(row: &LetterRow) -> String {
    let Some(hook) = &row.hook else { return "-".to_owned() };
    match hook.attempts.last() {
        None => hook.state.to_owned(),
        Some(last) => {
            let took = format_duration(Duration::from_millis(last.duration_ms));
            format!("{}: {}, {took}", hook.state, short(&last.outcome()))
        }
    }
}

/// One line, and not too long.
fn short(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let mut short: String = characters.by_ref().take(SHOWN_MAX).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
