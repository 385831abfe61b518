//! `thorp share`: a link to one file.

use crate::cli::Context;
use crate::cli::arguments::ShareArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::session::{access, failure_of, with_session};
use crate::client::ClientError;
use crate::limits::LINK_LIVES_DEFAULT;
use crate::web::share::{Link, server_of};
use crate::wire::message::{Reply, Request, Selector};

/// Makes a link, at the address of a machine that serves HTTP: this one if it does.
///
/// # Errors
/// When there is no such file, nobody serves HTTP, or no proxy is found.
pub fn run(context: &Context, arguments: &ShareArguments) -> Result<Outcome, Failure> {
    let machine = access(&context.settings)?.machine;
    with_session(context, async |mut session| {
        let name = &arguments.name;
        let rows = session.list(&Selector::Name(name.clone())).await.map_err(failure_of)?;
        let Some(listed) = rows.first() else {
            return Err(failure_of(ClientError::Nonsense));
        };
        let Some((content, _)) = listed.row.body.content() else {
            return Err(Failure::failed(format!("`{name}` is a link or a folder, which has no bytes"))
                .json_code("no_file"));
        };
        let Reply::Status(status) = session.ask(&Request::Status).await.map_err(failure_of)? else {
            return Err(failure_of(ClientError::Nonsense));
        };
        let host = server_of(&status, |node| node.presence.machine == machine).ok_or_else(|| {
            Failure::failed("no machine that is up serves HTTP")
                .json_code("no_http")
                .hint("start one without `--http off`")
        })?;
        let link = Link::new(name, content, arguments.expires.unwrap_or(LINK_LIVES_DEFAULT));
        let document = link.document(session.keys(), &host);
        if session.keys().secured {
            context.printer.note(format_args!(
                "with a cluster key HTTP is served on loopback alone: for others start a node with `--http ADDR:PORT`"
            ));
        }
        context.printer.result(&document, |printer| {
            printer.line(format_args!("{}", document.url));
            printer.note(format_args!("it works until {}", document.expires));
        });
        Ok(Outcome::Done)
    })
}
