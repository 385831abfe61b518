//! `thorp rm`: removes files.

use crate::cli::Context;
use crate::cli::arguments::RmArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::RemoveDocument;
use crate::cli::names::NamePattern;
use crate::cli::session::{failure_of, with_session};
use crate::client::{ClientError, Session};
use crate::limits::PUT_BATCH_FILES;
use crate::types::FileName;
use crate::wire::message::{Request, Selector};
use std::collections::BTreeSet;

/// Removes the names, all that were given or, if one is not there, none of them.
///
/// # Errors
/// When a name is not there, or no proxy is found.
pub fn run(context: &Context, arguments: &RmArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let mut names = BTreeSet::new();
        for pattern in &arguments.names {
            names.extend(meant(&mut session, pattern, arguments).await?);
        }
        let names: Vec<FileName> = names.into_iter().collect();
        for batch in names.chunks(PUT_BATCH_FILES) {
            let request = Request::Remove { names: batch.to_vec(), now: arguments.now };
            session.ask(&request).await.map_err(failure_of)?;
        }
        let document = RemoveDocument { removed: names.iter().map(ToString::to_string).collect() };
        context.printer.result(&document, |printer| match document.removed.as_slice() {
            [name] => printer.line(format_args!("removed {}", printer.name(name))),
            names => printer.line(format_args!("removed {} files", names.len())),
        });
        Ok(Outcome::Done)
    })
}

/// The names that a pattern means: at least one.
async fn meant(
    session: &mut Session,
    pattern: &NamePattern,
    arguments: &RmArguments,
) -> Result<Vec<FileName>, Failure> {
    let single = session.list(&Selector::Name(pattern.name().clone())).await;
    let is_file = matches!(pattern, NamePattern::File(_));
    let mut names: Vec<FileName> = match single {
        Ok(rows) if is_file => rows.into_iter().map(|listed| listed.row.name).collect(),
        Ok(_) => Vec::new(),
        Err(ClientError::Refused { code: crate::wire::message::ErrorCode::NotFound, .. }) => Vec::new(),
        Err(error) => return Err(failure_of(error)),
    };
    let recursive = arguments.recursive;
    if !names.is_empty() && !recursive {
        return Ok(names);
    }
    let under = Selector::Under(pattern.name().as_str().into());
    let below = session.list(&under).await.map_err(failure_of)?;
    if names.is_empty() && !below.is_empty() && !recursive {
        return Err(Failure::failed(format!("`{pattern}` is a folder of {} files", below.len()))
            .json_code("is_folder")
            .hint("`-r` removes everything under it"));
    }
    names.extend(below.into_iter().map(|listed| listed.row.name));
    if arguments.now {
        names.extend(in_trash(session, pattern, recursive).await?);
    }
    if names.is_empty() {
        return Err(Failure::not_found(format!("no file `{pattern}`; nothing was removed"))
            .hint("`thorp ls` shows what is there"));
    }
    Ok(names)
}

/// What the trash alone has: the name itself, and with `recursive` what lies under it.
async fn in_trash(
    session: &mut Session,
    pattern: &NamePattern,
    recursive: bool,
) -> Result<Vec<FileName>, Failure> {
    let prefix = pattern.name().as_str();
    let listed = session.list(&Selector::Removed(prefix.into())).await.map_err(failure_of)?;
    let meant = |name: &FileName| name == pattern.name() || (recursive && name.is_under(prefix));
    Ok(listed.into_iter().map(|listed| listed.row.name).filter(meant).collect())
}
