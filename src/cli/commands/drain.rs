//! `thorp drain`: moves a machine's copies elsewhere, then says that it may be switched off.

use crate::cli::Context;
use crate::cli::arguments::DrainArguments;
use crate::cli::failure::{ExitCode, Failure, Outcome};
use crate::cli::json::DrainDocument;
use crate::cli::session::{failure_of, with_session};
use crate::client::{ClientError, Session};
use crate::clock;
use crate::wire::message::{DrainState, Reply, Request};
use std::time::Duration;

/// How often it is looked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// Begins the drain, or ends it, and waits until nothing needs the machine any more. Where there is
/// nowhere to put the rest, it waits no longer than `--timeout`.
///
/// # Errors
/// When there is no such machine, it is not up, or no proxy is found.
pub fn run(context: &Context, arguments: &DrainArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let mut state = ask(&mut session, arguments).await?;
        let progress = context.printer.wait_progress("waiting for the machine");
        let limit = u64::try_from(context.settings.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut since = clock::now();
        let mut least = u64::MAX;
        loop {
            let moving = !arguments.undo && state.needed > 0;
            if state.draining != arguments.undo && !moving {
                break;
            }
            if state.needed < least {
                (least, since) = (state.needed, clock::now());
            }
            // Copies on their way are waited for; what is stuck, or a node that says nothing, is not.
            let hopeless = !moving || state.stuck >= state.needed || context.timeout_given;
            if hopeless && clock::now().since(since) >= limit {
                break;
            }
            progress.message(&format!("{} files are still to be copied from {}", state.needed, state.name));
            tokio::time::sleep(LOOK_INTERVAL).await;
            state = ask(&mut session, arguments).await?;
        }
        drop(progress);
        let done = state.draining != arguments.undo && state.needed == 0;
        let document = DrainDocument {
            node: state.name.to_string(),
            draining: state.draining,
            needed: state.needed,
            stuck: state.stuck,
        };
        context.printer.result(&document, |printer| {
            let name = printer.name(&document.node);
            match (arguments.undo, done) {
                (false, true) => printer
                    .line(format_args!("{name} may be switched off: every file has its copies elsewhere")),
                (true, true) => printer.line(format_args!("{name} stays, and takes copies again")),
                (false, false) => printer.line(format_args!(
                    "{name} is being drained, but {} contents would have fewer copies than asked for without it; for {} \
                     of them there is no other machine that could take one",
                    document.needed, document.stuck
                )),
                (true, false) => printer.line(format_args!("{name} has not confirmed yet; ask again")),
            }
        });
        Ok(if done { Outcome::Done } else { Outcome::Fewer })
    })
}

async fn ask(session: &mut Session, arguments: &DrainArguments) -> Result<DrainState, Failure> {
    let request = Request::Drain { node: arguments.node.clone(), undo: arguments.undo };
    let asked = session.ask(&request).await.map_err(failure_of);
    let machines = "`thorp status` shows the machines";
    match asked.map_err(|failure| failure.hint_if(ExitCode::NotFound, machines))? {
        Reply::Drain(state) => Ok(state),
        _ => Err(failure_of(ClientError::Nonsense)),
    }
}
