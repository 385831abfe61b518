//! `thorp merge`: makes two clusters with files one.

use crate::cli::Context;
use crate::cli::arguments::MergeArguments;
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::MergeDocument;
use crate::cli::session::{failure_of, with_session};
use crate::client::ClientError;
use crate::wire::message::{Reply, Request};

/// Tells the proxy that the other cluster belongs to this one.
///
/// # Errors
/// When no such cluster is in sight, or no proxy is found.
pub fn run(context: &Context, arguments: &MergeArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let request = Request::Merge { lineage: arguments.other };
        let asked = session.ask(&request).await.map_err(failure_of);
        let in_sight = "`thorp status` names the clusters in sight";
        let asked = asked.map_err(|failure| failure.hint_if(ExitCode::NotFound, in_sight));
        let Reply::Merging { lineages } = asked? else {
            return Err(failure_of(ClientError::Nonsense));
        };
        let document = MergeDocument { merged: lineages.iter().map(ToString::to_string).collect() };
        context.printer.result(&document, |printer| {
            printer.line(
                "the two clusters are one from now on; names that both have show both versions in `ls`",
            );
        });
        Ok(Outcome::Done)
    })
}
