//! As much of MQTT 3.1.1 as the comparison needs, over a blocking connection.

use super::http::End;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

/// A client of a broker.
pub struct Mqtt {
    input: BufReader<TcpStream>,
    output: TcpStream,
    last: u16,
}

/// What comes from the broker.
pub enum Packet {
    /// It has a message that was sent with QoS 1.
    Got(u16),
    /// The text of somebody's message, sent with QoS 0.
    Message(Vec<u8>),
    /// Something else.
    Other,
}

impl Mqtt {
    /// Connects with a session that ends with the connection.
    pub fn connect(address: &str, id: &str) -> io::Result<Mqtt> {
        let output = TcpStream::connect(address)?;
        output.set_nodelay(true)?;
        let input = BufReader::with_capacity(64 << 10, output.try_clone()?);
        let mut mqtt = Mqtt { input, output, last: 0 };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        text(&mut body, id);
        mqtt.write(0x10, &body)?;
        let (kind, answer) = mqtt.read()?;
        let is_taken = kind == 0x20 && answer.get(1) == Some(&0);
        if is_taken { Ok(mqtt) } else { Err(io::Error::other(format!("not connected: {answer:?}"))) }
    }

    /// To end it.
    pub fn end(&self) -> io::Result<End> {
        End::of(&self.output)
    }

    /// From now on messages of these topics come, with QoS 0.
    pub fn subscribe(&mut self, topics: &str) -> io::Result<()> {
        let mut body = vec![0, 1];
        text(&mut body, topics);
        body.push(0);
        self.write(0x82, &body)?;
        while self.read()?.0 != 0x90 {}
        Ok(())
    }

    /// Sends a message; with `sure` (QoS 1) the broker says that it has it, by the number that is given back.
    pub fn publish(&mut self, topic: &str, message: &[u8], sure: bool) -> io::Result<u16> {
        let mut body = Vec::with_capacity(message.len() + topic.len() + 4);
        text(&mut body, topic);
        if sure {
            self.last = self.last.checked_add(1).unwrap_or(1);
            body.extend_from_slice(&self.last.to_be_bytes());
        }
        body.extend_from_slice(message);
        self.write(if sure { 0x32 } else { 0x30 }, &body)?;
        Ok(self.last)
    }

    /// What comes next.
    pub fn next(&mut self) -> io::Result<Packet> {
        let (kind, mut body) = self.read()?;
        let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        match kind {
            0x40 if body.len() == 2 => Ok(Packet::Got(number(0))),
            0x30 if body.len() > 2 => {
                let topic = usize::from(number(0));
                Ok(Packet::Message(body.split_off(2 + topic)))
            }
            _ => Ok(Packet::Other),
        }
    }

    fn write(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![kind];
        let mut left = body.len();
        loop {
            let more = u8::from(left > 0x7f) << 7;
            packet.push(u8::try_from(left & 0x7f).map_err(io::Error::other)? | more);
            left >>= 7;
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.output.write_all(&packet)
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        let kind = byte[0];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            self.input.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.input.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a short text");
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}
