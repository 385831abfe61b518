//! Files: what goes up comes back, by any name; copies, removing, and the way back.

use crate::browser::{Browser, programs};
use crate::disks::{MIB, random_bytes, random_file};
use crate::process::{s, wait_until};
use crate::street::Street;
use serde_json::json;
use std::fs;

#[test]
fn what_is_chosen_goes_up_and_comes_back_the_same() {
    let Some(programs) = programs() else { return };
    let street = Street::of(2, &[]);
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));

    // More than two parts; nothing at all; a name that means something in an address.
    let bytes = random_bytes(20 * MIB + 12_345, 1);
    let odd = "100% sure? #1 & a+b ünïcode.txt";
    let files = [("large.bin", bytes.as_slice()), ("empty.txt", b""), (odd, b"odd")];
    let folder = street.village.path("in");
    fs::create_dir_all(&folder).unwrap();
    let paths: Vec<_> = files.iter().map(|(name, _)| folder.join(name)).collect();
    for ((_, bytes), path) in files.iter().zip(&paths) {
        fs::write(path, bytes).unwrap();
    }
    browser.choose(&paths.iter().map(|path| path.as_path()).collect::<Vec<_>>());
    browser.wait_text("#uploads-sum", "3 files stored");
    for (name, bytes) in files {
        browser.wait_row(name, "two copies", |row| row.copies == "2 of 2 copies");
        browser.click_named(&format!("Download {name}"));
        // Chromium writes some characters of a name otherwise on its disk.
        let kept = name.replace('?', "_");
        assert!(browser.downloaded(&kept) == bytes, "{name} came back different");
        street.village.get_and_compare(name, &folder.join(name));
    }
    browser.assert_not_reloaded();
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_name_that_exists_is_replaced_only_when_the_user_says_so() {
    let Some(programs) = programs() else { return };
    let street = Street::of(1, &[]);
    let (first, second) = (street.village.path("in/first"), street.village.path("in/again/note.txt"));
    random_file(&first, 1_000, 1);
    random_file(&second, 2_000, 2);
    street.put(&first, "note.txt", "1");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_row("note.txt", "listed", |_| true);

    browser.choose(&[&second]);
    browser.wait_text("#uploads-list", "There is a file of this name already.");
    street.village.get_and_compare("note.txt", &first);
    browser.click_named("Replace note.txt");
    browser.wait_text("#uploads-sum", "1 file stored");
    street.village.get_and_compare("note.txt", &second);
}

#[test]
fn the_stepper_changes_the_copies_and_they_are_seen_to_come() {
    let Some(programs) = programs() else { return };
    let street = Street::of(3, &[]);
    let file = street.village.path("in/stepped");
    random_file(&file, 3 * MIB, 3);
    street.put(&file, "stepped", "1");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("b"));
    browser.wait_row("stepped", "one copy", |row| row.copies == "1 of 1 copies");

    browser.click_named("One copy more of stepped");
    browser.click_named("One copy more of stepped");
    browser.wait_row("stepped", "three copies", |row| row.copies == "3 of 3 copies" && row.state.is_empty());
    let row = street.village.row("stepped");
    assert_eq!((row.wanted, row.nodes.len()), (3, 3));
    let dots = "return document.querySelectorAll('#rows [data-part=dots] .there').length";
    assert_eq!(browser.script(dots), 3);

    browser.click_named("One copy fewer of stepped");
    browser.wait_row("stepped", "two copies", |row| row.copies == "2 of 2 copies");
    assert_eq!(street.village.row("stepped").wanted, 2);
    browser.assert_not_reloaded();
}

#[test]
fn too_many_copies_are_said_in_words() {
    let Some(programs) = programs() else { return };
    let street = Street::of(2, &[]);
    let file = street.village.path("in/much");
    random_file(&file, 1_000, 4);
    street.put(&file, "much", "2");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_row("much", "two copies", |row| row.copies == "2 of 2 copies");
    browser.click_named("One copy more of much");
    browser.wait_row("much", "short of machines", |row| {
        row.copies == "2 of 3 copies" && row.state == "too few machines for more copies"
    });
    browser.wait_text("#summary", "1 file waits for more machines");
}

#[test]
fn a_name_is_text_whatever_it_says() {
    let Some(programs) = programs() else { return };
    let street = Street::of(1, &[]);
    let file = street.village.path("in/file");
    random_file(&file, 64, 5);
    let long: String = ["x".repeat(250), "y".repeat(250), "é".repeat(125), "z".repeat(246)].join("/");
    assert!(long.len() > 990, "{}", long.len());
    let names = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "\"'><b>&amp;%41%2f",
        "a/b c/#d?e=f",
        "日本語/🦀",
        "..a/...",
        &long,
    ];
    for name in names {
        street.put(&file, name, "1");
    }
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    for name in names {
        browser.wait_row(name, "shown as it is", |_| true);
    }
    assert_eq!(browser.script("return document.querySelectorAll('main img, main script, main b').length"), 0);
    let alert = browser.session.ask("GET", "/alert/text", None);
    assert!(alert.is_err_and(|error| error.starts_with("no such alert")), "a name was run");
    // Each works: its address gives its bytes, its stepper and its button are for it.
    for name in names {
        let code = "const line = [...document.querySelectorAll('#rows > tr')].find((line) => line.row.name === arguments[0]);
            const link = line.querySelector('[data-part=download]');
            return fetch(link.href).then((answer) => answer.arrayBuffer()).then((bytes) => [...new Uint8Array(bytes)])";
        let bytes = browser.script_with(code, &json!([name]));
        assert_eq!(bytes, json!(fs::read(&file).unwrap()), "{name}");
        browser.click_named(&format!("One copy more of {name}"));
        browser.wait_row(name, "two wanted", |row| row.copies == "1 of 2 copies");
        browser.click_named(&format!("Remove {name}"));
        browser.wait_no_row(name);
    }
    wait_until(s(10), "nothing is listed any more", || {
        let rows = street.village.ls();
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn what_hides_in_a_name_is_made_visible() {
    let Some(programs) = programs() else { return };
    let street = Street::of(1, &[]);
    let file = street.village.path("in/file");
    random_file(&file, 64, 6);
    street.put(&file, "invoice\u{200b}.txt", "1");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_row("invoice\\u{200b}.txt", "shown with what hides", |_| true);
}

#[test]
fn what_was_removed_can_be_had_back() {
    let Some(programs) = programs() else { return };
    let street = Street::of(2, &[]);
    let file = street.village.path("in/file");
    random_file(&file, 5_000, 7);
    street.put(&file, "docs/kept", "2");
    street.put(&file, "docs/gone", "2");
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_row("docs/gone", "listed", |_| true);

    browser.click_named("Remove docs/gone");
    browser.wait_no_row("docs/gone");
    assert_eq!(street.village.ls().len(), 1);
    browser.wait_text("#notice-list", "Removed docs/gone");
    browser.click("#notice-list [data-part=act]");
    browser.wait_row("docs/gone", "back", |row| row.copies == "2 of 2 copies");
    street.village.get_and_compare("docs/gone", &file);

    // And later, out of the trash.
    browser.click_named("Remove docs/gone");
    browser.wait_no_row("docs/gone");
    browser.click("#show-removed");
    browser.wait_row("docs/gone", "in the trash", |_| true);
    assert!(browser.rows().iter().all(|row| row.name != "docs/kept"));
    browser.click_named("Restore docs/gone");
    browser.wait_no_row("docs/gone");
    browser.click("#show-stored");
    browser.wait_row("docs/gone", "back again", |_| true);
    browser.assert_not_reloaded();
}

#[test]
fn a_long_list_is_sorted_searched_and_shown_in_steps() {
    let Some(programs) = programs() else { return };
    let street = Street::of(1, &[]);
    for index in 0..230_u64 {
        random_file(&street.village.path(&format!("in/many/file-{index:03}")), 10 + index, index);
    }
    street.village.run(&["put", "in/many", "-n", "1"]).ended(0);
    let browser = Browser::start(&programs);
    browser.open_page(street.http("a"));
    browser.wait_text("#files-count", "100 of 230");
    browser.click("#show-more");
    browser.wait_text("#files-count", "200 of 230");
    browser.click("#show-more");
    browser.wait_text("#files-count", "230 files");
    assert_eq!(browser.rows().len(), 230);

    browser.click("th[data-sort=bytes] button");
    browser.wait(
        "the largest is first",
        "return document.querySelector('#rows .name bdi').textContent",
        |name| name == "many/file-229",
    );
    browser.click("th[data-sort=bytes] button");
    browser.wait(
        "the smallest is first",
        "return document.querySelector('#rows .name bdi').textContent",
        |name| name == "many/file-000",
    );
    browser.click("#search");
    browser.press("FILE-12");
    browser.wait_text("#files-count", "10 files found");
    assert!(browser.rows().iter().all(|row| row.name.contains("file-12")));
    browser.press("nothing");
    browser.wait_text("#files-empty", "No file has “FILE-12nothing” in its name.");
}
