//! `GET /api/files`: what is stored, or in the trash, in pages. Shell.
//!
//! Invariant: only the rows of the page, and those before it, are ever kept; the rest is counted.

use super::super::Web;
use super::super::refusal::{Refusal, json};
use super::{flag, parameters};
use crate::client::get::Listed;
use crate::documents::{FileRow, NodeNames, RemovedRow};
use crate::limits::{HTTP_LIST_DEFAULT, HTTP_LIST_MAX, HTTP_LIST_OFFSET_MAX};
use crate::wire::message::Selector;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// Rows that are taken before those that cannot be on the page go.
const ROWS_BETWEEN_CUTS: usize = 4_096;

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    prefix: String,
    search: String,
    sort: Sort,
    order: Order,
    limit: usize,
    offset: usize,
    #[serde(deserialize_with = "flag")]
    removed: bool,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            prefix: String::new(),
            search: String::new(),
            sort: Sort::Name,
            order: Order::Asc,
            limit: HTTP_LIST_DEFAULT,
            offset: 0,
            removed: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Name,
    Bytes,
    Modified,
    Copies,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// The answer.
#[derive(Debug, Serialize)]
struct ListDocument<Row> {
    files: Vec<Row>,
    total: usize,
}

/// `GET /api/files`.
pub(in crate::web) async fn list(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Refusal> {
    let asked: Parameters = parameters(&uri)?;
    if !(1..=HTTP_LIST_MAX).contains(&asked.limit) {
        return Err(Refusal::invalid(format!("`limit` is 1 to {HTTP_LIST_MAX}")));
    }
    if asked.offset > HTTP_LIST_OFFSET_MAX {
        let message = format!("`offset` is at most {HTTP_LIST_OFFSET_MAX}: ask for a `prefix` or `search`");
        return Err(Refusal::invalid(message));
    }
    let prefix = asked.prefix.as_str().into();
    let selector = if asked.removed { Selector::Removed(prefix) } else { Selector::Prefix(prefix) };
    let mut page = Page::new(asked);
    web.sessions.each(&selector, |listed| page.take(listed)).await?;
    let (rows, total, removed) = page.end();
    Ok(if removed {
        let row = |listed: &Listed| RemovedRow::new(&listed.row, &NodeNames::new(&listed.holders));
        json(StatusCode::OK, &ListDocument { files: rows.iter().map(row).collect(), total })
    } else {
        let row = |listed: &Listed| -> FileRow { super::row(listed) };
        json(StatusCode::OK, &ListDocument { files: rows.iter().map(row).collect(), total })
    })
}

/// The best rows so far.
struct Page {
    asked: Parameters,
    search: String,
    rows: Vec<Listed>,
    total: usize,
}

impl Page {
    fn new(asked: Parameters) -> Page {
        Page { search: asked.search.to_lowercase(), asked, rows: Vec::new(), total: 0 }
    }

    /// Rows that can still be on the page.
    fn wanted(&self) -> usize {
        self.asked.offset.saturating_add(self.asked.limit)
    }

    fn take(&mut self, listed: Listed) {
        if !self.search.is_empty() && !listed.row.name.as_str().to_lowercase().contains(&self.search) {
            return;
        }
        self.total += 1;
        self.rows.push(listed);
        // Sorted now and then, not for each row; what is sorted already costs little then.
        if self.rows.len() >= self.wanted().saturating_add(ROWS_BETWEEN_CUTS) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let (sort, order) = (self.asked.sort, self.asked.order);
        self.rows.sort_by(|a, b| compare(a, b, sort, order));
        self.rows.truncate(self.wanted());
    }

    fn end(mut self) -> (Vec<Listed>, usize, bool) {
        self.cut();
        let first = self.asked.offset.min(self.rows.len());
        (self.rows.split_off(first), self.total, self.asked.removed)
    }
}

/// Equal ones are in the order of names, whatever the order.
fn compare(a: &Listed, b: &Listed, sort: Sort, order: Order) -> Ordering {
    let bytes = |listed: &Listed| listed.row.body.content().map_or(0, |(_, size)| size);
    let by_name = a.row.name.cmp(&b.row.name);
    let by = match sort {
        Sort::Name => by_name,
        Sort::Bytes => bytes(a).cmp(&bytes(b)),
        Sort::Modified => a.row.modified_ns.cmp(&b.row.modified_ns),
        Sort::Copies => a.row.holders.len().cmp(&b.row.holders.len()),
    };
    match order {
        Order::Asc => by,
        Order::Desc => by.reverse(),
    }
    .then(by_name)
}
