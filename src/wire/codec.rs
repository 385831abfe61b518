//! bincode, fenced in.
//!
//! bincode 2.0.1 is unmaintained (RUSTSEC-2025-0141) and its dangers were measured; each is met
//! here: a byte limit on every decode (without one six bytes ask for 36 GB), the derived `Decode`
//! and never the serde path (it fails before it allocates), no recursive types, no vectors of
//! zero-sized items, and the consumed length is compared so that trailing bytes are refused.

use crate::limits::{
    FRAME_HEAD_BYTES_MAX, LETTER_ATTACHMENTS_MAX, LETTER_PAYLOAD_BYTES_MAX, REPLICAS_MAX, ROSTER_MAX,
};
use crate::types::{
    Body, ChannelKey, ChunkHash, ChunkRef, ClientId, ClientTime, ClientToken, ContentId, DiskId, DiskState,
    Dot, FileName, InstanceId, JobId, Letter, LetterId, LetterPlace, LetterType, Lineage, MachineId,
    NewLetter, NodeId, NodeRoute, Pin, Presence, Priority, StreamId, Term, TreePath, Version, Wanted,
    WorkspaceName, is_label,
};
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError as Undecodable, EncodeError};

/// Why bytes were refused.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Cut short, an unknown tag, a length beyond the bytes that are there, an invalid name.
    #[error("malformed: {0}")]
    Malformed(Box<str>),
    /// Bytes were left over.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// More bytes than the limit for this kind.
    #[error("{bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// What came.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not ours, or of a version that we do not speak.
    #[error("protocol version {0}, this program speaks {ours}", ours = super::PROTOCOL_VERSION)]
    Version(u8),
    /// Does not start as ours do.
    #[error("not a thorp datagram")]
    Foreign,
}

fn configuration() -> impl bincode::config::Config {
    // Little-endian varints: small numbers, the usual ones, take one byte.
    bincode::config::standard().with_limit::<FRAME_HEAD_BYTES_MAX>()
}

/// The bytes of `value`. Encoding to memory cannot fail for our types.
#[must_use]
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, configuration()).unwrap_or_default()
}

/// The value that `bytes` stand for, all of them.
///
/// # Errors
/// When the bytes are malformed, too many, or left over.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > FRAME_HEAD_BYTES_MAX {
        return Err(DecodeError::TooLong { bytes: bytes.len(), limit: FRAME_HEAD_BYTES_MAX });
    }
    let (value, used) = bincode::decode_from_slice(bytes, configuration())
        .map_err(|error| DecodeError::Malformed(error.to_string().into()))?;
    if used == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing(bytes.len() - used)) }
}

/// The nouns of `types` know nothing of bytes, so their layout is written here.
macro_rules! layout {
    ($type:ident { $($field:ident),+ }) => {
        impl Encode for $type {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $( Encode::encode(&self.$field, encoder)?; )+
                Ok(())
            }
        }
        impl<C> Decode<C> for $type {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
                $( let $field = Decode::decode(decoder)?; )+
                Ok($type { $($field),+ })
            }
        }
        layout!(borrow $type);
    };
    ($type:ident newtype) => {
        impl Encode for $type {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                Encode::encode(&self.0, encoder)
            }
        }
        impl<C> Decode<C> for $type {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
                Ok($type(Decode::decode(decoder)?))
            }
        }
        layout!(borrow $type);
    };
    ($type:ident text) => {
        impl Encode for $type {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                Encode::encode(self.as_str(), encoder)
            }
        }
        layout!(borrow $type);
    };
    (borrow $type:ident) => {
        impl<'de, C> BorrowDecode<'de, C> for $type {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
                Decode::decode(decoder)
            }
        }
    };
}

layout!(NodeId newtype);
layout!(ContentId newtype);
layout!(ChunkHash newtype);
layout!(DiskId newtype);
layout!(Lineage newtype);
layout!(InstanceId newtype);
layout!(FileName text);
layout!(MachineId text);
layout!(Dot { counter, instance });
layout!(Version { dot, body, mode, modified_ns, wanted, removed_s });
layout!(ChunkRef { hash, bytes });
layout!(Term { number, proxy });
layout!(NodeRoute { node, name, machine, addresses });
layout!(JobId newtype);
layout!(LetterId newtype);
layout!(LetterType text);
layout!(ChannelKey text);
layout!(ClientId text);
layout!(WorkspaceName text);
layout!(borrow TreePath);
layout!(StreamId { sender, instance, priority });
layout!(LetterPlace { stream, number });
layout!(Presence {
    node,
    instance,
    generation,
    sequence,
    machine,
    name,
    tcp_port,
    http_port,
    pin,
    storage,
    draining,
    term,
    proxy,
    disk,
    disk_state,
    capacity_bytes,
    used_bytes,
    free_bytes,
    contents,
    inventory_digest,
    catalog_digest,
    lineage,
    established,
    wall_ms,
    version
});

impl<C> Decode<C> for FileName {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        FileName::parse(&text).map_err(|error| Undecodable::OtherString(error.to_string()))
    }
}

impl<C> Decode<C> for MachineId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        MachineId::parse(&text).ok_or(Undecodable::Other("an invalid machine label"))
    }
}

impl<C> Decode<C> for LetterType {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        LetterType::parse(&text).ok_or(Undecodable::Other("an invalid type of a message"))
    }
}

impl<C> Decode<C> for ChannelKey {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        ChannelKey::parse(&text).ok_or(Undecodable::Other("an invalid key of a channel"))
    }
}

impl<C> Decode<C> for ClientId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        ClientId::parse(&text).ok_or(Undecodable::Other("an invalid id of a client"))
    }
}

impl<C> Decode<C> for WorkspaceName {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let text: Box<str> = Decode::decode(decoder)?;
        WorkspaceName::parse(&text).ok_or(Undecodable::Other("an invalid name of a workspace"))
    }
}

impl Encode for TreePath {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        Encode::encode(self.as_bytes(), encoder)
    }
}

impl<C> Decode<C> for TreePath {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let bytes: Vec<u8> = Decode::decode(decoder)?;
        TreePath::parse(&bytes).map_err(|error| Undecodable::OtherString(error.to_string()))
    }
}

impl Encode for ClientTime {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        f64::from_bits(self.bits()).encode(encoder)
    }
}

impl<C> Decode<C> for ClientTime {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        ClientTime::from_bits(f64::decode(decoder)?.to_bits()).ok_or(Undecodable::Other("an impossible time"))
    }
}
layout!(borrow ClientTime);

impl Encode for ClientToken {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.bytes().encode(encoder)
    }
}

impl<C> Decode<C> for ClientToken {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        Ok(ClientToken::from_random(Decode::decode(decoder)?))
    }
}
layout!(borrow ClientToken);

/// What the types of a letter's parts do not hold.
fn check_letter(
    payload: &str,
    attachments: &[FileName],
    names: [Option<&str>; 2],
) -> Result<(), Undecodable> {
    let labels = names.into_iter().flatten().all(is_label);
    if !labels || payload.len() > LETTER_PAYLOAD_BYTES_MAX || attachments.len() > LETTER_ATTACHMENTS_MAX {
        return Err(Undecodable::Other("an impossible message"));
    }
    Ok(())
}

impl Encode for Letter {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Letter { id, kind, source, target, created_us, expires_ms, payload, attachments, addressees } =
            self;
        (id, kind, source, target).encode(encoder)?;
        (created_us, expires_ms, payload, attachments, addressees).encode(encoder)
    }
}

impl<C> Decode<C> for Letter {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let (id, kind, source, target) = Decode::decode(decoder)?;
        let (created_us, expires_ms, payload, attachments, addressees) = Decode::decode(decoder)?;
        let letter =
            Letter { id, kind, source, target, created_us, expires_ms, payload, attachments, addressees };
        let names = [Some(&*letter.source), letter.target.as_deref()];
        check_letter(&letter.payload, &letter.attachments, names)?;
        let sorted = letter.addressees.is_sorted_by(|a, b| a < b);
        if sorted && letter.addressees.len() <= ROSTER_MAX {
            Ok(letter)
        } else {
            Err(Undecodable::Other("impossible addressees"))
        }
    }
}
layout!(borrow Letter);

impl Encode for NewLetter {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let NewLetter { id, kind, target, priority, lives_ms, payload, attachments } = self;
        (id, kind, target, priority, lives_ms, payload, attachments).encode(encoder)
    }
}

impl<C> Decode<C> for NewLetter {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let (id, kind, target, priority, lives_ms, payload, attachments) = Decode::decode(decoder)?;
        let letter = NewLetter { id, kind, target, priority, lives_ms, payload, attachments };
        check_letter(&letter.payload, &letter.attachments, [letter.target.as_deref(), None])?;
        Ok(letter)
    }
}
layout!(borrow NewLetter);

impl Encode for Priority {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let tag: u8 = match self {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        tag.encode(encoder)
    }
}

impl<C> Decode<C> for Priority {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        match u8::decode(decoder)? {
            0 => Ok(Priority::High),
            1 => Ok(Priority::Normal),
            2 => Ok(Priority::Low),
            _ => Err(Undecodable::Other("an unknown priority")),
        }
    }
}
layout!(borrow Priority);

impl Encode for Wanted {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        Encode::encode(&self.initial, encoder)?;
        Encode::encode(&self.later, encoder)
    }
}

impl<C> Decode<C> for Wanted {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        let wanted = Wanted { initial: Decode::decode(decoder)?, later: Decode::decode(decoder)? };
        let later = wanted.later.iter().flat_map(|settings| settings.iter().map(|(_, count)| *count));
        if later.chain([wanted.initial]).all(|count| (1..=REPLICAS_MAX).contains(&count)) {
            Ok(wanted)
        } else {
            Err(Undecodable::Other("an impossible number of copies"))
        }
    }
}
layout!(borrow Wanted);

impl Encode for Pin {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let tag: u8 = match self {
            Pin::Auto => 0,
            Pin::Proxy => 1,
            Pin::Storage => 2,
            Pin::Client => 3,
        };
        tag.encode(encoder)
    }
}

impl<C> Decode<C> for Pin {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        match u8::decode(decoder)? {
            0 => Ok(Pin::Auto),
            1 => Ok(Pin::Proxy),
            2 => Ok(Pin::Storage),
            3 => Ok(Pin::Client),
            _ => Err(Undecodable::Other("an unknown role")),
        }
    }
}
layout!(borrow Pin);

impl Encode for DiskState {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let tag: u8 = match self {
            DiskState::Ok => 0,
            DiskState::Full => 1,
            DiskState::Suspect => 2,
        };
        tag.encode(encoder)
    }
}

impl<C> Decode<C> for DiskState {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        match u8::decode(decoder)? {
            0 => Ok(DiskState::Ok),
            1 => Ok(DiskState::Full),
            2 => Ok(DiskState::Suspect),
            _ => Err(Undecodable::Other("an unknown state of a disk")),
        }
    }
}
layout!(borrow DiskState);

impl Encode for Body {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Body::File { content, size } => {
                0_u8.encode(encoder)?;
                content.encode(encoder)?;
                size.encode(encoder)
            }
            Body::Symlink { target } => {
                1_u8.encode(encoder)?;
                target.encode(encoder)
            }
            Body::Folder => 2_u8.encode(encoder),
        }
    }
}

impl<C> Decode<C> for Body {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Undecodable> {
        match u8::decode(decoder)? {
            0 => Ok(Body::File { content: Decode::decode(decoder)?, size: Decode::decode(decoder)? }),
            1 => {
                let target: Box<str> = Decode::decode(decoder)?;
                if target.is_empty()
                    || target.len() > crate::limits::SYMLINK_BYTES_MAX
                    || target.contains('\0')
                {
                    return Err(Undecodable::Other("an invalid symbolic link"));
                }
                Ok(Body::Symlink { target })
            }
            2 => Ok(Body::Folder),
            _ => Err(Undecodable::Other("an unknown kind of entry")),
        }
    }
}
layout!(borrow Body);
