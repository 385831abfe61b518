//! `thorp retry`: tries failed messages again.

use crate::cli::Context;
use crate::cli::arguments::RetryArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{RetriedRow, RetryDocument};
use crate::cli::letters::{folders, is_named, refused};
use crate::messages::folders::Place;
use crate::messages::listing::Retried;
use std::collections::BTreeSet;

/// Tries all failed messages again, or those that are named. Nothing is done unless each name
/// names one.
///
/// # Errors
/// When a name names none, or several, or the disk refuses.
pub fn run(context: &Context, arguments: &RetryArguments) -> Result<Outcome, Failure> {
    let folders = folders(context);
    let failed =
        folders.list(Place::Failed).map_err(|error| refused(&folders, Place::Failed, "read", &error))?;
    let failed: Vec<(Option<String>, String)> =
        failed.into_iter().map(|listed| (listed.id.map(|id| id.to_string()), listed.name)).collect();
    let mut chosen: BTreeSet<usize> =
        if arguments.ids.is_empty() { (0..failed.len()).collect() } else { BTreeSet::new() };
    for name in &arguments.ids {
        let mut matching = failed
            .iter()
            .enumerate()
            .filter(|(_, (id, file))| is_named(name, id.as_deref(), file))
            .map(|(at, _)| at);
        match (matching.next(), matching.next()) {
            (Some(at), None) => chosen.insert(at),
            (Some(_), Some(_)) => {
                return Err(Failure::usage(format!("`{name}` is the start of several ids"))
                    .hint("give more of it; `thorp list failed --json` shows whole ids"));
            }
            (None, _) => {
                return Err(Failure::not_found(format!("no message `{name}` has failed"))
                    .hint("`thorp list failed` shows those that have"));
            }
        };
    }
    let mut retried = Vec::new();
    for at in chosen {
        let (id, file) = failed[at].clone();
        let to = match folders.retry(&file) {
            Ok(Retried::Outbox) => "outbox",
            Ok(Retried::Inbox) => "inbox",
            Err(error) => return Err(refused(&folders, Place::Failed, "move from", &error)),
        };
        retried.push(RetriedRow { id, file, to });
    }
    let document = RetryDocument { retried };
    context.printer.result(&document, |printer| {
        if document.retried.is_empty() {
            printer.note("no message has failed");
        }
        for row in &document.retried {
            let what = if row.to == "inbox" { "its hook is run again" } else { "it is sent again" };
            let name = row.id.as_ref().unwrap_or(&row.file);
            printer.line(format_args!("{}: {what}", printer.name(name)));
        }
    });
    Ok(Outcome::Done)
}
