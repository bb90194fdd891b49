//! Points in time as RFC 3339 writes them.

use jiff::Timestamp;

/// Longest text that is looked at: date, time, nanoseconds and offset, and some digits to spare.
const MAX_LEN: usize = 64;

/// Reads a point in time of RFC 3339, section 5.6: `2024-05-01T12:00:00Z`, with a fraction or none, `Z` or an offset.
/// (jiff alone also reads other forms of ISO 8601.)
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked("2024-05-01T12:00:00".len())?;
    let shaped = |shape: &[u8], text: &str| {
        shape.len() == text.len()
            && shape.iter().zip(text.bytes()).all(|(s, b)| match s {
                b'0' => b.is_ascii_digit(),
                s => b.to_ascii_uppercase() == *s,
            })
    };
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(rest) => {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
            // jiff takes nine digits and refuses more; they are below what it can tell apart.
            if digits > 9 {
                let kept = date_time.len() + 1 + 9;
                return (text.len() <= MAX_LEN)
                    .then(|| parse_rfc3339(&format!("{}{}", &text[..kept], &rest[digits..])))
                    .flatten();
            }
            &rest[digits..]
        }
    };
    let known = shaped(b"0000-00-00T00:00:00", date_time)
        && (shaped(b"Z", offset) || shaped(b"+00:00", offset) || shaped(b"-00:00", offset));
    // RFC 3339 has hours of an offset up to 23, jiff up to 25.
    let hours_fit = offset.get(1..3).is_none_or(|hours| hours < "24");
    (known && hours_fit).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_rfc_3339_is_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29t12:30:59.5z",
            "2024-05-01T12:00:00.123456789+08:00",
            "2024-05-01T12:00:00.123456789012-11:30",
        ] {
            assert!(parse_rfc3339(text).is_some(), "{text}");
        }
        for text in [
            "",
            "2024-05-01",
            "2024-05-01 12:00:00Z",
            "2024-05-01T12:00:00",
            "2024-05-01T12:00Z",
            "20240501T120000Z",
            "2024-02-30T12:00:00Z",
            "2024-05-01T25:00:00Z",
            "2024-05-01T12:00:00.Z",
            "2024-05-01T12:00:00+0800",
            "2024-05-01T12:00:00+24:00",
            "2024-05-01T12:00:00+08",
            "2024-05-01T12:00:00Z[UTC]",
            "+002024-05-01T12:00:00Z",
            "yesterday",
        ] {
            assert!(parse_rfc3339(text).is_none(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn reading_never_panics(text in "\\PC*|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\\.[0-9]{0,99})?(Z|[+-][0-9ä:]{0,5})") {
            let _ = parse_rfc3339(&text);
        }
    }
}
