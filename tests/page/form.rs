//! The form of the page: every size, light and dark, by keys alone, and a name for every control.

use crate::browser::{Browser, ENTER, ESCAPE, Screen, programs};
use crate::disks::random_file;
use crate::street::Street;
use crate::webdriver::Element;

/// A street with files that have long names, too.
fn furnished() -> Street {
    let street = Street::of(3, &[]);
    let long = format!("{}/{}", "archive-of-the-year".repeat(8), "w".repeat(200));
    let names = ["holiday.tar", "photos/IMG_2041.jpg", "accounts.ods", "<img src=x onerror=alert(1)>", &long];
    for (seed, name) in (1..).zip(names) {
        let file = street.village.path(&format!("in/{seed}"));
        random_file(&file, 20_000 * seed, seed);
        street.put(&file, name, "2");
    }
    street
}

/// What sticks out of the window, or would if it were not cut off.
const CUT_OFF: &str = "return [...document.querySelectorAll('header *, main *, aside *, nav *')]
    .filter((one) => !one.closest('.unseen, thead') && one.checkVisibility())
    .filter((one) => one.getBoundingClientRect().right > window.innerWidth || one.getBoundingClientRect().left < 0)
    .map((one) => one.outerHTML.slice(0, 200))";

#[test]
fn it_fits_every_screen_in_light_and_dark() {
    let Some(programs) = programs() else { return };
    let street = furnished();
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#files-count", "5 files");
    for (name, screen) in [("desk", Screen::DESK), ("phone", Screen::PHONE), ("small", Screen::SMALL_PHONE)] {
        for (scheme, screen) in [("light", screen), ("dark", screen.dark())] {
            browser.set_screen(screen);
            // Where there is room all parts are shown at once.
            let views: &[&str] =
                if screen.is_phone { &["files", "machines", "activity", "channels"] } else { &["all"] };
            for view in views {
                if screen.is_phone {
                    browser.click(&format!(".tabs [data-view={view}]"));
                }
                let sizes =
                    browser.script("return [document.documentElement.scrollWidth, window.innerWidth]");
                let (content, window) = (sizes[0].as_u64().unwrap(), sizes[1].as_u64().unwrap());
                assert_eq!(window, u64::from(screen.width), "{name}");
                assert!(content <= window, "{name}, {view}: {content} px in {window} px");
                let cut = browser.script(CUT_OFF);
                assert_eq!(cut, serde_json::json!([]), "{name}, {view}: cut off at the edge");
                browser.picture(&format!("{name}-{scheme}-{view}"));
            }
            let paper = browser.script(
                "return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)",
            );
            let light = paper[0].as_u64().unwrap() > 128;
            assert_eq!(light, !screen.is_dark, "{name}, {scheme}: {paper}");
        }
    }
}

#[test]
fn everything_is_reached_by_keys_alone() {
    let Some(programs) = programs() else { return };
    let street = furnished();
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#files-count", "5 files");

    browser.tab_to("the search", |at| at == "search");
    browser.press("accounts");
    browser.wait_text("#files-count", "1 file found");
    browser.tab_to("the stepper", |at| at == "One copy more of accounts.ods");
    let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is seen");
    browser.press(ENTER);
    browser.wait_row("accounts.ods", "three copies", |row| row.copies == "3 of 3 copies");
    let at = browser.script("return document.activeElement.ariaLabel");
    assert_eq!(at, "One copy more of accounts.ods", "the focus stayed");

    browser.tab_to("the link to share", |at| at == "Link to share accounts.ods");
    browser.press(ENTER);
    browser.wait("the dialog is open", "return document.getElementById('share-dialog').open", |open| {
        open == true
    });
    browser.press(ESCAPE);
    browser
        .wait("Esc closes it", "return document.getElementById('share-dialog').open", |open| open == false);

    browser.tab_to("remove", |at| at == "Remove accounts.ods");
    browser.press(" ");
    browser.wait_no_row("accounts.ods");
    browser.wait("the focus is somewhere", "return document.activeElement.tagName", |tag| tag != "BODY");
    browser.tab_to("undo", |at| at == "Undo");
    browser.press(ENTER);
    browser.wait_row("accounts.ods", "back", |_| true);
}

#[test]
fn a_line_that_moves_keeps_the_focus() {
    let Some(programs) = programs() else { return };
    let street = furnished();
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#files-count", "5 files");
    let first = "return document.querySelector('#rows [data-part=name]').textContent";
    browser.click("th[data-sort=copies] button");
    browser.click("th[data-sort=copies] button");
    browser.wait("sorted", "return document.querySelector('th[data-sort=copies]').ariaSort", |sort| {
        sort == "descending"
    });
    browser.tab_to("the stepper", |at| at == "One copy more of photos/IMG_2041.jpg");
    browser.press(ENTER);
    browser.wait("most copies are first", first, |name| name == "photos/IMG_2041.jpg");
    let at = browser.script("return document.activeElement.ariaLabel");
    assert_eq!(at, "One copy more of photos/IMG_2041.jpg", "the focus went along");
}

#[test]
fn every_control_has_a_name() {
    let Some(programs) = programs() else { return };
    let street = furnished();
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#files-count", "5 files");
    for screen in [Screen::DESK, Screen::PHONE] {
        browser.set_screen(screen);
        let mut looked_at = 0;
        for Element(id) in
            browser.session.all("button, input, select, a[href], progress, [role=meter], dialog")
        {
            let is_shown = browser.session.get(&format!("/element/{id}/displayed"));
            if is_shown != true {
                continue;
            }
            let label = browser.session.get(&format!("/element/{id}/computedlabel"));
            let html = || browser.session.get(&format!("/element/{id}/property/outerHTML"));
            assert!(label.as_str().is_some_and(|label| !label.trim().is_empty()), "no name: {}", html());
            looked_at += 1;
        }
        assert!(looked_at > 30, "only {looked_at} controls");
    }
    let landmarks = "return ['header', 'main', 'aside', 'nav'].filter((one) => document.querySelectorAll(one).length !== 1)";
    assert_eq!(browser.script(landmarks), serde_json::json!([]));
}
