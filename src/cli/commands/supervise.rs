//! What a node starts to watch over one program: see [`crate::remote::supervisor`].

use crate::cli::failure::ExitCode;

/// Watches until nothing of the program is left.
#[must_use]
pub fn run() -> std::process::ExitCode {
    match crate::remote::supervisor::run() {
        Ok(()) => ExitCode::Done.into(),
        Err(_) => ExitCode::Failed.into(), // its node hears that it is gone
    }
}
