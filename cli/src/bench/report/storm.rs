//! The report of `storm`.

use serde::Serialize;

use super::super::args::StormArgs;
use super::super::floor;
use super::super::page::{Axis, Plot, Points, Series};
use super::super::quantiles::{Quantiles, time};
use super::super::reasons::Reasons;
use super::super::servers::Cost;
use super::super::url::Url;
use super::curves::percentiles;
use super::floor::{StormFloor, add_problems};
use super::{Report, available, complain, costs, line, per};

/// On a page.
const ROUNDS_SHOWN: usize = 3;

/// Of `storm`.
#[derive(Debug, Serialize)]
pub(crate) struct StormReport {
    scenario: &'static str,
    urls: Vec<Url>,
    clients: u32,
    members_per_topic: u32,
    rounds: Vec<Round>,
    /// All joins of all rounds: from the moment all wanted in to the answer.
    join_us: Quantiles,
    joins: u64,
    not_joined: u64,
    failures: u64,
    failures_because: Reasons,
    closed: u64,
    closed_because: Reasons,
    server_cpu_us_per_join: Option<f64>,
    /// From before the first round to the end of the last one's hold.
    servers: Vec<Cost>,
    /// With `--floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<StormFloor>,
    client_cpu_us_per_join: Option<f64>,
    client: Vec<Cost>,
    clean: bool,
    problems: Vec<String>,
    /// Of the floor, all rounds.
    #[serde(skip)]
    floor_curves: Vec<Points>,
}

/// All come at once.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    /// Until the last one had joined, or the deadline.
    pub(crate) seconds: f64,
    pub(crate) joins: u64,
    /// That had not joined at the end of the round.
    pub(crate) not_joined: u64,
    pub(crate) joins_per_s: f64,
    pub(crate) join_us: Quantiles,
    /// Tries that failed, after each of which the client waited as phoenix.js does and tried again.
    pub(crate) failures: u64,
    pub(crate) failures_because: Reasons,
    /// By the servers, until the hold was over.
    pub(crate) closed: u64,
    pub(crate) closed_because: Reasons,
    pub(crate) server_cpu_us_per_join: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
    /// How long joins took, in milliseconds.
    #[serde(skip)]
    pub(crate) curve: Points,
}

impl StormReport {
    /// Of these rounds.
    pub(crate) fn new(
        args: &StormArgs,
        rounds: Vec<Round>,
        join_us: Quantiles,
        servers: Vec<Cost>,
        client: Vec<Cost>,
    ) -> StormReport {
        let (mut failures, mut closed) = (Reasons::default(), Reasons::default());
        for round in &rounds {
            failures.merge(&round.failures_because);
            closed.merge(&round.closed_because);
        }
        let joins = rounds.iter().map(|round| round.joins).sum();
        let not_joined = rounds.iter().map(|round| round.not_joined).sum();
        let mut problems = Vec::new();
        complain(&mut problems, not_joined, |count| {
            format!(
                "{count} clients had not joined after {} s ({failures})",
                args.deadline.as_secs_f64()
            )
        });
        complain(&mut problems, closed.total(), |count| {
            format!("{count} connections closed by the servers ({closed})")
        });
        StormReport {
            scenario: "storm",
            urls: args.target.urls.clone(),
            clients: args.clients,
            members_per_topic: args.members,
            rounds,
            join_us,
            joins,
            not_joined,
            failures: failures.total(),
            failures_because: failures,
            closed: closed.total(),
            closed_because: closed,
            server_cpu_us_per_join: per(&servers, joins),
            servers,
            floor: None,
            client_cpu_us_per_join: per(&client, joins),
            client,
            clean: problems.is_empty(),
            problems,
            floor_curves: Vec::new(),
        }
    }

    /// Along with what the same storm was to a bare server.
    pub(crate) fn with_floor(mut self, below: StormReport) -> StormReport {
        add_problems(&mut self.problems, below.problems);
        self.clean = self.problems.is_empty();
        self.floor_curves = below.rounds.iter().map(|round| round.curve.clone()).collect();
        self.floor = Some(StormFloor {
            seconds: below.rounds.iter().map(|round| round.seconds).collect(),
            join_us: below.join_us,
            cpu_us_per_join: below.server_cpu_us_per_join,
            ratio: floor::ratio(self.server_cpu_us_per_join, below.server_cpu_us_per_join),
        });
        self
    }
}

impl Report for StormReport {
    fn text(&self) -> String {
        let text = &mut String::new();
        for (index, round) in self.rounds.iter().enumerate() {
            line(
                text,
                &format!("round {}", index + 1),
                &format!(
                    "{} of {} joined in {}, {:.0} a second; {}; {} failed tries",
                    round.joins,
                    self.clients,
                    time(round.seconds * 1e6),
                    round.joins_per_s,
                    round.join_us,
                    round.failures
                ),
            );
        }
        line(text, "joins", &format!("{}, {}", self.joins, self.join_us));
        if self.failures > 0 {
            line(text, "failed tries", &self.failures_because.to_string());
        }
        line(
            text,
            "closed",
            &match self.closed {
                0 => "0 by the servers".to_owned(),
                count => format!("{count} by the servers: {}", self.closed_because),
            },
        );
        let cpu = |us: Option<f64>| available(us, |us| format!("{us:.1} us a join"));
        if !self.servers.is_empty() {
            line(text, "server CPU", &cpu(self.server_cpu_us_per_join));
        }
        if let Some(floor) = &self.floor {
            floor.lines(text);
        }
        line(text, "client CPU", &cpu(self.client_cpu_us_per_join));
        let processes: Vec<Cost> = self.servers.iter().chain(&self.client).cloned().collect();
        text.push('\n');
        text.push_str(&costs("us a join", &processes, self.joins));
        std::mem::take(text)
    }

    fn plots(&self) -> Vec<Plot> {
        let round = |name: &str, index: usize, curve: &Points| {
            Series::new(&format!("{name} {}", index + 1), curve.clone())
        };
        let above = self.rounds.iter().enumerate();
        let below = self.floor_curves.iter().enumerate();
        // More would be a thicket; all of them stand in the table.
        let mut curves: Vec<Series> = above
            .take(ROUNDS_SHOWN)
            .map(|(index, of)| round("round", index, &of.curve))
            .collect();
        curves.extend(
            below
                .take(1)
                .map(|(index, curve)| round("floor, round", index, curve)),
        );
        let seconds = self.rounds.iter().zip(1..);
        let seconds: Points = seconds
            .map(|(round, number)| (f64::from(number), round.seconds))
            .collect();
        let mut plots = vec![percentiles("From all wanting in to joined", curves)];
        if self.rounds.len() > 1 {
            plots.push(Plot {
                title: "Until the last had joined".to_owned(),
                x: Axis::Linear("round"),
                y: "s",
                series: vec![Series::new("cluster", seconds)],
            });
        }
        plots
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }
}
