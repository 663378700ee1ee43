//! The report of `resume`.

use serde::Serialize;

use super::super::args::ResumeArgs;
use super::super::page::{Plot, Points, Series};
use super::super::quantiles::{Quantiles, time};
use super::super::reasons::Reasons;
use super::super::resume::Found;
use super::super::servers::Cost;
use super::super::url::Url;
use super::curves::{of_times, percentiles};
use super::{Report, available, complain, costs, line, per};

/// Of `resume`.
#[derive(Debug, Serialize)]
pub(crate) struct ResumeReport {
    scenario: &'static str,
    urls: Vec<Url>,
    clients: u32,
    topics: u32,
    missed_per_topic: u64,
    payload_bytes: usize,
    published: u64,
    refused: u64,
    refused_because: Reasons,
    /// Until the last client had, or had been told of, all it missed; or the deadline.
    seconds: f64,
    back: u32,
    not_back: u32,
    /// From the moment when all wanted back to the answer of the join, and to having everything.
    joined_us: Quantiles,
    back_us: Quantiles,
    /// Answers to joins with a position.
    recovered: u64,
    not_recovered: u64,
    gaps: u64,
    /// `owed` = `delivered` + `told_missed` + `lost`.
    owed: u64,
    delivered: u64,
    told_missed: u64,
    lost: u64,
    doubled: u64,
    reordered: u64,
    misrouted: u64,
    failures: u64,
    failures_because: Reasons,
    closed: u64,
    closed_because: Reasons,
    server_cpu_us_per_client: Option<f64>,
    servers: Vec<Cost>,
    client_cpu_us_per_client: Option<f64>,
    client: Vec<Cost>,
    clean: bool,
    problems: Vec<String>,
    #[serde(skip)]
    joined_curve: Points,
    #[serde(skip)]
    back_curve: Points,
}

impl ResumeReport {
    /// Of what was found.
    pub(crate) fn new(args: &ResumeArgs, found: Found) -> ResumeReport {
        let sums = found.sums;
        let mut report = ResumeReport {
            scenario: "resume",
            urls: args.target.urls.clone(),
            clients: args.clients,
            topics: args.topics,
            missed_per_topic: args.missed,
            payload_bytes: args.payload,
            published: found.published,
            refused: found.refused.total(),
            refused_because: found.refused,
            seconds: found.seconds,
            back: found.back,
            not_back: args.clients.saturating_sub(found.back),
            joined_us: Quantiles::of(&found.joined_ns),
            back_us: Quantiles::of(&found.back_ns),
            recovered: sums.recovered,
            not_recovered: sums.not_recovered,
            gaps: sums.gaps,
            owed: sums.owed,
            delivered: sums.delivered,
            told_missed: sums.told_missed,
            lost: sums.lost,
            doubled: sums.doubled,
            reordered: sums.reordered,
            misrouted: sums.misrouted,
            failures: found.failures.total(),
            failures_because: found.failures,
            closed: found.closed.total(),
            closed_because: found.closed,
            server_cpu_us_per_client: per(&found.servers, found.back.into()),
            servers: found.servers,
            client_cpu_us_per_client: per(&found.client, found.back.into()),
            client: found.client,
            clean: false,
            problems: Vec::new(),
            joined_curve: of_times(&found.joined_ns),
            back_curve: of_times(&found.back_ns),
        };
        report.problems = report.find_problems(args.deadline.as_secs_f64());
        report.clean = report.problems.is_empty();
        report
    }

    fn find_problems(&self, deadline_s: f64) -> Vec<String> {
        let mut problems = Vec::new();
        let it = &mut problems;
        complain(it, self.not_back.into(), |count| {
            format!(
                "{count} clients did not have all they missed after {deadline_s} s ({})",
                self.failures_because
            )
        });
        for (count, what) in [
            (self.lost, "lost"),
            (self.doubled, "doubled"),
            (self.reordered, "reordered"),
        ] {
            complain(it, count, |count| format!("{count} deliveries {what}"));
        }
        complain(it, self.misrouted, |count| {
            format!("{count} frames misrouted or altered")
        });
        complain(it, self.refused, |count| {
            format!("{count} publishes refused ({})", self.refused_because)
        });
        complain(it, self.closed, |count| {
            format!(
                "{count} connections closed by the servers ({})",
                self.closed_because
            )
        });
        problems
    }
}

impl Report for ResumeReport {
    fn text(&self) -> String {
        let text = &mut String::new();
        line(
            text,
            "back",
            &format!(
                "{} of {} in {}, each having missed {}",
                self.back,
                self.clients,
                time(self.seconds * 1e6),
                self.missed_per_topic
            ),
        );
        line(text, "joined", &self.joined_us.to_string());
        line(text, "had all", &self.back_us.to_string());
        line(
            text,
            "joins",
            &format!(
                "{} recovered, {} did not; {} gaps; {} failed tries",
                self.recovered, self.not_recovered, self.gaps, self.failures
            ),
        );
        if self.failures > 0 {
            line(text, "failed tries", &self.failures_because.to_string());
        }
        line(
            text,
            "accounting",
            &format!(
                "{} owed: {} delivered, {} told to be missed, {} lost; {} doubled, {} reordered, {} misrouted",
                self.owed,
                self.delivered,
                self.told_missed,
                self.lost,
                self.doubled,
                self.reordered,
                self.misrouted
            ),
        );
        line(
            text,
            "published",
            &format!("{}, {} refused", self.published, self.refused),
        );
        line(
            text,
            "closed",
            &match self.closed {
                0 => "0 by the servers".to_owned(),
                count => format!("{count} by the servers: {}", self.closed_because),
            },
        );
        let cpu = |us: Option<f64>| available(us, |us| format!("{us:.1} us a client"));
        if !self.servers.is_empty() {
            line(text, "server CPU", &cpu(self.server_cpu_us_per_client));
        }
        line(text, "client CPU", &cpu(self.client_cpu_us_per_client));
        let processes: Vec<Cost> = self.servers.iter().chain(&self.client).cloned().collect();
        text.push('\n');
        text.push_str(&costs("us a client", &processes, self.back.into()));
        std::mem::take(text)
    }

    fn plots(&self) -> Vec<Plot> {
        let series = vec![
            Series::new("joined", self.joined_curve.clone()),
            Series::new("had all it missed", self.back_curve.clone()),
        ];
        vec![percentiles("From all wanting back", series)]
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }
}
