//! Times as text. Pure.

use crate::clock::civil_from_days;

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

    proptest! {
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
