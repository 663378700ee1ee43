//! What a run found, as JSON and for people.
//!
//! *Invariant:* a report that is not clean says why, in `problems`.

mod curves;
mod floor;
mod idle;
mod load;
mod resume;
mod storm;

pub(crate) use curves::{Moment, of_times};
pub(crate) use idle::IdleReport;
pub(crate) use load::LoadReport;
pub(crate) use resume::ResumeReport;
pub(crate) use storm::{Round, StormReport};

use super::page::Plot;
use super::servers::{self, Cost};
use crate::output::table;

/// Of a line for people.
pub(crate) const NAME_WIDTH: usize = 17;
const NOT_AVAILABLE: &str = "not available";
const ENDED: &str = "ended";

/// What every report can say.
pub(crate) trait Report: serde::Serialize {
    /// For people.
    fn text(&self) -> String;

    /// What can be seen better than read.
    fn plots(&self) -> Vec<Plot>;

    /// What is not as a cluster promises; nothing is what a clean run has.
    fn problems(&self) -> &[String];
}

/// `name` and `value` as one line of a text for people.
fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("{name:<NAME_WIDTH$}{value}\n"));
}

/// Adds to `problems` what there is one or more of.
fn complain(problems: &mut Vec<String>, count: u64, what: impl FnOnce(u64) -> String) {
    if count > 0 {
        problems.push(what(count));
    }
}

/// Processor time of all for each of `count`; `None` if that is not known, or there is nothing to divide by.
fn per(costs: &[Cost], count: u64) -> Option<f64> {
    if costs.is_empty() || count == 0 {
        return None;
    }
    servers::cpu_us(costs).map(|us| us as f64 / count as f64)
}

fn costs(unit: &str, costs: &[Cost], count: u64) -> String {
    let rows = costs.iter().map(|cost| {
        let none = if cost.ended { ENDED } else { NOT_AVAILABLE };
        let mib = |bytes: Option<u64>| {
            or(none, bytes, |bytes| {
                format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
            })
        };
        vec![
            cost.name.clone(),
            cost.pid.to_string(),
            or(none, cost.cpu_us, |us| format!("{:.2} s", us as f64 / 1e6)),
            or(none, cost.cpu_us.filter(|_| count > 0), |us| {
                format!("{:.2}", us as f64 / count as f64)
            }),
            mib(cost.rss_before_bytes),
            mib(cost.rss_after_bytes),
        ]
    });
    table(
        &["process", "pid", "cpu", unit, "rss before", "rss after"],
        &[1, 2, 3, 4, 5],
        rows,
    )
}

fn available<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    or(NOT_AVAILABLE, value, text)
}

fn or<T>(none: &str, value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| none.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_us: Option<u64>, after_bytes: Option<u64>, ended: bool) -> Cost {
        Cost {
            name: "gw".to_owned(),
            pid: 7,
            cpu_us,
            rss_before_bytes: Some(1_048_576),
            rss_after_bytes: after_bytes,
            ended,
        }
    }

    #[test]
    fn servers_are_summed_and_what_is_not_known_is_said() {
        let of = |cpu_us| cost(cpu_us, Some(0), false);
        assert_eq!(per(&[of(Some(30)), of(Some(10))], 20), Some(2.0));
        assert_eq!(per(&[of(Some(30)), of(None)], 20), None);
        assert_eq!(per(&[], 20), None);
        assert_eq!(per(&[of(Some(30))], 0), None);
        assert_eq!(
            costs(
                "us a delivery",
                &[
                    cost(Some(2_000_000), Some(2 * 1_048_576), false),
                    cost(None, Some(1_048_576), false),
                    cost(None, None, true)
                ],
                1_000_000
            ),
            "PROCESS  PID            CPU  US A DELIVERY  RSS BEFORE  RSS AFTER\n\
             gw         7         2.00 s           2.00     1.0 MiB    2.0 MiB\n\
             gw         7  not available  not available     1.0 MiB    1.0 MiB\n\
             gw         7          ended          ended     1.0 MiB      ended"
        );
    }
}
