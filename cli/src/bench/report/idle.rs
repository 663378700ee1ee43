//! The report of `idle`.

use std::time::Duration;

use serde::Serialize;

use super::super::args::IdleArgs;
use super::super::floor;
use super::super::page::{Plot, Points, Series};
use super::super::servers::{self, Cost};
use super::super::url::Url;
use super::curves::{Moment, over_time};
use super::floor::{IdleFloor, add_problems};
use super::{Report, available, complain, costs, line, per};

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
    /// With `--floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<IdleFloor>,
    client: Vec<Cost>,
    clean: bool,
    problems: Vec<String>,
    #[serde(skip)]
    course: Vec<Moment>,
    #[serde(skip)]
    floor_course: Vec<Moment>,
}

impl IdleReport {
    /// `joining` took so long and cost that; `whole` is from before the first join to the end of the hold, `holding` of
    /// the hold alone.
    pub(crate) fn new(
        args: &IdleArgs,
        joining_time: Duration,
        joining: &[Cost],
        whole: Vec<Cost>,
        holding: &[Cost],
        client: Vec<Cost>,
        closed: u32,
    ) -> IdleReport {
        let connections = f64::from(args.connections);
        let hold_seconds = args.hold.as_secs_f64();
        let holding_us = if holding.is_empty() || hold_seconds == 0.0 {
            None
        } else {
            servers::cpu_us(holding)
        };
        let gained = if whole.is_empty() {
            None
        } else {
            servers::rss_gained_bytes(&whole)
        };
        let mut problems = Vec::new();
        complain(&mut problems, closed.into(), |count| {
            format!("{count} connections closed by the servers")
        });
        IdleReport {
            scenario: "idle",
            urls: args.target.urls.clone(),
            connections: args.connections,
            members_per_topic: args.members,
            join_seconds: joining_time.as_secs_f64(),
            joins_per_s: connections / joining_time.as_secs_f64(),
            hold_seconds,
            closed,
            server_cpu_us_per_join: per(joining, args.connections.into()),
            server_bytes_per_connection: gained.map(|bytes| bytes as f64 / connections),
            server_idle_cpu_us_per_s: holding_us.map(|us| us as f64 / hold_seconds),
            servers: whole,
            floor: None,
            client,
            clean: problems.is_empty(),
            problems,
            course: Vec::new(),
            floor_course: Vec::new(),
        }
    }

    /// Along with what it was meanwhile.
    pub(crate) fn with_course(mut self, course: Vec<Moment>) -> IdleReport {
        self.course = course;
        self
    }

    /// Along with what the same connections cost on a bare server.
    pub(crate) fn with_floor(mut self, below: IdleReport) -> IdleReport {
        add_problems(&mut self.problems, below.problems);
        self.clean = self.problems.is_empty();
        self.floor_course = below.course;
        self.floor = Some(IdleFloor {
            cpu_us_per_join: below.server_cpu_us_per_join,
            bytes_per_connection: below.server_bytes_per_connection,
            ratio: floor::ratio(self.server_cpu_us_per_join, below.server_cpu_us_per_join),
        });
        self
    }
}

impl Report for IdleReport {
    fn text(&self) -> String {
        let text = &mut String::new();
        line(
            text,
            "connections",
            &format!(
                "{} joined in {:.1} s, {:.0} a second",
                self.connections, self.join_seconds, self.joins_per_s
            ),
        );
        line(
            text,
            "closed",
            &format!("{} by the servers in {:.0} s", self.closed, self.hold_seconds),
        );
        if !self.servers.is_empty() {
            line(
                text,
                "server memory",
                &available(self.server_bytes_per_connection, |bytes| {
                    format!("{bytes:.0} bytes a connection")
                }),
            );
            line(
                text,
                "server CPU",
                &available(self.server_cpu_us_per_join, |us| format!("{us:.1} us a join")),
            );
            line(
                text,
                "idle CPU",
                &available(self.server_idle_cpu_us_per_s, |us| {
                    format!("{:.2} % of a core", us / 10_000.0)
                }),
            );
        }
        if let Some(floor) = &self.floor {
            floor.lines(text);
        }
        let processes: Vec<Cost> = self.servers.iter().chain(&self.client).cloned().collect();
        text.push('\n');
        text.push_str(&costs("us a connection", &processes, self.connections.into()));
        std::mem::take(text)
    }

    fn plots(&self) -> Vec<Plot> {
        let series = |of: fn(&Moment) -> Option<f64>| {
            let points = |course: &[Moment]| -> Points {
                let point = |moment: &Moment| Some((moment.at.as_secs_f64(), of(moment)?));
                course.iter().filter_map(point).collect()
            };
            let mut series = vec![Series::new("cluster", points(&self.course))];
            if self.floor.is_some() {
                series.push(Series::new("floor", points(&self.floor_course)));
            }
            series
        };
        vec![
            over_time(
                "Connections that have joined",
                "connections",
                series(|moment| Some(f64::from(moment.joined))),
            ),
            over_time(
                "Memory of all servers",
                "MiB",
                series(|moment| moment.rss_bytes.map(|bytes| bytes as f64 / 1_048_576.0)),
            ),
        ]
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }
}
