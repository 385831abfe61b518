//! A browser of its own for a test: what a person does with it, and what a person sees in it.

use crate::process::{Process, s, wait_until};
use crate::webdriver::{Element, Session};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest that the page may take to show what is so.
pub const SHOWN: Duration = s(20);
/// Chromium goes by several names.
const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Keys that have no letter, as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";

/// The programs that are needed: the driver and the browser. None: the test is skipped, which is
/// said past the capture of the test's output.
#[track_caller]
pub fn programs() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let found = find("chromedriver").zip(CHROMIUM.iter().find_map(|name| find(name)));
    if found.is_none() {
        let what = "chromium and chromedriver are needed for the tests of the page, and are not in PATH";
        assert!(std::env::var_os("THORP_REQUIRE_BROWSER").is_none(), "{what}");
        let _ =
            writeln!(std::io::stderr(), "SKIPPED {}: {what}", std::thread::current().name().unwrap_or("?"));
    }
    found
}

/// How large the window is, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub is_phone: bool,
    pub is_dark: bool,
}

impl Screen {
    pub const DESK: Screen = Screen { width: 1440, height: 900, is_phone: false, is_dark: false };
    pub const PHONE: Screen = Screen { width: 390, height: 844, is_phone: true, is_dark: false };
    pub const SMALL_PHONE: Screen = Screen { width: 360, height: 640, is_phone: true, is_dark: false };

    pub fn dark(self) -> Screen {
        Screen { is_dark: true, ..self }
    }
}

/// A browser with an empty profile. It ends when this goes.
pub struct Browser {
    pub session: Session,
    _driver: Process,
    folder: tempfile::TempDir,
}

impl Browser {
    /// A browser with a window as on a desk.
    #[track_caller]
    pub fn start(programs: &(PathBuf, PathBuf)) -> Browser {
        let folder = tempfile::Builder::new().prefix("thorp-browser-").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["logs", "downloads", "home"] {
            fs::create_dir(path(name)).expect("a folder");
        }
        let mut command = Command::new(&programs.0);
        command.arg("--port=0").env("HOME", path("home")).current_dir(folder.path());
        // Names of files beyond ASCII are none to it in the plain C locale.
        command.env("LC_ALL", "C.UTF-8");
        let driver = Process::start(command, "chromedriver", &path("logs"), Stdio::null(), None);
        let port = wait_until(s(20), "chromedriver listens", || {
            let said = String::from_utf8_lossy(&driver.stdout()).into_owned();
            let port = said.split("on port ").filter_map(|rest| rest.split('.').next()?.parse().ok()).last();
            port.filter(|port| *port != 0 && said.contains("started successfully")).ok_or(said)
        });
        let session = Session::start(
            port,
            &json!({
                "binary": programs.1,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
                    "--disable-sync", "--hide-scrollbars", format!("--user-data-dir={}", path("profile").display()),
                ],
                "prefs": { "download.default_directory": path("downloads"), "download.prompt_for_download": false },
            }),
        );
        let browser = Browser { session, _driver: driver, folder };
        browser.set_screen(Screen::DESK);
        browser
    }

    /// Looks at the page from such a device.
    #[track_caller]
    pub fn set_screen(&self, screen: Screen) {
        let Screen { width, height, is_phone, is_dark } = screen;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.session.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        self.session.devtools("Emulation.setTouchEmulationEnabled", &json!({ "enabled": is_phone }));
        let scheme = if is_dark { "dark" } else { "light" };
        // Without motion, so that a picture shows no colour between two others.
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]});
        self.session.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Opens an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.session.post("/url", &json!({ "url": url }));
    }

    /// Opens the page of a node and waits until it is live; marks it, so that a reload is noticed.
    #[track_caller]
    pub fn open_page(&self, http: &str) {
        self.open(&format!("http://{http}/"));
        self.wait_live();
        self.script("window.isTheSamePage = true");
    }

    /// Waits until the page hears its node.
    #[track_caller]
    pub fn wait_live(&self) {
        self.wait("the page is live", "return document.getElementById('connection').textContent", |state| {
            state == "live"
        });
    }

    /// That the page is still the one that was opened.
    #[track_caller]
    pub fn assert_not_reloaded(&self) {
        assert_eq!(self.script("return window.isTheSamePage === true"), true, "the page was loaded anew");
    }

    #[track_caller]
    pub fn script(&self, code: &str) -> Value {
        self.session.script(code, &json!([]))
    }

    #[track_caller]
    pub fn script_with(&self, code: &str, args: &Value) -> Value {
        self.session.script(code, args)
    }

    /// Waits until what `code` gives is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, code: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(SHOWN, what, code, is_so)
    }

    #[track_caller]
    pub fn wait_within(
        &self,
        limit: Duration,
        what: &str,
        code: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_until(limit, what, || {
            let value = self.script(code);
            if is_so(&value) { Ok(value) } else { Err(value.to_string()) }
        })
    }

    /// Waits until the text of an element that is shown contains `words`.
    #[track_caller]
    pub fn wait_text(&self, selector: &str, words: &str) {
        let code = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        self.wait(&format!("{selector} says {words:?}"), &code, |text| {
            text.as_str().is_some_and(|text| text.contains(words))
        });
    }

    /// The lines of the list of files: name, copies in words, state in words.
    #[track_caller]
    pub fn rows(&self) -> Vec<Line> {
        let code = "return [...document.querySelectorAll('#rows > tr')].map((line) => {
            const text = (part) => line.querySelector(`[data-part=${part}]`).innerText.trim();
            return [text('name') || text('plain'), line.querySelector('.count').textContent, text('state')];
        })";
        let rows = self.script(code);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let line = |row: &Value| Line { name: text(&row[0]), copies: text(&row[1]), state: text(&row[2]) };
        rows.as_array().expect("rows").iter().map(line).collect()
    }

    /// Waits until the line of that file is as wanted.
    #[track_caller]
    pub fn wait_row(&self, name: &str, what: &str, is_so: impl Fn(&Line) -> bool) -> Line {
        wait_until(SHOWN, &format!("{name}: {what}"), || {
            let rows = self.rows();
            rows.iter().find(|row| row.name == name && is_so(row)).cloned().ok_or(format!("{rows:?}"))
        })
    }

    /// Waits until no line has that name.
    #[track_caller]
    pub fn wait_no_row(&self, name: &str) {
        wait_until(SHOWN, &format!("{name} is not listed"), || {
            let rows = self.rows();
            if rows.iter().all(|row| row.name != name) { Ok(()) } else { Err(format!("{rows:?}")) }
        });
    }

    /// The one element of that selector, once it is there.
    #[track_caller]
    pub fn element(&self, selector: &str) -> Element {
        wait_until(SHOWN, &format!("one {selector}"), || {
            let mut found = self.session.all(selector);
            if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{} of them", found.len())) }
        })
    }

    /// Clicks where a person would; another thing in front of it is a failure.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let Element(id) = self.element(selector);
        wait_until(SHOWN, &format!("a click on {selector}"), || {
            self.session.ask("POST", &format!("/element/{id}/click"), Some(&json!({})))
        });
    }

    /// Clicks the control of that accessible name.
    #[track_caller]
    pub fn click_named(&self, label: &str) {
        self.click(&format!("[aria-label={}]", json!(label)));
    }

    /// Chooses files in the input for files.
    #[track_caller]
    pub fn choose(&self, files: &[&Path]) {
        let Element(id) = self.element("#files-input");
        let paths: Vec<&str> = files.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        self.session.post(&format!("/element/{id}/value"), &json!({ "text": paths.join("\n") }));
    }

    /// Presses keys one after another, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        self.session
            .post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// Presses Tab until the focus is on what `is_there` says of the element's id and label.
    #[track_caller]
    pub fn tab_to(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let mut seen = Vec::new();
        for _ in 0..80 {
            self.press(TAB);
            let code = "const at = document.activeElement; return at.id || at.ariaLabel || at.innerText || at.tagName";
            let at = self.script(code).as_str().unwrap_or_default().to_owned();
            if is_there(&at) {
                return;
            }
            seen.push(at);
        }
        panic!("Tab does not lead to {what}; it led to {seen:?}");
    }

    /// Waits for a file that was downloaded whole, and gives its bytes.
    #[track_caller]
    pub fn downloaded(&self, name: &str) -> Vec<u8> {
        let folder = self.folder.path().join("downloads");
        wait_until(SHOWN, &format!("{name} is downloaded"), || {
            let there: Vec<String> = fs::read_dir(&folder)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            let is_whole = there.iter().any(|file| file == name)
                && !there.iter().any(|file| file.ends_with(".crdownload"));
            if is_whole {
                fs::read(folder.join(name)).map_err(|error| error.to_string())
            } else {
                Err(format!("{there:?}"))
            }
        })
    }

    /// Keeps a picture of what is seen in `CARGO_TARGET_TMPDIR`.
    #[track_caller]
    pub fn picture(&self, name: &str) {
        let text = self.session.get("/screenshot");
        let bytes = base64(text.as_str().expect("a picture"));
        assert!(bytes.starts_with(b"\x89PNG"), "a picture");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        fs::create_dir_all(&folder).expect("a folder for pictures");
        fs::write(folder.join(format!("{name}.png")), bytes).expect("a picture");
    }

    /// What the browser complained of that is a fault of the page: scripts, its policy.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.session.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().expect("a log").iter();
        entries
            .filter(|entry| matches!(entry["source"].as_str(), Some("javascript" | "security" | "violation")))
            .chain(log.as_array().expect("a log").iter().filter(|entry| {
                entry["message"].as_str().is_some_and(|text| text.contains("Content Security Policy"))
            }))
            .map(ToString::to_string)
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session.end();
    }
}

/// A file as the page lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub copies: String,
    pub state: String,
}

/// The bytes of a text in base 64.
fn base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for letters in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = letters.iter().fold(0_u32, |bits, letter| (bits << 6) | u32::from(value(*letter)));
        let all = (bits << (6 * (4 - letters.len()))).to_be_bytes();
        bytes.extend_from_slice(&all[1..letters.len()]);
    }
    bytes
}

#[test]
fn base_64_is_read() {
    assert_eq!(base64("aGVsbG8="), b"hello");
    assert_eq!(base64("aGVsbG8h"), b"hello!");
    assert_eq!(base64("/+8="), [0xff, 0xef]);
}
