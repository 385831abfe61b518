//! `thorp replicas`: shows or sets how many copies a file has.

use crate::cli::Context;
use crate::cli::arguments::ReplicasArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{FileRow, NodeNames};
use crate::cli::session::{failure_of, with_session};
use crate::client::get::Listed;
use crate::client::{ClientError, Session};
use crate::clock;
use crate::types::FileName;
use crate::wire::message::{FileState, Reply, Request, Selector};
use std::time::Duration;

/// How often it is looked whether the count is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Shows the row, or sets the wanted count and, with `--wait`, waits until it is true.
///
/// # Errors
/// When there is no such file, or no proxy is found.
pub fn run(context: &Context, arguments: &ReplicasArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let printer = &context.printer;
        let mut row = match arguments.count {
            Some(count) => set(context, &mut session, &arguments.name, count).await?,
            None => look(&mut session, &arguments.name).await?,
        };
        if arguments.wait {
            row = wait(context, &mut session, row).await?;
        }
        printer.result(&row, |printer| {
            let name = printer.name(&row.name);
            let nodes: Vec<_> = row.nodes.iter().map(|node| printer.name(node)).collect();
            let on = if nodes.is_empty() { "no machine".to_owned() } else { nodes.join(", ") };
            printer.line(format_args!(
                "{name}: {} of {} copies, on {on} ({})",
                row.replicas, row.replicas_wanted, row.state
            ));
        });
        let fewer = row.replicas < usize::from(row.replicas_wanted);
        let matters = (arguments.strict && fewer) || (arguments.wait && !is_true(&row));
        Ok(if matters { Outcome::Fewer } else { Outcome::Done })
    })
}

async fn look(session: &mut Session, name: &FileName) -> Result<FileRow, Failure> {
    let rows = session.list(&Selector::Name(name.clone())).await.map_err(failure_of)?;
    match rows.first() {
        Some(listed) => Ok(super::ls::row(listed)),
        None => Err(failure_of(ClientError::Nonsense)),
    }
}

async fn set(
    context: &Context,
    session: &mut Session,
    name: &FileName,
    count: u8,
) -> Result<FileRow, Failure> {
    let request = Request::SetReplicas { name: name.clone(), replicas: count };
    let reply = session.ask(&request).await.map_err(failure_of)?;
    let Reply::ReplicasSet { row, nodes, before, machines } = reply else {
        return Err(failure_of(ClientError::Nonsense));
    };
    let printer = &context.printer;
    if before == count {
        printer.note(format_args!("{count} copies were wanted already"));
    }
    if u32::from(count) > machines {
        printer.warning(format_args!(
            "there are only {machines} machines that store files now; the other copies follow when machines join"
        ));
    }
    let holders = session.localise(nodes);
    let listed = Listed { row, holders };
    Ok(FileRow::new(&listed.row, &NodeNames::new(&listed.holders)))
}

fn is_true(row: &FileRow) -> bool {
    row.state == crate::cli::json::file_state(FileState::Ok)
}

/// Waits while copies are being made or removed; where there is nowhere to put more, and for a
/// limit that was given, only as long as `--timeout`.
async fn wait(context: &Context, session: &mut Session, first: FileRow) -> Result<FileRow, Failure> {
    let name = FileName::parse(&first.name).map_err(|error| Failure::failed(error.to_string()))?;
    let progress = context.printer.wait_progress("waiting for the copies");
    let limit = u64::try_from(context.settings.timeout.as_millis()).unwrap_or(u64::MAX);
    let mut since = clock::now();
    let mut row = first;
    loop {
        if is_true(&row) {
            return Ok(row);
        }
        let idle = row.state != crate::cli::json::file_state(FileState::Healing);
        if !idle && !context.timeout_given {
            since = clock::now();
        }
        if clock::now().since(since) >= limit {
            return Ok(row);
        }
        progress
            .message(&format!("waiting: {} of {} copies of {}", row.replicas, row.replicas_wanted, row.name));
        tokio::time::sleep(LOOK_INTERVAL).await;
        row = look(session, &name).await?;
    }
}
