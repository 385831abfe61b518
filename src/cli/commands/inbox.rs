//! `thorp inbox`: the messages that came, and what became of their hooks.

use crate::cli::Context;
use crate::cli::arguments::InboxArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::LetterRow;
use crate::cli::letters::{folders, line, refused, table};
use crate::messages::folders::{Folders, Place};
use crate::messages::watching::watch;
use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How often the inbox is listed while it is followed, whatever the system says of changes.
const LISTING: Duration = Duration::from_secs(1);
/// How often it is listed at a time, while it changes.
const LISTINGS_MAX: usize = 10;

/// Lists the inbox, or follows it.
///
/// # Errors
/// When it cannot be read, or what was shown cannot be removed.
pub fn run(context: &Context, arguments: &InboxArguments) -> Result<Outcome, Failure> {
    let folders = folders(context);
    if arguments.follow {
        return follow(context, &folders, arguments.ack);
    }
    let listed =
        folders.list(Place::Inbox).map_err(|error| refused(&folders, Place::Inbox, "read", &error))?;
    let rows: Vec<LetterRow> = listed.into_iter().map(LetterRow::new).collect();
    context.printer.result(&rows, |printer| {
        if rows.is_empty() {
            printer.note("the inbox is empty");
        } else {
            printer.table(&table(printer, &rows, false));
        }
    });
    if arguments.ack && !context.printer.is_closed() {
        let names: BTreeSet<String> = rows.into_iter().map(|row| row.file).collect();
        let left = acknowledge(&folders, &names)?;
        if !left.is_empty() {
            context.printer.note(format_args!(
                "{} stay in the inbox until their hook is done; `thorp inbox --ack` removes them then",
                left.len()
            ));
        }
    }
    Ok(Outcome::Done)
}

/// The names in the inbox. A folder that changes while it is listed may show a file and not the one before it, so
/// it is listed until that says twice the same, or for long enough.
fn settled(folders: &Folders) -> std::io::Result<Vec<String>> {
    let mut names = folders.names(Place::Inbox)?;
    for _ in 0..LISTINGS_MAX {
        let again = folders.names(Place::Inbox)?;
        if again == names {
            break;
        }
        names = again;
    }
    Ok(names)
}

/// Removes messages that were shown; gives those whose hook is still to be run.
fn acknowledge(folders: &Folders, names: &BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
    let mut left = BTreeSet::new();
    for name in names {
        match folders.acknowledge(name) {
            Ok(true) => {}
            Ok(false) => {
                left.insert(name.clone());
            }
            Err(error) => return Err(refused(folders, Place::Inbox, "remove from", &error)),
        }
    }
    Ok(left)
}

/// Shows each message once, what is there already first, until nobody reads on.
fn follow(context: &Context, folders: &Folders, ack: bool) -> Result<Outcome, Failure> {
    let (sender, changed) = sync_channel(1);
    let of_watcher = sender.clone();
    let mut watching = None;
    let mut shown = BTreeSet::new();
    let mut to_remove = BTreeSet::new();
    loop {
        if watching.is_none() {
            let of_watcher = of_watcher.clone();
            let tell = move |_| {
                // One word that waits to be heard is enough.
                let _ = of_watcher.try_send(());
            };
            // Without the system's word, or before there is an inbox, it is listed.
            watching = watch(&folders.place(Place::Inbox), tell).ok();
        }
        let names = settled(folders).map_err(|error| refused(folders, Place::Inbox, "read", &error))?;
        for name in names.iter().filter(|name| !shown.contains(*name)) {
            let Some(listed) = folders.load(Place::Inbox, name) else { continue };
            let row = LetterRow::new(listed);
            if context.printer.is_json() {
                context.printer.json(&row);
            } else {
                context.printer.line(line(&context.printer, &row));
            }
            if context.printer.is_closed() {
                return Ok(Outcome::Done);
            }
            if ack {
                to_remove.insert(name.clone());
            }
        }
        shown = names.into_iter().collect();
        to_remove = acknowledge(folders, &to_remove)?;
        // It cannot be closed: we hold a sender.
        let _ = changed.recv_timeout(LISTING);
    }
}
