//! `thorp restore`: brings removed and replaced files back from the trash.

use crate::cli::Context;
use crate::cli::arguments::RestoreArguments;
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::{FileRow, NodeNames};
use crate::cli::names::NamePattern;
use crate::cli::session::{failure_of, with_session};
use crate::client::get::Listed;
use crate::client::{ClientError, Session};
use crate::limits::PUT_BATCH_FILES;
use crate::types::FileName;
use crate::wire::message::{Reply, Request, Selector};
use std::collections::BTreeSet;

const LISTED: &str =
    "`thorp ls --removed` shows what can be restored; a name ending in `/` is everything under it";

/// Restores the names; what is live under one of them goes to the trash in its place.
///
/// # Errors
/// When the trash has no such name, nobody that is up has its bytes, or no proxy is found.
pub fn run(context: &Context, arguments: &RestoreArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let mut names = BTreeSet::new();
        for pattern in &arguments.names {
            names.extend(meant(&mut session, pattern).await?);
        }
        let names: Vec<FileName> = names.into_iter().collect();
        let mut rows: Vec<FileRow> = Vec::new();
        for batch in names.chunks(PUT_BATCH_FILES) {
            let request = Request::Restore { names: batch.to_vec() };
            let asked = session.ask(&request).await.map_err(failure_of);
            let asked = asked.map_err(|failure| failure.hint_if(ExitCode::NotFound, LISTED));
            let Reply::Rows { rows: restored, nodes, .. } = asked? else {
                return Err(failure_of(ClientError::Nonsense));
            };
            let names = NodeNames::new(&nodes);
            rows.extend(restored.iter().map(|row| FileRow::new(row, &names)));
        }
        context.printer.result(&rows, |printer| match rows.as_slice() {
            [row] => printer.line(format_args!(
                "restored {}: {} of {} copies ({})",
                printer.name(&row.name),
                row.replicas,
                row.replicas_wanted,
                row.state
            )),
            rows => printer.line(format_args!("restored {} files", rows.len())),
        });
        Ok(Outcome::Done)
    })
}

/// The listed names that a pattern means: at least one.
async fn meant(session: &mut Session, pattern: &NamePattern) -> Result<Vec<FileName>, Failure> {
    let NamePattern::Under(folder) = pattern else {
        return Ok(vec![pattern.name().clone()]);
    };
    let prefix = format!("{folder}/");
    let listed: Vec<Listed> =
        session.list(&Selector::Removed(prefix.as_str().into())).await.map_err(failure_of)?;
    let is_last = |listed: &Listed| listed.row.removed.is_some_and(|removed| !removed.earlier);
    let latest: Vec<FileName> =
        listed.iter().filter(|listed| is_last(listed)).map(|listed| listed.row.name.clone()).collect();
    if latest.is_empty() {
        return Err(Failure::not_found(format!("nothing removed is under `{folder}/`")).hint(LISTED));
    }
    Ok(latest)
}
