//! `thorp send`: sends a message to other machines.

use super::put::item;
use crate::cli::Context;
use crate::cli::arguments::SendArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{SendAddressee, SendDocument};
use crate::cli::session::{failure_of, with_own_session};
use crate::client::put::{PutKind, put};
use crate::client::{ClientError, Session};
use crate::clock;
use crate::documents::chain;
use crate::limits::{LETTER_ATTACHMENTS_MAX, LETTER_LIVES_DEFAULT, LETTER_PAYLOAD_BYTES_MAX};
use crate::messages::folders::Folders;
use crate::messages::letter_file::{Document, file_name};
use crate::types::{FileName, Letter, LetterId, NewLetter};
use crate::wire::mail::PostedLetter;
use crate::wire::message::{ErrorCode, Reply, Request};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Sends the message and says who has it.
///
/// # Errors
/// When the payload is no JSON or too large, nobody of that name was ever seen, or no node is found.
pub fn run(context: &Context, arguments: &SendArguments) -> Result<Outcome, Failure> {
    let payload = payload(arguments.payload.as_deref())?;
    if arguments.attach.len() > LETTER_ATTACHMENTS_MAX {
        return Err(Failure::usage(format!("a message takes at most {LETTER_ATTACHMENTS_MAX} files"))
            .hint("`thorp put` a folder and send its name"));
    }
    let id = LetterId::from_random(clock::entropy().map_err(|error| Failure::failed(error.to_string()))?);
    with_own_session(context, async |mut session| {
        let attachments = attach(context, &session, id, &arguments.attach).await?;
        let letter = NewLetter {
            id,
            kind: arguments.kind.clone(),
            target: arguments.target.clone(),
            priority: arguments.priority,
            lives_ms: millis(arguments.expires.unwrap_or(LETTER_LIVES_DEFAULT)),
            payload: payload.into(),
            attachments,
        };
        let request = Request::Post {
            sender: session.node(),
            source: context.settings.node.name.clone(),
            letters: vec![letter],
            wait_ms: if arguments.wait { millis(context.settings.timeout) } else { 0 },
        };
        match session.ask(&request).await {
            Ok(Reply::Posted { letters }) => {
                if session.is_of_node() {
                    keep_sent(context, &request);
                }
                conclude(context, arguments, &letters)
            }
            Ok(_) => Err(failure_of(ClientError::Nonsense)),
            Err(ClientError::Refused { code: ErrorCode::NotFound, message }) => {
                Err(Failure::from_reply(ErrorCode::NotFound, &message).hint(
                    "leave out `--target` to reach all; a machine is known once it was part of the cluster",
                ))
            }
            Err(error) => Err(failure_of(error)),
        }
    })
}

/// What the node of this folder sent is kept in `sent/`, as what came from its outbox is.
fn keep_sent(context: &Context, request: &Request) {
    let Request::Post { letters, source, .. } = request else { return };
    let folders = Folders::at(&context.settings.data_dir);
    for new in letters {
        let created_us = clock::wall_us();
        let letter = Letter {
            id: new.id,
            kind: new.kind.clone(),
            source: source.clone(),
            target: new.target.clone(),
            created_us,
            expires_ms: (created_us / 1_000).saturating_add(new.lives_ms),
            payload: new.payload.clone(),
            attachments: new.attachments.clone(),
            addressees: Vec::new(),
        };
        let kept = folders.move_to_sent(&file_name(created_us, new.id), &Document::of(new.priority, &letter));
        if let Err(error) = kept {
            context.printer.warning(format_args!("it is sent, but cannot be kept in `sent`: {error}"));
        }
    }
}

fn conclude(
    context: &Context,
    arguments: &SendArguments,
    letters: &[PostedLetter],
) -> Result<Outcome, Failure> {
    let Some(letter) = letters.first() else { return Err(failure_of(ClientError::Nonsense)) };
    let document = SendDocument {
        id: letter.id.to_string(),
        addressees: letter
            .addressees
            .iter()
            .map(|to| SendAddressee {
                node: to.node.to_string(),
                name: to.name.to_string(),
                up: to.up,
                delivered: to.delivered,
            })
            .collect(),
    };
    let (printer, all) = (&context.printer, document.addressees.len());
    let delivered = document.addressees.iter().filter(|to| to.delivered).count();
    printer.result(&document, |printer| match all {
        0 => printer.line(format_args!("{} sent, to nobody: no other machine is known", document.id)),
        _ if arguments.wait => {
            printer.line(format_args!("{} sent; {delivered} of {all} have it", document.id));
        }
        1 => printer.line(format_args!(
            "{} sent to {}",
            document.id,
            printer.name(&document.addressees[0].name)
        )),
        _ => printer.line(format_args!("{} sent to {all} machines", document.id)),
    });
    let away: Vec<String> =
        document.addressees.iter().filter(|to| !to.up).map(|to| printer.name(&to.name).to_string()).collect();
    if !away.is_empty() {
        let verb = if away.len() == 1 { "is not up: it finds" } else { "are not up: they find" };
        printer.warning(format_args!("{} {verb} the message when back", away.join(", ")));
    }
    let missing = arguments.wait && document.addressees.iter().any(|to| to.up && !to.delivered);
    if missing {
        printer.warning("not every machine that is up has it yet; it follows");
        return Ok(Outcome::Fewer);
    }
    Ok(Outcome::Done)
}

/// The JSON text that was given: itself, in a file, or on standard input.
fn payload(given: Option<&str>) -> Result<String, Failure> {
    let text = given.map_or_else(|| Ok("{}".to_owned()), read_given)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("the payload is no JSON: {error}"))
            .hint("text needs its own quotes: --payload '\"hello\"'; an object: --payload '{\"a\": 1}'")
    })?;
    // Kept as it was written but for the space around it: numbers of any length stay what they are.
    drop(value);
    let text = text.trim();
    if text.len() > LETTER_PAYLOAD_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the payload has {} bytes; a message takes at most {LETTER_PAYLOAD_BYTES_MAX}",
            text.len()
        ))
        .hint("`thorp put` it as a file and send its name, or use `--attach FILE`, which does both"));
    }
    Ok(text.to_owned())
}

/// What was given: itself, `@` and a file, or `-` for standard input.
pub(super) fn read_given(given: &str) -> Result<String, Failure> {
    if given == "-" {
        return read("standard input", std::io::stdin().lock());
    }
    let Some(path) = given.strip_prefix('@') else { return Ok(given.to_owned()) };
    let file =
        std::fs::File::open(path).map_err(|error| Failure::local_file("read", Path::new(path), &error))?;
    read(path, file)
}

fn read(what: &str, from: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // Far more than is allowed, so that the message can tell a little too much from a mistake.
    from.take(64 * LETTER_PAYLOAD_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local_file("read", Path::new(what), &error))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("`{what}` is not UTF-8 text, so no JSON")))
}

/// Stores the files that go with a message under names of its own.
async fn attach(
    context: &Context,
    session: &Session,
    id: LetterId,
    paths: &[std::path::PathBuf],
) -> Result<Vec<FileName>, Failure> {
    let mut items = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| Failure::local_file("read", path, &error))?;
        if !metadata.is_file() {
            return Err(Failure::usage(format!("`{}` is no file", path.display()))
                .hint("`thorp put` a folder and send its name"));
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = FileName::parse(&format!("messages/{id}/{file}"))
            .map_err(|error| Failure::usage(format!("`{}` cannot be attached: {error}", path.display())))?;
        let what = PutKind::File { path: path.clone(), size: metadata.len() };
        items.push(item(name, what, &metadata));
    }
    let names: Vec<FileName> = items.iter().map(|item| item.name.clone()).collect();
    if items.is_empty() {
        return Ok(names);
    }
    let (report, ended) = put(session, items, context.settings.replicas, Arc::new(|_: u64| ())).await;
    ended.map_err(failure_of)?;
    match report.failed.into_iter().next() {
        Some(failed) => Err(Failure::failed(chain(&failed.error))),
        None => Ok(names),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
