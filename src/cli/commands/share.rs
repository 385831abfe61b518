//! `thorp share`: a link to one file.

use crate::cli::Context;
use crate::cli::arguments::ShareArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::http_address;
use crate::cli::session::{access, failure_of, with_session};
use crate::client::ClientError;
use crate::limits::LINK_LIVES_DEFAULT;
use crate::web::share::Link;
use crate::wire::message::Selector;

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
        let address = http_address::find(&mut session, &machine).await.map_err(failure_of)?;
        let address = address.ok_or_else(http_address::nobody)?;
        let link = Link::new(name, content, arguments.expires.unwrap_or(LINK_LIVES_DEFAULT));
        let document = link.document(session.keys(), &format!("http://{address}"));
        context.printer.result(&document, |printer| {
            printer.line(format_args!("{}", document.url));
            printer.note(format_args!("it works until {}", document.expires));
            http_address::warn_if_here_alone(printer, address);
        });
        Ok(Outcome::Done)
    })
}
