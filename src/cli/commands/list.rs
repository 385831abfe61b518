//! `thorp list`: the messages of one folder, and why they failed.

use crate::cli::Context;
use crate::cli::arguments::ListArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::LetterRow;
use crate::cli::letters::{folders, refused, table};
use crate::messages::folders::Place;

/// Lists a folder.
///
/// # Errors
/// When it cannot be read.
pub fn run(context: &Context, arguments: &ListArguments) -> Result<Outcome, Failure> {
    let (folders, place) = (folders(context), arguments.folder);
    let listed = folders.list(place).map_err(|error| refused(&folders, place, "read", &error))?;
    let rows: Vec<LetterRow> = listed.into_iter().map(LetterRow::new).collect();
    context.printer.result(&rows, |printer| {
        if rows.is_empty() {
            printer.note(format_args!("nothing is in `{}`", place.as_str()));
        } else {
            printer.table(&table(printer, &rows, place == Place::Failed));
        }
    });
    Ok(Outcome::Done)
}
