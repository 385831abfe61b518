//! Times as text. Pure.

use crate::clock::{civil_from_days, days_from_civil};

/// Nanoseconds since 1970 as RFC 3339 in UTC, whole seconds, rounded down. Every program reads
/// this form (jq knows no fractions), and it sorts as text.
#[must_use]
pub fn format_rfc3339_seconds(nanos: i64) -> String {
    let seconds = nanos.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The nanoseconds since 1970 that an RFC 3339 time means: `2026-01-01T00:00:00Z`, also with a
/// fraction and with an offset. Of a leap second it is the one before.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is = |at: usize, allowed: &str| text.get(at..=at).is_some_and(|letter| allowed.contains(letter));
    if !(is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":")) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?),
        None => ("0", rest),
    };
    if fraction.is_empty() {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_digit());
            if !is_pair(hours) || !is_pair(minutes) || hours > "23" || minutes > "59" {
                return None;
            }
            let seconds = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
            match zone.get(..1)? {
                "+" => seconds,
                "-" => -seconds,
                _ => return None,
            }
        }
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second.min(59) - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_utc_and_rounded_down() {
        const SECOND: i64 = 1_000_000_000;
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_999_999_999, "1970-01-01T00:00:01Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00Z"),
            (1_709_208_000 * SECOND, "2024-02-29T12:00:00Z"),
            (4_107_542_400 * SECOND, "2100-03-01T00:00:00Z"),
            (-2_203_891_200 * SECOND, "1900-03-01T00:00:00Z"),
            (i64::MAX, "2262-04-11T23:47:16Z"),
            (i64::MIN, "1677-09-21T00:12:43Z"),
        ] {
            assert_eq!(format_rfc3339_seconds(nanos), text, "{nanos}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_not() {
        const SECOND: i64 = 1_000_000_000;
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400 * SECOND),
            ("2000-02-29t01:30:00.25+01:30", 951_782_400 * SECOND + SECOND / 4),
            ("1969-12-31T22:59:59-01:00", -SECOND),
            ("2000-02-29T00:00:00.1234567891Z", 951_782_400 * SECOND + 123_456_789),
        ] {
            assert_eq!(parse_rfc3339(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "now",
            "2000-02-30T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00+1:00",
            "2000-01-01",
            "2000-01-01T00:00:00+aa:bb",
            "9999-01-01T00:00:00Z",
            "+000-01-01T00:00:00Z",
            "éééééééééééééé",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_back(second in 0..9_000_000_000_i64) {
            let nanos = second * 1_000_000_000;
            prop_assert_eq!(parse_rfc3339(&format_rfc3339_seconds(nanos)), Some(nanos));
        }

        #[test]
        fn the_next_day_follows_in_the_calendar(day in -100_000_i64..100_000) {
            let (year, month, date) = civil_from_days(day);
            let next = civil_from_days(day + 1);
            let same_month = next == (year, month, date + 1);
            let next_month = next == (year, month + 1, 1) && date >= 28;
            let next_year = next == (year + 1, 1, 1) && (month, date) == (12, 31);
            prop_assert!(same_month || next_month || next_year, "{year}-{month}-{date} then {next:?}");
        }
    }
}
