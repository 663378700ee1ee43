//! What `/metrics` says, as numbers one can ask for.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the Prometheus text format; lines it cannot read are left out.
    #[must_use]
    pub fn parse(text: &str) -> Metrics {
        Metrics {
            samples: text.lines().filter_map(sample).collect(),
        }
    }

    /// The sum over all samples of `name` that carry all of `labels`; 0 where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples
            .iter()
            .filter(matches)
            .map(|sample| sample.value)
            .sum()
    }

    /// How many observations of the histogram `name` did not exceed `bound`, which must be the bound of a bucket, and how
    /// many there were at all; over all samples.
    #[must_use]
    pub fn within(&self, name: &str, bound: f64) -> (f64, f64) {
        let bucket = format!("{name}_bucket");
        let is_within = |sample: &&Sample| {
            let le = sample.labels.get("le").and_then(|le| le.parse::<f64>().ok());
            sample.name == bucket && le == Some(bound)
        };
        let within = self.samples.iter().filter(is_within).map(|sample| sample.value);
        (within.sum(), self.sum(&format!("{name}_count"), &[]))
    }

    /// Whether there is any sample of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// Names of the product's samples without the label `node`.
    #[must_use]
    pub fn without_node(&self) -> Vec<&str> {
        let nameless =
            |sample: &&Sample| sample.name.starts_with("ringcast_") && !sample.labels.contains_key("node");
        self.samples
            .iter()
            .filter(nameless)
            .map(|sample| sample.name.as_str())
            .collect()
    }

    /// Takes in another endpoint's samples.
    pub fn merge(&mut self, other: Metrics) {
        self.samples.extend(other.samples);
    }
}

/// `name{label="value",...} number`
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample {
            name: series.to_owned(),
            labels: BTreeMap::new(),
            value,
        });
    };
    let labels = labels
        .strip_suffix('}')?
        .split(',')
        .filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Option<_>>()?,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_were_not_asked_for() {
        let metrics = Metrics::parse(
            "# TYPE calls counter\ncalls{node=\"ts-1\",gateway=\"gw-1\"} 3\ncalls{node=\"ts-2\",gateway=\"gw-1\"} 4\n\
             calls{node=\"ts-1\",gateway=\"gw-2\"} 10\nplain 1.5\n",
        );
        assert_eq!(metrics.sum("calls", &[("gateway", "gw-1")]), 7.0);
        assert_eq!(metrics.sum("calls", &[]), 17.0);
        assert_eq!(metrics.sum("plain", &[]), 1.5);
        assert_eq!(metrics.sum("none", &[]), 0.0);
    }

    #[test]
    fn a_histogram_tells_how_many_did_not_exceed_the_bound_of_a_bucket() {
        let metrics = Metrics::parse(
            "pause_bucket{node=\"ts-1\",le=\"0.05\"} 3\npause_bucket{node=\"ts-1\",le=\"0.1\"} 4\n\
             pause_bucket{node=\"ts-2\",le=\"0.1\"} 10\npause_bucket{node=\"ts-1\",le=\"+Inf\"} 5\n\
             pause_count{node=\"ts-1\"} 5\npause_count{node=\"ts-2\"} 10\n",
        );
        assert_eq!(metrics.within("pause", 0.1), (14.0, 15.0));
        assert_eq!(metrics.within("none", 0.1), (0.0, 0.0));
    }
}
