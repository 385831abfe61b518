//! Gets files: lists what is asked for, then fetches from all holders at once. Shell.
//!
//! Invariant (promises P4, P9): an output appears whole or not at all, and nothing is written
//! outside the output folder: names are checked, and a folder on the way that is a symbolic link is
//! refused. Links are made last, so none of ours can lead a file of ours elsewhere.

use super::{ClientError, Session};
use crate::transfer::Progress;
use crate::transfer::fetch::{FetchError, FetchItem, FetchReport, FetchResult, fetch_many};
use crate::transfer::output::{FileSink, OutputFile, is_content};
use crate::transfer::pool::HolderPool;
use crate::transfer::sink::{Sink, SinkError, StreamSink};
use crate::types::{Body, FileName, NodeId, NodeRoute};
use crate::wire::message::{Reply, Request, Row, Selector};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A row and the ways to its holders.
#[derive(Clone, Debug)]
pub struct Listed {
    /// As the proxy shows it.
    pub row: Row,
    /// Its holders.
    pub holders: Vec<NodeRoute>,
}

/// One output to be written.
#[derive(Clone, Debug)]
pub struct GetItem {
    /// What.
    pub listed: Listed,
    /// Where.
    pub path: PathBuf,
    /// The folder that the output must stay in.
    pub root: PathBuf,
}

/// A file that was got.
#[derive(Clone, Debug)]
pub struct GetDone {
    /// Its name.
    pub name: FileName,
    /// Where it is now.
    pub path: PathBuf,
    /// What it is.
    pub body: Body,
    /// Who gave how many bytes: display names.
    pub from: Vec<(String, u64)>,
    /// Holders that were left, and why.
    pub left: Vec<(String, String)>,
}

/// What became of a get.
#[derive(Debug, Default)]
pub struct GetReport {
    /// Got, or there already.
    pub done: Vec<GetDone>,
    /// Not got.
    pub failed: Vec<(FileName, ClientError)>,
}

impl Session {
    /// All rows that `selector` means, in the order of names.
    ///
    /// # Errors
    /// As [`Session::ask`]; an unknown single name is refused with `NotFound`.
    pub async fn list(&mut self, selector: &Selector) -> Result<Vec<Listed>, ClientError> {
        let mut all = Vec::new();
        self.list_each(selector, |listed| all.push(listed)).await?;
        Ok(all)
    }

    /// As [`Session::list`], one row after the other: so a long list needs no memory.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub async fn list_each(
        &mut self,
        selector: &Selector,
        mut take: impl FnMut(Listed),
    ) -> Result<(), ClientError> {
        let mut after = None;
        loop {
            let request = Request::List { selector: selector.clone(), after };
            let Reply::Rows { rows, nodes, more } = self.ask(&request).await? else {
                return Err(ClientError::Nonsense);
            };
            let nodes: BTreeMap<NodeId, NodeRoute> =
                self.localise(nodes).into_iter().map(|route| (route.node, route)).collect();
            for row in rows {
                let holders = row.holders.iter().filter_map(|node| nodes.get(node).cloned()).collect();
                take(Listed { row, holders });
            }
            after = more;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Gets `items` into files, links and folders.
pub async fn get(
    session: &Session,
    items: Vec<GetItem>,
    force: bool,
    progress: Arc<dyn Progress>,
) -> GetReport {
    let mut report = GetReport::default();
    let mut folders = SafeFolders::default();
    let mut files = Vec::new();
    let mut links = Vec::new();
    for item in items {
        match folders.make(&item.root, &item.path, &item.listed.row.body) {
            Err(error) => report.failed.push((item.listed.row.name.clone(), error)),
            Ok(()) => match &item.listed.row.body {
                Body::File { .. } => files.push(item),
                Body::Symlink { .. } => links.push(item),
                Body::Folder => {
                    let mode = u32::from(item.listed.row.mode) & 0o777;
                    let _ =
                        std::fs::set_permissions(&item.path, std::fs::Permissions::from_mode(mode | 0o700));
                    report.done.push(done(&item, Vec::new(), Vec::new()));
                }
            },
        }
    }
    get_files(session, files, force, &progress, &mut report).await;
    for item in links {
        match make_link(&item, force) {
            Ok(()) => report.done.push(done(&item, Vec::new(), Vec::new())),
            Err(error) => report.failed.push((item.listed.row.name.clone(), error)),
        }
    }
    report.done.sort_by(|a, b| a.name.cmp(&b.name));
    report
}

/// Writes one file to standard output.
///
/// # Errors
/// When it is no file, or no holder gives it.
pub async fn get_to_stream(
    session: &Session,
    listed: Listed,
    output: impl io::Write + Send + 'static,
    progress: Arc<dyn Progress>,
) -> Result<GetDone, ClientError> {
    let name = listed.row.name.to_string();
    let item = GetItem { listed, path: PathBuf::from("-"), root: PathBuf::new() };
    let Some((content, size)) = item.listed.row.body.content() else {
        let source = io::Error::other("it is not a file");
        return Err(ClientError::File { path: PathBuf::from(name), source });
    };
    let pool = Arc::new(HolderPool::new(Arc::clone(session.endpoint())));
    let holders = item.listed.holders.clone();
    let sink = Box::new(StreamSink::new(output));
    let fetched =
        crate::transfer::fetch::fetch(&pool, FetchItem { tag: 0, content, size, holders, sink }, progress)
            .await;
    match fetched {
        Ok(fetched) => Ok(report_of(&item, &fetched)),
        Err(error) => Err(ClientError::Get { name, source: Box::new(error) }),
    }
}

async fn get_files(
    session: &Session,
    files: Vec<GetItem>,
    force: bool,
    progress: &Arc<dyn Progress>,
    report: &mut GetReport,
) {
    let pool = Arc::new(HolderPool::new(Arc::clone(session.endpoint())));
    let (to_fetch, items) = mpsc::channel(64);
    let (to_us, mut results) = mpsc::channel::<FetchResult>(64);
    let (to_skip, mut skipped) = mpsc::channel::<(usize, Result<(), ClientError>)>(64);
    let files = Arc::new(files);
    let feed = {
        let files = Arc::clone(&files);
        let progress = Arc::clone(progress);
        // Looking at what is there already may mean to hash it.
        tokio::task::spawn_blocking(move || {
            for (at, item) in files.iter().enumerate() {
                let Some((content, size)) = item.listed.row.body.content() else { continue };
                if let Some(skip) = look(item, force) {
                    if skip.is_ok() {
                        progress.advance(size);
                    }
                    if to_skip.blocking_send((at, skip)).is_err() {
                        return;
                    }
                    continue;
                }
                let sink: Box<dyn Sink> = Box::new(FileSink::new(OutputFile {
                    path: item.path.clone(),
                    content,
                    size,
                    mode: item.listed.row.mode,
                    modified_ns: item.listed.row.modified_ns,
                    force,
                }));
                let holders = item.listed.holders.clone();
                let item = FetchItem { tag: at as u64, content, size, holders, sink };
                if to_fetch.blocking_send(item).is_err() {
                    return;
                }
            }
        })
    };
    let fetching = fetch_many(&pool, items, to_us, Arc::clone(progress));
    let collecting = async {
        loop {
            tokio::select! {
                Some((at, skip)) = skipped.recv() => {
                    let Some(item) = files.get(at) else { continue };
                    match skip {
                        Ok(()) => report.done.push(done(item, Vec::new(), Vec::new())),
                        Err(error) => report.failed.push((item.listed.row.name.clone(), error)),
                    }
                }
                Some(FetchResult { tag, outcome }) = results.recv() => {
                    let Some(item) = usize::try_from(tag).ok().and_then(|at| files.get(at)) else { continue };
                    match outcome {
                        Ok(fetched) => report.done.push(report_of(item, &fetched)),
                        Err(error) => {
                            let name = item.listed.row.name.clone();
                            report.failed.push((name, fetch_failed(item, error)));
                        }
                    }
                }
                else => break,
            }
        }
    };
    let ((), ()) = tokio::join!(fetching, collecting);
    if feed.await.is_err() {
        tracing::error!("looking at the outputs was interrupted");
    }
}

fn fetch_failed(item: &GetItem, error: FetchError) -> ClientError {
    match error {
        FetchError::Sink(SinkError::File { path, source }) => ClientError::File { path, source },
        FetchError::Sink(SinkError::Exists { path }) => exists(path),
        error => ClientError::Get { name: item.listed.row.name.to_string(), source: Box::new(error) },
    }
}

fn exists(path: PathBuf) -> ClientError {
    let source = io::Error::new(io::ErrorKind::AlreadyExists, "something different is there already");
    ClientError::File { path, source }
}

/// Whether the output is there already (`Ok`), or is not to be replaced.
fn look(item: &GetItem, force: bool) -> Option<Result<(), ClientError>> {
    let (content, size) = item.listed.row.body.content()?;
    let there = std::fs::symlink_metadata(&item.path).ok()?;
    if there.is_file() && is_content(&item.path, &content, size).unwrap_or(false) {
        return Some(Ok(()));
    }
    (!force || there.is_dir()).then(|| Err(exists(item.path.clone())))
}

fn make_link(item: &GetItem, force: bool) -> Result<(), ClientError> {
    let Body::Symlink { target } = &item.listed.row.body else {
        return Ok(());
    };
    let failed = |source| ClientError::File { path: item.path.clone(), source };
    match std::fs::symlink_metadata(&item.path) {
        Ok(there) => {
            let same = std::fs::read_link(&item.path).is_ok_and(|known| known == Path::new(&**target));
            if same {
                return Ok(());
            }
            if !force || there.is_dir() {
                return Err(exists(item.path.clone()));
            }
            std::fs::remove_file(&item.path).map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    std::os::unix::fs::symlink(&**target, &item.path).map_err(failed)
}

fn done(item: &GetItem, from: Vec<(String, u64)>, left: Vec<(String, String)>) -> GetDone {
    let row = &item.listed.row;
    GetDone { name: row.name.clone(), path: item.path.clone(), body: row.body.clone(), from, left }
}

fn report_of(item: &GetItem, fetched: &FetchReport) -> GetDone {
    let name_of = |node: &NodeId| {
        let known = item.listed.holders.iter().find(|route| route.node == *node);
        known.map_or_else(|| node.to_string(), |route| route.name.to_string())
    };
    let from = fetched.from.iter().map(|(node, bytes)| (name_of(node), *bytes)).collect();
    let left = fetched.failed.iter().map(|(node, why)| (name_of(node), why.to_string())).collect();
    done(item, from, left)
}

/// Folders of outputs, made as needed; each looked at once.
#[derive(Default)]
struct SafeFolders {
    known: BTreeSet<PathBuf>,
}

impl SafeFolders {
    /// Makes the folders between `root` and the output at `path` (itself included if it is one).
    fn make(&mut self, root: &Path, path: &Path, body: &Body) -> Result<(), ClientError> {
        if !root.as_os_str().is_empty() && self.known.insert(root.to_owned()) {
            std::fs::create_dir_all(root)
                .map_err(|source| ClientError::File { path: root.to_owned(), source })?;
        }
        let folder = if *body == Body::Folder { Some(path) } else { path.parent() };
        let Some(inside) = folder.and_then(|folder| folder.strip_prefix(root).ok()) else {
            return Ok(());
        };
        let mut at = root.to_owned();
        for part in inside.components() {
            at.push(part);
            if self.known.contains(&at) {
                continue;
            }
            let failed = |source| ClientError::File { path: at.clone(), source };
            match std::fs::symlink_metadata(&at) {
                Ok(there) if there.is_dir() => {}
                Ok(_) => return Err(exists(at)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::fs::create_dir(&at).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
            self.known.insert(at.clone());
        }
        Ok(())
    }
}
