//! Sizes, durations and dates: as people write them, and as we show them. Pure.
//!
//! | written | means |
//! |---|---|
//! | `k` `M` `G` `T` `P`, also `kB` `MB` … | 1000, 1000² … bytes, as disks are sold |
//! | `Ki` `Mi` `Gi` `Ti` `Pi`, also `KiB` `MiB` … | 1024, 1024² … bytes, as we show them |
//! | no unit, or `B` | bytes |
//! | `ms` `s` `m` `h` `d` | a duration; always with its unit |
//!
//! Case does not matter and a fraction is allowed (`1.5GiB`, `0.5s`). Invariant: parsing is exact
//! and total: what does not fit or makes no sense is refused with the words that are allowed.

use crate::limits::DURATION_MAX;
use std::time::Duration;

/// What a size looks like, for messages.
const SIZE_HELP: &str =
    "a size is a number with k, M, G, T, P (1000s) or KiB, MiB, GiB, TiB, PiB (1024s): `500M`, `2GiB`";
/// What a duration looks like, for messages.
const DURATION_HELP: &str =
    "a duration is a number with ms, s, m, h or d: `500ms`, `30s`, `10m`, `24h`, `7d`";
/// Digits behind the point that are accepted.
const FRACTION_DIGITS_MAX: usize = 9;

/// Units of a size as [`write_size`] writes them, the largest first.
const UNITS_WRITTEN: [(&str, u64); 10] = [
    ("PiB", 1 << 50),
    ("P", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("T", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("G", 1_000_000_000),
    ("MiB", 1 << 20),
    ("M", 1_000_000),
    ("KiB", 1 << 10),
    ("k", 1_000),
];

const UNITS_SHOWN: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Bytes of a size as people write it: `500M` is 500 × 1000², `2GiB` is 2 × 1024³, `10k` is 10,000.
///
/// # Errors
/// When it is negative, not a number with a known unit, or over 2⁶⁴ - 1 bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or(SIZE_HELP)?;
    let unit = unit.to_ascii_lowercase();
    let bytes = scale_of(unit.strip_suffix('b').unwrap_or(&unit)).ok_or(SIZE_HELP)?;
    let whole = number.times(bytes).ok_or("the size is too large: at most 16 EiB")?;
    u64::try_from(whole).map_err(|_| "the size is too large: at most 16 EiB".to_owned())
}

fn scale_of(prefix: &str) -> Option<u128> {
    let (letter, base) = match prefix.strip_suffix('i') {
        Some(letter) => (letter, 1024_u128),
        None => (prefix, 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some(base.pow(power))
}

/// A duration as people write it: `500ms`, `30s`, `10m`, `24h`, `7d`.
///
/// # Errors
/// When it is negative, has no known unit, or is over [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or(DURATION_HELP)?;
    let nanos: u128 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(DURATION_HELP.to_owned()),
    };
    let whole = number.times(nanos).filter(|nanos| *nanos <= DURATION_MAX.as_nanos());
    let nanos = whole.and_then(|nanos| u64::try_from(nanos).ok()).ok_or_else(|| {
        format!("the duration is too long: at most {} days", DURATION_MAX.as_secs() / 86_400)
    })?;
    Ok(Duration::from_nanos(nanos))
}

/// A decimal number: `digits` / 10^`places`.
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// The number times `scale`, rounded down.
    fn times(&self, scale: u128) -> Option<u128> {
        Some(self.digits.checked_mul(scale)? / 10_u128.pow(self.places))
    }
}

/// Splits `1.5 GiB` into its number and its unit; `None` if it does not start with a number.
fn split(text: &str) -> Option<(Decimal, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let sensible = !whole.is_empty()
        && !fraction.is_empty()
        && fraction.len() <= FRACTION_DIGITS_MAX
        && !fraction.contains('.');
    if !sensible {
        return None;
    }
    // Too many digits for any unit: one more than fits, so that the caller says "too large".
    let too_large = u128::from(u64::MAX) + 1;
    let whole = match whole.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse().map_or(too_large, |whole: u128| whole.min(too_large)),
    };
    let places = u32::try_from(fraction.len()).ok()?;
    let digits = whole * 10_u128.pow(places) + fraction.parse::<u128>().ok()?;
    Some((Decimal { digits, places }, unit.trim_start()))
}

/// A size as [`parse_size`] reads it, exactly: `500M`, `2GiB`, `1536`.
#[must_use]
pub fn write_size(bytes: u64) -> String {
    let exact = UNITS_WRITTEN.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    exact.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A duration as [`parse_duration`] reads it, exactly: `500ms`, `60s`, `24h`, `7d`. From minutes
/// on a unit comes twice at least, since `60s` says more exactly what is meant than `1m`.
#[must_use]
pub fn write_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        for (name, unit) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
            if seconds >= 2 * unit && seconds.is_multiple_of(unit) {
                return format!("{}{name}", seconds / unit);
            }
        }
        return format!("{seconds}s");
    }
    let ms = duration.as_millis();
    match nanos % 1_000_000 {
        0 => format!("{ms}ms"),
        fraction => format!("{ms}.{}ms", format!("{fraction:06}").trim_end_matches('0')),
    }
}

/// Bytes for people: `512 B`, `1.0 GiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit: u128 = 1024;
    for name in UNITS_SHOWN {
        // Rounded to tenths first, so that 1023.96 KiB becomes 1.0 MiB and not 1024.0 KiB.
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        if tenths < 10_240 || name == "EiB" {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1024;
    }
    format!("{bytes} B")
}

/// A duration for people: `350 ms`, `3.2 s`, `2 m 10 s`, `1 h 5 m`, `3 d 4 h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let tenths = (ms + 50) / 100;
    let seconds = (ms + 500) / 1_000;
    let minutes = (seconds + 30) / 60;
    let hours = (minutes + 30) / 60;
    if ms < 1_000 {
        format!("{ms} ms")
    } else if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else if seconds < 3_600 {
        format!("{} m {} s", seconds / 60, seconds % 60)
    } else if minutes < 24 * 60 {
        format!("{} h {} m", minutes / 60, minutes % 60)
    } else {
        format!("{} d {} h", hours / 24, hours % 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_in_thousands_and_in_1024s() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("10k", 10_000),
            ("10K", 10_000),
            ("10kB", 10_000),
            ("500M", 500_000_000),
            ("500MB", 500_000_000),
            ("2GiB", 2 << 30),
            ("2gi", 2 << 30),
            ("2 GiB", 2 << 30),
            (" 1T ", 1_000_000_000_000),
            ("1PiB", 1 << 50),
            ("1.5GiB", 3 << 29),
            ("0.5k", 500),
            ("00007", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_with_what_is_allowed() {
        for text in [
            "",
            " ",
            "-1",
            "-5G",
            "+5",
            "G",
            "5X",
            "5iB",
            "5i",
            "5bb",
            "5GG",
            "1.5.5G",
            ".5G",
            "5.G",
            "1e9",
            "5 000",
            "0x10",
            "١٢",
            "NaN",
            "inf",
            "1,5G",
            "0.1234567890k",
        ] {
            let refused = parse_size(text).expect_err(text);
            assert!(refused.contains("500M") && refused.contains("GiB"), "{text:?}: {refused}");
        }
        for text in ["18446744073709551616", "99999999999999999999999999999999", "20000P", "16385PiB"] {
            let refused = parse_size(text).expect_err(text);
            assert!(refused.contains("too large"), "{text:?}: {refused}");
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1.5s", 1_500),
            ("0s", 0),
            ("2 H", 7_200_000),
            ("3650d", 3_650 * 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text:?}");
        }
    }

    #[test]
    fn durations_that_make_no_sense_are_refused_with_what_is_allowed() {
        for text in ["", "30", "-1s", "s", "5 years", "5w", "1m30s", "soon", "1..5s"] {
            let refused = parse_duration(text).expect_err(text);
            assert!(refused.contains("500ms") && refused.contains("7d"), "{text:?}: {refused}");
        }
        for text in ["3651d", "18446744073709551616s", "99999999999999999999999999d"] {
            let refused = parse_duration(text).expect_err(text);
            assert!(refused.contains("too long"), "{text:?}: {refused}");
        }
    }

    #[test]
    fn what_is_written_is_short() {
        for text in ["0", "7", "1001", "10k", "500M", "500G", "3T", "2GiB", "1536MiB", "1PiB"] {
            assert_eq!(parse_size(text).map(write_size), Ok(text.to_owned()));
        }
        for text in ["0s", "500ms", "1s", "1500ms", "60s", "90s", "10m", "24h", "7d", "0.5ms", "1000.25ms"] {
            assert_eq!(parse_duration(text).map(write_duration), Ok(text.to_owned()));
        }
    }

    #[test]
    fn bytes_are_shown_with_one_digit_and_never_as_1024_of_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (1_500_000_000, "1.4 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(format_bytes(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_two_units_that_matter() {
        for (ms, text) in [
            (0, "0 ms"),
            (350, "350 ms"),
            (3_249, "3.2 s"),
            (59_949, "59.9 s"),
            (59_951, "1 m 0 s"),
            (130_000, "2 m 10 s"),
            (3_599_600, "1 h 0 m"),
            (3_900_000, "1 h 5 m"),
            (86_399_999, "1 d 0 h"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text, "{ms}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_makes_parsing_panic(text in ".{0,40}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }

        #[test]
        fn whole_sizes_are_exact(number in 0_u64..10_000_000, power in 0_u32..4) {
            let unit = ["", "KiB", "MiB", "GiB"][power as usize];
            prop_assert_eq!(parse_size(&format!("{number}{unit}")), Ok(number * 1024_u64.pow(power)));
        }

        #[test]
        fn what_is_written_is_read_as_the_same(
            number in prop_oneof![any::<u64>(), 0_u64..10_000],
            (_, unit) in proptest::sample::select(UNITS_WRITTEN.to_vec()),
        ) {
            for bytes in [number, number.saturating_mul(unit)] {
                prop_assert_eq!(parse_size(&write_size(bytes)), Ok(bytes));
            }
            let nanos = number % u64::try_from(DURATION_MAX.as_nanos()).unwrap_or(u64::MAX);
            for unit in [1, 1_000_000, 1_000_000_000, 60_000_000_000] {
                let duration = Duration::from_nanos(nanos / unit * unit);
                prop_assert_eq!(parse_duration(&write_duration(duration)), Ok(duration));
            }
        }
    }
}
