//! `thorp flush`: removes all messages of one folder.

use crate::cli::Context;
use crate::cli::arguments::FlushArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::FlushDocument;
use crate::cli::letters::{folders, refused};

/// Empties a folder and says how many messages that were.
///
/// # Errors
/// When one cannot be removed.
pub fn run(context: &Context, arguments: &FlushArguments) -> Result<Outcome, Failure> {
    let (folders, place) = (folders(context), arguments.folder);
    let removed = folders.flush(place).map_err(|error| refused(&folders, place, "empty", &error))?;
    let document = FlushDocument { folder: place.as_str(), removed };
    context.printer.result(&document, |printer| {
        let messages = if removed == 1 { "message was" } else { "messages were" };
        printer.line(format_args!("{removed} {messages} removed from `{}`", place.as_str()));
    });
    Ok(Outcome::Done)
}
