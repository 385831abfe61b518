//! Answers other nodes and commands that ask about channels. Shell.
//!
//! Invariant: only the proxy answers. Who asks another node is told where the proxy is, so no
//! request is ever passed on twice.

use super::{Answer, Follow, Happening, Hub};
use crate::limits::{IDLE_TIMEOUT, PEER_GONE_TIMEOUT};
use crate::transfer::connection::{Connection, ConnectionError, FrameReader, FrameWriter};
use crate::wire::channel::{ChannelAsk, ChannelReply};
use std::sync::Arc;

/// Serves one connection until its end.
pub(in super::super) async fn serve(connection: Connection, hub: &Arc<Hub>) -> Result<(), ConnectionError> {
    let (mut reader, mut writer) = connection.split();
    reader.set_timeout(Some(IDLE_TIMEOUT));
    reader.refuse_payloads();
    writer.set_timeout(Some(PEER_GONE_TIMEOUT));
    while let Some((ask, _)) = reader.read::<ChannelAsk>().await? {
        let answer = if let ChannelAsk::Follow { channel } = &ask {
            if hub.standing.borrow().leads {
                return tell(hub.follow_for_peer(channel), hub, &mut reader, &mut writer).await;
            }
            None
        } else {
            hub.answer(&ask)
        };
        let Answer { reply, list } = answer.unwrap_or_else(|| not_proxy(hub).into());
        writer.write(&reply, list.as_ref()).await?;
        writer.flush().await?;
    }
    Ok(())
}

fn not_proxy(hub: &Hub) -> ChannelReply {
    ChannelReply::NotProxy { proxy: hub.standing.borrow().proxy.clone() }
}

/// Tells what happens in a channel for as long as this node leads.
async fn tell(
    mut follow: Follow,
    hub: &Hub,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<(), ConnectionError> {
    let mut standing = hub.standing.subscribe();
    reader.set_timeout(None);
    loop {
        let happening = tokio::select! {
            happening = follow.next() => Some(happening),
            _ = standing.wait_for(|standing| !standing.leads) => None,
            // Nothing comes any more but the end.
            _ = reader.read::<ChannelAsk>() => return Ok(()),
        };
        match happening {
            None => {
                writer.write(&not_proxy(hub), &[]).await?;
                return writer.close().await;
            }
            Some(Happening::Wait) => writer.write(&ChannelReply::Wait, &[]).await?,
            Some(Happening::Changes(changes, room)) => {
                if changes.whole {
                    writer.write(&ChannelReply::Reset, &[]).await?;
                }
                for client in changes.gone {
                    writer.write(&ChannelReply::Gone { client }, &[]).await?;
                }
                for (client, body) in changes.updates {
                    writer.write(&ChannelReply::Update { client, body: (&*body).into() }, &[]).await?;
                }
                if changes.whole {
                    writer.write(&ChannelReply::Complete, &[]).await?;
                }
                writer.flush().await?;
                drop(room);
            }
        }
        writer.flush().await?;
    }
}
