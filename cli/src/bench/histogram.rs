//! How long things took: a histogram of fixed precision.
//!
//! *Invariant:* a quantile is at most 1/128 (0.8 %) above the true value, however large that is, and never below it.
//! Leaves out: clocks.

/// Buckets of each power of two, as a power of two.
const PRECISION_BITS: u32 = 7;
const BUCKETS_PER_OCTAVE: usize = 1 << PRECISION_BITS;
/// Values below this have a bucket each; above, one bucket holds ever more of them.
const OCTAVES: usize = (u64::BITS - PRECISION_BITS) as usize + 1;

/// Counts of values, e.g. of nanoseconds.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Of no values.
    pub(crate) fn new() -> Histogram {
        Histogram {
            counts: vec![0; OCTAVES * BUCKETS_PER_OCTAVE],
            total: 0,
            max: 0,
        }
    }

    /// Counts a value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    /// The greatest value; 0 of none.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// What shares of all values do not exceed, from none to all, the closer together the nearer to all: x counts the nines
    /// of a share, so 0 is none, 1 is 90 %, 2 is 99 %. It ends where one value makes the difference.
    pub(crate) fn curve(&self) -> Vec<(f64, u64)> {
        let mut points = Vec::new();
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // Its values begin where the share of those below it ends.
            let left = self.total - seen;
            points.push((
                (self.total as f64 / left as f64).log10(),
                highest_of(index).min(self.max),
            ));
            seen += count;
        }
        if self.total > 0 {
            points.push(((self.total as f64).log10(), self.max));
        }
        points
    }

    /// The value that `permille` of 1,000 values do not exceed; 0 of none.
    pub(crate) fn permille(&self, permille: u64) -> u64 {
        let wanted = (u128::from(self.total) * u128::from(permille)).div_ceil(1000);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted && seen > 0 {
                return highest_of(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    let within = (value >> octave) as usize; // below 2 * BUCKETS_PER_OCTAVE by the choice of the octave
    octave as usize * BUCKETS_PER_OCTAVE + within
}

/// The greatest value of a bucket.
fn highest_of(index: usize) -> u64 {
    let octave = (index / BUCKETS_PER_OCTAVE).saturating_sub(1);
    let within = (index - octave * BUCKETS_PER_OCTAVE) as u128;
    let next = (within + 1) << octave;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        for value in values {
            histogram.record(value);
        }
        histogram
    }

    #[test]
    fn small_values_are_exact() {
        let histogram = of(1..=200);
        assert_eq!(histogram.permille(500), 100);
        assert_eq!(histogram.permille(990), 198);
        assert_eq!((histogram.len(), histogram.max()), (200, 200));
    }

    #[test]
    fn any_value_is_told_within_its_precision_and_never_too_low() {
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            for value in [value, value * 2 - 1, value + value / 3] {
                let histogram = of([value, u64::MAX]);
                let told = histogram.permille(500);
                assert!(told >= value, "{told} of {value}");
                assert!(told - value <= value / 128, "{told} of {value}");
            }
            value *= 2;
        }
        assert_eq!(of([u64::MAX]).permille(999), u64::MAX);
    }

    #[test]
    fn a_rare_slow_one_shows_where_it_belongs() {
        let histogram = of((0..999).map(|_| 10).chain([5_000_000]));
        assert_eq!(histogram.permille(500), 10);
        assert_eq!(histogram.permille(999), 10);
        assert_eq!(histogram.permille(1000), 5_000_000);
    }

    #[test]
    fn a_curve_rises_from_none_to_all() {
        let curve = of(1..=1000).curve();
        assert_eq!(curve.first(), Some(&(0.0, 1)));
        assert_eq!(curve.last(), Some(&(3.0, 1000)), "one of 1,000 is above 99.9 %");
        assert!(curve.is_sorted());
        let at_90 = curve.iter().find(|(nines, _)| *nines >= 1.0 - 1e-9).unwrap();
        assert!((900..=910).contains(&at_90.1), "{at_90:?}");
        assert_eq!(of([]).curve(), []);
        assert_eq!(of([7]).curve(), [(0.0, 7), (0.0, 7)]);
    }

    #[test]
    fn of_no_values_every_quantile_is_zero() {
        assert_eq!(Histogram::new().permille(999), 0);
    }
}
