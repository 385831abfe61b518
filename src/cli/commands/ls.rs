//! `thorp ls`: what is stored, in how many copies, and where.

use crate::cli::Context;
use crate::cli::arguments::LsArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{FileRow, NodeNames, RemovedRow};
use crate::cli::printer::{Printer, Style};
use crate::cli::session::{failure_of, with_session};
use crate::cli::table::{Align, Table};
use crate::cli::units::format_bytes;
use crate::client::Session;
use crate::client::get::Listed;
use crate::types::Body;
use crate::wire::message::Selector;

/// Lists all names that start with the prefix.
///
/// # Errors
/// When no proxy is found.
pub fn run(context: &Context, arguments: &LsArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let prefix = arguments.prefix.clone().unwrap_or_default();
        if arguments.removed {
            return removed(context, &mut session, prefix).await;
        }
        let listed = session.list(&Selector::Prefix(prefix)).await.map_err(failure_of)?;
        let rows: Vec<FileRow> = listed.iter().map(row).collect();
        context.printer.result(&rows, |printer| {
            if rows.is_empty() {
                context.printer.note(match &arguments.prefix {
                    Some(_) => "nothing is stored under such a name",
                    None => "nothing is stored yet; `thorp put FILE` stores something",
                });
            } else {
                show(printer, &listed, &rows, arguments.long);
            }
        });
        Ok(Outcome::Done)
    })
}

/// Lists what is in the trash.
async fn removed(context: &Context, session: &mut Session, prefix: Box<str>) -> Result<Outcome, Failure> {
    let listed = session.list(&Selector::Removed(prefix)).await.map_err(failure_of)?;
    let rows: Vec<RemovedRow> =
        listed.iter().map(|listed| RemovedRow::new(&listed.row, &NodeNames::new(&listed.holders))).collect();
    context.printer.result(&rows, |printer| {
        if rows.is_empty() {
            context.printer.note("nothing is in the trash under such a name");
            return;
        }
        let mut table = Table::new(&[
            ("size", Align::Right),
            ("copies", Align::Right),
            ("removed", Align::Left),
            ("name", Align::Left),
        ]);
        for row in &rows {
            let style = (row.file.state == "lost").then_some(Style::Bad);
            let name = printer.name(&row.file.name).into_owned();
            let copies = row.file.replicas.to_string();
            table.row(vec![format_bytes(row.file.bytes), copies, row.removed.clone(), name], style);
        }
        printer.table(&table);
    });
    Ok(Outcome::Done)
}

/// The row of a listed file.
pub(super) fn row(listed: &Listed) -> FileRow {
    FileRow::new(&listed.row, &NodeNames::new(&listed.holders))
}

/// A table of files; with `long`, also holders, times and content ids.
pub(super) fn show(printer: &Printer, listed: &[Listed], rows: &[FileRow], long: bool) {
    let mut columns =
        vec![("size", Align::Right), ("copies", Align::Right), ("state", Align::Left), ("name", Align::Left)];
    if long {
        columns.extend([("on", Align::Left), ("modified", Align::Left), ("content", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    for (listed, row) in listed.iter().zip(rows) {
        let style = match row.state {
            "ok" => None,
            "lost" => Some(Style::Bad),
            _ => Some(Style::Warn),
        };
        let name = printer.name(&row.name);
        let (size, name) = match &listed.row.body {
            Body::File { size, .. } => (format_bytes(*size), name.into_owned()),
            Body::Symlink { target } => ("link".to_owned(), format!("{name} -> {}", printer.name(target))),
            Body::Folder => ("folder".to_owned(), format!("{name}/")),
        };
        let copies = format!("{}/{}", row.replicas, row.replicas_wanted);
        let mut cells = vec![size, copies, row.state.to_owned(), name];
        if long {
            let nodes: Vec<_> = row.nodes.iter().map(|node| printer.name(node)).collect();
            cells.extend([nodes.join(", "), row.modified.clone(), row.content.clone().unwrap_or_default()]);
        }
        table.row(cells, style);
    }
    printer.table(&table);
}
