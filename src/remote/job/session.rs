//! One connection of a command that starts programs, follows them or asks about them.
//!
//! Invariant: a session hears of all output from where it began, in order, and of the end after it; what it
//! says is taken in while it is being told.

use super::output::OutputReader;
use super::{Job, JobError, Jobs, collect};
use crate::limits::{JOB_OUTPUT_FRAME_BYTES, RUN_SESSION_SILENCE, RUN_WORKING_INTERVAL};
use crate::transfer::connection::{Connection, ConnectionError, FrameReader, FrameWriter};
use crate::types::JobId;
use crate::wire::message::{ErrorCode, Hello};
use crate::wire::run::{OutputStream, RunFrame, Start, SupervisorOrder};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

/// Output that is sent before the command has put it where it belongs.
const AHEAD_BYTES: u64 = 4 << 20;
/// Output frames between two flushes.
const BATCH_FRAMES: usize = 16;

/// Serves a connection until the command closes it or falls silent.
///
/// # Errors
/// When the connection breaks.
pub async fn serve(connection: Connection, jobs: &Arc<Jobs>) -> Result<(), ConnectionError> {
    let peer = Peer { hello: connection.peer().clone(), from: connection.address().ip() };
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(Some(RUN_SESSION_SILENCE));
    while let Some((frame, _)) = reader.read::<RunFrame>().await? {
        // For each request, so that it holds for what is asked on an old connection as well.
        if let Err(why) = jobs.consent.check(&peer.hello, peer.from.to_canonical()) {
            tracing::warn!(from = %peer.from, node = %peer.hello.node, %why, "a program was refused");
            say(&mut writer, &RunFrame::Denied { why }).await?;
            continue;
        }
        match frame {
            RunFrame::Start(start) => match begin(jobs, *start, &peer).await {
                Ok((job, input)) => return attend(job, Some(0), input, reader, writer).await,
                Err(error) => refuse(&mut writer, error).await?,
            },
            RunFrame::Attach { job, output_from, input } => match jobs.find(job) {
                Ok(job) => return attend(job, output_from, input, reader, writer).await,
                Err(error) => refuse(&mut writer, error).await?,
            },
            RunFrame::List => {
                let jobs = jobs.rows();
                say(&mut writer, &RunFrame::Jobs { jobs }).await?;
            }
            RunFrame::Stop { job } => match stop(jobs, job) {
                Ok(()) => say(&mut writer, &RunFrame::Stopping).await?,
                Err(error) => refuse(&mut writer, error).await?,
            },
            RunFrame::Ask => {
                let idle = RunFrame::Idle { jobs: jobs.running(), load_milli: load_milli() };
                say(&mut writer, &idle).await?;
            }
            RunFrame::Collect { workspace, path } => {
                let owner = jobs.account.as_ref().map(|account| account.uid);
                collect::collect(&jobs.workspaces, &workspace, path, owner, &mut writer).await?;
            }
            RunFrame::Working => {}
            _ => fail(&mut writer, ErrorCode::Invalid, "this makes no sense outside of a session").await?,
        }
    }
    Ok(())
}

/// Who asks.
struct Peer {
    hello: Hello,
    from: IpAddr,
}

async fn begin(jobs: &Arc<Jobs>, start: Start, peer: &Peer) -> Result<(Arc<Job>, bool), JobError> {
    let (node, from, jobs) = (peer.hello.node.to_string(), peer.from.to_string(), Arc::clone(jobs));
    let started = tokio::task::spawn_blocking(move || jobs.start(&start, node, from));
    let job = started.await.unwrap_or(Err(JobError::Stopping)).inspect_err(|error| {
        if let JobError::Denied(why) = error {
            tracing::warn!(from = %peer.from, node = %peer.hello.node, %why, "a program was refused");
        }
    })?;
    let input = job.has_input;
    Ok((job, input))
}

fn stop(jobs: &Jobs, job: JobId) -> Result<(), JobError> {
    jobs.find(job)?.order(&SupervisorOrder::Stop);
    Ok(())
}

async fn refuse(writer: &mut FrameWriter, error: JobError) -> Result<(), ConnectionError> {
    match error {
        JobError::Denied(why) => say(writer, &RunFrame::Denied { why }).await,
        error => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            fail(writer, error.code(), &format!("{error}{cause}")).await
        }
    }
}

async fn fail(writer: &mut FrameWriter, code: ErrorCode, message: &str) -> Result<(), ConnectionError> {
    say(writer, &RunFrame::Failed { code, message: message.into() }).await
}

pub(super) async fn say(writer: &mut FrameWriter, frame: &RunFrame) -> Result<(), ConnectionError> {
    writer.write(frame, &[]).await?;
    writer.flush().await
}

/// Leaves the job with the session, however that ends.
struct Attendance {
    job: Arc<Job>,
    session: u64,
    /// The command fell silent, rather than going.
    silent: AtomicBool,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.job.leave(self.session, self.silent.load(Ordering::Relaxed));
    }
}

async fn attend(
    job: Arc<Job>,
    output_from: Option<u64>,
    input: bool,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), ConnectionError> {
    let output = job.output.reader(output_from.unwrap_or(0));
    let session = match job.join(output.position(), input) {
        Ok(session) => session,
        Err(error) => return refuse(&mut writer, error).await,
    };
    // From where on output is kept for this session, if some went meanwhile.
    let output = job.output.reader(output.position());
    let attendance = Attendance { job, session, silent: AtomicBool::new(false) };
    let job = &attendance.job;
    let (input_upto, over) = {
        let state = job.state();
        (state.input_upto, state.end.is_some() || state.input_ends)
    };
    let attached = RunFrame::Attached {
        job: job.id,
        output_from: output.position(),
        output_upto: *job.output.end().borrow(),
        input_upto,
        input: job.has_input && !over,
        terminal: job.has_terminal,
    };
    say(&mut writer, &attached).await?;
    let ended = tokio::select! {
        told = tell(job, session, output, &mut writer) => told,
        heard = hear(job, session, &mut reader) => heard,
    };
    attendance.silent.store(matches!(ended, Err(ConnectionError::Timeout { .. })), Ordering::Relaxed);
    ended
}

/// Takes in what the command says, until it closes the connection.
async fn hear(job: &Arc<Job>, session: u64, reader: &mut FrameReader) -> Result<(), ConnectionError> {
    let address = reader.address();
    while let Some((frame, payload)) = reader.read::<RunFrame>().await? {
        match frame {
            RunFrame::OutputTaken { upto } => job.taken(session, upto),
            RunFrame::OutputClosed { stream } => job.close(stream),
            RunFrame::Input { from } => {
                job.add_input(session, from, payload).map_err(|what| ConnectionError::Broken {
                    address,
                    source: std::io::Error::other(what),
                })?;
            }
            RunFrame::InputEnd { upto } => job.end_input(session, upto),
            RunFrame::Signal { signal } => job.pass(signal),
            RunFrame::Resize { size } => job.resize(size),
            RunFrame::Stop { .. } => job.order(&SupervisorOrder::Stop),
            _ => {}
        }
    }
    Ok(())
}

/// Tells output, how far the input is, and the end. Comes back only with an error.
async fn tell(
    job: &Arc<Job>,
    session: u64,
    mut output: OutputReader,
    writer: &mut FrameWriter,
) -> Result<(), ConnectionError> {
    let (mut end_of_output, mut changed) = (job.output.end(), job.changed.subscribe());
    let (mut input_told, mut end_told) = (None, false);
    loop {
        let (over, taken) = {
            let state = job.state();
            (state.end.clone(), state.input_taken)
        };
        // What the command has not put where it belongs waits here, not in its memory.
        while output.position() < job.taken_by(session) + AHEAD_BYTES {
            let (back, batch) = match read_batch(job, output).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, job = %job.id, "output of a job cannot be read");
                    let message = format!("its output cannot be read there: {error}");
                    fail(writer, ErrorCode::Disk, &message).await?;
                    return std::future::pending().await; // until the command goes
                }
            };
            output = back;
            if batch.is_empty() {
                break;
            }
            for (stream, from, bytes) in batch {
                writer.write(&RunFrame::Output { stream, from }, &bytes).await?;
            }
            writer.flush().await?;
        }
        if input_told.replace(taken) != Some(taken) && job.has_input {
            say(writer, &RunFrame::InputTaken { upto: taken }).await?;
        }
        if let Some(end) = over
            && output.position() >= *end_of_output.borrow()
            && !end_told
        {
            say(writer, &RunFrame::Ended { end, output_upto: output.position() }).await?;
            end_told = true;
        }
        let ahead = output.position() >= job.taken_by(session) + AHEAD_BYTES;
        let news = async {
            tokio::select! {
                grown = end_of_output.wait_for(|end| *end > output.position()), if !ahead => drop(grown),
                _ = changed.changed() => {}
            }
        };
        if timeout(RUN_WORKING_INTERVAL, news).await.is_err() {
            say(writer, &RunFrame::Working).await?;
        }
    }
}

type Batch = Vec<(OutputStream, u64, Vec<u8>)>;

/// Reads what there is, at most [`BATCH_FRAMES`] frames of it.
async fn read_batch(job: &Arc<Job>, mut output: OutputReader) -> std::io::Result<(OutputReader, Batch)> {
    if output.position() >= *job.output.end().borrow() {
        return Ok((output, Batch::new()));
    }
    let of = Arc::clone(job);
    let read = tokio::task::spawn_blocking(move || {
        let mut batch = Batch::new();
        while batch.len() < BATCH_FRAMES {
            let from = output.position();
            match output.next(&of.output, JOB_OUTPUT_FRAME_BYTES)? {
                Some((stream, mut bytes)) => match batch.last_mut() {
                    // Many small writes become few frames.
                    Some((last, _, before))
                        if *last == stream && before.len() + bytes.len() <= JOB_OUTPUT_FRAME_BYTES =>
                    {
                        before.append(&mut bytes);
                    }
                    _ => batch.push((stream, from, bytes)),
                },
                None => break,
            }
        }
        Ok((output, batch))
    });
    read.await.unwrap_or_else(|_| Err(std::io::Error::other("the reading stopped")))
}

/// Processes that want a processor, on average of the last minute, in thousandths of the processors.
fn load_milli() -> u32 {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let average: f64 = average.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let milli = average.max(0.0) * 1_000.0 / f64::from(u32::try_from(processors).unwrap_or(1));
    // A float beyond the range becomes its end.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let milli = milli as u32;
    milli
}
