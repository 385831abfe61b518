//! Channels, as a command uses them: straight with the proxy, without HTTP. Shell.
//!
//! Invariant: a follower is told what changed, over every change of proxy: nobody is gone who posts
//! again, and nothing is told twice.

use super::{AGAIN, ClientError, Session, find, millis, reachable};
use crate::channels::feed::{Changes, Cursor, Mirror};
use crate::clock::{self, Moment};
use crate::transfer::connection::{Connection, ConnectionError, FrameReader, FrameWriter, dial_any};
use crate::types::{ChannelKey, NodeRoute};
use crate::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply};
use crate::wire::message::{ErrorCode, Purpose};
use bytes::Bytes;
use std::net::IpAddr;

/// A connection to a node that leads, or knows who does.
struct Line {
    reader: FrameReader,
    writer: FrameWriter,
    ip: IpAddr,
}

impl Line {
    fn new(connection: Connection) -> Line {
        let ip = connection.address().ip();
        let (reader, writer) = connection.split();
        Line { reader, writer, ip }
    }

    async fn ask(&mut self, ask: &ChannelAsk) -> Result<(ChannelReply, Bytes), ConnectionError> {
        self.writer.write(ask, &[]).await?;
        self.writer.flush().await?;
        self.hear().await
    }

    async fn hear(&mut self) -> Result<(ChannelReply, Bytes), ConnectionError> {
        let address = self.reader.address();
        let source = || std::io::ErrorKind::UnexpectedEof.into();
        self.reader.read().await?.ok_or_else(|| ConnectionError::Broken { address, source: source() })
    }
}

impl Session {
    /// Asks the proxy about a channel, again while it is new and gives nothing out.
    ///
    /// # Errors
    /// When no proxy is found in time, or it refuses.
    pub async fn ask_channels(&mut self, ask: &ChannelAsk) -> Result<(ChannelReply, Bytes), ClientError> {
        let deadline = clock::now().plus(millis(self.access.timeout));
        loop {
            let (line, reply, list) = self.begin(ask, deadline).await?;
            drop(line);
            match reply {
                // A post was stored all the same, and is known again by the token that was drawn for it.
                ChannelReply::NoUpdate { late: false, .. } if clock::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                ChannelReply::NoUpdate { late: false, .. } => {
                    let message = "the proxy is new, and clients have not posted again yet".to_owned();
                    return Err(ClientError::Refused { code: ErrorCode::NotReady, message });
                }
                ChannelReply::Refused { refusal } => return Err(refused(refusal)),
                reply => return Ok((reply, list)),
            }
        }
    }

    /// The first answer of a node that leads, and the connection to it.
    async fn begin(
        &self,
        ask: &ChannelAsk,
        deadline: Moment,
    ) -> Result<(Line, ChannelReply, Bytes), ClientError> {
        let mut next: Option<(NodeRoute, IpAddr)> = None;
        loop {
            let found = match next.take() {
                Some((route, via)) => {
                    let route = reachable(route, Some(via));
                    dial_any(&route.addresses, &self.endpoint, Purpose::Channels, Some(route.node)).await
                }
                None => {
                    let found = find::find(&self.access, &self.identity, &self.endpoint, deadline).await?;
                    let (address, node) = (found.connection.address(), found.connection.peer().node);
                    Connection::dial(address, &self.endpoint, Purpose::Channels, Some(node)).await
                }
            };
            let answered = match found {
                Ok(connection) => {
                    let mut line = Line::new(connection);
                    line.ask(ask).await.map(|(reply, list)| (line, reply, list))
                }
                Err(error) => Err(error),
            };
            match answered {
                Ok((line, ChannelReply::NotProxy { proxy }, _)) => next = proxy.map(|route| (route, line.ip)),
                Ok(answered) => return Ok(answered),
                Err(error) if clock::now() >= deadline => return Err(error.into()),
                Err(_) => {}
            }
            if clock::now() >= deadline {
                let timeout = self.access.timeout;
                return Err(ClientError::NoProxy { timeout, nodes_heard: true, network: None });
            }
            if next.is_none() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn refused(refusal: ChannelRefusal) -> ClientError {
    let code = match refusal {
        ChannelRefusal::TokenNeeded | ChannelRefusal::WrongToken => ErrorCode::Denied,
        ChannelRefusal::NoClient => ErrorCode::NotFound,
        ChannelRefusal::Full => ErrorCode::NoSpace,
        ChannelRefusal::TooFast | ChannelRefusal::Busy => ErrorCode::NotReady,
        ChannelRefusal::Body
        | ChannelRefusal::ClientId
        | ChannelRefusal::ClientIdTwice
        | ChannelRefusal::OtherClient
        | ChannelRefusal::TooLarge
        | ChannelRefusal::Expiry => ErrorCode::Invalid,
    };
    ClientError::Refused { code, message: refusal.to_string() }
}

/// One who follows a channel, whoever leads.
pub struct Follower {
    session: Session,
    ask: ChannelAsk,
    line: Option<Line>,
    mirror: Mirror,
    cursor: Cursor,
    begun: bool,
    waiting: bool,
}

/// What a follower hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Keep what you have.
    Wait,
    /// This is new.
    Changes(Changes),
}

impl Follower {
    /// Follows a channel, whether it is there or not.
    #[must_use]
    pub fn new(session: Session, channel: ChannelKey) -> Follower {
        Follower {
            session,
            ask: ChannelAsk::Follow { channel },
            line: None,
            mirror: Mirror::default(),
            cursor: Cursor::default(),
            begun: false,
            waiting: false,
        }
    }

    /// What happens next; goes on over a change of proxy, however long there is none.
    ///
    /// # Errors
    /// When there is no proxy to begin with, or it refuses.
    pub async fn next(&mut self) -> Result<Heard, ClientError> {
        loop {
            let reply = match &mut self.line {
                Some(line) => line.hear().await.map(|(reply, _)| reply).map_err(ClientError::from),
                None => self.dial().await,
            };
            let heard = match reply {
                Ok(reply) => self.hear(reply)?,
                Err(error) if !self.begun => return Err(error),
                Err(_) => {
                    self.line = None;
                    tokio::time::sleep(AGAIN).await;
                    self.lose()
                }
            };
            if let Some(heard) = heard {
                return Ok(heard);
            }
        }
    }

    async fn dial(&mut self) -> Result<ChannelReply, ClientError> {
        let deadline = clock::now().plus(millis(self.session.access.timeout));
        let (mut line, reply, _) = self.session.begin(&self.ask, deadline).await?;
        line.reader.set_timeout(None);
        self.line = Some(line);
        self.begun = true;
        Ok(reply)
    }

    fn hear(&mut self, reply: ChannelReply) -> Result<Option<Heard>, ClientError> {
        match reply {
            ChannelReply::Reset => self.mirror.reset(),
            ChannelReply::Update { client, body } => self.mirror.update(client, body.into()),
            ChannelReply::Gone { client } => self.mirror.gone(&client),
            ChannelReply::Complete => self.mirror.complete(),
            ChannelReply::Wait => return Ok(self.lose()),
            ChannelReply::NotProxy { .. } => {
                self.line = None;
                return Ok(self.lose());
            }
            ChannelReply::Refused { refusal } => return Err(refused(refusal)),
            _ => return Err(ClientError::Nonsense),
        }
        let changes = self.mirror.changes(&mut self.cursor);
        self.waiting &= !self.mirror.is_complete();
        Ok(changes.filter(|changes| !changes.is_empty()).map(Heard::Changes))
    }

    fn lose(&mut self) -> Option<Heard> {
        self.mirror.lose();
        (!std::mem::replace(&mut self.waiting, true)).then_some(Heard::Wait)
    }
}
