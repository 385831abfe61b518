//! `thorp completions`: what a shell needs to complete our commands and options.

use crate::cli::arguments::{Arguments, CompletionsArguments};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::printer::Printer;
use clap::CommandFactory;

/// Prints the script; needs neither settings nor a node.
///
/// # Errors
/// None.
pub fn run(printer: &Printer, arguments: &CompletionsArguments) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "thorp", &mut script);
    printer.write(&script);
    Ok(Outcome::Done)
}
