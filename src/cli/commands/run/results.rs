//! Files fetched back from a workspace when the program has ended, and stored if that was asked for.

use super::failure;
use super::place::Place;
use crate::cli::Context;
use crate::cli::arguments::RunArguments;
use crate::cli::commands::put::item;
use crate::cli::failure::{ExitCode, Failure};
use crate::cli::names::join;
use crate::cli::session::failure_of;
use crate::client::Session;
use crate::client::put::{PutItem, PutKind, put};
use crate::client::run::Target;
use crate::documents::chain;
use crate::transfer::Progress;
use crate::types::FileName;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fetches what `--get` names, to the same place here; `--keep` stores it.
pub(super) async fn fetch(
    context: &Context,
    arguments: &RunArguments,
    session: &mut Session,
    target: &Target,
    place: &Place,
) -> Result<(), Failure> {
    let mut fetched = Vec::new();
    for path in &arguments.get {
        let path = if path.is_absolute() { path.strip_prefix(&place.base).unwrap_or(path) } else { path };
        let bar = context.printer.bytes_progress("fetching", None);
        let told = |bytes: u64| bar.add(bytes);
        let bytes = path.as_os_str().as_bytes();
        let files = target.collect(&place.workspace, bytes, &place.base, &told).await.map_err(|error| {
            let where_it_is = "it is looked for in the folder that the program ran in";
            failure(&error).hint_if(ExitCode::NotFound, where_it_is)
        })?;
        fetched.extend(files);
    }
    let Some(name) = &arguments.keep else { return Ok(()) };
    let items = items(&fetched, place, name)?;
    let replicas = arguments.replicas.unwrap_or(context.settings.replicas);
    let bar = context.printer.bytes_progress("storing", None);
    let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| bar.add(bytes));
    let (report, ended) = put(session, items, replicas, progress).await;
    ended.map_err(failure_of)?;
    if let Some(failed) = report.failed.first() {
        return Err(Failure::failed(chain(&failed.error)));
    }
    for done in report.done {
        context.printer.note(format_args!("stored as {} on {}", done.name, done.holders.join(", ")));
    }
    Ok(())
}

/// What was fetched, as it is stored: a single file under the name, several below it.
fn items(fetched: &[PathBuf], place: &Place, name: &FileName) -> Result<Vec<PutItem>, Failure> {
    let mut items = Vec::new();
    for path in fetched {
        let read = |error| Failure::local_file("read", path, &error);
        let data = path.symlink_metadata().map_err(read)?;
        let inside = path.strip_prefix(&place.base).unwrap_or(path);
        let name = match fetched {
            [_] => name.clone(),
            _ => {
                let inside = inside.to_str().ok_or_else(|| unnamed(inside))?;
                join(Some(name), inside).map_err(Failure::failed)?
            }
        };
        let what = if data.is_dir() {
            if fs::read_dir(path).map_err(read)?.next().is_some() {
                continue; // its files stand for it
            }
            PutKind::Folder
        } else if data.is_symlink() {
            let target = fs::read_link(path).map_err(read)?;
            PutKind::Symlink { target: target.to_str().ok_or_else(|| unnamed(&target))?.into() }
        } else {
            PutKind::File { path: path.clone(), size: data.len() }
        };
        items.push(item(name, what, &data));
    }
    Ok(items)
}

fn unnamed(path: &Path) -> Failure {
    Failure::failed(format!("`{}` cannot be stored: its name is not UTF-8", path.display()))
}
