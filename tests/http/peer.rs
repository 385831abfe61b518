//! Nodes with HTTP on a free port, and clients that write their bytes themselves.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thorp::clock;

const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the only sleep, between two looks at a condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Waits until `look` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(u128::from(clock::now().since(start)) < PATIENCE.as_millis(), "not in time: {what}");
        pause();
    }
}

/// Nodes of a cluster of their own.
pub struct Lan {
    pub nodes: Vec<Node>,
    folder: tempfile::TempDir,
    cluster: String,
}

pub struct Node {
    pub http: SocketAddr,
    pub id: String,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lan {
    /// So many nodes that have found each other, and serve channels.
    #[track_caller]
    pub fn of(count: usize, options: &[&str]) -> Lan {
        let folder = tempfile::Builder::new().prefix("thorp-test-").tempdir().expect("a folder");
        let random: [u8; 8] = clock::entropy().expect("random bytes");
        let cluster = format!("test-{:016x}", u64::from_le_bytes(random));
        let mut lan = Lan { nodes: Vec::new(), folder, cluster };
        for number in 0..count {
            let node = lan.start(&format!("n{number}"), options);
            lan.nodes.push(node);
        }
        for node in &lan.nodes {
            wait_for("channels are served, by one proxy", || {
                let status = node.get("/api/status").json();
                let here = status["nodes"].as_array().is_some_and(|nodes| nodes.len() == count);
                (here && node.get("/api/channels/none").status == 200).then_some(())
            });
        }
        lan
    }

    fn start(&self, name: &str, options: &[&str]) -> Node {
        let mut command = self.command(name, &["up"]);
        command.args(["--name", name, "--machine", name, "--http", "127.0.0.1:0"]).args(options);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a node that starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["ready", id, _, http] = words.as_slice() else { panic!("{line:?}") };
        Node { http: http.parse().expect("an address"), id: (*id).to_owned(), child }
    }

    /// A command in this cluster, with that data folder.
    pub fn command(&self, data: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thorp"));
        command.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.args(["--bind", "127.0.0.1", "--cluster", &self.cluster, "--data-dir", data]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Kills the proxy and takes it out of `nodes`.
    #[track_caller]
    pub fn kill_proxy(&mut self) {
        let status = self.nodes[0].get("/api/status").json();
        let proxy = status["cluster"]["proxy"].as_str().expect("a proxy").to_owned();
        let place = self.nodes.iter().position(|node| node.id == proxy).expect("one of ours");
        drop(self.nodes.remove(place));
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The `code` of an error.
    #[track_caller]
    pub fn code(&self) -> String {
        let document = self.json();
        document["error"]["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

impl Node {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> BufReader<TcpStream> {
        let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.http);
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        if method == "POST" || !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut stream = self.connect();
        stream.write_all(format!("{text}\r\n").as_bytes()).expect("sent");
        // A body that is refused by its length may not be read.
        let _ = stream.write_all(body);
        BufReader::new(stream)
    }

    /// Any request.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.send(method, path, headers, body);
        let (status, headers) = head(&mut stream);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer { status, headers, body: String::from_utf8(bytes).expect("text") }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// The status of an answer that may never end.
    #[track_caller]
    pub fn get_head(&self, path: &str) -> u16 {
        head(&mut self.send("GET", path, &[], b"")).0
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Server-sent events.
    #[track_caller]
    pub fn events(&self, path: &str) -> Events {
        let mut stream = self.send("GET", path, &[], b"");
        let (status, headers) = head(&mut stream);
        assert_eq!((status, headers["content-type"].as_str()), (200, "text/event-stream"));
        Events { stream }
    }

    /// A WebSocket.
    #[track_caller]
    pub fn socket(&self, path: &str) -> Socket {
        let mut stream = BufReader::new(self.connect());
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.http
        );
        stream.get_mut().write_all(text.as_bytes()).expect("sent");
        let (status, headers) = head(&mut stream);
        assert_eq!((status, headers["sec-websocket-accept"].as_str()), (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Socket { stream }
    }

    /// Descriptors that its process has open.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).expect("its descriptors").count()
    }
}

#[track_caller]
fn head(stream: &mut impl BufRead) -> (u16, BTreeMap<String, String>) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("a line");
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).expect("a line");
        let Some((name, value)) = line.trim_end().split_once(": ") else { return (status, headers) };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

pub struct Events {
    stream: BufReader<TcpStream>,
}

impl Events {
    /// The next event and its data.
    #[track_caller]
    pub fn next(&mut self) -> (String, Value) {
        let (mut event, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).expect("a line in time"), 0, "the stream ended");
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", text)) => event = text.to_owned(),
                Some(("data", text)) => data += text,
                _ if event.is_empty() || data.is_empty() => {}
                _ => return (event, serde_json::from_str(&data).expect("JSON")),
            }
        }
    }
}

pub struct Socket {
    stream: BufReader<TcpStream>,
}

impl Socket {
    pub fn send(&mut self, text: &str) {
        let (length, mask) = (u16::try_from(text.len()).expect("short"), [1_u8, 2, 3, 4]);
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.get_mut().write_all(&frame).expect("sent");
    }

    /// The next text, as JSON.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        loop {
            let mut start = [0; 2];
            self.stream.read_exact(&mut start).expect("a frame in time");
            let length = match start[1] {
                126 => {
                    let mut long = [0; 2];
                    self.stream.read_exact(&mut long).expect("a length");
                    usize::from(u16::from_be_bytes(long))
                }
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).expect("a payload");
            if start[0] == 0x81 {
                return serde_json::from_slice(&payload).expect("JSON");
            }
        }
    }
}
