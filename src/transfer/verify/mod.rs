//! Verification on request: a command asks a holder to hash its copies anew.
//!
//! Invariant: the answer is what the holder's own disk says now, one a content, in the order of the
//! question; while a large content is being hashed the holder says that it is still at it, and when
//! whoever asked is gone it stops.

use super::connection::{Connection, ConnectionError, Endpoint, FrameReader, FrameWriter, dial_route};
use super::holder::{HolderContext, HolderError};
use crate::limits::{
    DISK_PATIENCE_MS, IDLE_TIMEOUT, PEER_GONE_TIMEOUT, VERIFY_CONTENTS_MAX, VERIFY_STEP_BYTES,
    WORKING_INTERVAL,
};
use crate::store::{StoreError, Verified};
use crate::types::{ContentId, NodeRoute};
use crate::wire::transfer::{CopyState, TransferFrame};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A disk that gives a piece of [`VERIFY_STEP_BYTES`] not even in this time gives nothing.
const STEP_PATIENCE: Duration = Duration::from_millis(DISK_PATIENCE_MS);

/// Verifies what a command asks for until it closes.
pub(super) async fn serve_verify(
    first: (Vec<ContentId>, bool),
    mut reader: FrameReader,
    mut writer: FrameWriter,
    context: Arc<HolderContext>,
) -> Result<(), HolderError> {
    let address = reader.address();
    let breach = |what| HolderError::Protocol { address, what };
    reader.set_timeout(Some(IDLE_TIMEOUT));
    let (mut contents, mut anew) = first;
    loop {
        if contents.len() > VERIFY_CONTENTS_MAX {
            return Err(breach("more contents to verify than one frame may name"));
        }
        for content in contents {
            let state = match (anew, context.store.holds(&content)) {
                (false, Some(_)) => CopyState::Whole,
                (false, None) => CopyState::Missing,
                (true, _) => verify_one(&mut writer, &context, content).await?,
            };
            if state == CopyState::Bad {
                (context.on_bad)(content);
            }
            let verified_ms = context.store.verified_ms(&content).unwrap_or(0);
            writer.write(&TransferFrame::Verified { content, state, verified_ms }, &[]).await?;
            writer.flush().await?;
        }
        (contents, anew) = match reader.read::<TransferFrame>().await? {
            Some((TransferFrame::Verify { contents, anew }, _)) => (contents, anew),
            Some(_) => return Err(breach("a frame out of place")),
            None => return Ok(writer.close().await?),
        };
    }
}

async fn verify_one(
    writer: &mut FrameWriter,
    context: &HolderContext,
    content: ContentId,
) -> Result<CopyState, ConnectionError> {
    let turn = still_working(writer, context.verifies.acquire(), Duration::MAX).await?;
    let Some(Ok(_turn)) = turn else { return Ok(CopyState::Unreadable) };
    let mut verification = match context.store.verification(&content) {
        Ok(verification) => verification,
        Err(error) => return Ok(state_of(content, &error)),
    };
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let result = verification.step(VERIFY_STEP_BYTES);
            (verification, result)
        });
        let Some(Ok((next, result))) = still_working(writer, step, STEP_PATIENCE).await? else {
            tracing::warn!(%content, "the disk does not give this content");
            return Ok(CopyState::Unreadable);
        };
        match result {
            Ok(Verified::More) => verification = next,
            Ok(Verified::Whole) => return Ok(CopyState::Whole),
            Ok(Verified::Bad) => return Ok(CopyState::Bad),
            Err(error) => return Ok(state_of(content, &error)),
        }
    }
}

fn state_of(content: ContentId, error: &StoreError) -> CopyState {
    if matches!(error, StoreError::NotHeld(_)) {
        return CopyState::Missing;
    }
    tracing::warn!(%content, %error, "a copy could not be verified");
    CopyState::Unreadable
}

/// Waits for `work`, saying meanwhile that it is under way; `None` if it takes longer than `patience`.
async fn still_working<T>(
    writer: &mut FrameWriter,
    work: impl Future<Output = T>,
    patience: Duration,
) -> Result<Option<T>, ConnectionError> {
    let mut work = std::pin::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        match timeout(WORKING_INTERVAL, &mut work).await {
            Ok(done) => return Ok(Some(done)),
            Err(_) if waited >= patience => return Ok(None),
            Err(_) => waited += WORKING_INTERVAL,
        }
        writer.write(&TransferFrame::Working, &[]).await?;
        writer.flush().await?;
    }
}

/// Asks the holder of `route` to verify `contents`, or, unless `anew`, when it last did; `told` hears
/// each answer as it comes, with the time of the last verification in wall milliseconds.
///
/// # Errors
/// When the holder cannot be reached, falls silent or answers something else: what `told` did not
/// hear of was not verified.
pub async fn verify(
    route: &NodeRoute,
    contents: &[ContentId],
    anew: bool,
    endpoint: &Arc<Endpoint>,
    mut told: impl FnMut(ContentId, CopyState, u64),
) -> Result<(), ConnectionError> {
    let connection: Connection = dial_route(route, endpoint).await?;
    let address = connection.address();
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(Some(PEER_GONE_TIMEOUT));
    reader.refuse_payloads();
    for batch in contents.chunks(VERIFY_CONTENTS_MAX) {
        writer.write(&TransferFrame::Verify { contents: batch.to_vec(), anew }, &[]).await?;
        writer.flush().await?;
        let mut due = batch.iter();
        let mut next = due.next();
        while let Some(expected) = next {
            match reader.read::<TransferFrame>().await? {
                Some((TransferFrame::Working, _)) => {}
                Some((TransferFrame::Verified { content, state, verified_ms }, _))
                    if content == *expected =>
                {
                    told(content, state, verified_ms);
                    next = due.next();
                }
                other => {
                    let kind = match other {
                        Some(_) => std::io::ErrorKind::InvalidData,
                        None => std::io::ErrorKind::UnexpectedEof,
                    };
                    return Err(ConnectionError::Broken { address, source: kind.into() });
                }
            }
        }
    }
    writer.close().await
}

#[cfg(test)]
mod tests;
