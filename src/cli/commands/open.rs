//! `thorp open`: the page's address, as text and for a phone's camera.

use crate::cli::Context;
use crate::cli::arguments::OpenArguments;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::http_address;
use crate::cli::json::OpenDocument;
use crate::cli::session::{failure_of, with_session};
use crate::roles::machine::machine_id;
use crate::types::MachineId;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use std::net::SocketAddr;

/// Prints the address of the page on a node that answers.
///
/// # Errors
/// When no proxy is found, or no node serves HTTP where this machine can reach it.
pub fn run(context: &Context, arguments: &OpenArguments) -> Result<Outcome, Failure> {
    let machine = context.settings.node.machine.as_ref().map(MachineId::as_str);
    let machine = machine_id(machine).map_err(|error| Failure::failed(error.to_string()))?;
    with_session(context, async |mut session| {
        let address = http_address::find(&mut session, &machine).await.map_err(failure_of)?;
        let address = address.ok_or_else(http_address::nobody)?;
        let keys = session.keys();
        let document = OpenDocument { url: url(address, keys.secured.then(|| keys.http_token())) };
        let picture = if arguments.no_qr { None } else { picture(&document.url) };
        context.printer.result(&document, |printer| {
            printer.line(&document.url);
            if let Some(picture) = &picture {
                printer.line(picture);
            }
            http_address::warn_if_here_alone(printer, address);
        });
        Ok(Outcome::Done)
    })
}

/// The token stands behind the `#`, which browsers do not send: the page takes it from there.
fn url(address: SocketAddr, token: Option<String>) -> String {
    match token {
        Some(token) => format!("http://{address}/#token={token}"),
        None => format!("http://{address}/"),
    }
}

/// Light on dark, as terminals mostly are: phones read both.
fn picture(url: &str) -> Option<String> {
    let code = QrCode::new(url).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}
