//! One worker of a put: places a batch, streams it down a chain, commits what is durable. Shell.
//!
//! Invariant: what is committed was confirmed; a chain that lost a holder stays open until what it
//! brought is committed, as its holders keep that for so long only.

use super::{PutDone, PutFailed, PutItem, PutKind, PutReport};
use crate::client::{ClientError, Session};
use crate::clock::{self, Moment};
use crate::transfer::Progress;
use crate::transfer::chain::{ChainError, ChainSender, PutResult, Source, StoredContent};
use crate::types::{Body, NodeId, NodeRoute};
use crate::wire::message::{ErrorCode, NewFile, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};

/// How often entries are asked for again because a holder did not confirm.
const COMMITS_AGAIN: usize = 3;
/// A chain is not used again after this long, in milliseconds: well within the holders' patience.
const CHAIN_IDLE_MS_MAX: u64 = 20_000;

pub(super) struct Worker {
    session: Session,
    /// The chain of the batch before: used again when the next is placed alike.
    chain: Option<(Vec<NodeId>, ChainSender)>,
    chain_used: Moment,
    /// It is of a put before: its first holder may have been started anew since.
    chain_is_old: bool,
    /// A chain that lost a holder, until what it brought is committed.
    retired: Option<(Vec<NodeId>, ChainSender)>,
    replicas: u8,
    progress: Arc<dyn Progress>,
    failed_nodes: Arc<Mutex<BTreeSet<NodeId>>>,
    names: BTreeMap<NodeId, String>,
    report: PutReport,
}

impl Worker {
    /// One with connections of its own; workers of one put share which nodes failed in it.
    pub(super) fn new(
        session: &Session,
        replicas: u8,
        progress: Arc<dyn Progress>,
        failed_nodes: Arc<Mutex<BTreeSet<NodeId>>>,
    ) -> Worker {
        Worker {
            session: session.another(),
            chain: None,
            chain_used: Moment::default(),
            chain_is_old: false,
            retired: None,
            replicas,
            progress,
            failed_nodes,
            names: BTreeMap::new(),
            report: PutReport::default(),
        }
    }

    /// Another put begins, over the connections of the one before.
    pub(super) async fn begin_anew(&mut self, replicas: u8) {
        self.replicas = replicas;
        self.chain_is_old = self.chain.is_some();
        self.failed_nodes.lock().await.clear();
        self.names.clear();
    }

    /// What was done since this was last asked.
    pub(super) fn take_report(&mut self) -> PutReport {
        std::mem::take(&mut self.report)
    }

    /// Ends it properly.
    pub(super) async fn close(&mut self) {
        if let Some((_, chain)) = self.chain.take() {
            chain.close().await;
        }
    }

    pub(super) async fn put_batch(&mut self, items: Vec<PutItem>) -> Result<(), ClientError> {
        let files: Vec<usize> =
            (0..items.len()).filter(|at| items.get(*at).is_some_and(|item| item.what.has_bytes())).collect();
        let mut stored: BTreeMap<usize, StoredContent> = BTreeMap::new();
        let mut unreadable = BTreeSet::new();
        let mut planned = usize::from(self.replicas);
        if !files.is_empty() {
            planned = self.store_contents(&items, files, &mut stored, &mut unreadable).await?;
        }
        for content in stored.values_mut() {
            if content.nodes.len() < planned {
                self.extend(content, planned, &[]).await?;
            }
        }
        let committed = self.commit(&items, &mut stored, &unreadable, planned).await;
        if let Some((_, chain)) = self.retired.take() {
            chain.close().await;
        }
        committed
    }

    /// Moves contents until each is stored or unreadable. Gives how many copies were planned.
    async fn store_contents(
        &mut self,
        items: &[PutItem],
        files: Vec<usize>,
        stored: &mut BTreeMap<usize, StoredContent>,
        unreadable: &mut BTreeSet<usize>,
    ) -> Result<usize, ClientError> {
        let mut waiting = files;
        let mut planned_most = 0;
        // Once all machines were tried, what they said is the reason, and not that none is left.
        let mut was_full = None;
        loop {
            let plan = match (self.place(items, &waiting).await, was_full.take()) {
                (Err(ClientError::Refused { code: ErrorCode::NoStorage, .. }), Some(full)) => {
                    return Err(full);
                }
                (plan, full) => {
                    was_full = full;
                    plan?
                }
            };
            planned_most = planned_most.max(plan.len());
            let ended = self.send(items, &waiting, &plan, stored, unreadable).await;
            waiting.retain(|at| !stored.contains_key(at) && !unreadable.contains(at));
            match ended {
                Ok(()) if waiting.is_empty() => return Ok(planned_most),
                Ok(()) => {}
                Err(error) => {
                    self.chain = None;
                    if std::mem::take(&mut self.chain_is_old)
                        && matches!(error, ChainError::Connection { .. })
                    {
                        continue;
                    }
                    let blamed = match &error {
                        ChainError::Unreachable { failed } => failed.iter().map(|(node, _)| *node).collect(),
                        error => error.node().map(|node| vec![node]).unwrap_or_default(),
                    };
                    if blamed.is_empty() {
                        return Err(chain_failed(error));
                    }
                    tracing::warn!(%error, "a copy failed; another machine takes its place");
                    self.failed_nodes.lock().await.extend(blamed);
                    if matches!(error, ChainError::Failed { code: ErrorCode::NoSpace, .. }) {
                        was_full = Some(chain_failed(error));
                    }
                }
            }
        }
    }

    async fn place(&mut self, items: &[PutItem], files: &[usize]) -> Result<Vec<NodeRoute>, ClientError> {
        let chosen: Vec<&PutItem> = files.iter().filter_map(|at| items.get(*at)).collect();
        let exclude: Vec<NodeId> = self.failed_nodes.lock().await.iter().copied().collect();
        let request = Request::PutOpen {
            names: chosen.iter().map(|item| item.name.clone()).collect(),
            bytes: chosen.iter().map(|item| item.what.size()).fold(0, u64::saturating_add),
            replicas: self.replicas,
            exclude,
        };
        match self.session.ask(&request).await? {
            Reply::PutPlan { chain } => {
                let chain = self.session.localise(chain);
                self.names.extend(chain.iter().map(|route| (route.node, route.name.to_string())));
                Ok(chain)
            }
            _ => Err(ClientError::Nonsense),
        }
    }

    async fn send(
        &mut self,
        items: &[PutItem],
        files: &[usize],
        plan: &[NodeRoute],
        stored: &mut BTreeMap<usize, StoredContent>,
        unreadable: &mut BTreeSet<usize>,
    ) -> Result<(), ChainError> {
        let nodes: Vec<NodeId> = plan.iter().map(|route| route.node).collect();
        // A holder closes a chain that was idle for long: then it is no fault of its.
        let lately = clock::now().since(self.chain_used) < CHAIN_IDLE_MS_MAX;
        let reusable = lately && self.chain.as_ref().is_some_and(|(known, _)| *known == nodes);
        self.chain_used = clock::now();
        if !reusable {
            if let Some((_, chain)) = self.chain.take() {
                chain.close().await;
            }
            let chain = ChainSender::open(plan, self.session.endpoint()).await?;
            self.failed_nodes.lock().await.extend(chain.failed());
            self.chain = Some((nodes, chain));
            self.chain_is_old = false;
        }
        let Some((_, chain)) = &mut self.chain else {
            return Err(ChainError::Empty);
        };
        let (to_chain, sources) = mpsc::channel(16);
        let (to_us, mut results) = mpsc::channel::<PutResult>(64);
        let feed = async {
            for at in files {
                let source = match items.get(*at).map(|item| &item.what) {
                    Some(PutKind::File { path, .. }) => Some(Source::file(*at as u64, path.clone())),
                    Some(PutKind::Coming { path, coming, .. }) => {
                        Some(coming.source(*at as u64, path.clone()))
                    }
                    Some(PutKind::Symlink { .. } | PutKind::Folder) | None => None,
                };
                let Some(source) = source else { continue };
                if to_chain.send(source).await.is_err() {
                    break;
                }
            }
            drop(to_chain);
        };
        let mut failed_nodes = BTreeSet::new();
        let report = &mut self.report;
        let collect = async {
            while let Some(PutResult { tag, outcome }) = results.recv().await {
                let at = usize::try_from(tag).unwrap_or(usize::MAX);
                match outcome {
                    Ok(content) => {
                        failed_nodes.extend(content.failed.iter().copied());
                        stored.insert(at, content);
                    }
                    Err(error) => {
                        unreadable.insert(at);
                        if let Some(PutItem {
                            name,
                            what: PutKind::File { path, .. } | PutKind::Coming { path, .. },
                            ..
                        }) = items.get(at)
                        {
                            let error = ClientError::File { path: path.clone(), source: error.source };
                            report.failed.push(PutFailed { name: name.clone(), error });
                        }
                    }
                }
            }
        };
        let put = chain.put(sources, to_us, Arc::clone(&self.progress));
        let (ended, (), ()) = tokio::join!(put, feed, collect);
        if !failed_nodes.is_empty() {
            // The chain is shorter than planned now: the next batch gets a new one.
            self.failed_nodes.lock().await.extend(failed_nodes);
            // Kept open until the commit: its holders keep what they received for that long.
            self.retired = self.chain.take();
        }
        self.chain_used = clock::now();
        ended
    }

    /// Another machine pulls the copy that the chain did not bring, as long as there is one.
    async fn extend(
        &mut self,
        content: &mut StoredContent,
        planned: usize,
        silent: &[NodeId],
    ) -> Result<(), ClientError> {
        while content.nodes.len() < planned {
            let failed = self.failed_nodes.lock().await;
            let exclude: Vec<NodeId> = failed.iter().chain(silent).copied().collect();
            drop(failed);
            let request = Request::Extend {
                content: content.content,
                size: content.size,
                holders: content.nodes.clone(),
                replicas: self.replicas,
                exclude,
            };
            match self.session.ask(&request).await {
                Ok(Reply::Extended { node }) => content.nodes.push(node),
                Ok(_) => return Err(ClientError::Nonsense),
                Err(ClientError::Refused { code: ErrorCode::NoStorage | ErrorCode::Connection, .. }) => {
                    return Ok(()); // as many as there are; the proxy mends the rest
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the entries. A holder that does not confirm in time failed in this put: another machine
    /// takes its place, and the entries are asked for again, which changes nothing but the count.
    async fn commit(
        &mut self,
        items: &[PutItem],
        stored: &mut BTreeMap<usize, StoredContent>,
        unreadable: &BTreeSet<usize>,
        planned: usize,
    ) -> Result<(), ClientError> {
        let chosen: Vec<usize> = (0..items.len()).filter(|at| !unreadable.contains(at)).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let mut confirmed = self.commit_once(items, stored, &chosen).await?;
        for _ in 0..COMMITS_AGAIN {
            let mut short = Vec::new();
            for (at, confirmed) in chosen.iter().zip(&confirmed) {
                let Some(content) = stored.get_mut(at).filter(|_| confirmed.len() < planned) else {
                    continue;
                };
                let silent = content.nodes.iter().filter(|node| !confirmed.contains(node)).copied();
                let silent: Vec<NodeId> = silent.collect();
                content.nodes.clone_from(confirmed);
                self.extend(content, planned, &silent).await?;
                if content.nodes.len() > confirmed.len() {
                    short.push(*at);
                }
            }
            if short.is_empty() {
                break;
            }
            let again = self.commit_once(items, stored, &short).await?;
            for (at, holders) in short.iter().zip(again) {
                if let Some(place) = chosen.iter().position(|known| known == at) {
                    confirmed[place] = holders;
                }
            }
        }
        for (at, holders) in chosen.into_iter().zip(confirmed) {
            let Some(item) = items.get(at) else { continue };
            let content = stored.get(&at);
            let name_of = |node: &NodeId| self.names.get(node).cloned().unwrap_or_else(|| node.to_string());
            let done = PutDone {
                name: item.name.clone(),
                body: body_of(item, content),
                wanted: self.replicas,
                holders: holders.iter().map(name_of).collect(),
                sent_bytes: content.map_or(0, |content| content.sent_bytes),
                reused_bytes: content.map_or(0, |content| content.reused_bytes),
            };
            self.report.done.push(done);
        }
        Ok(())
    }

    /// Asks for the entries of `chosen`; gives who confirmed each.
    async fn commit_once(
        &mut self,
        items: &[PutItem],
        stored: &BTreeMap<usize, StoredContent>,
        chosen: &[usize],
    ) -> Result<Vec<Vec<NodeId>>, ClientError> {
        let files = chosen.iter().filter_map(|at| {
            let (item, content) = (items.get(*at)?, stored.get(at));
            Some(NewFile {
                name: item.name.clone(),
                body: body_of(item, content),
                mode: item.mode,
                modified_ns: item.modified_ns,
                replicas: self.replicas,
                holders: content.map(|content| content.nodes.clone()).unwrap_or_default(),
            })
        });
        let request = Request::Commit { files: files.collect() };
        match self.session.ask(&request).await? {
            Reply::Committed { holders, nodes } if holders.len() == chosen.len() => {
                self.names.extend(nodes.iter().map(|route| (route.node, route.name.to_string())));
                Ok(holders)
            }
            _ => Err(ClientError::Nonsense),
        }
    }
}

fn body_of(item: &PutItem, content: Option<&StoredContent>) -> Body {
    match (&item.what, content) {
        (PutKind::File { .. } | PutKind::Coming { .. }, Some(stored)) => {
            Body::File { content: stored.content, size: stored.size }
        }
        (PutKind::Symlink { target }, _) => Body::Symlink { target: target.clone() },
        (PutKind::Folder | PutKind::File { .. } | PutKind::Coming { .. }, _) => Body::Folder,
    }
}

fn chain_failed(error: ChainError) -> ClientError {
    match error {
        ChainError::Failed { code, message, .. } => {
            ClientError::Refused { code, message: message.to_string() }
        }
        error => ClientError::Refused { code: ErrorCode::Connection, message: error.to_string() },
    }
}
