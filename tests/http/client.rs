//! A small HTTP client: one request a connection, nothing hidden.

use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest that anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks one node.
#[derive(Clone)]
pub struct Client {
    /// Its `address:port`.
    pub address: String,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status; 0 if none came.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As far as it came.
    pub body: Vec<u8>,
}

impl Client {
    /// Of the node at `address`.
    pub fn new(address: &str) -> Client {
        Client { address: address.to_owned(), headers: Vec::new() }
    }

    /// The same, with one more header in every request.
    pub fn with(&self, name: &str, value: &str) -> Client {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// A connection.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        stream
    }

    /// The head of a request.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        let ours = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.chain(headers.iter().copied()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }

    /// Asks, with a body if there is one.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut headers = headers.to_vec();
        if !body.is_empty() || method == "PUT" {
            headers.push(("Content-Length", &length));
        }
        let mut stream = self.connect();
        let mut request = self.head(method, path, &headers).into_bytes();
        request.extend(body);
        // Whoever refuses early may not read to the end.
        let _ = stream.write_all(&request);
        Answer::read(&mut stream)
    }

    /// Gets.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Gets with one header.
    #[track_caller]
    pub fn get_with(&self, path: &str, name: &str, value: &str) -> Answer {
        self.ask("GET", path, &[(name, value)], b"")
    }

    /// Puts.
    #[track_caller]
    pub fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("PUT", path, &[], body)
    }

    /// Sends bytes as they are, and reads what comes until the end or a pause.
    #[track_caller]
    pub fn raw(&self, bytes: &[u8], pause: Duration) -> Answer {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        stream.set_read_timeout(Some(pause)).expect("a timeout");
        Answer::read(&mut stream)
    }
}

impl Answer {
    /// Reads to the end of the connection.
    pub fn read(stream: &mut TcpStream) -> Answer {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        Answer::parse(&all)
    }

    /// Reads an answer.
    pub fn parse(all: &[u8]) -> Answer {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return Answer { status: 0, headers: Vec::new(), body: all.to_vec() };
        };
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        if status == 100 {
            return Answer::parse(&all[end + 4..]);
        }
        Answer { status, headers, body: all[end + 4..].to_vec() }
    }

    /// Itself, if this is its status.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert!(self.status == status, "wanted {status}: {}", self.shown());
        self
    }

    /// For messages.
    pub fn shown(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        format!("{} {:?} {body:?}", self.status, self.headers)
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether all of the body came.
    pub fn is_whole(&self) -> bool {
        self.header("content-length").is_none_or(|length| length == self.body.len().to_string())
    }

    /// The body, which is one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.shown());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }

    /// The `code` of an error.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", self.shown())).to_owned()
    }
}
