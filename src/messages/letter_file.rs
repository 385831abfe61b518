//! A letter as a file: its JSON document, its name, and how what users write is read.
//!
//! Invariants: a file's name sorts by the time of sending and holds the id, so the name alone says
//! which letter it is; a document that we write is JSON whatever a peer sent as payload; what a
//! user's document says is checked in full before anything is done with it.

use crate::clock::{civil_from_days, days_from_civil};
use crate::limits::{
    LETTER_ATTACHMENTS_MAX, LETTER_LIVES_DEFAULT, LETTER_LIVES_MAX, LETTER_PAYLOAD_BYTES_MAX,
    LETTER_TYPE_BYTES_MAX,
};
use crate::types::{FileName, Letter, LetterId, LetterType, Priority, is_label};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// How the name of every file of a letter ends.
pub const EXTENSION: &str = ".json";
/// Last microsecond whose year has four digits.
const STAMP_US_MAX: u64 = 253_402_300_799_999_999;

/// The document of a letter, as thorp writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document {
    /// Which.
    #[serde(default)]
    pub id: Box<str>,
    /// What kind.
    #[serde(rename = "type", default)]
    pub kind: Box<str>,
    /// Display name of the sender.
    #[serde(default)]
    pub source: Box<str>,
    /// Display name of the one addressee.
    #[serde(default)]
    pub target: Option<Box<str>>,
    /// `high`, `normal` or `low`.
    #[serde(default)]
    pub priority: Box<str>,
    /// RFC 3339, UTC, microseconds.
    #[serde(default)]
    pub created_at: Box<str>,
    /// The same.
    #[serde(default)]
    pub expires_at: Box<str>,
    /// Any value.
    #[serde(default = "no_payload")]
    pub payload: Box<RawValue>,
    /// Names of files of the cluster that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Box<str>>,
}

impl Document {
    /// Of a letter that came.
    #[must_use]
    pub fn of(priority: Priority, letter: &Letter) -> Document {
        Document {
            id: letter.id.to_string().into(),
            kind: letter.kind.as_str().into(),
            source: letter.source.clone(),
            target: letter.target.clone(),
            priority: priority.as_str().into(),
            created_at: format_time(letter.created_us).into(),
            expires_at: format_time(letter.expires_ms.saturating_mul(1_000)).into(),
            payload: raw(&letter.payload),
            attachments: letter.attachments.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    /// Its text, in one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Every part can be written, so this cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what thorp, or something like it, wrote; what is missing is empty.
    ///
    /// # Errors
    /// When it is no JSON object, or a value in it is of another kind.
    pub fn parse(text: &[u8]) -> Result<Document, LetterFileError> {
        serde_json::from_slice(text).map_err(LetterFileError::NoJson)
    }
}

fn no_payload() -> Box<RawValue> {
    raw("{}")
}

/// A payload from a peer: what is no JSON becomes a JSON string, so that the document stays whole.
fn raw(text: &str) -> Box<RawValue> {
    let whole = compact(text);
    let parsed = RawValue::from_string(whole).or_else(|_| serde_json::value::to_raw_value(text));
    parsed.unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// JSON text without white space between its parts; numbers and the order of keys stay.
fn compact(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        if in_string {
            in_string = escaped || *character != '"';
            escaped = !escaped && *character == '\\';
            return true;
        }
        in_string = *character == '"';
        !matches!(character, ' ' | '\n' | '\r' | '\t')
    };
    text.chars().filter(keep).collect()
}

/// What a user's file asks to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// If the user chose one.
    pub id: Option<LetterId>,
    /// What kind.
    pub kind: LetterType,
    /// Display name or id of the one addressee.
    pub target: Option<Box<str>>,
    /// How urgent.
    pub priority: Priority,
    /// How long it is of use, in milliseconds.
    pub lives_ms: u64,
    /// JSON text of any value, without white space between its parts.
    pub payload: Box<str>,
    /// Names of files of the cluster.
    pub attachments: Vec<FileName>,
}

/// Why a file is no letter: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LetterFileError {
    /// Not a JSON object, or not whole.
    #[error(
        "it is no JSON document of a message: {0}; write one object such as {{\"type\":\"hello\",\"payload\":{{}}}}"
    )]
    NoJson(#[source] serde_json::Error),
    /// Nothing in it.
    #[error("the file is empty; write one JSON object such as {{\"type\":\"hello\",\"payload\":{{}}}}")]
    Empty,
    /// No `type`.
    #[error("the key `type` is missing; name the kind of message, such as \"type\":\"hello\"")]
    NoType,
    /// A `type` that is none.
    #[error(
        "`{0}` is no type: a type names a hook, so it has letters, digits, `.`, `_` and `-`, begins with a letter or \
         a digit and has at most {LETTER_TYPE_BYTES_MAX} bytes; choose another"
    )]
    Type(Box<str>),
    /// A `type` of thorp's own.
    #[error("types that begin with `thorp.` are thorp's own events; choose another type than `{0}`")]
    Reserved(Box<str>),
    /// An `id` that is no UUID.
    #[error("`{0}` is no UUID; leave out the key `id`, and one is chosen")]
    Id(Box<str>),
    /// A `target` that can be no name.
    #[error("the target can be no machine's name; use a name that `thorp status` shows, or null for all")]
    Target,
    /// A `priority` that is none.
    #[error("`{0}` is no priority; use high, normal or low")]
    Priority(Box<str>),
    /// An `expires` that is no duration.
    #[error(
        "`expires` is no duration; use text such as \"30s\", \"12h\" or \"7d\", or milliseconds, at most {} days",
        LETTER_LIVES_MAX.as_secs() / 86_400
    )]
    Expires,
    /// The payload is too large.
    #[error(
        "it is too large: a payload has at most {LETTER_PAYLOAD_BYTES_MAX} bytes; store the data with `thorp put FILE` \
         and send its name, or let `thorp send --attach FILE` do both"
    )]
    TooLarge,
    /// Nested deeper than programs can read.
    #[error("the payload cannot be used: {0}; make it flatter")]
    Payload(#[source] serde_json::Error),
    /// Attachments that are none.
    #[error(
        "`attachments` is no list of at most {LETTER_ATTACHMENTS_MAX} names of stored files; use names that `thorp ls` shows"
    )]
    Attachments,
    /// It cannot be read.
    #[error("it cannot be read: {0}; look at who owns it and its permissions")]
    Unreadable(#[source] std::io::Error),
}

/// What a user writes. Keys of our own documents that the node decides are not in it, so they are
/// ignored; so are unknown ones, which other programs use.
#[derive(Deserialize)]
struct Written {
    id: Option<Box<str>>,
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
    target: Option<Box<str>>,
    priority: Option<Box<str>>,
    expires: Option<serde_json::Value>,
    #[serde(default = "no_payload")]
    payload: Box<RawValue>,
    attachments: Option<Vec<Box<str>>>,
}

/// Reads what a user put into the outbox.
///
/// # Errors
/// What is wrong with it.
pub fn parse_outgoing(text: &[u8]) -> Result<Outgoing, LetterFileError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(LetterFileError::Empty);
    }
    let written: Written = serde_json::from_slice(text).map_err(LetterFileError::NoJson)?;
    let kind = written.kind.ok_or(LetterFileError::NoType)?;
    let kind = LetterType::parse(&kind).ok_or_else(|| LetterFileError::Type(shown(&kind)))?;
    if kind.is_own() {
        return Err(LetterFileError::Reserved(kind.as_str().into()));
    }
    let id = written.id.map(|id| LetterId::parse(&id).ok_or_else(|| LetterFileError::Id(shown(&id))));
    if written.target.as_deref().is_some_and(|target| !is_label(target)) {
        return Err(LetterFileError::Target);
    }
    let priority = written.priority.map_or(Ok(Priority::default()), |word| {
        Priority::parse(&word).ok_or_else(|| LetterFileError::Priority(shown(&word)))
    })?;
    Ok(Outgoing {
        id: id.transpose()?,
        kind,
        target: written.target,
        priority,
        lives_ms: lives(written.expires.as_ref())?,
        payload: payload(written.payload.get())?,
        attachments: attachments(&written.attachments.unwrap_or_default())?,
    })
}

/// A payload as it is sent: checked, and without white space between its parts.
fn payload(text: &str) -> Result<Box<str>, LetterFileError> {
    let text = compact(text);
    if text.len() > LETTER_PAYLOAD_BYTES_MAX {
        return Err(LetterFileError::TooLarge);
    }
    // Raw text may be nested to any depth; values may not, and those who get it read values.
    serde_json::from_str::<serde_json::Value>(&text).map_err(LetterFileError::Payload)?;
    Ok(text.into())
}

fn attachments(names: &[Box<str>]) -> Result<Vec<FileName>, LetterFileError> {
    if names.len() > LETTER_ATTACHMENTS_MAX {
        return Err(LetterFileError::Attachments);
    }
    names.iter().map(|name| FileName::parse(name).map_err(|_| LetterFileError::Attachments)).collect()
}

/// How long it is of use, in milliseconds.
fn lives(expires: Option<&serde_json::Value>) -> Result<u64, LetterFileError> {
    let most = ms(LETTER_LIVES_MAX);
    let lives = match expires {
        None | Some(serde_json::Value::Null) => Some(ms(LETTER_LIVES_DEFAULT)),
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => duration_ms(text),
        Some(_) => None,
    };
    lives.filter(|lives| (1..=most).contains(lives)).ok_or(LetterFileError::Expires)
}

fn duration_ms(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match text[at..].trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    text[..at].parse::<u64>().ok()?.checked_mul(unit)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The start of what a user wrote, to be quoted.
fn shown(text: &str) -> Box<str> {
    text.chars().take(80).collect::<String>().into()
}

/// Microseconds since 1970 as RFC 3339 in UTC: `2024-02-29T12:00:00.000001Z`.
#[must_use]
pub fn format_time(us: u64) -> String {
    let Parts { year, month, day, hour, minute, second, us } = Parts::of(us);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

/// The name of a letter's file: its time of sending, and its id.
#[must_use]
pub fn file_name(created_us: u64, id: LetterId) -> String {
    let Parts { year, month, day, hour, minute, second, us } = Parts::of(created_us);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{us:06}Z_{id}{EXTENSION}")
}

/// Reads a name as [`file_name`] makes it: time of sending in microseconds, and id.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(u64, LetterId)> {
    let (stamp, id) = name.strip_suffix(EXTENSION)?.split_once('_')?;
    let id = LetterId::parse(id).filter(|_| id.len() == 36)?;
    let marks = [(8, b'T'), (15, b'.'), (22, b'Z')];
    if stamp.len() != 23 || marks.iter().any(|(at, mark)| stamp.as_bytes()[*at] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = stamp.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let days = days_from_civil(number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let seconds = days * 86_400 + number(9, 11)? * 3_600 + number(11, 13)? * 60 + number(13, 15)?;
    let us = u64::try_from(seconds * 1_000_000 + number(16, 22)?).ok()?;
    // The thirteenth month and its like are not what we write.
    (file_name(us, id) == name).then_some((us, id))
}

struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: u64,
    minute: u64,
    second: u64,
    us: u64,
}

impl Parts {
    fn of(us: u64) -> Parts {
        let us = us.min(STAMP_US_MAX);
        let seconds = us / 1_000_000;
        let (year, month, day) = civil_from_days(i64::try_from(seconds / 86_400).unwrap_or(0));
        let second = seconds % 86_400;
        Parts {
            year,
            month,
            day,
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
            us: us % 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse_outgoing(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn names_hold_time_and_id_and_sort_by_time() {
        let id = LetterId::from_random([7; 16]);
        let name = file_name(1_709_208_000_000_001, id);
        assert_eq!(name, format!("20240229T120000.000001Z_{id}.json"));
        assert_eq!(format_time(1_709_208_000_000_001), "2024-02-29T12:00:00.000001Z");
        for us in [0, 1, 999_999, 1_000_000, 1_709_208_000_000_001, 1_709_208_000_000_002, STAMP_US_MAX] {
            assert_eq!(parse_file_name(&file_name(us, id)), Some((us, id)));
            assert!(us == 0 || file_name(us - 1, id) < file_name(us, id));
        }
        assert_eq!(file_name(u64::MAX, id), file_name(STAMP_US_MAX, id));
        let bad = ["", "x.json", "20240229T120000_07070707-0707-4707-8707-070707070707.json"];
        for bad in bad.into_iter().chain([&*name.replace("0229", "1329"), &*name.replace("T12", "T99")]) {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_document_says_everything_and_is_always_json() {
        let mut letter = Letter {
            id: LetterId::from_random([1; 16]),
            kind: LetterType::parse("hello").expect("a type"),
            source: "a \"b\"".into(),
            target: None,
            created_us: 1_709_208_000_000_001,
            expires_ms: 1_709_208_001_000,
            payload: r#"{ "b": 12345678901234567890123, "a": " x\" " }"#.into(),
            attachments: vec![],
            addressees: vec![],
        };
        let text = Document::of(Priority::High, &letter).to_text();
        let expected = concat!(
            r#"{"id":"01010101-0101-4101-8101-010101010101","type":"hello","source":"a \"b\"","target":null,"#,
            r#""priority":"high","created_at":"2024-02-29T12:00:00.000001Z","expires_at":"2024-02-29T12:00:01.000000Z","#,
            r#""payload":{"b":12345678901234567890123,"a":" x\" "}}"#,
            "\n"
        );
        assert_eq!(text, expected);
        assert_eq!(Document::parse(text.as_bytes()).expect("a document").to_text(), text);
        letter.payload = "{\"half".into();
        let text = Document::of(Priority::High, &letter).to_text();
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["payload"], "{\"half");
    }

    #[test]
    fn what_users_write_is_read() {
        let least = parse_outgoing(br#"{"type":"hello"}"#).expect("valid");
        assert_eq!((&*least.payload, least.priority, least.id), ("{}", Priority::Normal, None));
        assert_eq!(least.lives_ms, 7 * 86_400_000);
        let text = r#"{"id":"6f9619ff-8b86-4011-b42d-00c04fc964ff","type":"a.b","source":"x","target":"nas",
            "priority":"low","created_at":"2024-01-01T00:00:00.000000+00:00","expires":"2h","payload":[1, 2.50],
            "attachments":["a/b"],"more":{}}"#;
        let all = parse_outgoing(text.as_bytes()).expect("valid");
        assert_eq!(
            (&*all.payload, all.target.as_deref(), all.lives_ms),
            ("[1,2.50]", Some("nas"), 7_200_000)
        );
        assert_eq!((all.priority, all.attachments.len()), (Priority::Low, 1));
        assert_eq!(parse_outgoing(br#"{"type":"a","expires":1500}"#).expect("valid").lives_ms, 1_500);
        assert_eq!(&*parse_outgoing(br#"{"type":"a","payload":null}"#).expect("valid").payload, "null");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let large = format!(r#"{{"type":"a","payload":"{}"}}"#, "x".repeat(LETTER_PAYLOAD_BYTES_MAX));
        let deep = format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        for (text, word) in [
            ("", "empty"),
            (" \n", "empty"),
            ("{\"type\":", "no JSON"),
            ("[1]", "no JSON"),
            ("{\"type\":1}", "no JSON"),
            ("\u{0}", "no JSON"),
            ("{}", "`type` is missing"),
            (r#"{"type":"../../bin/x"}"#, "`../../bin/x` is no type"),
            (r#"{"type":"thorp.node.lost"}"#, "thorp's own"),
            (r#"{"type":"a","id":"1"}"#, "UUID"),
            (r#"{"type":"a","target":"a\nb"}"#, "target"),
            (r#"{"type":"a","priority":"urgent"}"#, "high, normal or low"),
            (r#"{"type":"a","expires":"soon"}"#, "31 days"),
            (r#"{"type":"a","expires":"32d"}"#, "31 days"),
            (r#"{"type":"a","expires":-1}"#, "31 days"),
            (r#"{"type":"a","attachments":["../x"]}"#, "attachments"),
            (&large, "thorp put"),
            (&deep, "flatter"),
        ] {
            let message = refused(text);
            assert!(message.contains(word), "{message}");
        }
    }
}
