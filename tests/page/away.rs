//! Nodes that go and come back, and what goes on meanwhile.

use crate::browser::{Browser, SHOWN, programs};
use crate::disks::{MIB, random_file};
use crate::process::s;
use crate::street::Street;
use serde_json::json;

/// The state of a machine, as the page says it.
fn machine(name: &str) -> String {
    format!(
        "return [...document.querySelectorAll('#machine-list .machine')]
            .filter((line) => line.querySelector('[data-part=name]').textContent === {})
            .map((line) => line.querySelector('[data-part=state]').textContent)[0] ?? 'none'",
        json!(name)
    )
}

const BANNER: &str = "const banner = document.getElementById('banner-gone');
    return banner.hidden ? '' : banner.innerText";

#[test]
fn a_machine_that_dies_is_shown_and_so_is_its_return() {
    let Some(programs) = programs() else { return };
    let mut street = Street::of(3, &[]);
    let file = street.village.path("in/file");
    random_file(&file, 10_000, 1);
    street.put(&file, "file", "3");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#machines-count", "3 of 3 up");
    browser.wait("c is up", &machine("c"), |state| state == "up");
    browser.wait_text("#summary", "The one file has all its copies");

    let http = street.kill9("c");
    browser.wait_within(s(15), "c is shown as silent", &machine("c"), |state| {
        state.as_str().is_some_and(|state| state.starts_with("suspect") || state == "down")
    });
    browser.wait_text("#machines-count", "2 of 3 up");
    browser
        .wait_row("file", "a copy is missing", |row| row.copies == "2 of 3 copies" && !row.state.is_empty());

    street.revive("c", &http);
    browser.wait("c is up again", &machine("c"), |state| state == "up");
    browser.wait_row("file", "all copies are there", |row| row.copies == "3 of 3 copies");
    browser.assert_not_reloaded();
}

#[test]
fn when_its_own_node_goes_the_page_says_so_and_recovers_by_itself() {
    let Some(programs) = programs() else { return };
    let mut street = Street::of(2, &[]);
    let file = street.village.path("in/file");
    random_file(&file, 10_000, 2);
    street.put(&file, "before", "2");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_row("before", "listed", |_| true);

    let http = street.kill9("a");
    browser.wait("the banner is shown", BANNER, |text| {
        text.as_str().is_some_and(|text| text.contains("This machine's thorp is gone, trying again."))
    });
    browser.picture("gone");
    street.put(&file, "meanwhile", "1");
    street.revive("a", &http);
    browser.wait_within(s(30), "the banner is gone", BANNER, |text| text == "");
    browser.wait_live();
    browser.wait_row("meanwhile", "listed after all", |_| true);
    // And the stream is heard again.
    street.put(&file, "after", "1");
    browser.wait_row("after", "comes by itself", |_| true);
    browser.assert_not_reloaded();
}

#[test]
fn an_upload_goes_on_after_its_node_was_away() {
    let Some(programs) = programs() else { return };
    let mut street = Street::of(2, &[]);
    let file = street.village.path("in/large.bin");
    random_file(&file, 48 * MIB, 3);
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    let slow =
        json!({ "offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10 * MIB });
    browser.session.devtools("Network.enable", &json!({}));
    browser.session.devtools("Network.emulateNetworkConditions", &slow);

    browser.choose(&[&file]);
    let sent = "return document.querySelector('#uploads-list progress')?.value ?? 0";
    browser.wait("it is midway", sent, |value| value.as_f64().is_some_and(|part| part > 0.3));
    let http = street.kill9("a");
    browser.wait_text("#uploads-list", "This goes on by itself.");
    street.revive("a", &http);
    browser.wait_within(
        s(60),
        "it is stored",
        "return document.getElementById('uploads-sum').innerText",
        |text| text == "1 file stored",
    );
    browser.wait_row("large.bin", "two copies", |row| row.copies == "2 of 2 copies");
    street.village.get_and_compare("large.bin", &file);
    browser.assert_not_reloaded();
}

/// All bytes are with the node, which cannot store them: they are not sent again, and nothing fails.
#[test]
fn an_upload_whose_proxy_dies_while_copies_are_made_is_stored_after_all() {
    let Some(programs) = programs() else { return };
    let mut street = Street::of(2, &[]);
    // It leads never, so that nobody does once both others are gone.
    street.add("c", &["--role", "client"]);
    let file = street.village.path("in/copied.bin");
    random_file(&file, 64 * MIB, 5);
    let browser = Browser::start(&programs);
    browser.open_page(street.http("c"));
    let slow =
        json!({ "offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10 * MIB });
    browser.session.devtools("Network.enable", &json!({}));
    browser.session.devtools("Network.emulateNetworkConditions", &slow);
    browser.choose(&[&file]);
    let sent = "return document.querySelector('#uploads-list progress')?.value ?? 0";
    browser.wait_within(s(60), "the last part is on its way", sent, |part| {
        part.as_f64().is_some_and(|part| part > 0.89)
    });
    let https = ["a", "b"].map(|name| (name, street.kill9(name)));
    browser.wait_text("#uploads-list", "making copies");
    browser.wait_text("#uploads-list", "This goes on by itself.");
    for (name, http) in &https {
        street.revive(name, http);
    }
    browser.wait_within(
        s(90),
        "it is stored",
        "return document.getElementById('uploads-sum').innerText",
        |text| text == "1 file stored",
    );
    browser.wait_row("copied.bin", "two copies", |row| row.copies == "2 of 2 copies");
    street.village.get_and_compare("copied.bin", &file);
    browser.assert_not_reloaded();
}

#[test]
fn a_connection_that_breaks_costs_no_part_that_arrived() {
    let Some(programs) = programs() else { return };
    let street = Street::of(1, &[]);
    let file = street.village.path("in/broken.bin");
    random_file(&file, 40 * MIB, 4);
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    // What is sent is counted, and one part in the middle is broken off.
    browser.script(
        "window.sent = []; window.broken = 0;
         const send = XMLHttpRequest.prototype.send;
         XMLHttpRequest.prototype.send = function (body) {
           if (body && sent.length === 3 && !broken) { broken = 1; setTimeout(() => this.abort(), 0); return send.call(this, body); }
           if (body) sent.push(body.size);
           return send.call(this, body);
         }",
    );
    browser.choose(&[&file]);
    browser.wait_within(
        s(60),
        "it is stored",
        "return document.getElementById('uploads-sum').innerText",
        |text| text == "1 file stored",
    );
    let sent = browser.script("return sent.reduce((sum, size) => sum + size, 0)");
    // Less if the broken part had arrived in part: the node keeps that too.
    let sent = sent.as_u64().unwrap();
    assert!((32 * MIB..=40 * MIB).contains(&sent), "{sent} bytes: what had arrived was sent again");
    assert_eq!(browser.script("return broken"), 1, "it was broken off");
    browser.wait_within(SHOWN, "listed", "return document.querySelectorAll('#rows > tr').length", |rows| {
        rows == 1
    });
    street.village.get_and_compare("broken.bin", &file);
}
