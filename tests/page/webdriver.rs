//! The part of WebDriver that the tests need: JSON over HTTP/1.1, one connection a command.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest that a command may take: the browser may load a page meanwhile.
const ANSWER: Duration = Duration::from_secs(60);
/// The key under which WebDriver gives an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session of a browser.
pub struct Session {
    port: u16,
    path: String,
}

/// An element of the page, until it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element(pub String);

impl Session {
    /// Starts a browser with these `goog:chromeOptions`.
    #[track_caller]
    pub fn start(port: u16, options: &Value) -> Session {
        let body = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let value = exchange(port, "POST", "/session", Some(&body)).unwrap_or_else(|error| panic!("{error}"));
        let id = value["sessionId"].as_str().expect("a session");
        Session { port, path: format!("/session/{id}") }
    }

    /// A command and its value, or what the browser says is wrong.
    ///
    /// # Errors
    /// What WebDriver calls an error.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        exchange(self.port, method, &format!("{}{path}", self.path), body)
    }

    /// A command that must work.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body)).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// A question that must be answered.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All elements that `selector` names, in their order.
    #[track_caller]
    pub fn all(&self, selector: &str) -> Vec<Element> {
        let found = self.post("/elements", &json!({ "using": "css selector", "value": selector }));
        let ids = found.as_array().expect("elements").iter();
        ids.map(|one| Element(one[ELEMENT].as_str().expect("an element").to_owned())).collect()
    }

    /// Runs a function body in the page; a promise is waited for.
    #[track_caller]
    pub fn script(&self, code: &str, args: &Value) -> Value {
        self.post("/execute/sync", &json!({ "script": code, "args": args }))
    }

    /// A command of the browser's own protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Ends the browser.
    pub fn end(&self) {
        drop(exchange(self.port, "DELETE", &self.path, None));
    }
}

/// One command to the driver on `port`.
fn exchange(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let (status, text) = send(port, method, path, &body).map_err(|error| format!("chromedriver: {error}"))?;
    let mut answer: Value =
        serde_json::from_slice(&text).map_err(|error| format!("chromedriver: {error}"))?;
    let value = answer["value"].take();
    if status == 200 {
        return Ok(value);
    }
    Err(format!("{}: {}", value["error"].as_str().unwrap_or("?"), value["message"].as_str().unwrap_or("?")))
}

fn send(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let wrong = |what: &str| std::io::Error::other(format!("no answer of HTTP: {what:?}"));
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong(&line))?;
    let mut length = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length.ok_or_else(|| wrong("no length"))?];
    stream.read_exact(&mut text)?;
    Ok((status, text))
}
