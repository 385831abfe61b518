//! On all machines that allow it, at once: names before lines, and a summary of exit codes.

use super::console::{Lent, Sink, lend};
use super::place::Place;
use super::{code_of, failure, start};
use crate::cli::Context;
use crate::cli::arguments::RunArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::session::failure_of;
use crate::client::Session;
use crate::client::run::{RunError, RunEvent, Target, Wanted};
use crate::wire::run::JobEnd;
use std::ffi::OsString;
use tokio::task::JoinSet;

/// Asks all nodes that are up the same at once.
pub(in crate::cli::commands) async fn ask_all<T, F>(
    session: &mut Session,
    ask: impl Fn(Target) -> F,
) -> Result<Vec<(Target, Result<T, RunError>)>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RunError>> + Send + 'static,
{
    let targets = session.targets().await.map_err(failure_of)?;
    let mut asked = JoinSet::new();
    for target in targets {
        let answer = ask(target.clone());
        asked.spawn(async move { (target, answer.await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|(a, _), (b, _)| a.route.name.cmp(&b.route.name));
    Ok(answers)
}

pub(super) async fn run(
    context: &Context,
    arguments: &RunArguments,
    session: &mut Session,
    place: &Place,
    variables: &[(OsString, OsString)],
) -> Result<Outcome, Failure> {
    if arguments.detach || !arguments.get.is_empty() {
        return Err(Failure::usage("`--detach` and `--get` go with one machine"));
    }
    let (mut targets, mut denied) = (Vec::new(), None);
    for (target, idle) in ask_all(session, |target| async move { target.idle().await }).await? {
        match idle {
            Ok(_) => targets.push(target),
            Err(error) => {
                context.printer.note(format_args!("left out: {}", crate::documents::chain(&error)));
                denied = Some(error);
            }
        }
    }
    if targets.is_empty() {
        return Err(denied.map_or_else(|| Failure::not_found("no machine is up"), |error| failure(&error)));
    }
    let widest = targets.iter().map(|target| target.route.name.chars().count()).max().unwrap_or(0);
    let mut running = JoinSet::new();
    for target in targets {
        place.sync(context, arguments, &target).await?;
        let start = start(arguments, place, variables)?;
        let lent = Lent { input: false, signals: true, terminal: false };
        let name = context.printer.name(&target.route.name).into_owned();
        let sink = Sink::named(&format!("{name:widest$}"));
        let lending = lend(lent, sink, |_: &RunEvent| {});
        let (console, lending) = lending
            .map_err(|error| Failure::failed(format!("the standard streams cannot be used: {error}")))?;
        running.spawn(async move {
            let ended = target.follow(Wanted::Start(Box::new(start)), console).await;
            lending.finish();
            (name, ended)
        });
    }
    let mut ended = running.join_all().await;
    ended.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut worst = 0;
    for (name, ended) in ended {
        let (code, words) = match ended {
            Ok(end) => (code_of(&end), words(&end)),
            Err(error) => (failure(&error).code as u8, crate::documents::chain(&error)),
        };
        worst = worst.max(code);
        context.printer.note(format_args!("{name}: {words}"));
    }
    Ok(Outcome::Program(worst))
}

fn words(end: &JobEnd) -> String {
    match end {
        JobEnd::Exited(code) => format!("ended with {code}"),
        JobEnd::Signalled(signal) => format!("ended by signal {signal}"),
        JobEnd::NotStarted(_, why) => format!("not started: {why}"),
        JobEnd::Lost => "its node was stopped".to_owned(),
    }
}
