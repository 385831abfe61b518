//! What is synced before a program is run, and where the program is then.
//!
//! The rule: a mere name is a program of that machine. A relative path with a slash is a file here, and so is an absolute
//! one inside the folder that is mirrored; every other absolute path is that machine's.

use crate::cli::Context;
use crate::cli::arguments::RunArguments;
use crate::cli::failure::Failure;
use crate::cli::session::access;
use crate::client::run::Target;
use crate::client::sync::{SyncOptions, SyncSource, sync, workspace_of};
use crate::config::Settings;
use crate::transfer::Progress;
use crate::types::WorkspaceName;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Where a program runs, and what must be there.
pub(super) struct Place {
    pub(super) workspace: WorkspaceName,
    /// As that machine is told.
    pub(super) program: OsString,
    /// The folder here that the workspace mirrors.
    pub(super) base: PathBuf,
    sources: Vec<SyncSource>,
}

impl Place {
    pub(super) fn of(arguments: &RunArguments, settings: &Settings) -> Result<Place, Failure> {
        let here =
            std::env::current_dir().map_err(|error| Failure::local_file("use", Path::new("."), &error))?;
        let base = match &arguments.dir {
            Some(folder) => {
                let found = folder.canonicalize();
                let found = found.map_err(|error| Failure::local_file("read", folder, &error))?;
                if !found.is_dir() {
                    return Err(Failure::usage(format!("`{}` is no folder", folder.display())));
                }
                found
            }
            None => here.clone(),
        };
        let workspace = workspace_of(&base, &access(settings)?.machine);
        let mut place = Place { workspace, program: OsString::new(), base, sources: Vec::new() };
        let typed = arguments.command.first().map_or(OsStr::new(""), OsString::as_os_str);
        let program = place.find(typed, &here, arguments)?;
        let mut files = Vec::new();
        for asset in &arguments.assets {
            let path = here.join(asset);
            if path.symlink_metadata().is_err() {
                return Err(Failure::not_found(format!("there is no `{}` here", asset.display())));
            }
            files.push(path);
        }
        files.extend(program);
        if arguments.no_sync {
            return Ok(place);
        }
        if arguments.dir.is_some() {
            let within = |path: &PathBuf| path.starts_with(&place.base);
            let (inside, outside) = files.into_iter().partition(within);
            files = outside;
            place.sources.push(SyncSource::Folder { folder: place.base.clone(), also: inside });
        }
        if !files.is_empty() {
            let base = if arguments.dir.is_some() { here } else { place.base.clone() };
            place.sources.push(SyncSource::Files { base, paths: files });
        }
        Ok(place)
    }

    /// Sets how the program is called there; gives the file here that it is, if it is one.
    fn find(
        &mut self,
        typed: &OsStr,
        here: &Path,
        arguments: &RunArguments,
    ) -> Result<Option<PathBuf>, Failure> {
        self.program = typed.to_owned();
        if !typed.as_bytes().contains(&b'/') || arguments.no_sync {
            return Ok(None);
        }
        let typed = Path::new(typed);
        // From the folder that is mirrored, as the program will be; else from here, as it was typed.
        for from in [&*self.base, here] {
            let path = plain(&from.join(typed));
            if !path.is_file() {
                continue;
            }
            if let Ok(inside) = path.strip_prefix(&self.base) {
                self.program = Path::new(".").join(inside).into_os_string();
                return Ok(Some(path));
            }
            if typed.is_relative() && arguments.dir.is_none() {
                let name = path.file_name().unwrap_or_default();
                self.program = Path::new(".").join(name).into_os_string();
                return Ok(Some(path));
            }
        }
        if typed.is_relative() && plain(&here.join(typed)).is_file() {
            return Err(Failure::usage(format!(
                "`{}` is not in the folder that `--dir` names",
                typed.display()
            ))
            .hint("leave `--dir` out, or name a folder that has both"));
        }
        if typed.is_relative() {
            return Err(Failure::not_found(format!("there is no `{}` here", typed.display())).hint(
                "a program of that machine is named without a slash or by its whole path; `--no-sync` takes what was \
                 synced before",
            ));
        }
        Ok(None)
    }

    /// Brings that machine what it lacks.
    pub(super) async fn sync(
        &self,
        context: &Context,
        arguments: &RunArguments,
        target: &Target,
    ) -> Result<(), Failure> {
        for source in &self.sources {
            let options = SyncOptions {
                delete: arguments.delete && matches!(source, SyncSource::Folder { .. }),
                ignore: !arguments.no_ignore,
                ..SyncOptions::default()
            };
            let bar = context.printer.bytes_progress("syncing", None);
            let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| bar.add(bytes));
            let (route, endpoint) = (&target.route, &target.endpoint);
            let synced = sync(route, endpoint, &self.workspace, source, &options, progress).await;
            let report = synced.map_err(|error| crate::cli::commands::sync::failure(&error))?;
            for (path, why) in &report.skipped {
                context.printer.warning(format_args!("`{}` was left out: {why}", path.display()));
            }
            // A program beside old files is not the one that was meant.
            if let Some((path, why)) = report.failed.first() {
                return Err(Failure::failed(format!(
                    "`{path}` was not synced, and nothing was started: {why}"
                )));
            }
        }
        Ok(())
    }
}

/// Without `.` and `..`, as it is written: a link keeps its own name.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_plain_without_looking_at_the_disk() {
        for (path, expected) in [("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/../x", "/x"), ("/a/b/..", "/a")] {
            assert_eq!(plain(Path::new(path)), Path::new(expected));
        }
    }
}
