//! As much of HTTP/1.1 and WebSockets as the comparison needs, over a blocking connection that is kept
//! where the server keeps it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A client of one server.
pub struct Http {
    address: String,
    stream: Option<BufReader<TcpStream>>,
    /// Connections made so far.
    pub connections: u64,
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// All of its body.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects with the first request.
    pub fn new(address: &str) -> Http {
        Http { address: address.to_owned(), stream: None, connections: 0 }
    }

    /// Asks and takes the whole answer; once more if the server closed the connection between two
    /// requests.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let is_kept = self.stream.is_some();
        match self.try_to_ask(method, path, body) {
            Err(_) if is_kept => {
                self.stream = None;
                self.try_to_ask(method, path, body)
            }
            asked => asked,
        }
    }

    fn try_to_ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.connections += 1;
                connect(&self.address)?
            }
        };
        let mut request = head(method, path, &self.address);
        if !matches!(method, "GET" | "DELETE") {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let mut request = format!("{request}\r\n").into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        let (status, length, is_kept) = answer_head(&mut stream)?;
        let mut body = Vec::new();
        match length {
            Some(length) => {
                body.resize(length, 0);
                stream.read_exact(&mut body)?;
            }
            None if matches!(status, 204 | 304) => {}
            None => drop(stream.read_to_end(&mut body)?),
        }
        if is_kept {
            self.stream = Some(stream);
        }
        Ok(Answer { status, body })
    }
}

fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

fn head(method: &str, path: &str, address: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n")
}

/// The status, the length if it is said, and whether the connection is kept.
fn answer_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, Option<usize>, bool)> {
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first}")))?;
    let (mut length, mut is_kept) = (None, first.starts_with("HTTP/1.1"));
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => return Ok((status, length, is_kept)),
            Some(("content-length", value)) => length = value.trim().parse().ok(),
            Some(("connection", value)) if value.trim() == "close" => is_kept = false,
            Some(_) => {}
        }
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// What has a follower's connection, to end it from elsewhere.
pub struct End(TcpStream);

impl End {
    /// Of this connection.
    pub fn of(stream: &TcpStream) -> io::Result<End> {
        Ok(End(stream.try_clone()?))
    }

    /// The one that reads hears the end.
    pub fn end(&self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A stream of server-sent events.
pub struct Events(BufReader<TcpStream>);

impl Events {
    /// Follows `path`.
    pub fn follow(address: &str, path: &str) -> io::Result<Events> {
        let mut stream = connect(address)?;
        stream.get_mut().write_all(format!("{}\r\n", head("GET", path, address)).as_bytes())?;
        let (status, ..) = answer_head(&mut stream)?;
        if status == 200 { Ok(Events(stream)) } else { Err(io::Error::other(format!("status {status}"))) }
    }

    /// To end it.
    pub fn end(&self) -> io::Result<End> {
        End::of(self.0.get_ref())
    }

    /// The next data. What stands between (lengths of chunks, names of events, comments) is passed over: no server
    /// that is measured splits a line.
    pub fn next(&mut self) -> io::Result<String> {
        loop {
            if let Some(data) = line(&mut self.0)?.strip_prefix("data: ") {
                return Ok(data.to_owned());
            }
        }
    }
}

/// A WebSocket on which nothing is said.
pub struct Socket(BufReader<TcpStream>);

impl Socket {
    /// Opens `path`.
    pub fn open(address: &str, path: &str) -> io::Result<Socket> {
        let mut stream = connect(address)?;
        let request = format!(
            "{}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            head("GET", path, address)
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let (status, ..) = answer_head(&mut stream)?;
        if status == 101 { Ok(Socket(stream)) } else { Err(io::Error::other(format!("status {status}"))) }
    }

    /// To end it.
    pub fn end(&self) -> io::Result<End> {
        End::of(self.0.get_ref())
    }

    /// The next text. Pings get no answer: the server does not insist within the time of a measurement.
    pub fn next(&mut self) -> io::Result<String> {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head)?;
            let length = match head[1] & 0x7f {
                126 => {
                    let mut length = [0; 2];
                    self.0.read_exact(&mut length)?;
                    u64::from(u16::from_be_bytes(length))
                }
                127 => {
                    let mut length = [0; 8];
                    self.0.read_exact(&mut length)?;
                    u64::from_be_bytes(length)
                }
                short => u64::from(short),
            };
            let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.0.read_exact(&mut text)?;
            if head[0] & 0x0f == 1 {
                return String::from_utf8(text).map_err(io::Error::other);
            }
        }
    }
}
