//! What a node and a supervisor say to each other: a length of 4 bytes, little-endian, and the message.
//! With the first order come the program's streams.

use crate::limits::FRAME_HEAD_BYTES_MAX;
use crate::wire::run::{SupervisorOrder, SupervisorReport};
use crate::wire::{Decode, Encode, decode, encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest wait for a supervisor to take an order.
const ORDER_WAIT: Duration = Duration::from_millis(500);

/// An order, once more for those who give one.
pub type Order = SupervisorOrder;

/// The node's end and the supervisor's, which is to be its standard input.
///
/// # Errors
/// When the system has no more of them.
pub fn pair() -> io::Result<(OrderSender, ReportReader, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    // A supervisor that was stopped does not stop its node.
    ours.set_write_timeout(Some(ORDER_WAIT))?;
    Ok((OrderSender(ours.try_clone()?), ReportReader(ours), theirs.into()))
}

/// Gives orders.
pub struct OrderSender(UnixStream);

impl OrderSender {
    /// The first order, and the streams that belong to it.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn first(&mut self, order: &Order, streams: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = framed(order);
        let (length, rest) = message.split_at(4);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(streams)) {
            return Err(io::Error::other("too many streams"));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(length)], &mut beside, SendFlags::NOSIGNAL)?;
        self.0.write_all(&length[sent.min(4)..])?;
        self.0.write_all(rest)
    }

    /// A further order.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn send(&mut self, order: &Order) -> io::Result<()> {
        self.0.write_all(&framed(order))
    }
}

/// Hears reports.
pub struct ReportReader(UnixStream);

impl ReportReader {
    /// The next report; `None` if the supervisor is gone.
    pub fn hear(&mut self) -> Option<SupervisorReport> {
        read(&mut self.0, &[])
    }
}

/// Hears orders.
pub(super) struct OrderReader(UnixStream);

impl OrderReader {
    pub(super) fn new(socket: UnixStream) -> OrderReader {
        OrderReader(socket)
    }

    /// The first order, and the streams that came with it.
    pub(super) fn first(&mut self) -> io::Result<(Order, Vec<OwnedFd>)> {
        let mut length = [0_u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut length)];
        let received = recvmsg(&self.0, parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let mut streams = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                streams.extend(descriptors);
            }
        }
        let order = read(&mut self.0, &length[..received.min(4)]);
        order.map(|order| (order, streams)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next order; `None` if the node is gone.
    pub(super) fn hear(&mut self) -> Option<Order> {
        read(&mut self.0, &[])
    }
}

/// Gives reports.
pub(super) struct ReportSender(UnixStream);

impl ReportSender {
    pub(super) fn new(socket: UnixStream) -> ReportSender {
        ReportSender(socket)
    }

    pub(super) fn send(&self, report: &SupervisorReport) -> io::Result<()> {
        (&self.0).write_all(&framed(report))
    }
}

fn framed<T: Encode>(message: &T) -> Vec<u8> {
    let bytes = encode(message);
    let mut framed = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    framed.extend_from_slice(&bytes);
    framed
}

/// The next message, of whose length some bytes have been read.
fn read<T: Decode<()>>(socket: &mut UnixStream, before: &[u8]) -> Option<T> {
    let mut length = [0_u8; 4];
    length[..before.len()].copy_from_slice(before);
    socket.read_exact(&mut length[before.len()..]).ok()?;
    let length =
        usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= FRAME_HEAD_BYTES_MAX)?;
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).ok()?;
    decode(&bytes).ok()
}
