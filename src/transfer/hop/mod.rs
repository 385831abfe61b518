//! A holder's place in a put chain: takes contents from the one before, keeps them, passes them on.
//!
//! Four tasks and a thread share one [`State`]: reading from and writing to the one before
//! (upstream), the same for the next holder (downstream), and hashing and disk. Invariants:
//! - only the task that reads from upstream ever waits for room, so what flows towards the sender
//!   never waits for what flows away from it, and no cycle of holders can stand still;
//! - chunk bytes in memory are at most [`OFFER_WINDOW_BYTES`] and one batch read from the disk for
//!   the next holder;
//! - whatever happens downstream, this holder goes on.

mod disk;
mod state;

use crate::clock;
use crate::limits::{
    CHUNK_BYTES_MAX, OFFER_WINDOW_BYTES, OFFER_WINDOW_CHUNKS, PUT_OUTSTANDING_MAX, REPLICAS_MAX,
    SERVE_BATCH_BYTES, STALL_TIMEOUT, WORKING_INTERVAL,
};
use crate::store::{Finished, StoreError};
use crate::transfer::chain::{Ready, open_first};
use crate::transfer::connection::{ConnectionError, FrameReader, FrameWriter};
use crate::transfer::holder::{HolderContext, HolderError, code_of};
use crate::types::{ChunkRef, NodeId, NodeRoute};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{ContentEnd, TransferFrame};
use disk::Worker;
use state::{Held, Job, Next, Outgoing, Passing, Slot, State};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
/// Serves one chain as the holder that got `ChainOpen { onward }`.
pub(super) async fn serve_chain(
    mut reader: FrameReader,
    mut writer: FrameWriter,
    onward: Vec<NodeRoute>,
    context: Arc<HolderContext>,
) -> Result<(), HolderError> {
    if onward.len() > usize::from(REPLICAS_MAX) {
        return Err(HolderError::Protocol { address: reader.address(), what: "a chain beyond the limits" });
    }
    let mut named = BTreeSet::from([context.node]);
    if !onward.iter().all(|route| named.insert(route.node)) {
        return Err(HolderError::Protocol { address: reader.address(), what: "a chain that loops" });
    }
    let (next, failed) = connect_onward(&mut writer, &onward, &context).await?;
    let mut nodes = vec![context.node];
    nodes.extend(next.iter().flat_map(|(ready, ..)| &ready.nodes));
    let ready = TransferFrame::ChainReady { nodes, failed: failed.iter().copied().collect() };
    writer.write(&ready, &[]).await?;
    writer.flush().await?;

    // Those that could not be reached have been reported; `Stored` names later failures.
    let state = State { next: next.as_ref().map(|(ready, ..)| Next::new(&ready.nodes)), ..State::default() };
    let hop = Arc::new(Hop {
        context,
        state: Mutex::new(state),
        up: Notify::new(),
        down: Notify::new(),
        room: Notify::new(),
        work: Condvar::new(),
    });
    let _closing = Closing(Arc::clone(&hop));
    let mut tasks = JoinSet::new();
    if let Some((_, down_reader, down_writer)) = next {
        let (read, write) = (Arc::clone(&hop), Arc::clone(&hop));
        tasks.spawn(async move { read.lose_next(&read.read_down(down_reader).await) });
        tasks.spawn(async move {
            if let Err(error) = write.write_down(down_writer).await {
                write.lose_next(&error);
            }
        });
    }
    let working = Arc::clone(&hop);
    tokio::task::spawn_blocking(move || Worker::new(working).run());
    let up = Arc::clone(&hop);
    let mut writing = JoinSet::new();
    writing.spawn(async move { up.write_up(writer).await });
    let result = tokio::select! {
        result = hop.read_up(&mut reader) => {
            if matches!(result, Err(HolderError::Protocol { .. })) {
                // The writer still has to say what was wrong. To a sender that is gone there is
                // nothing to say: its next try may come at once, and needs what had arrived.
                let _ = timeout(WORKING_INTERVAL, writing.join_next()).await;
            }
            result
        }
        Some(result) = writing.join_next() => result.unwrap_or(Ok(())),
    };
    if result.is_err() {
        // A socket closed with unread bytes is reset, and that would overtake what was said.
        reader.set_timeout(Some(WORKING_INTERVAL));
        let unread = async { while let Ok(Some(_)) = reader.read::<TransferFrame>().await {} };
        let _ = timeout(STALL_TIMEOUT, unread).await;
    }
    result
}

type NextLink = (Ready, FrameReader, FrameWriter);

/// Makes the first reachable of `onward` the next holder; says `Working` upstream meanwhile.
async fn connect_onward(
    writer: &mut FrameWriter,
    onward: &[NodeRoute],
    context: &Arc<HolderContext>,
) -> Result<(Option<NextLink>, BTreeSet<NodeId>), HolderError> {
    let mut failed = BTreeSet::new();
    for (at, route) in onward.iter().enumerate() {
        let opening = open_first(route, &onward[at + 1..], &context.endpoint);
        tokio::pin!(opening);
        let opened = loop {
            match timeout(WORKING_INTERVAL, &mut opening).await {
                Ok(opened) => break opened,
                Err(_) => {
                    writer.write(&TransferFrame::Working, &[]).await?;
                    writer.flush().await?;
                }
            }
        };
        match opened {
            Ok((ready, down_reader, down_writer)) => {
                failed.extend(ready.failed.iter().copied());
                return Ok((Some((ready, down_reader, down_writer)), failed));
            }
            Err(error) => {
                tracing::warn!(node = %route.node, %error, "skipped in the chain");
                failed.insert(route.node);
            }
        }
    }
    Ok((None, failed))
}
struct Hop {
    context: Arc<HolderContext>,
    state: Mutex<State>,
    /// There is something to say upstream.
    up: Notify,
    /// There is something to send downstream, or no downstream any more.
    down: Notify,
    /// A queue has become shorter.
    room: Notify,
    /// There is something for the disk thread.
    work: Condvar,
}

/// Ends the disk thread with the session.
struct Closing(Arc<Hop>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.work.notify_all();
    }
}

impl Hop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever may have something to do now. Cheap; called after each change.
    fn wake(&self) {
        self.up.notify_one();
        self.down.notify_one();
        self.room.notify_one();
        self.work.notify_one();
    }

    /// Our own side cannot go on.
    fn fail(&self, code: ErrorCode, message: &str) {
        let mut state = self.state();
        state.failure.get_or_insert_with(|| (code, message.into()));
        drop(state);
        self.wake();
    }

    async fn read_up(&self, reader: &mut FrameReader) -> Result<(), HolderError> {
        let window = Arc::new(Semaphore::new(OFFER_WINDOW_BYTES));
        loop {
            while self.state().is_crowded() {
                self.room.notified().await;
            }
            let Some((frame, payload)) = reader.read::<TransferFrame>().await? else { return Ok(()) };
            let taken = match frame {
                TransferFrame::Offer { content_no, first, chunks, end } => {
                    self.offered(content_no, first, chunks, end)
                }
                TransferFrame::Chunk { content_no, index } => {
                    let weight = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                    let Ok(room) = Arc::clone(&window).acquire_many_owned(weight).await else {
                        return Ok(());
                    };
                    self.arrived(content_no, index, Arc::new(Held { bytes: payload, _room: room }));
                    Ok(())
                }
                TransferFrame::Abandon { content_no } => {
                    self.abandon(content_no);
                    Ok(())
                }
                TransferFrame::Working => Ok(()),
                TransferFrame::Failed { .. } => return Ok(()),
                _ => Err("a frame out of place"),
            };
            if let Err(what) = taken {
                self.fail(ErrorCode::Invalid, what);
                return Err(HolderError::Protocol { address: reader.address(), what });
            }
            self.wake();
        }
    }

    fn offered(
        &self,
        content_no: u32,
        first: u32,
        chunks: Vec<ChunkRef>,
        end: Option<ContentEnd>,
    ) -> Result<(), &'static str> {
        if chunks.len() > OFFER_WINDOW_CHUNKS
            || chunks.iter().any(|chunk| chunk.bytes == 0 || chunk.bytes as usize > CHUNK_BYTES_MAX)
        {
            return Err("an offer beyond the limits");
        }
        let mut guard = self.state();
        let state = &mut *guard;
        if first == 0 && !state.contents.contains_key(&content_no) {
            if state.contents.len() >= PUT_OUTSTANDING_MAX {
                return Err("too many contents at once");
            }
            state.contents.insert(content_no, Passing::default());
            if let Some(next) = &mut state.next {
                next.patience.begin(clock::now());
            }
        }
        let Some(passing) = state.contents.get_mut(&content_no) else { return Err("an unknown content") };
        if passing.chunks != first || passing.end.is_some() {
            return Err("an offer out of order");
        }
        passing.chunks = u32::try_from(chunks.len())
            .ok()
            .and_then(|count| first.checked_add(count))
            .ok_or("too many chunks")?;
        passing.end = end;
        if let Some(next) = &mut state.next {
            for (index, chunk) in (first..).zip(&chunks) {
                let slot = Slot { bytes: chunk.bytes, own: None, next: None, parked: None };
                state.slots.insert((content_no, index), slot);
            }
            let frame = TransferFrame::Offer { content_no, first, chunks: chunks.clone(), end };
            next.queue.push_back(Outgoing::Frame(frame));
        }
        state.job(Job::Offer { content_no, first, chunks, end });
        Ok(())
    }

    fn arrived(&self, content_no: u32, index: u32, held: Arc<Held>) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(&(content_no, index)) {
            slot.parked = Some(Arc::clone(&held));
            state.settle(content_no, index);
        }
        state.job(Job::Write { content_no, index, held });
    }

    fn abandon(&self, content_no: u32) {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.contents.remove(&content_no).is_none() {
            return;
        }
        state.slots.retain(|(no, _), _| *no != content_no);
        if let Some(next) = &mut state.next {
            next.patience.end();
            next.queue.push_back(Outgoing::Frame(TransferFrame::Abandon { content_no }));
        }
        state.job(Job::Abandon { content_no });
    }

    /// Writes what there is to say upstream; ends with the session, or after saying `Failed`.
    async fn write_up(&self, mut writer: FrameWriter) -> Result<(), HolderError> {
        let interval = u64::try_from(WORKING_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let mut said = clock::now();
        loop {
            let mut any = false;
            loop {
                let frame = self.state().outbox.pop_front();
                let Some(frame) = frame else { break };
                writer.write(&frame, &[]).await?;
                any = true;
            }
            if !any && clock::now().since(said) >= interval && self.state().is_working(clock::now()) {
                writer.write(&TransferFrame::Working, &[]).await?;
                any = true;
            }
            if any {
                writer.flush().await?;
                said = clock::now();
                self.room.notify_one();
            }
            let failure = self.state().failure.take();
            if let Some((code, message)) = failure {
                let error = HolderError::Failed { code, message: message.clone() };
                writer.write(&TransferFrame::Failed { code, message }, &[]).await?;
                writer.close().await?;
                return Err(error);
            }
            // Woken by any change, so what was said last decides, not how long this waited.
            let _ = timeout(WORKING_INTERVAL / 2, self.up.notified()).await;
        }
    }

    /// Sends to the next holder until it is lost.
    async fn write_down(&self, mut writer: FrameWriter) -> Result<(), ConnectionError> {
        loop {
            let outgoing = match &mut self.state().next {
                Some(next) => next.queue.pop_front(),
                None => return Ok(()),
            };
            match outgoing {
                Some(Outgoing::Frame(frame)) => writer.write(&frame, &[]).await?,
                Some(Outgoing::Chunk { content_no, index, held }) => {
                    writer.write(&TransferFrame::Chunk { content_no, index }, &held.bytes).await?;
                }
                Some(Outgoing::Local { content_no, index, bytes }) => {
                    self.send_local(&mut writer, content_no, index, bytes).await?;
                }
                None => {
                    writer.flush().await?;
                    self.down.notified().await;
                }
            }
            self.room.notify_one();
        }
    }

    /// Sends chunks that we have had before: this one, and those right after it in the queue.
    async fn send_local(
        &self,
        writer: &mut FrameWriter,
        content_no: u32,
        index: u32,
        bytes: u32,
    ) -> Result<(), ConnectionError> {
        let (reply, read) = oneshot::channel();
        let mut indices = vec![index];
        {
            let mut guard = self.state();
            let state = &mut *guard;
            let mut total = bytes as usize;
            while let Some(next) = &mut state.next {
                match next.queue.front() {
                    Some(Outgoing::Local { content_no: no, index, bytes })
                        if *no == content_no && total + *bytes as usize <= SERVE_BATCH_BYTES =>
                    {
                        total += *bytes as usize;
                        indices.push(*index);
                        next.queue.pop_front();
                    }
                    _ => break,
                }
            }
            state.jobs.push_front(Job::Read { content_no, indices, reply });
        }
        self.work.notify_one();
        // Nothing comes back if the content was abandoned, or the session ends.
        let chunks = read.await.unwrap_or_default();
        for (index, chunk) in &chunks {
            writer.write(&TransferFrame::Chunk { content_no, index: *index }, chunk).await?;
        }
        let mut state = self.state();
        for _ in chunks {
            state.release_local(content_no);
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Reads the next holder's answers; ends with the reason why it is lost.
    async fn read_down(&self, mut reader: FrameReader) -> ConnectionError {
        let address = reader.address();
        let broken =
            |what: &str| ConnectionError::Broken { address, source: std::io::Error::other(what.to_owned()) };
        reader.set_timeout(Some(WORKING_INTERVAL));
        loop {
            let frame = match reader.read::<TransferFrame>().await {
                Ok(Some((frame, _))) => frame,
                Ok(None) => return broken("it closed the connection"),
                Err(error @ ConnectionError::Timeout { .. }) => {
                    let over =
                        self.state().next.as_ref().is_none_or(|next| next.patience.is_over(clock::now()));
                    if over {
                        return error;
                    }
                    continue;
                }
                Err(error) => return error,
            };
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(next) = &mut state.next else { return broken("it was given up") };
            next.patience.heard(clock::now());
            match frame {
                TransferFrame::Working => {}
                TransferFrame::Need { content_no, first, needed } => {
                    for (index, needed) in (first..).zip(needed) {
                        if let Some(slot) = state.slots.get_mut(&(content_no, index)) {
                            slot.next = Some(needed);
                            state.settle(content_no, index);
                        }
                    }
                }
                TransferFrame::Stored { content_no, nodes, failed } => {
                    if let Some(passing) = state.contents.get_mut(&content_no)
                        && passing.end.is_some()
                        && passing.next.is_none()
                    {
                        next.patience.end();
                        passing.next = Some(nodes);
                        state.failed.extend(failed);
                        state.report(content_no, self.context.node);
                    }
                }
                TransferFrame::Failed { message, .. } => return broken(&message),
                _ => return broken("a frame out of place"),
            }
            drop(guard);
            self.wake();
        }
    }

    /// Goes on alone.
    fn lose_next(&self, error: &ConnectionError) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(next) = state.next.take() else { return };
        if !state.closed {
            tracing::warn!(node = %next.node, %error, "lost in the chain");
        }
        state.failed.insert(next.node);
        state.slots.clear();
        for content_no in state.contents.keys().copied().collect::<Vec<_>>() {
            if let Some(passing) = state.contents.get_mut(&content_no) {
                passing.local = 0;
            }
            state.report(content_no, self.context.node);
            state.job(Job::Look { content_no });
        }
        drop(guard);
        self.wake();
    }

    /// The store has synced a content, or failed to.
    fn finished(&self, content_no: u32, end: ContentEnd, result: Result<Finished, StoreError>) {
        match result {
            Ok(finished) => {
                (self.context.on_stored)(end.content, end.size);
                let mut state = self.state();
                state.pins.push(finished);
                if let Some(passing) = state.contents.get_mut(&content_no) {
                    passing.stored = true;
                    passing.finishing = None;
                }
                state.report(content_no, self.context.node);
            }
            Err(error) => self.fail(code_of(&error), &error.to_string()),
        }
        self.wake();
    }
}
