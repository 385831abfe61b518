//! A program on another machine, as a command follows it: over every break of the connection. Shell.
//!
//! Invariants: output is given on in order, each byte once, whatever breaks between; input is kept until the
//! program's node has it, and sent again after a break; nothing that is slow here (a terminal that was stopped, a pipe
//! that nobody reads) keeps this side from saying that it is still there.

use super::{ClientError, Session};
use crate::clock::{self, Moment};
use crate::limits::{
    JOB_INPUT_BYTES_MAX, JOB_OUTPUT_FRAME_BYTES, RUN_NODE_SILENCE, RUN_REATTACH_MAX, RUN_WORKING_INTERVAL,
};
use crate::transfer::connection::{ConnectionError, Endpoint, FrameReader, FrameWriter, dial_any};
use crate::types::{JobId, NodeRoute};
use crate::wire::message::{ErrorCode, NodeState, NodeStatus, Purpose, Reply, Request};
use crate::wire::run::{Denial, JobEnd, JobRow, JobSignal, OutputStream, RunFrame, Start, TerminalSize};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Why a program could not be run or followed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node does not allow it.
    #[error("{name} does not allow it: {why}")]
    Denied {
        /// Which node.
        name: Box<str>,
        /// Why.
        why: Denial,
    },
    /// The node refused, for another reason.
    #[error("{message}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// In words.
        message: Box<str>,
    },
    /// No connection, or none any more.
    #[error("no connection to {name}")]
    Connection {
        /// Which node.
        name: Box<str>,
        /// Why.
        #[source]
        source: ConnectionError,
        /// Whether the program was running already.
        running: bool,
    },
    /// The node said something that makes no sense.
    #[error("{name} gave an answer that makes no sense")]
    Nonsense {
        /// Which node.
        name: Box<str>,
    },
    /// A local file.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What comes of a program.
#[derive(Debug)]
pub enum RunEvent {
    /// It runs, or ran, as this job; `input` and `terminal` say what it takes.
    Attached {
        /// Which.
        job: JobId,
        /// Whether it takes input.
        input: bool,
        /// Whether it has a terminal.
        terminal: bool,
        /// Bytes of output that are not there any more.
        lost: u64,
    },
    /// It has said something; `upto` is the number of the next byte.
    Output {
        /// Where.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
        /// See [`Console::taken`].
        upto: u64,
    },
    /// The connection broke; it is tried again.
    Lost,
    /// It is there again.
    Back,
}

/// What a program is told.
#[derive(Clone, Copy, Debug)]
pub enum RunOrder {
    /// A signal for all of its processes.
    Signal(JobSignal),
    /// Its terminal has another size.
    Resize(TerminalSize),
    /// Nobody reads this stream any more.
    Close(OutputStream),
}

/// Where a program's output goes, and its input comes from.
pub struct Console {
    /// Takes events; may be slow.
    pub events: mpsc::Sender<RunEvent>,
    /// Up to where output is where it belongs.
    pub taken: watch::Receiver<u64>,
    /// Input, until it ends; an empty channel that is never closed for none.
    pub input: mpsc::Receiver<Bytes>,
    /// Signals and the like.
    pub orders: mpsc::Receiver<RunOrder>,
}

/// What is wanted of a node.
pub enum Wanted {
    /// This program.
    Start(Box<Start>),
    /// This job, from the oldest output that is there.
    Attach {
        /// Which.
        job: JobId,
        /// Whether its input comes from here.
        input: bool,
    },
    /// What this job has said until now, and no more.
    Past {
        /// Which.
        job: JobId,
    },
}

/// Pauses between two tries to reach the node.
const AGAIN_MS: [u64; 4] = [100, 300, 1_000, 2_000];

/// A program's node, and how to reach it.
#[derive(Clone)]
pub struct Target {
    /// Where it is.
    pub route: NodeRoute,
    /// Our keys.
    pub endpoint: Arc<Endpoint>,
    /// For asking where it is now.
    cluster: Arc<Session>,
}

impl Target {
    pub(super) async fn dial(&self) -> Result<(FrameReader, FrameWriter), ConnectionError> {
        let (route, endpoint) = (&self.route, &self.endpoint);
        let connection = dial_any(&route.addresses, endpoint, Purpose::Run, Some(route.node)).await?;
        let (mut reader, writer) = connection.split();
        reader.set_timeout(Some(RUN_NODE_SILENCE));
        Ok((reader, writer))
    }

    pub(super) fn lost(&self, source: ConnectionError, running: bool) -> RunError {
        RunError::Connection { name: self.route.name.clone(), source, running }
    }

    /// Asks the cluster where it is now.
    async fn look_again(&mut self) {
        let mut session = self.cluster.another();
        let found = tokio::time::timeout(RUN_NODE_SILENCE, session.targets()).await;
        let Ok(Ok(targets)) = found else { return };
        if let Some(found) = targets.into_iter().find(|target| target.route.node == self.route.node) {
            self.route = found.route;
        }
    }

    /// Asks one thing and hears the answer.
    async fn ask(&self, frame: RunFrame) -> Result<RunFrame, RunError> {
        let asked = async {
            let (mut reader, mut writer) = self.dial().await?;
            writer.write(&frame, &[]).await?;
            writer.flush().await?;
            let address = reader.address();
            let source = || std::io::ErrorKind::UnexpectedEof.into();
            reader
                .read::<RunFrame>()
                .await?
                .ok_or_else(|| ConnectionError::Broken { address, source: source() })
        };
        match asked.await {
            Ok((RunFrame::Denied { why }, _)) => Err(RunError::Denied { name: self.route.name.clone(), why }),
            Ok((RunFrame::Failed { code, message }, _)) => Err(RunError::Refused { code, message }),
            Ok((answer, _)) => Ok(answer),
            Err(source) => Err(self.lost(source, false)),
        }
    }

    pub(super) fn nonsense(&self) -> RunError {
        RunError::Nonsense { name: self.route.name.clone() }
    }

    /// What runs there for others, and what ran.
    ///
    /// # Errors
    /// When it cannot be reached, or does not allow it.
    pub async fn jobs(&self) -> Result<Vec<JobRow>, RunError> {
        match self.ask(RunFrame::List).await? {
            RunFrame::Jobs { jobs } => Ok(jobs),
            _ => Err(self.nonsense()),
        }
    }

    /// How many programs run there for others, and how busy it is, in thousandths of its processors.
    ///
    /// # Errors
    /// When it cannot be reached, or does not allow it.
    pub async fn idle(&self) -> Result<(u32, u32), RunError> {
        match self.ask(RunFrame::Ask).await? {
            RunFrame::Idle { jobs, load_milli } => Ok((jobs, load_milli)),
            _ => Err(self.nonsense()),
        }
    }

    /// Ends a job.
    ///
    /// # Errors
    /// When it cannot be reached, does not allow it, or has no such job.
    pub async fn stop(&self, job: JobId) -> Result<(), RunError> {
        match self.ask(RunFrame::Stop { job }).await? {
            RunFrame::Stopping => Ok(()),
            _ => Err(self.nonsense()),
        }
    }

    /// Starts a program that goes on by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self, start: Start) -> Result<JobId, RunError> {
        match self.ask(RunFrame::Start(Box::new(start))).await? {
            RunFrame::Attached { job, .. } => Ok(job),
            _ => Err(self.nonsense()),
        }
    }

    /// Whether a job has a terminal.
    ///
    /// # Errors
    /// When it cannot be reached, or has no such job.
    pub async fn has_terminal(&self, job: JobId) -> Result<bool, RunError> {
        match self.ask(RunFrame::Attach { job, output_from: Some(u64::MAX), input: false }).await? {
            RunFrame::Attached { terminal, .. } => Ok(terminal),
            _ => Err(self.nonsense()),
        }
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// When it cannot be reached, or has no such job.
    pub async fn end_of(&self, job: JobId) -> Result<JobEnd, RunError> {
        let (events, mut happening) = mpsc::channel(1);
        let (told, taken) = watch::channel(0);
        let (_input, input) = mpsc::channel(1);
        let (_orders, orders) = mpsc::channel(1);
        let console = Console { events, taken, input, orders };
        let drain = async {
            while let Some(event) = happening.recv().await {
                if let RunEvent::Output { upto, .. } = event {
                    told.send_replace(upto);
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = self.follow(Wanted::Attach { job, input: false }, console) => end,
            () = drain => Err(self.nonsense()),
        }
    }

    /// Starts or joins a program and stays with it until it has ended.
    ///
    /// # Errors
    /// When it cannot be started or joined, or the connection is lost for [`RUN_REATTACH_MAX`].
    pub async fn follow(&self, wanted: Wanted, console: Console) -> Result<JobEnd, RunError> {
        let following = Following {
            wanted,
            job: None,
            position: 0,
            window: Window::default(),
            pending: VecDeque::new(),
            end: None,
            past: None,
            told_taken: 0,
            suspension: None,
            size: None,
        };
        following.run(self.clone(), console).await
    }
}

/// Input that may have to be sent again.
#[derive(Default)]
struct Window {
    /// Sent, perhaps not there; in order.
    kept: VecDeque<Bytes>,
    /// Number of the first byte that is kept.
    from: u64,
    /// Number of the next byte.
    upto: u64,
    ended: bool,
}

impl Window {
    fn has_room(&self) -> bool {
        !self.ended && self.upto - self.from + JOB_OUTPUT_FRAME_BYTES as u64 <= JOB_INPUT_BYTES_MAX as u64
    }

    fn push(&mut self, bytes: Bytes) {
        self.upto += bytes.len() as u64;
        self.kept.push_back(bytes);
    }

    /// The other side has all before this one.
    fn forget(&mut self, upto: u64) {
        while self.from < upto
            && let Some(first) = self.kept.front_mut()
        {
            let count = (upto - self.from).min(first.len() as u64);
            first.advance(usize::try_from(count).unwrap_or(first.len()));
            self.from += count;
            if first.is_empty() {
                self.kept.pop_front();
            }
        }
    }
}

/// A program that is followed.
struct Following {
    wanted: Wanted,
    /// Set once the node has said that it runs.
    job: Option<(JobId, bool)>,
    /// Number of the next byte of output.
    position: u64,
    window: Window,
    /// Events that the console has not taken.
    pending: VecDeque<RunEvent>,
    end: Option<(JobEnd, u64)>,
    /// What comes from here on is not wanted.
    past: Option<u64>,
    told_taken: u64,
    /// What holds until it is changed, and is said again after a break: whether it is suspended, and its
    /// terminal's size.
    suspension: Option<RunOrder>,
    size: Option<RunOrder>,
}

/// Why a session ended.
enum Over {
    Ended,
    Broken(ConnectionError),
    Error(RunError),
}

impl From<ConnectionError> for Over {
    fn from(error: ConnectionError) -> Over {
        Over::Broken(error)
    }
}

impl Following {
    async fn run(mut self, mut target: Target, mut console: Console) -> Result<JobEnd, RunError> {
        let (mut tries, mut lost_at): (usize, Option<Moment>) = (0, None);
        loop {
            let error = match self.session(&target, &mut console, &mut lost_at).await {
                Over::Ended => {
                    return Ok(self.end.map_or(JobEnd::Lost, |(end, _)| end));
                }
                Over::Error(error) => return Err(error),
                Over::Broken(error) => error,
            };
            let running = self.job.is_some();
            let since = *lost_at.get_or_insert_with(|| {
                tries = 0;
                if running {
                    self.pending.push_back(RunEvent::Lost);
                }
                clock::now()
            });
            let limit = if running { RUN_REATTACH_MAX } else { Duration::ZERO };
            if clock::now().since(since) >= super::millis(limit) {
                return Err(target.lost(error, running));
            }
            let pause = AGAIN_MS.get(tries).or(AGAIN_MS.last()).copied().unwrap_or(1_000);
            tries += 1;
            if !self.pause(&mut console, Duration::from_millis(pause)).await {
                return Err(target.lost(error, running)); // whoever waits has had enough
            }
            if tries > 2 {
                target.look_again().await; // it may have another address now
            }
        }
    }

    /// Waits before the next try, and gives on what has come meanwhile. `false` if the user interrupts that.
    async fn pause(&mut self, console: &mut Console, pause: Duration) -> bool {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                place = console.events.reserve(), if !self.pending.is_empty() => {
                    match (place, self.pending.pop_front()) {
                        (Ok(place), Some(event)) => place.send(event),
                        _ => return false,
                    }
                }
                Some(order) = console.orders.recv() => {
                    if self.note(order) {
                        return false;
                    }
                }
            }
        }
    }

    /// Remembers what is to be said again after a break; whether it is something else, and a wish to end.
    fn note(&mut self, order: RunOrder) -> bool {
        match order {
            RunOrder::Signal(JobSignal::Suspend | JobSignal::Continue) => self.suspension = Some(order),
            RunOrder::Resize(_) => self.size = Some(order),
            RunOrder::Signal(JobSignal::User1 | JobSignal::User2) | RunOrder::Close(_) => {}
            RunOrder::Signal(_) => return true,
        }
        false
    }

    async fn session(
        &mut self,
        target: &Target,
        console: &mut Console,
        lost_at: &mut Option<Moment>,
    ) -> Over {
        let result = async {
            let (mut reader, mut writer) = target.dial().await?;
            self.open(target, &mut reader, &mut writer).await?;
            if lost_at.take().is_some() {
                self.pending.push_back(RunEvent::Back);
            }
            self.converse(console, &mut reader, &mut writer).await
        };
        match result.await {
            Ok(()) => Over::Ended,
            Err(over) => over,
        }
    }

    /// Starts or joins the program, and brings its input up to date.
    async fn open(
        &mut self,
        target: &Target,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> Result<(), Over> {
        let first = match (&self.wanted, self.job) {
            (_, Some((job, input))) => RunFrame::Attach { job, output_from: Some(self.position), input },
            (Wanted::Start(start), None) => RunFrame::Start(start.clone()),
            (Wanted::Attach { job, input }, None) => {
                RunFrame::Attach { job: *job, output_from: None, input: *input }
            }
            (Wanted::Past { job }, None) => RunFrame::Attach { job: *job, output_from: None, input: false },
        };
        writer.write(&first, &[]).await?;
        writer.flush().await?;
        let name = || target.route.name.clone();
        loop {
            match reader.read::<RunFrame>().await? {
                Some((
                    RunFrame::Attached { job, output_from, output_upto, input_upto, input, terminal },
                    _,
                )) => {
                    let lost = output_from.saturating_sub(self.position);
                    if self.job.is_none() {
                        self.pending.push_back(RunEvent::Attached { job, input, terminal, lost });
                        self.window.from = input_upto;
                        self.window.upto = input_upto;
                    }
                    if matches!(self.wanted, Wanted::Past { .. }) {
                        self.past = Some(output_upto);
                    }
                    self.job = Some((job, input));
                    self.position = output_from;
                    self.window.forget(input_upto);
                    if input_upto > self.window.upto {
                        // Somebody else has given input meanwhile; ours goes on after it.
                        (self.window.from, self.window.upto) = (input_upto, input_upto);
                        self.window.kept.clear();
                    }
                    for order in self.suspension.into_iter().chain(self.size) {
                        writer.write(&frame_of(order), &[]).await?;
                    }
                    let mut from = self.window.from;
                    for bytes in &self.window.kept {
                        writer.write(&RunFrame::Input { from }, bytes).await?;
                        from += bytes.len() as u64;
                    }
                    if self.window.ended {
                        writer.write(&RunFrame::InputEnd { upto: self.window.upto }, &[]).await?;
                    }
                    return Ok(writer.flush().await?);
                }
                Some((RunFrame::Denied { why }, _)) => {
                    return Err(Over::Error(RunError::Denied { name: name(), why }));
                }
                Some((RunFrame::Failed { code, message }, _)) => {
                    return Err(Over::Error(RunError::Refused { code, message }));
                }
                Some((RunFrame::Working, _)) => {}
                Some(_) => return Err(Over::Error(target.nonsense())),
                None => return Err(closed(reader)),
            }
        }
    }

    /// Passes on what either side says, until the program has ended and all of its output is taken.
    async fn converse(
        &mut self,
        console: &mut Console,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> Result<(), Over> {
        let mut still_here = tokio::time::interval(RUN_WORKING_INTERVAL);
        let (mut orders, mut input) = (true, true);
        // A read that is begun anew again and again never times out by itself.
        let mut heard_at = clock::now();
        loop {
            let upto = self.past.or(self.end.as_ref().map(|(_, upto)| *upto));
            let over = upto.is_some_and(|upto| *console.taken.borrow() >= upto);
            if over && self.pending.is_empty() {
                let _ = writer.close().await;
                return Ok(());
            }
            tokio::select! {
                frame = reader.read::<RunFrame>(), if self.end.is_none() => match frame? {
                    Some((frame, payload)) => {
                        heard_at = clock::now();
                        self.heard(frame, payload, reader)?;
                    }
                    None => return Err(closed(reader)),
                },
                place = console.events.reserve(), if !self.pending.is_empty() => {
                    match (place, self.pending.pop_front()) {
                        (Ok(place), Some(event)) => place.send(event),
                        _ => return Ok(()), // nobody listens any more
                    }
                }
                changed = console.taken.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let upto = *console.taken.borrow_and_update();
                    if upto > self.told_taken {
                        self.told_taken = upto;
                        say(writer, RunFrame::OutputTaken { upto }, &[]).await?;
                    }
                }
                order = console.orders.recv(), if orders => match order {
                    Some(order) => {
                        self.note(order);
                        say(writer, frame_of(order), &[]).await?;
                    }
                    None => orders = false,
                },
                bytes = console.input.recv(), if input && self.window.has_room() => match bytes {
                    Some(bytes) => {
                        let from = self.window.upto;
                        self.window.push(bytes.clone());
                        say(writer, RunFrame::Input { from }, &bytes).await?;
                    }
                    None => {
                        input = false;
                        self.window.ended = true;
                        say(writer, RunFrame::InputEnd { upto: self.window.upto }, &[]).await?;
                    }
                },
                _ = still_here.tick() => {
                    if self.end.is_none() && clock::now().since(heard_at) >= super::millis(RUN_NODE_SILENCE) {
                        return Err(ConnectionError::Timeout { address: reader.address() }.into());
                    }
                    say(writer, RunFrame::Working, &[]).await?;
                }
            }
        }
    }

    fn heard(&mut self, frame: RunFrame, payload: Bytes, reader: &FrameReader) -> Result<(), Over> {
        match frame {
            RunFrame::Output { stream, from } => {
                if from != self.position {
                    let source = std::io::Error::other("output that does not follow");
                    return Err(ConnectionError::Broken { address: reader.address(), source }.into());
                }
                self.position += payload.len() as u64;
                self.pending.push_back(RunEvent::Output { stream, bytes: payload, upto: self.position });
            }
            RunFrame::InputTaken { upto } => self.window.forget(upto.min(self.window.upto)),
            RunFrame::Ended { end, output_upto } => self.end = Some((end, output_upto)),
            RunFrame::Failed { code, message } => {
                return Err(Over::Error(RunError::Refused { code, message }));
            }
            _ => {}
        }
        Ok(())
    }
}

fn frame_of(order: RunOrder) -> RunFrame {
    match order {
        RunOrder::Signal(signal) => RunFrame::Signal { signal },
        RunOrder::Resize(size) => RunFrame::Resize { size },
        RunOrder::Close(stream) => RunFrame::OutputClosed { stream },
    }
}

fn closed(reader: &FrameReader) -> Over {
    let source = std::io::ErrorKind::UnexpectedEof.into();
    ConnectionError::Broken { address: reader.address(), source }.into()
}

async fn say(writer: &mut FrameWriter, frame: RunFrame, payload: &[u8]) -> Result<(), ConnectionError> {
    writer.write(&frame, payload).await?;
    writer.flush().await
}

impl Session {
    /// The node of this name or id.
    ///
    /// # Errors
    /// When there is none, or several, or no proxy is found.
    pub async fn target(&mut self, node: &str) -> Result<Target, ClientError> {
        let all = self.nodes().await?;
        let called =
            |status: &NodeStatus| *status.route.name == *node || status.route.node.to_string() == node;
        let (mut found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(called);
        if found.len() > 1 {
            // One that is gone for good stays listed for a while.
            found.retain(is_up);
        }
        let refuse = |code, message: String| Err(ClientError::Refused { code, message });
        match found.len() {
            0 => {
                let names: Vec<String> =
                    others.into_iter().map(|other| other.route.name.to_string()).collect();
                refuse(
                    ErrorCode::NotFound,
                    format!("no machine is called `{node}`; there are: {}", names.join(", ")),
                )
            }
            1 => self.targets_of(found).pop().ok_or(ClientError::Nonsense),
            _ => refuse(
                ErrorCode::Invalid,
                format!("several machines are called `{node}`: give the id of one"),
            ),
        }
    }

    /// All nodes that are up.
    ///
    /// # Errors
    /// When no proxy is found.
    pub async fn targets(&mut self) -> Result<Vec<Target>, ClientError> {
        let mut nodes = self.nodes().await?;
        nodes.retain(is_up);
        Ok(self.targets_of(nodes))
    }

    async fn nodes(&mut self) -> Result<Vec<NodeStatus>, ClientError> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(status.nodes),
            _ => Err(ClientError::Nonsense),
        }
    }

    fn targets_of(&self, nodes: Vec<NodeStatus>) -> Vec<Target> {
        let routes = self.localise(nodes.into_iter().map(|node| node.route).collect());
        let (endpoint, cluster) = (Arc::clone(self.endpoint()), Arc::new(self.another()));
        let target = |route| Target { route, endpoint: Arc::clone(&endpoint), cluster: Arc::clone(&cluster) };
        routes.into_iter().map(target).collect()
    }
}

fn is_up(node: &NodeStatus) -> bool {
    matches!(node.state, NodeState::Up | NodeState::Draining)
}
