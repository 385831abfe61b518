//! The JSON documents of messages.

use crate::messages::listing::Listed;
use crate::messages::records::Attempt;
use serde::Serialize;
use serde_json::value::RawValue;

/// A message in one of the folders: `thorp inbox`, `thorp list`. Of a file that is no message, what
/// it does not say is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct LetterRow {
    /// The name of its file.
    pub file: String,
    /// Which.
    pub id: Option<String>,
    /// What kind.
    #[serde(rename = "type")]
    pub kind: Option<Box<str>>,
    /// Who sent it.
    pub source: Option<Box<str>>,
    /// The one addressee.
    pub target: Option<Box<str>>,
    /// `high`, `normal` or `low`.
    pub priority: Option<Box<str>>,
    /// RFC 3339.
    pub created_at: Option<Box<str>>,
    /// RFC 3339.
    pub expires_at: Option<Box<str>>,
    /// Any value.
    pub payload: Option<Box<RawValue>>,
    /// Names of stored files.
    pub attachments: Vec<Box<str>>,
    /// What became of its hook.
    pub hook: Option<HookPart>,
    /// Why it is in `failed`.
    pub reason: Option<String>,
}

/// What became of a message's hook.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookPart {
    /// `pending`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// Its runs.
    pub attempts: Vec<Attempt>,
}

impl LetterRow {
    /// Of a file as it was read.
    #[must_use]
    pub fn new(listed: Listed) -> LetterRow {
        let document = listed.document.ok();
        let said = |text: &str| (!text.is_empty()).then(|| Box::<str>::from(text));
        let part = document.as_ref();
        LetterRow {
            file: listed.name,
            id: listed.id.map(|id| id.to_string()),
            kind: part.and_then(|document| said(&document.kind)),
            source: part.and_then(|document| said(&document.source)),
            target: part.and_then(|document| document.target.clone()),
            priority: part.and_then(|document| said(&document.priority)),
            created_at: part.and_then(|document| said(&document.created_at)),
            expires_at: part.and_then(|document| said(&document.expires_at)),
            payload: part.map(|document| document.payload.clone()),
            attachments: document.map(|document| document.attachments).unwrap_or_default(),
            hook: listed
                .hook
                .map(|record| HookPart { state: record.state.as_str(), attempts: record.attempts }),
            reason: listed.reason,
        }
    }
}

/// `thorp retry`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetryDocument {
    /// What is tried again.
    pub retried: Vec<RetriedRow>,
}

/// A message that is tried again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetriedRow {
    /// Which.
    pub id: Option<String>,
    /// The name of its file in `failed`.
    pub file: String,
    /// `outbox`: to be sent; `inbox`: its hook is to be run.
    pub to: &'static str,
}

/// `thorp flush`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlushDocument {
    /// Which folder.
    pub folder: &'static str,
    /// How many messages were removed.
    pub removed: usize,
}
