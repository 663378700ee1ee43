//! How a report tells how long something took.

use serde::Serialize;

use super::histogram::Histogram;

/// Microseconds, at most 0.8 % too high.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram) -> Quantiles {
        let us = |ns: u64| ns as f64 / 1000.0;
        Quantiles {
            count: histogram.len(),
            p50: us(histogram.permille(500)),
            p99: us(histogram.permille(990)),
            p99_9: us(histogram.permille(999)),
            max: us(histogram.max()),
        }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(
            f,
            "p50 {}, p99 {}, p99.9 {}, max {}",
            time(self.p50),
            time(self.p99),
            time(self.p99_9),
            time(self.max)
        )
    }
}

/// In the unit that a person would choose.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_a_person_would_choose() {
        assert_eq!(
            [0.4, 999.0, 1000.0, 2_500_000.0].map(time),
            ["0 us", "999 us", "1.00 ms", "2.50 s"]
        );
    }

    #[test]
    fn of_nothing_there_are_no_quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(Quantiles::of(&histogram).to_string(), "none");
        histogram.record(2_500);
        assert_eq!(
            Quantiles::of(&histogram).to_string(),
            "p50 2 us, p99 2 us, p99.9 2 us, max 2 us"
        );
    }
}
