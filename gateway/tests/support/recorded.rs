//! What a gateway records in its histograms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A recorder that keeps the values of histograms and forgets everything else.
#[derive(Clone, Default)]
pub(crate) struct Recorded {
    histograms: Arc<Mutex<BTreeMap<String, Arc<Values>>>>,
}

#[derive(Default)]
pub(crate) struct Values(Mutex<Vec<f64>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorded {
    /// What was recorded under `name{label=value,...}`.
    pub(crate) fn histogram(&self, key: &str) -> Vec<f64> {
        let histograms = self.histograms.lock().unwrap();
        let values = histograms.get(key).unwrap_or_else(|| panic!("no {key}"));
        values.0.lock().unwrap().clone()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let key = format!("{}{{{}}}", key.name(), labels.join(","));
        let values = Arc::clone(self.histograms.lock().unwrap().entry(key).or_default());
        Histogram::from_arc(values)
    }
}
