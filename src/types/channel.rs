//! Channels: live state that clients share, each by posting its own and reading the others'. Pure.

use crate::limits::{CHANNEL_KEY_BYTES_MAX, CLIENT_ID_BYTES_MAX};
use std::fmt;
use std::sync::Arc;

/// Which channel: 1 to [`CHANNEL_KEY_BYTES_MAX`] bytes without control characters and without `/`,
/// so that it is one part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelKey(Arc<str>);

impl ChannelKey {
    /// A key; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<ChannelKey> {
        let allowed = |c: char| !c.is_control() && c != '/';
        let valid = !text.is_empty() && text.len() <= CHANNEL_KEY_BYTES_MAX && text.chars().all(allowed);
        valid.then(|| ChannelKey(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which client of a channel, in its own words: 1 to [`CLIENT_ID_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// An id; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClientId> {
        let valid = !text.is_empty() && text.len() <= CLIENT_ID_BYTES_MAX;
        valid.then(|| ClientId(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a client made a request, in seconds of its own clock: a finite number, not negative. Kept as
/// its bits, whose order is that of such numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientTime(u64);

impl ClientTime {
    /// A time; `None` for what is negative, infinite or no number.
    #[must_use]
    pub fn new(seconds: f64) -> Option<ClientTime> {
        // Zero has two signs; the sum has one.
        (seconds.is_finite() && seconds >= 0.0).then(|| ClientTime((seconds + 0.0).to_bits()))
    }

    /// Reads a decimal number.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClientTime> {
        let written = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        if written { text.parse().ok().and_then(ClientTime::new) } else { None }
    }

    /// A time of these bits; `None` if it is none.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<ClientTime> {
        ClientTime::new(f64::from_bits(bits)).filter(|time| time.0 == bits)
    }

    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// What proves that a client is the one it says: drawn at random when its id is new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientToken([u8; 16]);

impl ClientToken {
    /// A token of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> ClientToken {
        ClientToken(bytes)
    }

    /// Reads 32 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClientToken> {
        super::NodeId::parse(text).map(|id| ClientToken(id.0))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether it is that one, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(self, other: ClientToken) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_one_part_of_a_path() {
        for good in ["a", "sub-room 2", "ünï", "%2F", "..", &"k".repeat(128)] {
            assert!(ChannelKey::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a/b", "/", "a\nb", "\u{7f}", "\u{85}", &"k".repeat(129)] {
            assert!(ChannelKey::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_finite_and_ordered() {
        let time = |text| ClientTime::parse(text);
        for bad in ["", "abc", "nan", "inf", "-1", "1e999", "-inf", "0x10", "1 2", "infinity"] {
            assert_eq!(time(bad), None, "{bad}");
        }
        assert_eq!(time("-0.0"), time("0"));
        let ascending = ["0", "1e-300", "0.5", "1", "1.5", "12.25", "1e3", "1e308"].map(time);
        assert!(ascending.is_sorted() && ascending.iter().all(Option::is_some));
        for bits in [u64::MAX, 1 << 63, f64::INFINITY.to_bits(), f64::NAN.to_bits()] {
            assert_eq!(ClientTime::from_bits(bits), None);
        }
        let some = time("12.25").expect("a time");
        assert_eq!(ClientTime::from_bits(some.bits()), Some(some));
    }

    #[test]
    fn a_token_is_shown_to_nobody_by_accident() {
        let token = ClientToken::from_random([0xab; 16]);
        assert_eq!(format!("{token:?}"), "ClientToken(…)");
        assert_eq!(ClientToken::parse(&token.to_string()), Some(token));
        assert!(token.is(token) && !token.is(ClientToken::from_random([0xac; 16])));
        assert_eq!(ClientToken::parse("ab"), None);
    }
}
