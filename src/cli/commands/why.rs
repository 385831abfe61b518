//! `thorp why`: where each copy of a file is, and what the next step waits for.

use crate::cli::Context;
use crate::cli::arguments::WhyArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::json::{NodeNames, WhyDocument};
use crate::cli::printer::Printer;
use crate::cli::session::{failure_of, with_session};
use crate::cli::units::format_bytes;
use crate::client::ClientError;
use crate::client::verify::last_verified;
use crate::documents::format_rfc3339_seconds;
use crate::limits::SUSPECT_AFTER_MS;
use crate::wire::message::{Reply, Request};

/// Explains the file.
///
/// # Errors
/// When there is no such file, or no proxy is found.
pub fn run(context: &Context, arguments: &WhyArguments) -> Result<Outcome, Failure> {
    with_session(context, async |mut session| {
        let request = Request::Why { name: arguments.name.clone() };
        let Reply::Why(explanation) = session.ask(&request).await.map_err(failure_of)? else {
            return Err(failure_of(ClientError::Nonsense));
        };
        let names = NodeNames::new(&explanation.nodes);
        let mut document = WhyDocument::new(&explanation, &names);
        let routes = session.localise(explanation.nodes.clone());
        if let Some((content, _)) = explanation.row.body.content() {
            for (copy, shown) in explanation.copies.iter().zip(&mut document.copies) {
                let route = routes.iter().find(|route| route.node == copy.node);
                let Some(route) = route.filter(|_| copy.silent_ms < SUSPECT_AFTER_MS) else { continue };
                let verified_ms = last_verified(&session, route, content).await;
                shown.verified = verified_ms.map(time_of);
            }
        }
        context.printer.result(&document, |printer| show(printer, &document));
        Ok(Outcome::Done)
    })
}

fn time_of(wall_ms: u64) -> String {
    format_rfc3339_seconds(i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

fn show(printer: &Printer, document: &WhyDocument) {
    let file = &document.file;
    printer.line(format_args!(
        "{}: {}, {} of {} copies ({})",
        printer.name(&file.name),
        format_bytes(file.bytes),
        file.replicas,
        document.wanted,
        file.state
    ));
    if document.versions > 1 {
        printer.line(format_args!(
            "  its bytes are those of {} files; the one that wants most copies decides",
            document.versions
        ));
    }
    for copy in &document.copies {
        let silent = match copy.silent_seconds {
            seconds if seconds >= 3.0 => format!(", silent for {seconds:.0} s"),
            _ => String::new(),
        };
        let verified = match &copy.verified {
            Some(when) => format!(", verified {when}"),
            None => String::new(),
        };
        printer.line(format_args!(
            "  copy on {} ({}{silent}{verified})",
            printer.name(&copy.node),
            copy.state
        ));
    }
    let nodes: Vec<_> = document.nodes.iter().map(|node| printer.name(node)).collect();
    let nodes = nodes.join(", ");
    let next = match document.waiting {
        "nothing" => "it is as it should be".to_owned(),
        "pull" => format!("a copy is being made on {nodes}"),
        "drop" => format!("a copy too many is being dropped on {nodes}"),
        "return" => "a machine with a copy is silent and may come back; if it does not, another copy is made"
            .to_owned(),
        "machine" => "it waits for a machine with room that has no copy yet".to_owned(),
        "source" => "it waits for a machine that has a copy".to_owned(),
        "unheard" => format!("the proxy is still hearing from {nodes}"),
        _ => "it waits for its turn: others come first".to_owned(),
    };
    let since = if document.for_seconds > 0.0 {
        format!(", for {:.0} s", document.for_seconds)
    } else {
        String::new()
    };
    printer.line(format_args!("  next: {next}{since}"));
}
