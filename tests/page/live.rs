//! What is live: two browsers, channels, and a LAN that is closed.

use crate::browser::{Browser, ENTER, programs};
use crate::disks::random_file;
use crate::process::wait_until;
use crate::street::Street;
use serde_json::json;
use std::os::unix::fs::OpenOptionsExt;
use std::{fs, io::Write};

const POST: &str = "return fetch('/api/channels/' + encodeURIComponent(arguments[0]), {
    method: 'POST', headers: { 'Content-Type': 'application/json', ...arguments[2] }, body: JSON.stringify(arguments[1]),
}).then((answer) => [answer.status, answer.headers.get('Client-Token')])";

#[test]
fn two_browsers_see_the_same_files_at_once() {
    let Some(programs) = programs() else { return };
    let street = Street::of(2, &[]);
    let file = street.village.path("in/shared.txt");
    random_file(&file, 3_000, 1);
    let (one, two) = (Browser::start(&programs), Browser::start(&programs));
    one.open_page(street.http("a"));
    two.open_page(street.http("b"));
    one.choose(&[&file]);
    two.wait_row("shared.txt", "comes by itself", |row| row.copies == "2 of 2 copies");
    two.wait_text("#activity-list", "shared.txt");
    two.click_named("Remove shared.txt");
    one.wait_no_row("shared.txt");
    one.assert_not_reloaded();
    two.assert_not_reloaded();
}

#[test]
fn two_browsers_look_at_one_channel() {
    let Some(programs) = programs() else { return };
    let street = Street::of(2, &[]);
    let (one, two) = (Browser::start(&programs), Browser::start(&programs));
    one.open_page(street.http("a"));
    two.open_page(street.http("b"));
    let channel = "lights <b>hall 100%?";
    let post = |browser: &Browser, id: &str, level: u32, token: Option<&str>| {
        let mut headers = json!({ "X-Expire": "12s" });
        if let Some(token) = token {
            headers["Client-Token"] = token.into();
        }
        let body = json!({ "client_id": id, "level": level, "note": "<i>text</i>" });
        // 204: no proxy, or it has just changed; the client is not there yet.
        wait_until(crate::browser::SHOWN, &format!("{id} is in the channel"), || {
            let answer = browser.script_with(POST, &json!([channel, body, headers]));
            if answer[0] == 200 { Ok(answer[1].as_str().map(str::to_owned)) } else { Err(answer.to_string()) }
        })
    };
    let token = post(&one, "jo's lamp", 1, None);
    post(&two, "mo", 2, None);
    for browser in [&one, &two] {
        browser.wait_text("#channel-list", channel);
        browser.click("#channel-list button");
        browser.wait_text("#channel-state", "2 clients");
        browser.wait_text("#channel-clients", "jo's lamp");
        browser.wait_text("#channel-clients", "\"note\": \"<i>text</i>\"");
        assert_eq!(browser.script("return document.querySelectorAll('#channel i, #channel b').length"), 0);
    }
    post(&one, "jo's lamp", 77, token.as_deref());
    for browser in [&one, &two] {
        browser.wait_text("#channel-clients", "\"level\": 77");
        browser.assert_not_reloaded();
        assert_eq!(browser.complaints(), [""; 0]);
    }
    // What is no channel is said, not tried for ever.
    one.click("#channel-name");
    one.press("no/channel");
    one.press(ENTER);
    one.wait_text("#channel-title", "no/channel");
    one.wait(
        "it is refused in words",
        "return document.getElementById('channel-state').innerText",
        |state| state.as_str().is_some_and(|state| state.len() > 20 && !state.contains("trying again")),
    );
    one.click("#channel-list button:first-child");
    // Nobody renews them: they go, and both see it.
    for browser in [&one, &two] {
        browser.wait_text("#channel-state", "0 clients");
    }
}

#[test]
fn a_closed_lan_asks_for_its_token_and_forgets_it_again() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    let mut options = fs::OpenOptions::new();
    let mut to = options.write(true).create_new(true).mode(0o600).open(&key).unwrap();
    writeln!(to, "correct horse battery staple {}", "x".repeat(16)).unwrap();
    let street = Street::of(1, &["--key-file", key.to_str().unwrap()]);
    let token = street.token();
    let browser = Browser::start(&programs);
    let address = format!("http://{}/", street.http("a"));

    browser.open(&address);
    browser.wait_text("#token-dialog", "This LAN is closed");
    browser.picture("closed");
    assert_eq!(browser.rows(), []);
    browser.press("wrong");
    browser.press(ENTER);
    browser.wait_text("#token-error", "That is not the token of this LAN.");
    browser.press(&token);
    browser.press(ENTER);
    browser.wait_live();
    browser.wait_text("#secured", "closed LAN");
    assert_eq!(browser.script("return document.cookie"), "", "no script can read the token");

    browser.click("#leave");
    browser.wait_text("#token-dialog", "This LAN is closed");

    // By a link, as a QR code has it: the token does not stay in the address.
    browser.open("about:blank");
    browser.open(&format!("{address}#token={token}"));
    browser.wait_live();
    assert_eq!(browser.script("return location.href"), address);
    browser.open("about:blank");
    browser.open(&address);
    browser.wait_live();
}
