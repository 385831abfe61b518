//! `thorp verify`: every copy is read and hashed anew where it lies, and the bad ones are mended.

use crate::cli::Context;
use crate::cli::arguments::VerifyArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{BadCopyPart, UncheckedPart, VerifyDocument};
use crate::cli::names::NamePattern;
use crate::cli::printer::Printer;
use crate::cli::session::{failure_of, with_session};
use crate::client::get::Listed;
use crate::client::verify::{Patience, VerifyReport, verify};
use crate::client::{ClientError, Session};
use crate::transfer::Progress;
use crate::types::FileName;
use crate::wire::message::{ErrorCode, Selector};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names told one by one; the rest is counted.
const NAMES_SHOWN: usize = 20;

/// Verifies what was named, or everything.
///
/// # Errors
/// When a name is not there, or no proxy is found.
pub fn run(context: &Context, arguments: &VerifyArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let listed = meant(&mut session, &arguments.names).await?;
        let bytes = listed.iter().map(|listed| {
            let size = listed.row.body.content().map_or(0, |(_, size)| size);
            size.saturating_mul(listed.holders.len() as u64)
        });
        let total = bytes.fold(0, u64::saturating_add);
        let bar = Arc::new(context.printer.bytes_progress("verifying", Some(total)));
        let (told, shown) = (Arc::clone(&bar), Arc::clone(&bar));
        let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| told.add(bytes));
        let patience = Patience { limit: context.settings.timeout, while_healing: !context.timeout_given };
        let waiting = move |files: usize| shown.message(&format!("waiting for {files} files to be mended"));
        let report = verify(&mut session, listed, progress, patience, waiting).await.map_err(failure_of)?;
        drop(bar);
        let document = document(&report);
        context.printer.result(&document, |printer| show(printer, &document));
        tell(&context.printer, &document);
        Ok(outcome(&document))
    })
}

/// What all patterns mean together, each file once.
async fn meant(session: &mut Session, patterns: &[NamePattern]) -> Result<Vec<Listed>, Failure> {
    if patterns.is_empty() {
        return session.list(&Selector::Prefix("".into())).await.map_err(failure_of);
    }
    let mut files: BTreeMap<FileName, Listed> = BTreeMap::new();
    for pattern in patterns {
        let rows = match session.list(&pattern.selector()).await {
            Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) => Vec::new(),
            rows => rows.map_err(failure_of)?,
        };
        if rows.is_empty() {
            return Err(Failure::not_found(format!("no file `{pattern}`; nothing was verified"))
                .hint("`thorp ls` shows what is there; a name with `/` at its end is everything under it"));
        }
        files.extend(rows.into_iter().map(|listed| (listed.row.name.clone(), listed)));
    }
    Ok(files.into_values().collect())
}

fn document(report: &VerifyReport) -> VerifyDocument {
    let bad = report.bad.iter();
    let unchecked = report.unchecked.iter();
    VerifyDocument {
        checked: report.checked,
        bad: bad.map(|copy| BadCopyPart { name: copy.name.to_string(), node: copy.node.clone() }).collect(),
        mended: report.mended,
        unchecked: unchecked
            .map(|(copy, why)| UncheckedPart {
                name: copy.name.to_string(),
                node: copy.node.clone(),
                why: why.clone(),
            })
            .collect(),
        lost: report.lost.iter().map(ToString::to_string).collect(),
    }
}

fn outcome(document: &VerifyDocument) -> Outcome {
    if !document.lost.is_empty() || !document.unchecked.is_empty() {
        Outcome::Bad
    } else if document.mended < document.bad.len() as u64 {
        Outcome::Fewer
    } else {
        Outcome::Done
    }
}

fn show(printer: &Printer, document: &VerifyDocument) {
    for copy in document.bad.iter().take(NAMES_SHOWN) {
        let (name, node) = (printer.name(&copy.name), printer.name(&copy.node));
        printer.line(format_args!("bad: {name} on {node}"));
    }
    let (checked, bad, mended) = (document.checked, document.bad.len(), document.mended);
    let copies = if checked == 1 { "copy" } else { "copies" };
    if bad == 0 {
        printer.line(format_args!("{checked} {copies} checked, none bad"));
    } else {
        printer.line(format_args!("{checked} {copies} checked, {bad} bad, {mended} mended"));
    }
}

/// What needs attention.
fn tell(printer: &Printer, document: &VerifyDocument) {
    for copy in document.unchecked.iter().take(NAMES_SHOWN) {
        printer.warning(format_args!("{} on {} was not checked: {}", copy.name, copy.node, copy.why));
    }
    for name in document.lost.iter().take(NAMES_SHOWN) {
        printer.warning(format_args!("{name} has no good copy on any machine that is up"));
    }
    let more = document.unchecked.len().saturating_sub(NAMES_SHOWN)
        + document.lost.len().saturating_sub(NAMES_SHOWN);
    if more > 0 {
        printer.warning(format_args!("{more} more like these; `--json` names all"));
    }
}
