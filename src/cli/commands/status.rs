//! `thorp status`: machines, roles, health.

use crate::cli::Context;
use crate::cli::arguments::StatusArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{StatusDocument, TokenDocument};
use crate::cli::printer::{Printer, Style};
use crate::cli::session::{access, failure_of, with_session};
use crate::cli::table::{Align, Table};
use crate::cli::units::format_bytes;
use crate::client::{ClientError, Session};
use crate::config::KeySource;
use crate::wire::message::{ClusterStatus, Reply, Request};

/// Shows what the proxy knows.
///
/// # Errors
/// When no proxy is found.
pub fn run(context: &Context, arguments: &StatusArguments) -> Result<Outcome, Failure> {
    if arguments.token {
        return token(context);
    }
    with_session(context, async |mut session| {
        let reply = session.ask(&Request::Status).await.map_err(failure_of)?;
        let Reply::Status(status) = reply else {
            return Err(failure_of(ClientError::Nonsense));
        };
        let secured = context.settings.key != KeySource::Open;
        let document = StatusDocument::new(&context.settings.cluster, secured, &status);
        context.printer.result(&document, |printer| show(printer, &document, &status));
        Ok(Outcome::Done)
    })
}

/// Prints the token, which follows from the cluster key alone.
fn token(context: &Context) -> Result<Outcome, Failure> {
    let session = Session::new(access(&context.settings)?).map_err(failure_of)?;
    let keys = session.keys();
    let document = TokenDocument { token: keys.secured.then(|| keys.http_token()) };
    if document.token.is_none() {
        context.printer.note("this LAN is open: HTTP needs no token");
    }
    context.printer.result(&document, |printer| {
        if let Some(token) = &document.token {
            printer.line(token);
        }
    });
    Ok(Outcome::Done)
}

/// What to do about disks that are not well.
fn show_disks(printer: &Printer, document: &StatusDocument) {
    for node in &document.nodes {
        let name = printer.name(&node.name);
        let text = match node.disk {
            "suspect" => format!(
                "the disk of {name} failed or is read-only: its copies are made anew elsewhere; \
                 check it (dmesg, SMART), then start thorp there again"
            ),
            "full" => format!("the disk of {name} is full: it takes no more until there is room"),
            _ => continue,
        };
        printer.line(printer.paint(Style::Warn, &text));
    }
}

fn show(printer: &Printer, document: &StatusDocument, status: &ClusterStatus) {
    let cluster = &document.cluster;
    let access = if cluster.secured {
        "closed: only those with its key".to_owned()
    } else {
        printer.paint(Style::Warn, "open: anyone on this LAN can read and change its files")
    };
    printer.line(format_args!("cluster `{}` ({access}), term {}", printer.name(&cluster.name), cluster.term));
    if !status.ready {
        printer.line("the proxy is new and is still hearing from the machines");
    }
    for other in &status.others {
        let text = format!("another cluster with files is on this LAN, not merged: {other}");
        printer.line(printer.paint(Style::Warn, &text));
    }
    let mut table = Table::new(&[
        ("machine", Align::Left),
        ("roles", Align::Left),
        ("state", Align::Left),
        ("address", Align::Left),
        ("used", Align::Right),
        ("free", Align::Right),
        ("contents", Align::Right),
    ]);
    for node in &document.nodes {
        let style = match (node.state, node.disk) {
            ("down", _) | (_, "suspect") => Some(Style::Bad),
            ("up", "ok") => None,
            _ => Some(Style::Warn),
        };
        let state = match node.disk {
            "ok" => node.state.to_owned(),
            disk => format!("{}, disk {disk}", node.state),
        };
        let cells = vec![
            printer.name(&node.name).into_owned(),
            node.roles.join(", "),
            state,
            node.addr.clone().unwrap_or_default(),
            format_bytes(node.used_bytes),
            format_bytes(node.free_bytes),
            node.contents.to_string(),
        ];
        table.row(cells, style);
    }
    printer.table(&table);
    show_disks(printer, document);
    let files = &document.files;
    let mut states = vec![format!("{} ok", files.ok)];
    let others = [
        (files.healing, "healing", Style::Warn),
        (files.degraded, "degraded", Style::Warn),
        (files.lost, "lost", Style::Bad),
    ];
    for (count, word, style) in others.into_iter().filter(|(count, ..)| *count > 0) {
        states.push(printer.paint(style, &format!("{count} {word}")));
    }
    printer.line(format_args!("{} files, {}: {}", files.count, format_bytes(files.bytes), states.join(", ")));
    match document.messages.waiting {
        0 => {}
        1 => printer.line("1 message waits for a machine"),
        waiting => printer.line(format_args!("{waiting} messages wait for machines")),
    }
}
