//! `thorp key new`: a random cluster key.

use crate::cli::arguments::{KeyArguments, KeyCommand};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::KeyDocument;
use crate::cli::printer::Printer;
use crate::identity::generate_words;

/// Prints a new key; needs neither settings nor a node.
///
/// # Errors
/// When the system gives no random bytes.
pub fn run(printer: &Printer, arguments: &KeyArguments) -> Result<Outcome, Failure> {
    match arguments.command {
        KeyCommand::New => {
            let key = generate_words().map_err(|error| Failure::from(anyhow::Error::new(error)))?;
            printer.result(&KeyDocument { key: &key }, |printer| printer.line(&key));
            printer.note("keep it in a file that only you can read, and give each machine the same: `thorp key new --help`");
            Ok(Outcome::Done)
        }
    }
}
