//! Durations as Go writes them: `2h`, `1h30m`, `1.5h`, `300ms`.

use std::fmt;
use std::str::FromStr;

use super::quote::Quoted;

/// The shortest `spec.expireTime` of a pack: 1 s.
pub const MIN_EXPIRE: GoDuration = GoDuration(1_000_000_000);
/// The longest `spec.expireTime` of a pack: 720 h (30 days).
pub const MAX_EXPIRE: GoDuration = GoDuration(720 * 3_600_000_000_000);

/// A Go `time.Duration`: nanoseconds, about 292 years either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// What is wrong with a duration and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DurationError(String);

/// Go's units, in nanoseconds. Both micro signs (U+00B5, U+03BC) are Go's.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Beyond this, further digits of a fraction are ignored, as Go does: the next digit might not fit an `i64`.
const MAX_FRACTION: u64 = (i64::MAX as u64) / 10;

impl GoDuration {
    /// Parses the syntax of Go's `time.ParseDuration`: a sign or none, then numbers with a unit each, with a
    /// fraction or none; or just `0`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let fault = |wrong: String| DurationError(format!("{} is not a Go duration: {wrong}", Quoted(text)));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(fault("it is empty, want for example 2h or 1h30m".to_owned()));
        }
        let too_long = || fault("it is longer than Go's 292 years, want for example 2h".to_owned());
        let mut sum: u64 = 0;
        while !rest.is_empty() {
            let (whole, tail) = digits(rest);
            let (fraction, tail) = match tail.strip_prefix('.') {
                Some(tail) => digits(tail),
                None => ("", tail),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(fault(format!("{} is no number, want for example 2h or 1h30m", Quoted(rest))));
            }
            let number = &rest[..rest.len() - tail.len()];
            let (unit, tail) = tail.split_at(tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len()));
            let Some(&(_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(fault(unknown_unit(number, unit)));
            };
            sum = whole
                .bytes()
                .try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
                .and_then(|n| n.checked_mul(scale))
                .and_then(|n| n.checked_add(part(fraction, scale)))
                .and_then(|n| n.checked_add(sum))
                .filter(|n| *n <= i64::MIN.unsigned_abs())
                .ok_or_else(too_long)?;
            rest = tail;
        }
        // -2^63 is a duration, 2^63 is not.
        if negative { 0i64.checked_sub_unsigned(sum) } else { i64::try_from(sum).ok() }.map(Self).ok_or_else(too_long)
    }

    /// A duration of so many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, rounded towards zero.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `0.fraction` of a unit in whole nanoseconds, by Go's own arithmetic so that both sides agree on every digit.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Go computes in float64; the result is at least 0 and at most one unit"
)]
fn part(fraction: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes() {
        if number > MAX_FRACTION {
            break;
        }
        let next = number * 10 + u64::from(digit - b'0');
        if next > i64::MIN.unsigned_abs() {
            break;
        }
        number = next;
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

fn unknown_unit(number: &str, unit: &str) -> String {
    let known = "want h, m, s, ms, us or ns";
    let hours = |per: u64| match number.parse::<u64>().ok().and_then(|n| n.checked_mul(per)) {
        Some(hours) => format!("use {hours}h"),
        None => format!("use hours, as in {per}h"),
    };
    match unit {
        "" => format!("{} has no unit, {known}", Quoted(number)),
        "d" | "day" | "days" => format!("Go durations have no days, {}", hours(24)),
        "w" | "week" | "weeks" => format!("Go durations have no weeks, {}", hours(7 * 24)),
        _ => format!("there is no unit {}, {known}", Quoted(unit)),
    }
}

/// Parses `spec.expireTime` of a pack, at least [`MIN_EXPIRE`] and at most [`MAX_EXPIRE`].
///
/// # Errors
/// What is wrong and what would be right.
pub fn check_expire_time(text: &str) -> Result<GoDuration, DurationError> {
    let duration = GoDuration::parse(text)?;
    if (MIN_EXPIRE..=MAX_EXPIRE).contains(&duration) {
        return Ok(duration);
    }
    let wrong = if duration < MIN_EXPIRE { "short" } else { "long" };
    Err(DurationError(format!("{duration} is too {wrong}: want at least {MIN_EXPIRE} and at most {MAX_EXPIRE}")))
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        Self::parse(text)
    }
}

impl fmt::Display for GoDuration {
    /// As Go's `String()`: `2h0m0s`, `1.5s`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let fractional = |f: &mut fmt::Formatter<'_>, value: u64, per: u64, digits: usize, unit: &str| {
            let (whole, rest) = (value / per, value % per);
            if rest == 0 {
                return write!(f, "{whole}{unit}");
            }
            let fraction = format!("{rest:0digits$}");
            write!(f, "{whole}.{}{unit}", fraction.trim_end_matches('0'))
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => fractional(f, nanos, 1_000, 3, "\u{b5}s"),
            1_000_000..1_000_000_000 => fractional(f, nanos, 1_000_000, 6, "ms"),
            _ => {
                let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                fractional(f, nanos % 60_000_000_000, 1_000_000_000, 9, "s")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_and_write_as_in_go() {
        for (text, go) in [
            ("2h", "2h0m0s"),
            ("120m", "2h0m0s"),
            ("7200s", "2h0m0s"),
            ("1h30m", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("300ms", "300ms"),
            ("1.5s", "1.5s"),
            ("-1s", "-1s"),
            ("+5s", "5s"),
            ("0", "0s"),
            ("-0", "0s"),
            (".5s", "500ms"),
            ("1.s", "1s"),
            ("1.1us", "1.1\u{b5}s"),
            ("1\u{b5}s1\u{3bc}s", "2\u{b5}s"),
            ("1ns", "1ns"),
            ("0.3333333333333333333h", "20m0s"),
            ("9007199254.740993s", "2501999h47m34.740993s"),
            ("0.9223372036854775807h", "55m20.413933267s"),
            ("0.100000000000000000000h", "6m0s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration::parse(text).map(|d| d.to_string()).as_deref(), Ok(go), "{text}");
        }
        assert_eq!(GoDuration::parse("-1.9ms").unwrap().as_millis(), -1);
        assert_eq!(GoDuration::parse("2h").unwrap().as_millis(), 7_200_000);
    }

    #[test]
    fn a_bad_duration_is_told_what_would_be_right() {
        for (text, message) in [
            ("2d", "\"2d\" is not a Go duration: Go durations have no days, use 48h"),
            ("1w", "\"1w\" is not a Go duration: Go durations have no weeks, use 168h"),
            ("1.5d", "\"1.5d\" is not a Go duration: Go durations have no days, use hours, as in 24h"),
            ("5", "\"5\" is not a Go duration: \"5\" has no unit, want h, m, s, ms, us or ns"),
            ("", "\"\" is not a Go duration: it is empty, want for example 2h or 1h30m"),
            ("-", "\"-\" is not a Go duration: it is empty, want for example 2h or 1h30m"),
            ("h", "\"h\" is not a Go duration: \"h\" is no number, want for example 2h or 1h30m"),
            (".s", "\".s\" is not a Go duration: \".s\" is no number, want for example 2h or 1h30m"),
            ("2 h", "\"2 h\" is not a Go duration: there is no unit \" h\", want h, m, s, ms, us or ns"),
            ("2H", "\"2H\" is not a Go duration: there is no unit \"H\", want h, m, s, ms, us or ns"),
            (
                "9223372036854775808ns",
                "\"9223372036854775808ns\" is not a Go duration: it is longer than Go's 292 years, want for example 2h",
            ),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap_err().to_string(), message);
        }
        for text in ["3000000h", "99999999999999999999h", "-9223372036854775809ns", "9223372036854775807ns1ns"] {
            assert!(GoDuration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pack_is_kept_between_a_second_and_thirty_days() {
        assert_eq!(check_expire_time("1s"), Ok(MIN_EXPIRE));
        assert_eq!(check_expire_time("720h"), Ok(MAX_EXPIRE));
        for (text, message) in [
            ("999ms", "999ms is too short: want at least 1s and at most 720h0m0s"),
            ("-1h", "-1h0m0s is too short: want at least 1s and at most 720h0m0s"),
            ("720h1ns", "720h0m0.000000001s is too long: want at least 1s and at most 720h0m0s"),
        ] {
            assert_eq!(check_expire_time(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn what_is_written_reads_back(nanos in any::<i64>(), shift in 0u32..63) {
            let duration = GoDuration::from_nanos(nanos >> shift);
            prop_assert_eq!(GoDuration::parse(&duration.to_string()), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*|[+-]?([0-9.]{0,25}(h|m|s|ms|us|ns|d|)){0,3}") {
            let _ = check_expire_time(&text);
        }
    }
}
