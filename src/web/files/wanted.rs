//! What a `PUT` says of the file that comes with it: path, parameters and headers. Pure.
//!
//! Invariant: what is wrong is refused before any byte of the file is taken.

use super::super::headers::{joined, plain};
use super::super::refusal::Refusal;
use super::conditions::matches;
use super::{flag, name_in, parameters, yes};
use crate::client::get::Listed;
use crate::documents::parse_rfc3339;
use crate::limits::{REPLICAS_DEFAULT, REPLICAS_MAX, UPLOAD_ID_BYTES_MAX, UPLOAD_ID_BYTES_MIN};
use crate::types::FileName;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default = "usual")]
    replicas: u8,
    #[serde(default = "yes", deserialize_with = "flag")]
    overwrite: bool,
}

fn usual() -> u8 {
    REPLICAS_DEFAULT
}

/// The file that is to be stored.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: FileName,
    pub(super) replicas: u8,
    overwrite: bool,
    if_match: Option<String>,
    if_none_match: Option<String>,
    /// When it was modified, nanoseconds since 1970.
    pub(super) modified_ns: Option<i64>,
    /// SHA-256 of this body.
    pub(super) body_digest: Option<[u8; 32]>,
    /// SHA-256 of the whole file.
    pub(super) file_digest: Option<[u8; 32]>,
    /// Bytes of this body, if they were told.
    pub(super) length: Option<u64>,
    /// Which part of the file the body is.
    pub(super) part: Option<Part>,
}

/// A part of a resumable upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) id: UploadId,
    /// Its first byte and the one after its last; of an empty one it is not said.
    pub(super) range: Option<(u64, u64)>,
    pub(super) total: u64,
}

/// The id of a resumable upload, chosen by its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UploadId(Box<str>);

impl UploadId {
    pub(super) fn parse(text: &str) -> Result<UploadId, Refusal> {
        let is_fit = (UPLOAD_ID_BYTES_MIN..=UPLOAD_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_fit {
            return Ok(UploadId(text.into()));
        }
        Err(Refusal::invalid(format!(
            "the id of an upload is {UPLOAD_ID_BYTES_MIN} to {UPLOAD_ID_BYTES_MAX} letters, digits and `-`"
        )))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Wanted {
    pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Wanted, Refusal> {
        let name = name_in(uri, "/api/files/")?;
        let asked: Parameters = parameters(uri)?;
        if !(1..=REPLICAS_MAX).contains(&asked.replicas) {
            return Err(Refusal::invalid(format!("`replicas` is 1 to {REPLICAS_MAX}")));
        }
        if let Some(encoding) = plain(headers, &header::CONTENT_ENCODING)?
            && !encoding.eq_ignore_ascii_case("identity")
        {
            let message = format!("a body with `Content-Encoding: {encoding}` is not taken");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_type", message)
                .hint("send the bytes of the file as they are"));
        }
        let length = plain(headers, &header::CONTENT_LENGTH)?;
        let length =
            length.map(|length| length.parse().map_err(|_| Refusal::invalid("the length is no number")));
        Ok(Wanted {
            name,
            replicas: asked.replicas,
            overwrite: asked.overwrite,
            if_match: joined(headers, &header::IF_MATCH),
            if_none_match: joined(headers, &header::IF_NONE_MATCH),
            modified_ns: modified(headers)?,
            body_digest: digest(headers, "content-digest")?,
            file_digest: digest(headers, "repr-digest")?,
            length: length.transpose()?,
            part: part(headers)?,
        })
    }

    /// Whether it may take the place of what is there.
    pub(super) fn check(&self, there: Option<&Listed>) -> Result<(), Refusal> {
        let tag =
            there.and_then(|listed| listed.row.body.content()).map(|(content, _)| format!("\"{content}\""));
        let is = |tags: &String, weak| match &tag {
            Some(tag) => matches(tags, tag, weak),
            None => there.is_some() && tags.trim() == "*",
        };
        if there.is_some() && !self.overwrite {
            let message = format!("there is a file `{}` already", self.name);
            return Err(Refusal::new(StatusCode::CONFLICT, "exists", message));
        }
        let is_other = self.if_match.as_ref().is_some_and(|tags| !is(tags, false));
        if is_other || self.if_none_match.as_ref().is_some_and(|tags| is(tags, true)) {
            let message = "the file that is there is not as `If-Match` or `If-None-Match` says";
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "precondition", message));
        }
        Ok(())
    }

    /// Whether it must not take the place of everything.
    pub(super) fn is_conditional(&self) -> bool {
        !self.overwrite || self.if_match.is_some() || self.if_none_match.is_some()
    }
}

/// `X-Modified`: RFC 3339, or milliseconds since 1970.
fn modified(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = plain(headers, &HeaderName::from_static("x-modified"))? else { return Ok(None) };
    let ns = match value.parse::<i64>() {
        Ok(ms) => ms.checked_mul(1_000_000),
        Err(_) => parse_rfc3339(value),
    };
    ns.map(Some).ok_or_else(|| {
        Refusal::invalid("`X-Modified` is a time like `2026-01-01T00:00:00Z`, or milliseconds since 1970")
    })
}

/// The SHA-256 in a digest header (RFC 9530); other algorithms are not looked at.
fn digest(headers: &HeaderMap, name: &'static str) -> Result<Option<[u8; 32]>, Refusal> {
    let Some(all) = joined(headers, &HeaderName::from_static(name)) else { return Ok(None) };
    let mut found = None;
    for member in all.split(',') {
        let Some((algorithm, value)) = member.trim().split_once('=') else { continue };
        if !algorithm.eq_ignore_ascii_case("sha-256") {
            continue;
        }
        let inner = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
        let bytes = inner.and_then(|inner| STANDARD.decode(inner).ok());
        let digest: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        match digest {
            Some(digest) if found.is_none_or(|found| found == digest) => found = Some(digest),
            _ => {
                let message = format!("`{name}` is no `sha-256=:BASE64 OF 32 BYTES:`");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "digest", message));
            }
        }
    }
    Ok(found)
}

/// `Upload-Id` with `Content-Range: bytes A-B/TOTAL`, or `bytes */TOTAL` for nothing more.
fn part(headers: &HeaderMap) -> Result<Option<Part>, Refusal> {
    let id = plain(headers, &HeaderName::from_static("upload-id"))?;
    let range = plain(headers, &header::CONTENT_RANGE)?;
    let (id, range) = match (id, range) {
        (None, None) => return Ok(None),
        (Some(id), Some(range)) => (UploadId::parse(id)?, range),
        _ => return Err(Refusal::invalid("`Upload-Id` and `Content-Range` come together")),
    };
    let parsed = (|| {
        let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let total = number(total)?;
        if range == "*" {
            return Some((None, total));
        }
        let (first, last) = range.split_once('-')?;
        let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
        (first < end && end <= total).then_some((Some((first, end)), total))
    })();
    let (range, total) =
        parsed.ok_or_else(|| Refusal::invalid("`Content-Range` is `bytes A-B/TOTAL` or `bytes */TOTAL`"))?;
    Ok(Some(Part { id, range, total }))
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, headers: &[(&str, &str)]) -> Result<Wanted, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        let uri: Uri = format!("/api/files/a{query}").parse().expect("an URI");
        Wanted::read(&uri, &map).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(read("", &[]).map(|wanted| wanted.replicas), Ok(REPLICAS_DEFAULT));
        assert_eq!(read("?replicas=3", &[]).map(|wanted| wanted.replicas), Ok(3));
        for bad in [
            "?replicas=0",
            "?replicas=65",
            "?replicas=-1",
            "?replicas=x",
            "?replicas=1&replicas=2",
            "?what=1",
            "?overwrite=maybe",
        ] {
            assert_eq!(read(bad, &[]).map(|_| ()), Err(400), "{bad}");
        }
    }

    #[test]
    fn digests_are_read() {
        let good = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        for header in ["content-digest", "repr-digest"] {
            for value in [good, &format!("sha-512=:AA==:, {good}"), &format!("{good}, {good}")] {
                assert!(read("", &[(header, value)]).is_ok(), "{value}");
            }
            assert_eq!(read("", &[(header, "sha-512=:AA==:")]).map(|wanted| wanted.file_digest), Ok(None));
            for bad in ["sha-256=:AA==:", "sha-256=47DEQ", "sha-256=::", "sha-256=:!!:"] {
                assert_eq!(read("", &[(header, bad)]).map(|_| ()), Err(400), "{bad}");
            }
        }
    }

    #[test]
    fn parts_are_read() {
        let id = "0123456789abcdef";
        let part = |range: &str| {
            read("", &[("upload-id", id), ("content-range", range)])
                .map(|wanted| wanted.part.map(|part| (part.range, part.total)))
        };
        assert_eq!(part("bytes 0-9/10"), Ok(Some((Some((0, 10)), 10))));
        assert_eq!(part("bytes */10"), Ok(Some((None, 10))));
        for bad in [
            "bytes 0-10/10",
            "bytes 5-1/10",
            "bytes 0-9/*",
            "bytes 0-9",
            "0-9/10",
            "bytes -9/10",
            "bytes 0-/10",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes +0-9/10",
            "lines 0-9/10",
        ] {
            assert_eq!(part(bad), Err(400), "{bad}");
        }
        assert_eq!(read("", &[("upload-id", id)]).map(|_| ()), Err(400));
        assert_eq!(read("", &[("content-range", "bytes 0-9/10")]).map(|_| ()), Err(400));
        for bad in ["short", "0123456789abcde/", "../../../../etc/passwd", &"a".repeat(65)] {
            let read = read("", &[("upload-id", bad), ("content-range", "bytes 0-9/10")]);
            assert_eq!(read.map(|_| ()), Err(400), "{bad}");
        }
    }

    #[test]
    fn times_are_read() {
        let at = |value: &str| read("", &[("x-modified", value)]).map(|wanted| wanted.modified_ns);
        assert_eq!(at("2000-02-29T00:00:00Z"), Ok(Some(951_782_400_000_000_000)));
        assert_eq!(at("951782400000"), Ok(Some(951_782_400_000_000_000)));
        assert_eq!(at("9223372036854775807"), Err(400));
        assert_eq!(at("yesterday"), Err(400));
    }
}
