//! As much of the NATS protocol as the comparison needs: text lines over TCP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection to a server.
pub struct Nats {
    input: BufReader<TcpStream>,
    output: TcpStream,
    asked: u32,
    subscribed: u32,
}

impl Nats {
    /// Connects, and waits until the server answers.
    pub fn connect(server: &str) -> io::Result<Nats> {
        let output = TcpStream::connect(server)?;
        output.set_nodelay(true)?;
        let mut nats = Nats { input: BufReader::new(output.try_clone()?), output, asked: 0, subscribed: 0 };
        nats.line()?;
        nats.write("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        while nats.line()? != "PONG" {}
        Ok(nats)
    }

    /// The same connection, to listen on while this one speaks.
    pub fn another(&mut self) -> io::Result<Nats> {
        let input = BufReader::new(self.output.try_clone()?);
        Ok(Nats { input, output: self.output.try_clone()?, asked: 0, subscribed: 0 })
    }

    /// From now on messages of this subject come.
    pub fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.subscribed += 1;
        self.write(&format!("SUB {subject} {}\r\n", self.subscribed))
    }

    /// Sends a message.
    pub fn publish(&mut self, subject: &str, reply: &str, text: &str) -> io::Result<()> {
        self.write(&format!("PUB {subject} {reply} {}\r\n{text}\r\n", text.len()))
    }

    /// Asks something of JetStream and waits for an answer that is no error. Other messages that come
    /// meanwhile are dropped.
    pub fn ask(&mut self, subject: &str, text: &str) -> io::Result<String> {
        self.asked += 1;
        let inbox = format!("answers.{}.{}", std::process::id(), self.asked);
        self.subscribe(&inbox)?;
        self.publish(subject, &inbox, text)?;
        loop {
            let (of, _, answer) = self.message()?;
            if of == inbox {
                let failed = answer.contains("\"error\":");
                return if failed { Err(io::Error::other(answer)) } else { Ok(answer) };
            }
        }
    }

    /// The next message: its subject, where its answer is to go, and its text.
    pub fn message(&mut self) -> io::Result<(String, String, String)> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let (subject, reply, length) = match words.as_slice() {
                ["PING"] => {
                    self.write("PONG\r\n")?;
                    continue;
                }
                ["MSG", subject, _, length] => (*subject, "", *length),
                ["MSG", subject, _, reply, length] => (*subject, *reply, *length),
                ["-ERR", ..] => return Err(io::Error::other(line)),
                _ => continue,
            };
            let mut text = vec![0; length.parse::<usize>().map_err(io::Error::other)? + 2];
            self.input.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            let text = String::from_utf8(text).map_err(io::Error::other)?;
            return Ok((subject.to_owned(), reply.to_owned(), text));
        }
    }

    /// Whether more has come already.
    pub fn has_more(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
