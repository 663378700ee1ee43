//! The report of `fanout` and `topics`.

use serde::Serialize;

use super::super::accounting::Faults;
use super::super::args::{LoadArgs, TargetArgs};
use super::super::floor;
use super::super::load::Shape;
use super::super::measure::Measured;
use super::super::page::{Plot, Points, Series};
use super::super::quantiles::{Quantiles, time};
use super::super::reasons::Reasons;
use super::super::servers::Cost;
use super::super::tally::{Settled, Tally};
use super::super::timing;
use super::super::url::Url;
use super::super::wire::Plan;
use super::curves::{Curves, of_times, over_time, percentiles};
use super::floor::{LoadFloor, add_problems};
use super::{Report, available, complain, costs, line, per};

/// Of one core; from here on the generator may be what is slow.
const BUSY_MAX: f64 = 0.9;

/// Of `fanout` and `topics`.
#[derive(Debug, Serialize)]
pub(crate) struct LoadReport {
    scenario: &'static str,
    urls: Vec<Url>,
    topics: u32,
    subscribers_per_topic: u32,
    publishers: u32,
    payload_bytes: usize,
    /// One of these two.
    window: Option<u64>,
    rate: Option<f64>,
    reconnect: bool,
    /// The measured time, and what happened in it.
    seconds: f64,
    publishes: u64,
    publishes_per_s: f64,
    deliveries: u64,
    deliveries_per_s: f64,
    /// Of what was due in the measured time: from then to received, and from then to the answer ok.
    latency_us: Quantiles,
    publish_us: Quantiles,
    longest_publish: Option<Longest>,
    longest_gap: Longest,
    /// At a rate, how long a subscriber waits for the next message if nothing is late.
    expected_gap_us: Option<f64>,
    /// All from here to `accounting` is of the whole run.
    #[serde(flatten)]
    faults: Faults,
    missed_while_away: u64,
    refused: u64,
    refused_because: Reasons,
    unanswered: u64,
    interrupted: u64,
    answered_after_10_s: u64,
    closed: u64,
    closed_because: Reasons,
    reconnects: u64,
    reconnect_us: Quantiles,
    reconnect_failures: Reasons,
    away_at_end: u64,
    accounting: Accounting,
    server_cpu_us_per_delivery: Option<f64>,
    servers: Vec<Cost>,
    /// With `--floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<LoadFloor>,
    client_cpu_us_per_delivery: Option<f64>,
    /// Of one core.
    client_busy: Option<f64>,
    client: Vec<Cost>,
    clean: bool,
    problems: Vec<String>,
    #[serde(skip)]
    curves: Curves,
    #[serde(skip)]
    floor_curves: Curves,
}

/// Sums that must be equal: `published` = `accepted` + `refused` + `interrupted` + `unanswered`, and `owed` (each publish
/// to each subscriber of its topic) = the rest.
#[derive(Debug, Serialize)]
struct Accounting {
    published: u64,
    accepted: u64,
    refused: u64,
    interrupted: u64,
    unanswered: u64,
    owed: u64,
    delivered: u64,
    lost: u64,
    missed_while_away: u64,
    undelivered_refused: u64,
    undelivered_unanswered: u64,
}

/// The longest of something.
#[derive(Debug, Serialize)]
struct Longest {
    us: f64,
    topic: String,
    /// When it began, in the measured time.
    at_s: f64,
}

impl Longest {
    fn of(longest: timing::Longest, plan: &Plan) -> Longest {
        Longest {
            us: longest.ns as f64 / 1e3,
            topic: plan.topic(longest.topic),
            at_s: longest.at_ns as f64 / 1e9,
        }
    }

    fn text(&self) -> String {
        format!("{}, of {} at {:.1} s", time(self.us), self.topic, self.at_s)
    }
}

impl LoadReport {
    /// Of a run after which nothing more is to come.
    pub(crate) fn new(
        shape: Shape,
        target: &TargetArgs,
        load: &LoadArgs,
        plan: &Plan,
        tally: &mut Tally,
        measured: Measured,
    ) -> LoadReport {
        let seconds = measured.elapsed.as_secs_f64();
        let settled = tally.settle();
        let (answers, connections) = (&tally.answers, &tally.connections);
        let accounting = accounting(shape, tally, &settled);
        let mut report = LoadReport {
            scenario: shape.scenario,
            urls: target.urls.clone(),
            topics: shape.topics,
            subscribers_per_topic: shape.subscribers,
            publishers: shape.publishers,
            payload_bytes: load.payload,
            window: load.rate.is_none().then_some(load.window),
            rate: load.rate,
            reconnect: load.reconnect,
            seconds,
            publishes: measured.published,
            publishes_per_s: measured.published as f64 / seconds,
            deliveries: measured.delivered,
            deliveries_per_s: measured.delivered as f64 / seconds,
            latency_us: Quantiles::of(tally.timing.delivery_ns()),
            publish_us: Quantiles::of(tally.timing.publish_ns()),
            longest_publish: tally
                .timing
                .longest_publish()
                .map(|longest| Longest::of(longest, plan)),
            longest_gap: Longest::of(tally.timing.longest_gap(), plan),
            expected_gap_us: load.rate.map(|rate| f64::from(shape.topics) / rate * 1e6),
            faults: settled.faults,
            missed_while_away: settled.excused.missed_while_away,
            refused: answers.refused.total(),
            refused_because: answers.refused.clone(),
            unanswered: settled.unanswered,
            interrupted: answers.interrupted,
            answered_after_10_s: answers.late,
            closed: connections.closed.total(),
            closed_because: connections.closed.clone(),
            reconnects: connections.away_ns.len(),
            reconnect_us: Quantiles::of(&connections.away_ns),
            reconnect_failures: connections.failures.clone(),
            away_at_end: connections.away,
            accounting,
            server_cpu_us_per_delivery: per(&measured.servers, measured.delivered),
            servers: measured.servers,
            floor: None,
            client_cpu_us_per_delivery: per(&measured.client, measured.delivered),
            client_busy: per(&measured.client, 1).map(|us| us / 1e6 / seconds),
            client: measured.client,
            clean: false,
            problems: Vec::new(),
            curves: Curves {
                delivery: of_times(tally.timing.delivery_ns()),
                publish: of_times(tally.timing.publish_ns()),
                course: measured.course,
            },
            floor_curves: Curves::default(),
        };
        report.problems = report.find_problems();
        report.clean = report.problems.is_empty();
        report
    }

    /// Along with what the same load cost on a bare server.
    pub(crate) fn with_floor(mut self, frames_per_write: u32, below: LoadReport) -> LoadReport {
        add_problems(&mut self.problems, below.problems);
        self.clean = self.problems.is_empty();
        self.floor_curves = below.curves;
        self.floor = Some(LoadFloor {
            frames_per_write,
            cpu_us_per_delivery: below.server_cpu_us_per_delivery,
            deliveries_per_s: below.deliveries_per_s,
            latency_us: below.latency_us,
            ratio: floor::ratio(self.server_cpu_us_per_delivery, below.server_cpu_us_per_delivery),
        });
        self
    }

    fn find_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let it = &mut problems;
        complain(it, self.faults.lost, |count| format!("{count} deliveries lost"));
        complain(it, self.faults.doubled, |count| {
            format!("{count} deliveries doubled")
        });
        complain(it, self.faults.reordered, |count| {
            format!("{count} deliveries reordered")
        });
        complain(it, self.faults.misrouted, |count| {
            format!("{count} frames misrouted or altered")
        });
        complain(it, self.refused, |count| {
            format!("{count} publishes refused ({})", self.refused_because)
        });
        complain(it, self.unanswered, |count| {
            format!("{count} publishes never answered")
        });
        complain(it, self.answered_after_10_s, |count| {
            format!("{count} publishes answered after 10 s, when phoenix.js has given them up")
        });
        if self.reconnect {
            complain(it, self.away_at_end, |count| {
                format!("{count} clients did not get back in")
            });
        } else {
            complain(it, self.closed, |count| {
                format!(
                    "{count} connections closed by the servers ({})",
                    self.closed_because
                )
            });
            complain(it, self.interrupted, |count| {
                format!("{count} publishes not answered before their connection was closed")
            });
        }
        if self.deliveries == 0 {
            it.push("nothing was delivered in the measured time".to_owned());
        }
        problems
    }

    fn lines_of_connections(&self, text: &mut String) {
        if self.closed > 0 {
            line(
                text,
                "closed",
                &format!("{} by the servers: {}", self.closed, self.closed_because),
            );
        }
        if self.reconnect {
            let mut value = format!(
                "{} clients, away {}; {} did not",
                self.reconnects, self.reconnect_us, self.away_at_end
            );
            if self.reconnect_failures.total() > 0 {
                value.push_str(&format!("; failed tries: {}", self.reconnect_failures));
            }
            line(text, "came back", &value);
            line(
                text,
                "while away",
                &format!(
                    "{} deliveries missed; {} publishes not answered before their connection was closed",
                    self.missed_while_away, self.interrupted
                ),
            );
        }
    }
}

impl Report for LoadReport {
    fn text(&self) -> String {
        let text = &mut String::new();
        line(text, "deliveries/s", &format!("{:.0}", self.deliveries_per_s));
        line(
            text,
            "measured",
            &format!(
                "{} deliveries of {} publishes in {:.1} s",
                self.deliveries, self.publishes, self.seconds
            ),
        );
        line(text, "delivery", &self.latency_us.to_string());
        line(text, "publish", &self.publish_us.to_string());
        if let Some(longest) = &self.longest_publish {
            line(text, "longest publish", &longest.text());
        }
        let expected = self
            .expected_gap_us
            .map_or(String::new(), |us| format!("; {} if nothing is late", time(us)));
        line(
            text,
            "longest gap",
            &format!("{}{expected}", self.longest_gap.text()),
        );
        let faults = self.faults;
        line(
            text,
            "accounting",
            &format!(
                "{} lost, {} doubled, {} reordered, {} misrouted; {} publishes refused, {} never answered",
                faults.lost,
                faults.doubled,
                faults.reordered,
                faults.misrouted,
                self.refused,
                self.unanswered
            ),
        );
        self.lines_of_connections(text);
        let cpu = |us: Option<f64>| available(us, |us| format!("{us:.2} us a delivery"));
        if !self.servers.is_empty() {
            line(text, "server CPU", &cpu(self.server_cpu_us_per_delivery));
        }
        if let Some(floor) = &self.floor {
            floor.lines(text);
        }
        let busy = self
            .client_busy
            .map_or(String::new(), |busy| format!(", {:.0} % of a core", busy * 100.0));
        let limit = match self.client_busy {
            Some(busy) if busy > BUSY_MAX => ": the generator itself may be what is slow",
            _ => "",
        };
        line(
            text,
            "client CPU",
            &format!("{}{busy}{limit}", cpu(self.client_cpu_us_per_delivery)),
        );
        let processes: Vec<Cost> = self.servers.iter().chain(&self.client).cloned().collect();
        text.push('\n');
        text.push_str(&costs("us a delivery", &processes, self.deliveries));
        std::mem::take(text)
    }

    fn plots(&self) -> Vec<Plot> {
        let (above, below) = (&self.curves, &self.floor_curves);
        let series = |of: fn(&Curves) -> &Points| {
            let mut series = vec![Series::new("cluster", of(above).clone())];
            if self.floor.is_some() {
                series.push(Series::new("floor", of(below).clone()));
            }
            series
        };
        vec![
            percentiles("From due to received", series(|curves| &curves.delivery)),
            percentiles("From due to the answer", series(|curves| &curves.publish)),
            over_time(
                "Deliveries a second",
                "deliveries/s",
                series(|curves| &curves.course),
            ),
        ]
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }
}

fn accounting(shape: Shape, tally: &Tally, settled: &Settled) -> Accounting {
    let published = tally.published();
    Accounting {
        published,
        accepted: tally.answers.accepted,
        refused: tally.answers.refused.total(),
        interrupted: tally.answers.interrupted,
        unanswered: settled.unanswered,
        owed: published * u64::from(shape.subscribers),
        delivered: tally.delivered(),
        lost: settled.faults.lost,
        missed_while_away: settled.excused.missed_while_away,
        undelivered_refused: settled.excused.refused,
        undelivered_unanswered: settled.excused.unanswered,
    }
}
