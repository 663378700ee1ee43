//! The values of `ringcast bench`'s flags: times, sizes, rates, names.
//!
//! *Invariant:* what is accepted here can be measured: no window, rate, size or number is zero or absurd.

use std::time::Duration;

use super::wire::PAYLOAD_BYTES_MIN;

/// What topics of a run begin with.
pub(super) fn topic_prefix(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 200 || text.contains(|c: char| c.is_control() || c == '"' || c == '\\')
    {
        return Err("must be 1 to 200 bytes without quotes, backslashes and control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// The size of a payload.
pub(super) fn payload_bytes(text: &str) -> Result<usize, String> {
    const MAX: usize = 60_000; // a gateway takes messages of 64 KiB
    match text.parse() {
        Ok(bytes) if (PAYLOAD_BYTES_MIN..=MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("must be {PAYLOAD_BYTES_MIN} to {MAX}")),
    }
}

/// Messages a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be 0.1 to 1000000 messages a second".to_owned()),
    }
}

/// `500ms`, `10s`, `2m`, and `30` for 30 s; at most a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time, as 500ms, 10s or 2m");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit_ms) {
        Some(ms) if ms <= 86_400_000 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{text} is more than a day")),
    }
}

/// A [`duration`] that is not nothing.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| match time.is_zero() {
        true => Err("must be more than nothing".to_owned()),
        false => Ok(time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "10h",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(some_time("0s").is_err() && some_time("0").is_err());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in ["0", "63", "60001", "x", "-1"] {
            assert!(payload_bytes(text).is_err(), "{text:?}");
        }
        for text in ["0", "-1", "NaN", "inf", "x"] {
            assert!(rate(text).is_err(), "{text:?}");
        }
        for text in ["", "a\"b", "a\\b", "a\nb"] {
            assert!(topic_prefix(text).is_err(), "{text:?}");
        }
    }
}
