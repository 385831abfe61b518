//! Which bytes of a file are wanted: RFC 9110, sections 13 (conditions) and 14 (ranges). Pure.
//!
//! Invariant: what is not understood is ignored, and then the whole file is given: never a part
//! that was not asked for. Entity tags are strong: the id of a content.

use super::super::headers::{joined, plain};
use axum::http::{HeaderMap, header};
use std::ops::Range;

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Whole,
    /// 206, these bytes.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

/// What a request with `headers` for a file of `size` bytes wants, whose tag and date are these. Of
/// HEAD, a range means nothing.
pub(super) fn answer(headers: &HeaderMap, size: u64, tag: &str, is_get: bool) -> Answer {
    if let Some(tags) = joined(headers, &header::IF_MATCH)
        && !matches(&tags, tag, false)
    {
        return Answer::Failed;
    }
    if let Some(tags) = joined(headers, &header::IF_NONE_MATCH)
        && matches(&tags, tag, true)
    {
        return Answer::NotModified;
    }
    // What is no single text is as if it were not there.
    let single = |name| plain(headers, &name).ok().flatten();
    let Some(range) = single(header::RANGE).filter(|_| is_get) else { return Answer::Whole };
    // A date is no strong validator (RFC 9110, 13.1.5): two versions may have one.
    let is_current = |validator: &str| validator == tag;
    if headers.contains_key(header::IF_RANGE) && !single(header::IF_RANGE).is_some_and(is_current) {
        return Answer::Whole;
    }
    parse_range(range, size)
}

/// Whether `tags`, the value of a header, mean the file whose tag this is.
pub(super) fn matches(tags: &str, tag: &str, weak_counts: bool) -> bool {
    tags.trim() == "*"
        || tags
            .split(',')
            .map(str::trim)
            .any(|given| given == tag || (weak_counts && given.strip_prefix("W/") == Some(tag)))
}

fn parse_range(text: &str, size: u64) -> Answer {
    let Some((unit, spec)) = text.split_once('=') else { return Answer::Whole };
    // Several ranges would be an answer of several parts, which hardly anybody asks for.
    let Some((first, last)) =
        spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))
    else {
        return Answer::Whole;
    };
    match (position(first), position(last)) {
        (Some(first), Some(last)) if first > last => Answer::Whole,
        (Some(first), last) if last.is_some() || is_blank(text) => {
            if first >= size {
                return Answer::Unsatisfiable;
            }
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Answer::Part(first..end)
        }
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || size == 0 {
                return Answer::Unsatisfiable;
            }
            Answer::Part(size.saturating_sub(suffix)..size)
        }
        _ => Answer::Whole,
    }
}

/// Whether the last position is left out.
fn is_blank(text: &str) -> bool {
    text.ends_with('-')
}

/// A position; one that no number can hold is beyond every file.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    const TAG: &str = "\"abc\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn ask(headers: &[(&str, &str)], size: u64) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        answer(&map, size, TAG, true)
    }

    #[test]
    fn a_range_is_as_the_standard_says() {
        use Answer::{Part, Unsatisfiable, Whole};
        for (range, wanted) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-", Part(0..10)),
            ("bytes=9-9", Part(9..10)),
            ("bytes=3-99", Part(3..10)),
            ("bytes=3-18446744073709551615", Part(3..10)),
            ("bytes=3-99999999999999999999999", Part(3..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-99", Part(0..10)),
            ("bytes=-99999999999999999999999", Part(0..10)),
            ("Bytes=1-2", Part(1..3)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-12", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-1", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=1-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=--2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("lines=1-2", Whole),
            ("nonsense", Whole),
        ] {
            assert_eq!(ask(&[("range", range)], 10), wanted, "{range}");
        }
        assert_eq!(ask(&[("range", "bytes=0-")], 0), Unsatisfiable);
        assert_eq!(ask(&[("range", "bytes=-5")], 0), Unsatisfiable);
        assert_eq!(ask(&[("range", "bytes=0-1"), ("range", "bytes=2-3")], 10), Whole);
    }

    #[test]
    fn conditions_come_before_ranges() {
        use Answer::{Failed, NotModified, Part, Whole};
        let range = ("range", "bytes=0-1");
        for (header, value, wanted) in [
            ("if-match", "\"abc\"", Part(0..2)),
            ("if-match", "\"x\", \"abc\"", Part(0..2)),
            ("if-match", "*", Part(0..2)),
            ("if-match", "W/\"abc\"", Failed),
            ("if-match", "\"x\"", Failed),
            ("if-none-match", "\"abc\"", NotModified),
            ("if-none-match", "W/\"abc\"", NotModified),
            ("if-none-match", "*", NotModified),
            ("if-none-match", "\"x\"", Part(0..2)),
            ("if-range", "\"abc\"", Part(0..2)),
            ("if-range", DATE, Whole),
            ("if-range", "W/\"abc\"", Whole),
            ("if-range", "\"x\"", Whole),
            ("if-range", "Sun, 06 Nov 1994 08:49:38 GMT", Whole),
        ] {
            assert_eq!(ask(&[(header, value), range], 10), wanted, "{header}: {value}");
        }
    }
}
