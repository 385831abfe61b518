//! `thorp get`: gets files back.

use crate::cli::Context;
use crate::cli::arguments::GetArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{GetDocument, GetFile, GetSource};
use crate::cli::names::NamePattern;
use crate::cli::printer::Printer;
use crate::cli::session::{failure_of, with_session};
use crate::cli::units::{format_bytes, format_duration};
use crate::client::get::{GetDone, GetItem, GetReport, Listed, get, get_to_stream};
use crate::client::{ClientError, Session};
use crate::clock;
use crate::transfer::Progress;
use crate::types::FileName;
use crate::wire::message::{ErrorCode, FileState, Selector};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Gets everything that was named.
///
/// # Errors
/// When a name is not there, an output is in the way, or no holder gives a content.
pub fn run(context: &Context, arguments: &GetArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        if arguments.to_standard_output() {
            return to_standard_output(context, &mut session, &arguments.names).await;
        }
        let started = clock::now();
        let mut items = Vec::new();
        for pattern in &arguments.names {
            let (listed, folder) = find(&mut session, pattern).await?;
            items.extend(outputs(listed, pattern.name(), folder, arguments));
        }
        check_outputs(&items)?;
        let total = items.iter().map(|item| size_of(&item.listed)).fold(0, u64::saturating_add);
        let bar = Arc::new(context.printer.bytes_progress("getting", Some(total)));
        let told = Arc::clone(&bar);
        let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| told.add(bytes));
        let report = get(&session, items, arguments.force, progress).await;
        drop(bar);
        conclude(context, report, Duration::from_millis(clock::now().since(started)))
    })
}

fn conclude(context: &Context, report: GetReport, took: Duration) -> Result<Outcome, Failure> {
    let printer = &context.printer;
    let left: BTreeSet<&(String, String)> = report.done.iter().flat_map(|done| &done.left).collect();
    for (node, why) in left {
        printer.warning(format_args!("{node} was left: {why}"));
    }
    let (all, failed) = (report.done.len() + report.failed.len(), report.failed.len());
    let mut failures: Vec<Failure> = report.failed.into_iter().map(|(_, error)| failure_of(error)).collect();
    if all == 1
        && let Some(failure) = failures.pop()
    {
        return Err(failure);
    }
    if failed > 0 {
        failures.iter().take(20).for_each(|failure| printer.warning(failure));
        let hint = failures.iter().find_map(|failure| failure.hint.clone());
        let failure = Failure::failed(format!("{failed} of {all} files were not got"));
        return Err(match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    let document =
        GetDocument { files: report.done.iter().map(get_file).collect(), seconds: took.as_secs_f64() };
    printer.result(&document, |printer| show(printer, &report.done, took));
    Ok(Outcome::Done)
}

fn get_file(done: &GetDone) -> GetFile {
    let content = done.body.content();
    GetFile {
        name: done.name.to_string(),
        path: done.path.display().to_string(),
        bytes: content.map_or(0, |(_, size)| size),
        content: content.map(|(content, _)| content.to_string()),
        from: done.from.iter().map(|(node, bytes)| GetSource { node: node.clone(), bytes: *bytes }).collect(),
    }
}

fn show(printer: &Printer, done: &[GetDone], took: Duration) {
    let bytes: u64 = done.iter().map(|done| done.body.content().map_or(0, |(_, size)| size)).sum();
    let from: BTreeSet<&str> =
        done.iter().flat_map(|done| &done.from).map(|(node, _)| node.as_str()).collect();
    let from = if from.is_empty() {
        "there already".to_owned()
    } else {
        let names: Vec<_> = from.into_iter().map(|node| printer.name(node)).collect();
        format!("from {}", names.join(", "))
    };
    let (bytes, took) = (format_bytes(bytes), format_duration(took));
    match done {
        [one] => printer.line(format_args!(
            "got {}: {bytes} {from} ({took})",
            printer.name(&one.path.display().to_string())
        )),
        many => printer.line(format_args!("got {} files: {bytes} {from} ({took})", many.len())),
    }
}

async fn to_standard_output(
    context: &Context,
    session: &mut Session,
    names: &[NamePattern],
) -> Result<Outcome, Failure> {
    let Some(pattern) = names.first() else {
        return Err(Failure::usage("`-o -` writes one file"));
    };
    let mut listed = session.list(&Selector::Name(pattern.name().clone())).await.map_err(failure_of)?;
    let Some(listed) = listed.pop() else {
        return Err(failure_of(ClientError::Nonsense));
    };
    refuse_lost(&listed)?;
    let bar = context.printer.bytes_progress("getting", Some(size_of(&listed)));
    let bar = Arc::new(bar);
    let told = Arc::clone(&bar);
    let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| told.add(bytes));
    let output = context.printer.raw_output();
    let got = get_to_stream(session, listed, output, progress).await;
    drop(bar);
    match got {
        Ok(_) => Ok(Outcome::Done),
        Err(_) if context.printer.is_closed() => Ok(Outcome::Done),
        Err(error) => Err(failure_of(error)),
    }
}

/// The rows that a pattern means, and whether it means a folder.
async fn find(session: &mut Session, pattern: &NamePattern) -> Result<(Vec<Listed>, bool), Failure> {
    let missing = |failure: Option<Failure>| {
        failure.unwrap_or_else(|| {
            Failure::not_found(format!("no file `{pattern}`")).hint("`thorp ls` shows what is there")
        })
    };
    if let NamePattern::File(name) = pattern {
        match session.list(&Selector::Name(name.clone())).await {
            Ok(rows) => return Ok((rows, false)),
            Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) => {}
            Err(error) => return Err(failure_of(error)),
        }
    }
    let rows = session.list(&Selector::Under(pattern.name().as_str().into())).await.map_err(failure_of)?;
    if rows.is_empty() { Err(missing(None)) } else { Ok((rows, true)) }
}

/// Where each row goes. As `cp` does it: into an output that is a folder, else as that output.
fn outputs(listed: Vec<Listed>, name: &FileName, folder: bool, arguments: &GetArguments) -> Vec<GetItem> {
    let target = match &arguments.output {
        None => PathBuf::from(name.base()),
        Some(output) => {
            let ends_in_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
            if arguments.names.len() > 1 || ends_in_slash || output.is_dir() {
                output.join(name.base())
            } else {
                output.clone()
            }
        }
    };
    let root = if folder { target.clone() } else { target.parent().map(Path::to_owned).unwrap_or_default() };
    listed
        .into_iter()
        .map(|listed| {
            let inside = listed.row.name.as_str().strip_prefix(name.as_str()).unwrap_or_default();
            let inside = inside.trim_start_matches('/');
            let path = if folder && !inside.is_empty() { target.join(inside) } else { target.clone() };
            GetItem { listed, path, root: root.clone() }
        })
        .collect()
}

fn check_outputs(items: &[GetItem]) -> Result<(), Failure> {
    let mut paths = BTreeSet::new();
    for item in items {
        refuse_lost(&item.listed)?;
        if !paths.insert(&item.path) {
            return Err(Failure::usage(format!("two names would be written to `{}`", item.path.display()))
                .hint("get them one by one with `-o`"));
        }
    }
    Ok(())
}

fn refuse_lost(listed: &Listed) -> Result<(), Failure> {
    if listed.row.state == FileState::Lost && listed.row.body.content().is_some_and(|(_, size)| size > 0) {
        let name = &listed.row.name;
        return Err(Failure::failed(format!("no machine that has a copy of `{name}` is up"))
            .json_code("lost")
            .hint("`thorp status` shows which machines are down; start them again"));
    }
    Ok(())
}

fn size_of(listed: &Listed) -> u64 {
    listed.row.body.content().map_or(0, |(_, size)| size)
}
