//! `thorp put`: stores files and folders.

use crate::cli::Context;
use crate::cli::arguments::{PutArguments, is_standard};
use crate::cli::escape::escape;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{PutDocument, PutFile};
use crate::cli::printer::Printer;
use crate::cli::session::{failure_of, with_session};
use crate::cli::units::{format_bytes, format_duration};
use crate::client::Session;
use crate::client::put::{PutDone, PutItem, PutKind, PutReport, put};
use crate::clock;
use crate::documents::chain;
use crate::transfer::Progress;
use crate::types::FileName;
use crate::wire::message::Selector;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Stores everything that was named, and reports where it is.
///
/// # Errors
/// When a path is not there, a name cannot be stored, or the cluster refuses. Files that could not
/// be read are told one by one; the others are stored all the same.
pub fn run(context: &Context, arguments: &PutArguments) -> Result<Outcome, Failure> {
    let mut walk = Walk::default();
    for path in &arguments.paths {
        walk.add(path, arguments)?;
    }
    walk.check_names()?;
    with_session(context, async |mut session| {
        let kept = match arguments.copies.replicas {
            Some(_) => BTreeMap::new(),
            None => wanted_now(&mut session, &walk.roots).await?,
        };
        let started = clock::now();
        let total = walk.items.iter().map(|item| item.what.size()).fold(0, u64::saturating_add);
        let bar = context.printer.files_progress("storing", walk.items.len() as u64, Some(total));
        let bar = Arc::new(bar);
        let told = Arc::clone(&bar);
        let progress: Arc<dyn Progress> = Arc::new(move |bytes: u64| told.add(bytes));
        let mut groups: BTreeMap<u8, Vec<PutItem>> = BTreeMap::new();
        for item in walk.items {
            let replicas = kept.get(&item.name).copied().unwrap_or(context.settings.replicas);
            groups.entry(replicas).or_default().push(item);
        }
        let (mut report, mut ended) = (PutReport::default(), Ok(()));
        for (replicas, items) in groups {
            let (of_group, group_ended) = put(&session, items, replicas, Arc::clone(&progress)).await;
            report.done.extend(of_group.done);
            report.failed.extend(of_group.failed);
            ended = ended.and(group_ended);
        }
        report.done.sort_by(|a, b| a.name.cmp(&b.name));
        drop((bar, progress));
        let took = Duration::from_millis(clock::now().since(started));
        conclude(context, arguments, report, ended.map_err(failure_of), walk.failed, took)
    })
}

/// Something on this disk, as it is stored.
pub(super) fn item(name: FileName, what: PutKind, data: &Metadata) -> PutItem {
    let mode = u16::try_from(data.mode() & 0o7777).unwrap_or(0o644);
    PutItem { name, what, mode, modified_ns: modified_ns(data) }
}

/// How many copies are wanted of what is stored under these names, or below them: a new version keeps
/// the number of the old one unless another is asked for.
async fn wanted_now(
    session: &mut Session,
    roots: &BTreeSet<FileName>,
) -> Result<BTreeMap<FileName, u8>, Failure> {
    let mut wanted = BTreeMap::new();
    for root in roots {
        let under = Selector::Under(root.as_str().into());
        let listed = session.list(&under).await.map_err(failure_of)?;
        wanted.extend(listed.into_iter().map(|listed| (listed.row.name, listed.row.wanted)));
    }
    Ok(wanted)
}

fn conclude(
    context: &Context,
    arguments: &PutArguments,
    report: PutReport,
    ended: Result<(), Failure>,
    unreadable: Vec<Failure>,
    took: Duration,
) -> Result<Outcome, Failure> {
    let printer = &context.printer;
    let mut failed = unreadable;
    failed.extend(report.failed.into_iter().map(|failed| match failed.error {
        crate::client::ClientError::File { path, source } => Failure::local_file("read", &path, &source),
        error => Failure::failed(chain(&error)),
    }));
    if let Err(failure) = ended {
        if !report.done.is_empty() {
            printer.warning(format_args!("{} files were stored before it failed", report.done.len()));
        }
        return Err(failure);
    }
    if let [failure] = failed.as_slice()
        && report.done.is_empty()
    {
        return Err(failure.clone());
    }
    if !failed.is_empty() {
        failed.iter().for_each(|failure| printer.warning(failure));
        let all = failed.len() + report.done.len();
        return Err(Failure::failed(format!("{} of {all} files were not stored", failed.len()))
            .hint("the others are stored; see the warnings"));
    }
    let short = report.done.iter().filter(|done| done.holders.len() < usize::from(done.wanted));
    let short = short.min_by_key(|done| done.holders.len()).map(|done| (done.holders.len(), done.wanted));
    let document =
        PutDocument { files: report.done.iter().map(put_file).collect(), seconds: took.as_secs_f64() };
    printer.result(&document, |printer| show(printer, &report.done, took));
    if let Some((fewest, wanted)) = short {
        printer.warning(format_args!(
            "stored {fewest} of {wanted} copies: no other machine could take one now; the rest follow \
             as soon as one can"
        ));
        if arguments.strict {
            return Ok(Outcome::Fewer);
        }
    }
    Ok(Outcome::Done)
}

fn put_file(done: &PutDone) -> PutFile {
    let content = done.body.content();
    PutFile {
        name: done.name.to_string(),
        bytes: content.map_or(0, |(_, size)| size),
        content: content.map(|(content, _)| content.to_string()),
        replicas_wanted: done.wanted,
        replicas: done.holders.len(),
        nodes: {
            let mut nodes = done.holders.clone();
            nodes.sort();
            nodes
        },
        sent_bytes: done.sent_bytes,
        reused_bytes: done.reused_bytes,
    }
}

fn show(printer: &Printer, done: &[PutDone], took: Duration) {
    let bytes: u64 = done.iter().map(|done| done.body.content().map_or(0, |(_, size)| size)).sum();
    let sent: u64 = done.iter().map(|done| done.sent_bytes).sum();
    let cost = if sent < bytes {
        format!("{}, of which {} had to travel", format_bytes(bytes), format_bytes(sent))
    } else {
        format_bytes(bytes)
    };
    let took = format_duration(took);
    match done {
        [] => printer.line("nothing to store"),
        [one] => {
            let holders: Vec<_> = one.holders.iter().map(|node| printer.name(node)).collect();
            let copies = holders.len();
            printer.line(format_args!(
                "stored {}: {cost}, {copies} {} on {} ({took})",
                printer.name(one.name.as_str()),
                if copies == 1 { "copy" } else { "copies" },
                holders.join(", ")
            ));
        }
        many => {
            let fewest = many.iter().map(|done| done.holders.len()).min().unwrap_or(0);
            printer.line(format_args!(
                "stored {} files: {cost}, at least {fewest} copies of each ({took})",
                many.len()
            ));
        }
    }
}

/// What is to be stored, as found on this machine.
#[derive(Default)]
struct Walk {
    items: Vec<PutItem>,
    failed: Vec<Failure>,
    /// Under which names the paths are stored.
    roots: BTreeSet<FileName>,
    /// Keeps what was read from standard input until it is stored.
    spooled: Vec<tempfile::TempPath>,
}

impl Walk {
    fn add(&mut self, path: &Path, arguments: &PutArguments) -> Result<(), Failure> {
        if is_standard(path) {
            return self.add_standard_input(arguments);
        }
        // A link that is named is followed; one inside a folder is stored as a link.
        let data = fs::metadata(path).map_err(|error| Failure::local_file("read", path, &error))?;
        let name = match &arguments.as_name {
            Some(name) => name.clone(),
            None => own_name(path)?,
        };
        let name = under(arguments.into.as_ref(), &name)?;
        self.roots.insert(name.clone());
        if data.is_dir() {
            self.add_folder(path, &name)
        } else if data.is_file() {
            self.add_file(path.to_owned(), name, &data);
            Ok(())
        } else {
            Err(Failure::failed(format!("`{}` is neither a file nor a folder", shown(path)))
                .hint("devices, pipes and sockets cannot be stored; `thorp put - --as NAME` stores what a pipe gives"))
        }
    }

    /// Standard input can be read once only, but a chain that breaks must be sent again: it is kept
    /// in a temporary file until it is stored.
    fn add_standard_input(&mut self, arguments: &PutArguments) -> Result<(), Failure> {
        let Some(name) = &arguments.as_name else {
            return Err(Failure::usage("standard input has no name").hint("name it: `thorp put - --as NAME`"));
        };
        let input = Path::new("standard input");
        let refuse = |error: &io::Error| Failure::local_file("read", input, error);
        let mut file = tempfile::NamedTempFile::new().map_err(|error| refuse(&error))?;
        io::copy(&mut io::stdin().lock(), &mut file).map_err(|error| refuse(&error))?;
        let data = file.as_file().metadata().map_err(|error| refuse(&error))?;
        let path = file.into_temp_path();
        self.items.push(PutItem {
            name: under(arguments.into.as_ref(), name)?,
            what: PutKind::File { path: path.to_path_buf(), size: data.len() },
            mode: 0o644,
            modified_ns: modified_ns(&data),
        });
        self.spooled.push(path);
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf, name: FileName, data: &Metadata) {
        let what = PutKind::File { path, size: data.len() };
        self.push(name, what, data);
    }

    fn push(&mut self, name: FileName, what: PutKind, data: &Metadata) {
        self.items.push(item(name, what, data));
    }

    fn add_folder(&mut self, top: &Path, name: &FileName) -> Result<(), Failure> {
        let mut folders = vec![(top.to_owned(), name.to_string())];
        while let Some((folder, prefix)) = folders.pop() {
            let entries = match read_folder(&folder) {
                Ok(entries) => entries,
                // A folder that was named and cannot be read is the whole of it.
                Err(error) if folder == top => return Err(Failure::local_file("read", top, &error)),
                Err(error) => {
                    self.failed.push(Failure::local_file("read", &folder, &error));
                    continue;
                }
            };
            if entries.is_empty() {
                self.add_empty_folder(&folder, &prefix);
            }
            for path in entries {
                if let Some(subfolder) = self.add_entry(&path, &prefix) {
                    folders.push((path, subfolder));
                }
            }
        }
        Ok(())
    }

    fn add_empty_folder(&mut self, folder: &Path, prefix: &str) {
        match (fs::metadata(folder), FileName::parse(prefix)) {
            (Ok(data), Ok(name)) => self.push(name, PutKind::Folder, &data),
            (Err(error), _) => self.failed.push(Failure::local_file("read", folder, &error)),
            (_, Err(error)) => self.failed.push(unnameable(folder, &error.to_string())),
        }
    }

    /// Adds a file or link; gives the name of a folder, which is to be walked.
    fn add_entry(&mut self, path: &Path, prefix: &str) -> Option<String> {
        let Some(part) = path.file_name().and_then(|part| part.to_str()) else {
            self.failed.push(unnameable(path, "its name is not UTF-8"));
            return None;
        };
        let text = format!("{prefix}/{part}");
        let data = match fs::symlink_metadata(path) {
            Ok(data) => data,
            Err(error) => {
                self.failed.push(Failure::local_file("read", path, &error));
                return None;
            }
        };
        if data.is_dir() {
            return Some(text);
        }
        let name = match FileName::parse(&text) {
            Ok(name) => name,
            Err(error) => {
                self.failed.push(unnameable(path, &error.to_string()));
                return None;
            }
        };
        if data.is_symlink() {
            match fs::read_link(path).map(|target| target.to_str().map(Box::from)) {
                Ok(Some(target)) => self.push(name, PutKind::Symlink { target }, &data),
                Ok(None) => self.failed.push(unnameable(path, "where it points is not UTF-8")),
                Err(error) => self.failed.push(Failure::local_file("read", path, &error)),
            }
        } else if data.is_file() {
            self.add_file(path.to_owned(), name, &data);
        } else {
            let what = "it is a device, pipe or socket";
            self.failed.push(Failure::failed(format!("`{}` was left out: {what}", shown(path))));
        }
        None
    }

    fn check_names(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for item in &self.items {
            if !names.insert(&item.name) {
                return Err(Failure::usage(format!("two of the paths would be stored as `{}`", item.name))
                    .hint("put them one by one with `--as`, or under different folders with `--into`"));
            }
        }
        Ok(())
    }
}

fn read_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path, also of `.` and `..`.
fn own_name(path: &Path) -> Result<FileName, Failure> {
    let whole = match path.file_name() {
        Some(_) => path.to_owned(),
        None => fs::canonicalize(path).map_err(|error| Failure::local_file("read", path, &error))?,
    };
    let hint = "name it with `--as NAME`";
    let Some(part) = whole.file_name().and_then(|part| part.to_str()) else {
        return Err(unnameable(path, "its name is not UTF-8 text").hint(hint));
    };
    FileName::parse(part).map_err(|error| unnameable(path, &error.to_string()).hint(hint))
}

fn under(prefix: Option<&FileName>, name: &FileName) -> Result<FileName, Failure> {
    match prefix {
        None => Ok(name.clone()),
        Some(prefix) => FileName::parse(&format!("{prefix}/{name}"))
            .map_err(|error| Failure::usage(format!("`{prefix}/{name}` is no name: {error}"))),
    }
}

fn unnameable(path: &Path, why: &str) -> Failure {
    Failure::failed(format!("`{}` cannot be stored: {why}", shown(path))).json_code("invalid_name")
}

/// A path as it may be shown on a terminal.
fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

fn modified_ns(data: &Metadata) -> i64 {
    data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec())
}
