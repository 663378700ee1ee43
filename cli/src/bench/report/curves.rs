//! Curves that reports on load share.

use std::time::Duration;

use super::super::histogram::Histogram;
use super::super::page::{Axis, Plot, Points, Series};

/// Of one run, on a cluster or on the floor.
#[derive(Debug, Default, Clone)]
pub(crate) struct Curves {
    pub(super) delivery: Points,
    pub(super) publish: Points,
    pub(super) course: Points,
}

/// A histogram of nanoseconds as milliseconds over the nines of shares.
pub(crate) fn of_times(histogram: &Histogram) -> Points {
    histogram
        .curve()
        .into_iter()
        .map(|(nines, ns)| (nines, ns as f64 / 1e6))
        .collect()
}

/// How a share of all is at most as slow as that.
pub(super) fn percentiles(title: &str, series: Vec<Series>) -> Plot {
    Plot {
        title: title.to_owned(),
        x: Axis::Nines("share that was as fast or faster"),
        y: "ms",
        series,
    }
}

/// A series of something over time.
pub(super) fn over_time(title: &str, y: &'static str, series: Vec<Series>) -> Plot {
    Plot {
        title: title.to_owned(),
        x: Axis::Linear("seconds"),
        y,
        series,
    }
}

/// What a process or many had joined, and took of memory, at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) joined: u32,
    pub(crate) rss_bytes: Option<u64>,
}
