//! What a client posts: a JSON object that says whose it is. Pure.
//!
//! Invariant: a [`Body`] that exists can be read by others. They get it verbatim inside a list, so
//! one that their readers refuse (nested too deep, a number beyond any, half a character) would
//! take the others' bodies with it.

use crate::limits::{CHANNEL_BODY_BYTES_MAX, CHANNEL_BODY_DEPTH_MAX};
use crate::types::ClientId;
use crate::wire::channel::ChannelRefusal;
use serde::de::{self, DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// A body, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Whose.
    pub client: ClientId,
    /// As it was posted.
    pub text: Arc<str>,
}

impl Body {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is too large, no JSON object that everybody can read, or does not say once whose it is.
    pub fn parse(text: &str) -> Result<Body, ChannelRefusal> {
        if text.len() > CHANNEL_BODY_BYTES_MAX {
            return Err(ChannelRefusal::TooLarge);
        }
        let mut found = Found { times: 0, id: None };
        let mut reader = serde_json::Deserializer::from_str(text);
        (&mut reader).deserialize_map(&mut found).map_err(|_| ChannelRefusal::Body)?;
        reader.end().map_err(|_| ChannelRefusal::Body)?;
        match found {
            Found { times: 0 | 1, id: None } => Err(ChannelRefusal::ClientId),
            Found { times: 1, id: Some(client) } => Ok(Body { client, text: text.into() }),
            Found { .. } => Err(ChannelRefusal::ClientIdTwice),
        }
    }
}

/// What the outermost object says of its client.
struct Found {
    times: u32,
    id: Option<ClientId>,
}

impl<'de> Visitor<'de> for &mut Found {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_id) = map.next_key_seed(IsClientId)? {
            let id = map.next_value_seed(Sound { left: CHANNEL_BODY_DEPTH_MAX - 1 })?;
            if is_id {
                self.times = self.times.saturating_add(1);
                self.id = id;
            }
        }
        Ok(())
    }
}

/// Whether a key is `client_id`, however it is written.
struct IsClientId;

impl<'de> DeserializeSeed<'de> for IsClientId {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsClientId {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == "client_id")
    }
}

/// Any value that others can read; if it could be a client's id, that.
struct Sound {
    /// How much deeper it may go.
    left: usize,
}

impl Sound {
    fn inner<E: de::Error>(&self) -> Result<usize, E> {
        self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = Option<ClientId>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Option<ClientId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        // Only that of the outermost object may be one; the others are not worth a copy.
        Ok(if self.left == CHANNEL_BODY_DEPTH_MAX - 1 { ClientId::parse(text) } else { None })
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let left = self.inner()?;
        while list.next_element_seed(Sound { left })?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let left = self.inner()?;
        while map.next_key_seed(IsClientId)?.is_some() {
            map.next_value_seed(Sound { left })?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChannelRefusal as No;

    fn nested(levels: usize) -> String {
        format!(r#"{{"client_id":"a","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn a_body_is_kept_as_it_was_written() {
        for text in [
            r#"{"client_id":"a"}"#,
            " {\t\"x\" : [1, -2.50, true, null, {\"client_id\": 7}],\r\n\"client_id\"\n:\"a\" } ",
            r#"{"client\u005fid":"\u0061"}"#,
            r#"{"client_id":"a","x":1,"x":2}"#,
            &nested(CHANNEL_BODY_DEPTH_MAX - 1),
        ] {
            let body = Body::parse(text).expect(text);
            assert_eq!((body.client.as_str(), &*body.text), ("a", text));
        }
    }

    #[test]
    fn what_others_could_not_read_is_refused() {
        for text in [
            "",
            " ",
            "x",
            "[]",
            "\"a\"",
            "7",
            "null",
            "{",
            r#"{"client_id":"a"} {}"#,
            r#"{"client_id":"a"}x"#,
            r#"{"client_id":"a","x":1e999}"#,
            r#"{"client_id":"a","x":"\ud800"}"#,
            r#"{"client_id":"a","x":NaN}"#,
            r#"{"client_id":"a",}"#,
            r#"{'client_id':'a'}"#,
            "\u{feff}{\"client_id\":\"a\"}",
            "{\"client_id\":\"a\",\"x\":\"\n\"}",
            r#"{"client_id":"a","x":01}"#,
            &format!(r#"{{"client_id":"a","x":{}}}"#, "9".repeat(400)),
            &nested(CHANNEL_BODY_DEPTH_MAX),
            &nested(127),
            &nested(10_000),
            &"[".repeat(60_000),
            &format!(r#"{{"client_id":"a","x":{}"#, r#"{"x":"#.repeat(10_000)),
        ] {
            assert_eq!(Body::parse(text), Err(No::Body), "{text:.60}");
        }
    }

    #[test]
    fn a_body_says_once_whose_it_is() {
        for text in [
            "{}",
            r#"{"client_id":""}"#,
            r#"{"client_id":7}"#,
            r#"{"client_id":["a"]}"#,
            r#"{"client_id":null}"#,
            r#"{"CLIENT_ID":"a"}"#,
            r#"{"x":{"client_id":"a"}}"#,
            &format!(r#"{{"client_id":"{}"}}"#, "a".repeat(129)),
        ] {
            assert_eq!(Body::parse(text), Err(No::ClientId), "{text:.60}");
        }
        for text in [r#"{"client_id":"a","client_id":"b"}"#, r#"{"client_id":"a","client\u005fid":7}"#] {
            assert_ne!(Body::parse(text).map(|_| ()), Ok(()), "{text}");
        }
        assert_eq!(Body::parse(r#"{"client_id":"a","client_id":"a"}"#), Err(No::ClientIdTwice));
        let text = format!(r#"{{"client_id":"a","x":"{}"}}"#, "y".repeat(CHANNEL_BODY_BYTES_MAX));
        assert_eq!(Body::parse(&text), Err(No::TooLarge));
    }
}
