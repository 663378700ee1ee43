//! What a run found, as JSON and for people.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::accounting::Faults;
use super::args::{IdleArgs, LoadArgs, TargetArgs};
use super::histogram::Histogram;
use super::load::{Measured, Shape};
use super::servers::{self, Cost};
use super::tally::Tally;
use super::url::Url;
use crate::output::table;

const NOT_AVAILABLE: &str = "not available";

/// Of `fanout` and `topics`.
#[derive(Debug, Serialize)]
pub(crate) struct LoadReport {
    scenario: &'static str,
    urls: Vec<Url>,
    topics: u32,
    subscribers_per_topic: u32,
    publishers: u32,
    payload_bytes: usize,
    window: Option<u64>,
    rate: Option<f64>,
    seconds: f64,
    publishes: u64,
    publishes_per_s: f64,
    deliveries: u64,
    deliveries_per_s: f64,
    latency_us: Latency,
    /// Of the whole run, as are the next four.
    #[serde(flatten)]
    faults: Faults,
    refused: u64,
    closed: u64,
    closed_because: Option<String>,
    server_cpu_us_per_delivery: Option<f64>,
    servers: Vec<Cost>,
    client_cpu_us_per_delivery: Option<f64>,
    client: Vec<Cost>,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    p50: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Latency {
    fn of(histogram: &Histogram) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        Latency {
            count: histogram.len(),
            p50: us(histogram.permille(500)),
            p99: us(histogram.permille(990)),
            p99_9: us(histogram.permille(999)),
            max: us(histogram.max()),
        }
    }
}

impl LoadReport {
    pub(crate) fn new(
        shape: Shape,
        target: &TargetArgs,
        load: &LoadArgs,
        tally: &Tally,
        measured: Measured,
    ) -> LoadReport {
        let seconds = measured.elapsed.as_secs_f64();
        let (closed, because) = tally.closed();
        LoadReport {
            scenario: shape.scenario,
            urls: target.urls.clone(),
            topics: shape.topics,
            subscribers_per_topic: shape.subscribers,
            publishers: shape.publishers,
            payload_bytes: load.payload,
            window: load.rate.is_none().then_some(load.window),
            rate: load.rate,
            seconds,
            publishes: measured.published,
            publishes_per_s: measured.published as f64 / seconds,
            deliveries: measured.delivered,
            deliveries_per_s: measured.delivered as f64 / seconds,
            latency_us: Latency::of(&measured.latency_ns),
            faults: tally.faults(),
            refused: tally.refused(),
            closed,
            closed_because: because.map(str::to_owned),
            server_cpu_us_per_delivery: per(&measured.servers, measured.delivered),
            servers: measured.servers,
            client_cpu_us_per_delivery: per(&measured.client, measured.delivered),
            client: measured.client,
        }
    }

    /// Whether every subscriber got everything once and in order, and something at all.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_none() && self.refused == 0 && self.closed == 0 && self.deliveries > 0
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<15}{value}").expect("a String takes everything");
        };
        line("deliveries/s", format!("{:.0}", self.deliveries_per_s));
        line(
            "measured",
            format!(
                "{} deliveries of {} publishes in {:.1} s",
                self.deliveries, self.publishes, self.seconds
            ),
        );
        line(
            "latency",
            format!(
                "p50 {}, p99 {}, p99.9 {}, max {}",
                time(self.latency_us.p50),
                time(self.latency_us.p99),
                time(self.latency_us.p99_9),
                time(self.latency_us.max)
            ),
        );
        let faults = self.faults;
        line(
            "accounting",
            format!(
                "{} lost, {} doubled, {} reordered, {} misrouted; {} publishes refused",
                faults.lost, faults.doubled, faults.reordered, faults.misrouted, self.refused
            ),
        );
        if let Some(because) = &self.closed_because {
            line(
                "closed",
                format!("{} connections, the first because {because}", self.closed),
            );
        }
        if !self.servers.is_empty() {
            line(
                "server CPU",
                available(self.server_cpu_us_per_delivery, |us| {
                    format!("{us:.2} us a delivery")
                }),
            );
        }
        line(
            "client CPU",
            available(self.client_cpu_us_per_delivery, |us| {
                format!("{us:.2} us a delivery")
            }),
        );
        if !self.servers.is_empty() {
            text.push('\n');
            text.push_str(&costs("us a delivery", &self.servers, self.deliveries));
        }
        text
    }
}

/// Of `idle`.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    scenario: &'static str,
    urls: Vec<Url>,
    connections: u32,
    members_per_topic: u32,
    join_seconds: f64,
    joins_per_s: f64,
    hold_seconds: f64,
    closed: u32,
    server_cpu_us_per_join: Option<f64>,
    server_bytes_per_connection: Option<f64>,
    server_idle_cpu_us_per_s: Option<f64>,
    /// From before the first join to the end of the hold.
    servers: Vec<Cost>,
    client: Vec<Cost>,
}

impl IdleReport {
    /// `joining` took so long and cost that; `whole` is from before the first join to the end of the hold, `holding` of
    /// the hold alone.
    pub(crate) fn new(
        args: &IdleArgs,
        joining_time: Duration,
        joining: Vec<Cost>,
        whole: Vec<Cost>,
        holding: Vec<Cost>,
        client: Vec<Cost>,
        closed: u32,
    ) -> IdleReport {
        let connections = f64::from(args.connections);
        let hold_seconds = args.hold.as_secs_f64();
        let holding_us = if holding.is_empty() || hold_seconds == 0.0 {
            None
        } else {
            servers::cpu_us(&holding)
        };
        let gained = if whole.is_empty() {
            None
        } else {
            servers::rss_gained_bytes(&whole)
        };
        IdleReport {
            scenario: "idle",
            urls: args.target.urls.clone(),
            connections: args.connections,
            members_per_topic: args.members,
            join_seconds: joining_time.as_secs_f64(),
            joins_per_s: connections / joining_time.as_secs_f64(),
            hold_seconds,
            closed,
            server_cpu_us_per_join: per(&joining, args.connections.into()),
            server_bytes_per_connection: gained.map(|bytes| bytes as f64 / connections),
            server_idle_cpu_us_per_s: holding_us.map(|us| us as f64 / hold_seconds),
            servers: whole,
            client,
        }
    }

    /// Whether every connection was held to the end.
    pub(crate) fn is_clean(&self) -> bool {
        self.closed == 0
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<15}{value}").expect("a String takes everything");
        };
        line(
            "connections",
            format!(
                "{} joined in {:.1} s, {:.0} a second",
                self.connections, self.join_seconds, self.joins_per_s
            ),
        );
        line(
            "closed",
            format!("{} by the servers in {:.0} s", self.closed, self.hold_seconds),
        );
        if !self.servers.is_empty() {
            line(
                "server memory",
                available(self.server_bytes_per_connection, |bytes| {
                    format!("{bytes:.0} bytes a connection")
                }),
            );
            line(
                "server CPU",
                available(self.server_cpu_us_per_join, |us| format!("{us:.1} us a join")),
            );
            line(
                "idle CPU",
                available(self.server_idle_cpu_us_per_s, |us| {
                    format!("{:.2} % of a core", us / 10_000.0)
                }),
            );
            text.push('\n');
            text.push_str(&costs("us a connection", &self.servers, self.connections.into()));
        }
        text
    }
}

fn per(costs: &[Cost], count: u64) -> Option<f64> {
    if costs.is_empty() || count == 0 {
        return None;
    }
    servers::cpu_us(costs).map(|us| us as f64 / count as f64)
}

fn costs(unit: &str, costs: &[Cost], count: u64) -> String {
    let mib = |bytes: Option<u64>| available(bytes, |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0));
    let rows = costs.iter().map(|cost| {
        vec![
            cost.name.clone(),
            cost.pid.to_string(),
            available(cost.cpu_us, |us| format!("{:.2} s", us as f64 / 1e6)),
            available(cost.cpu_us.filter(|_| count > 0), |us| {
                format!("{:.2}", us as f64 / count as f64)
            }),
            mib(cost.rss_before_bytes),
            mib(cost.rss_after_bytes),
        ]
    });
    table(
        &["server", "pid", "cpu", unit, "rss before", "rss after"],
        &[1, 2, 3, 4, 5],
        rows,
    )
}

fn available<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOT_AVAILABLE.to_owned(), text)
}

fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_us: Option<u64>, after_bytes: u64) -> Cost {
        Cost {
            name: "gw".to_owned(),
            pid: 7,
            cpu_us,
            rss_before_bytes: Some(1_048_576),
            rss_after_bytes: Some(after_bytes),
        }
    }

    #[test]
    fn servers_are_summed_and_what_is_not_known_is_said() {
        assert_eq!(per(&[cost(Some(30), 0), cost(Some(10), 0)], 20), Some(2.0));
        assert_eq!(per(&[cost(Some(30), 0), cost(None, 0)], 20), None);
        assert_eq!(per(&[], 20), None);
        assert_eq!(per(&[cost(Some(30), 0)], 0), None);
        assert_eq!(
            costs(
                "us a delivery",
                &[cost(Some(2_000_000), 2 * 1_048_576), cost(None, 1_048_576)],
                1_000_000
            ),
            "SERVER  PID            CPU  US A DELIVERY  RSS BEFORE  RSS AFTER\n\
             gw        7         2.00 s           2.00     1.0 MiB    2.0 MiB\n\
             gw        7  not available  not available     1.0 MiB    1.0 MiB"
        );
    }

    #[test]
    fn times_have_the_unit_a_person_would_choose() {
        assert_eq!(
            [0.4, 999.0, 1000.0, 2_500_000.0].map(time),
            ["0 us", "999 us", "1.00 ms", "2.50 s"]
        );
    }
}
