//! Has copies verified by those who hold them, and waits until the bad ones are mended. Shell.
//!
//! Invariant (promise P12): a copy counts as checked, or mended, only on the word of its holder that
//! it has just hashed all of it; what the proxy lists is only where to ask. So a list that lags
//! behind makes the command wait, never say what is not so.

use super::get::Listed;
use super::{ClientError, Session, millis};
use crate::clock;
use crate::transfer::Progress;
use crate::transfer::connection::Endpoint;
use crate::transfer::verify::verify as verify_at;
use crate::types::{ContentId, FileName, NodeId, NodeRoute};
use crate::wire::message::{ErrorCode, FileState, Selector};
use crate::wire::transfer::CopyState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a holder may take to tell when it last verified a copy.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether a file is mended.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A copy: of which file, at which node (its display name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyAt {
    /// The file's name.
    pub name: FileName,
    /// The node's display name.
    pub node: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Copies that were hashed anew.
    pub checked: u64,
    /// The bad ones.
    pub bad: Vec<CopyAt>,
    /// Of those, how many belong to files that have all their copies again.
    pub mended: u64,
    /// Copies that could not be checked, and why.
    pub unchecked: Vec<(CopyAt, String)>,
    /// Files without a good copy that is up.
    pub lost: Vec<FileName>,
}

/// How long to wait for copies to be mended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// So long without hope.
    pub limit: Duration,
    /// Time in which copies are being made does not count.
    pub while_healing: bool,
}

/// Where each copy was, and how it is.
type States = BTreeMap<(NodeId, ContentId), Result<CopyState, String>>;

/// A file that is not yet as it should be.
struct Open {
    listed: Listed,
    /// Copies that it had, or should have: as many it shall have.
    wanted: usize,
    bad: u64,
}

/// Has all copies of `listed` verified, and waits for the bad ones to be mended; `waiting` is told
/// how many files it waits for.
///
/// # Errors
/// When the proxy is lost. What was found bad is set aside all the same.
pub async fn verify(
    session: &mut Session,
    listed: Vec<Listed>,
    progress: Arc<dyn Progress>,
    patience: Patience,
    waiting: impl Fn(usize),
) -> Result<VerifyReport, ClientError> {
    let mut report = VerifyReport::default();
    let mut states = check(session.endpoint(), listed.iter(), progress).await;
    let mut open = Vec::new();
    for listed in listed {
        report.add(listed, &states, &mut open);
    }
    let mut since = clock::now();
    while !open.is_empty() {
        waiting(open.len());
        let (mut left, mut healing) = (Vec::new(), false);
        for mut file in open {
            match look(session, &mut states, &mut file, &mut report).await? {
                Look::Mended => report.mended += file.bad,
                Look::Gone => {}
                Look::Lost => report.lost.push(file.listed.row.name),
                Look::Open { is_healing } => {
                    healing |= is_healing;
                    left.push(file);
                }
            }
        }
        open = left;
        if healing && patience.while_healing {
            since = clock::now();
        }
        if clock::now().since(since) >= millis(patience.limit) {
            break;
        }
        if !open.is_empty() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    // Said to be there and not there, to the end.
    for file in open.into_iter().filter(|file| file.bad == 0) {
        for holder in file.listed.holders {
            if states.get(&(holder.node, content_of(&file.listed.row.body))) == Some(&Ok(CopyState::Missing))
            {
                let copy = CopyAt { name: file.listed.row.name.clone(), node: holder.name.to_string() };
                report.unchecked.push((copy, "it is not there".into()));
            }
        }
    }
    report.bad.sort();
    report.lost.sort();
    Ok(report)
}

fn content_of(body: &crate::types::Body) -> ContentId {
    body.content().map_or(ContentId([0; 32]), |(content, _)| content)
}

impl VerifyReport {
    /// Takes in what was found of one file.
    fn add(&mut self, listed: Listed, states: &States, open: &mut Vec<Open>) {
        let Some((content, _)) = listed.row.body.content() else { return };
        let name = &listed.row.name;
        if listed.row.state == FileState::Lost || listed.holders.is_empty() {
            self.lost.push(name.clone());
            return;
        }
        let (mut bad, mut missing) = (0, false);
        for holder in &listed.holders {
            let copy = CopyAt { name: name.clone(), node: holder.name.to_string() };
            match states.get(&(holder.node, content)) {
                Some(Ok(CopyState::Whole)) => self.checked += 1,
                Some(Ok(CopyState::Bad)) => {
                    self.checked += 1;
                    self.bad.push(copy);
                    bad += 1;
                }
                Some(Ok(CopyState::Missing)) => missing = true,
                Some(Ok(CopyState::Unreadable)) => {
                    self.unchecked.push((copy, "its disk does not give it".into()));
                }
                Some(Err(why)) => self.unchecked.push((copy, why.clone())),
                None => self.unchecked.push((copy, "it was not asked".into())),
            }
        }
        if bad > 0 || missing {
            let wanted = usize::from(listed.row.wanted).min(listed.holders.len());
            open.push(Open { listed, wanted, bad });
        }
    }
}

/// How a file stands that had a bad copy.
enum Look {
    Mended,
    /// Removed or replaced meanwhile.
    Gone,
    Lost,
    Open {
        is_healing: bool,
    },
}

async fn look(
    session: &mut Session,
    states: &mut States,
    file: &mut Open,
    report: &mut VerifyReport,
) -> Result<Look, ClientError> {
    let name = file.listed.row.name.clone();
    let content = content_of(&file.listed.row.body);
    let rows = match session.list(&Selector::Name(name.clone())).await {
        Ok(rows) => rows,
        Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) => return Ok(Look::Gone),
        Err(error) => return Err(error),
    };
    let Some(listed) = rows.into_iter().next() else { return Ok(Look::Gone) };
    if content_of(&listed.row.body) != content {
        return Ok(Look::Gone);
    }
    if listed.row.state == FileState::Lost {
        return Ok(Look::Lost);
    }
    let is_healing = listed.row.state == FileState::Healing;
    if listed.holders.len() < file.wanted {
        return Ok(Look::Open { is_healing });
    }
    let whole = |states: &States, node| states.get(&(node, content)) == Some(&Ok(CopyState::Whole));
    let unknown = Listed {
        holders: listed.holders.iter().filter(|holder| !whole(states, holder.node)).cloned().collect(),
        row: listed.row.clone(),
    };
    let found = check(session.endpoint(), [&unknown], Arc::new(|_: u64| ())).await;
    for ((node, _), state) in &found {
        if let (Ok(CopyState::Bad), Some(holder)) = (state, listed.holders.iter().find(|h| h.node == *node)) {
            report.bad.push(CopyAt { name: name.clone(), node: holder.name.to_string() });
            file.bad += 1;
        }
    }
    states.extend(found);
    if listed.holders.iter().all(|holder| whole(states, holder.node)) {
        return Ok(Look::Mended);
    }
    // The proxy has not heard of it yet, or it is bad again.
    Ok(Look::Open { is_healing })
}

/// Asks all holders at once, each for all that it holds.
async fn check(
    endpoint: &Arc<Endpoint>,
    listed: impl IntoIterator<Item = &Listed>,
    progress: Arc<dyn Progress>,
) -> States {
    let mut of_node: BTreeMap<NodeId, (NodeRoute, BTreeSet<ContentId>)> = BTreeMap::new();
    let mut sizes: BTreeMap<ContentId, u64> = BTreeMap::new();
    for listed in listed {
        let Some((content, size)) = listed.row.body.content() else { continue };
        sizes.insert(content, size);
        for holder in &listed.holders {
            let (_, contents) =
                of_node.entry(holder.node).or_insert_with(|| (holder.clone(), BTreeSet::new()));
            contents.insert(content);
        }
    }
    let states = Arc::new(Mutex::new(States::new()));
    let sizes = Arc::new(sizes);
    let mut asking = JoinSet::new();
    for (node, (route, contents)) in of_node {
        let (endpoint, states) = (Arc::clone(endpoint), Arc::clone(&states));
        let (sizes, progress) = (Arc::clone(&sizes), Arc::clone(&progress));
        asking.spawn(async move {
            let contents: Vec<ContentId> = contents.into_iter().collect();
            let told = |content, state, _| {
                progress.advance(sizes.get(&content).copied().unwrap_or(0));
                states.lock().unwrap_or_else(PoisonError::into_inner).insert((node, content), Ok(state));
            };
            if let Err(error) = verify_at(&route, &contents, true, &endpoint, told).await {
                let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
                for content in contents {
                    states.entry((node, content)).or_insert_with(|| Err(error.to_string()));
                }
            }
        });
    }
    while asking.join_next().await.is_some() {}
    let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *states)
}

/// When the holder of `route` last hashed its copy of `content` whole, in wall milliseconds; `None` if
/// it does not tell, or has none.
pub async fn last_verified(session: &Session, route: &NodeRoute, content: ContentId) -> Option<u64> {
    let mut when = None;
    let told =
        |_, state, verified_ms| when = (state == CopyState::Whole && verified_ms > 0).then_some(verified_ms);
    let contents = [content];
    let asked = verify_at(route, &contents, false, session.endpoint(), told);
    match tokio::time::timeout(ANSWER_PATIENCE, asked).await {
        Ok(Ok(())) => when,
        _ => None,
    }
}
