//! `thorp channel`: live state that programs share, from the command line.

use super::send::read_given;
use crate::cli::Context;
use crate::cli::arguments::{ChannelArguments, ChannelCommand, ChannelPostArguments};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{ChannelDocument, ChannelEvent};
use crate::cli::session::{failure_of, with_session};
use crate::client::ClientError;
use crate::client::channel::{Follower, Heard};
use crate::clock;
use crate::types::{ChannelKey, ClientToken};
use crate::wire::channel::{ChannelAsk, ChannelReply, ClientSays};
use serde_json::value::RawValue;

/// Posts, gets or follows.
///
/// # Errors
/// When the body is none, the proxy refuses, or none is found.
pub fn run(context: &Context, arguments: &ChannelArguments) -> Result<Outcome, Failure> {
    match &arguments.command {
        ChannelCommand::Post(post) => {
            let drawn = clock::entropy().map_err(|error| failure_of(ClientError::System(error)))?;
            let ask = ChannelAsk::Post {
                channel: post.channel.clone(),
                body: body(context, post)?.into(),
                says: ClientSays { token: post.client_token, ..ClientSays::default() },
                expiry_ms: post.expire.map(|expire| u64::try_from(expire.as_millis()).unwrap_or(u64::MAX)),
                drawn: ClientToken::from_random(drawn),
            };
            show(context, &ask)
        }
        ChannelCommand::Get(get) => {
            let says = ClientSays::default();
            show(context, &ChannelAsk::Get { channel: get.channel.clone(), says, known: None })
        }
        ChannelCommand::Follow(follow) => follow_channel(context, follow.channel.clone()),
    }
}

fn show(context: &Context, ask: &ChannelAsk) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let answer = session.ask_channels(ask).await.map_err(failure_of)?;
        let nonsense = || failure_of(ClientError::Nonsense);
        let (ChannelReply::Bodies { server_time_ms, token, .. }, list) = answer else {
            return Err(nonsense());
        };
        let clients: Vec<Box<RawValue>> = serde_json::from_slice(&list).map_err(|_| nonsense())?;
        let clients = clients.iter().map(|body| one_line(body.get())).collect();
        let seconds = format!("{}.{:03}", server_time_ms / 1_000, server_time_ms % 1_000);
        let server_time = seconds.parse().unwrap_or_default();
        let document = ChannelDocument { clients, server_time, token: token.map(|token| token.to_string()) };
        context.printer.result(&document, |printer| {
            for body in &document.clients {
                printer.line(printer.name(body.get()));
            }
        });
        Ok(Outcome::Done)
    })
}

fn follow_channel(context: &Context, channel: ChannelKey) -> Result<Outcome, Failure> {
    with_session(context, async |session| {
        let mut follower = Follower::new(session, channel);
        loop {
            let heard = follower.next().await.map_err(failure_of)?;
            for event in events(heard) {
                tell(context, &event);
            }
            if context.printer.is_closed() {
                return Ok(Outcome::Done);
            }
        }
    })
}

/// One line for each.
fn events(heard: Heard) -> Vec<ChannelEvent> {
    match heard {
        Heard::Wait => vec![ChannelEvent::Wait],
        Heard::Changes(changes) if changes.whole => {
            let clients = changes.updates.iter().map(|(_, body)| one_line(body)).collect();
            vec![ChannelEvent::Snapshot { clients }]
        }
        Heard::Changes(changes) => {
            let gone = changes.gone.into_iter().map(|id| ChannelEvent::Gone { client_id: id.to_string() });
            let updates = changes.updates.into_iter();
            gone.chain(updates.map(|(_, body)| ChannelEvent::Update(one_line(&body)))).collect()
        }
    }
}

fn tell(context: &Context, event: &ChannelEvent) {
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(event);
    }
    match event {
        ChannelEvent::Wait => printer.note("there is no proxy now, or it is new: what is known stays"),
        ChannelEvent::Snapshot { clients } => {
            for body in clients {
                printer.line(format_args!("is {}", printer.name(body.get())));
            }
        }
        ChannelEvent::Update(body) => printer.line(format_args!("update {}", printer.name(body.get()))),
        ChannelEvent::Gone { client_id } => printer.line(format_args!("gone {}", printer.name(client_id))),
    }
}

/// Line ends stand only between the parts of a JSON text: a space means the same.
fn one_line(body: &str) -> Box<RawValue> {
    RawValue::from_string(body.replace(['\n', '\r'], " ")).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The object that was given, with this machine's name as its `client_id` if it has none.
fn body(context: &Context, post: &ChannelPostArguments) -> Result<String, Failure> {
    let text = read_given(&post.body)?;
    let example = "an object: thorp channel post KEY '{\"x\": 1}'";
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("the body is no JSON: {error}")).hint(example))?;
    let Some(object) = value.as_object() else {
        return Err(Failure::usage("the body is no JSON object").hint(example));
    };
    if object.contains_key("client_id") {
        return Ok(text);
    }
    let id = serde_json::Value::from(&*context.settings.node.name);
    let rest = text.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if object.is_empty() { "" } else { "," };
    Ok(format!("{{\"client_id\":{id}{comma}{rest}"))
}
