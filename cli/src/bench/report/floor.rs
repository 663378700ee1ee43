//! What a report says of the floor, with `--floor`.
//!
//! *Invariant:* a floor that was not clean makes the whole run not clean, since it is no measure of anything.

use serde::Serialize;

use super::super::quantiles::{Quantiles, time};
use super::{available, line};

/// What a load cost there.
#[derive(Debug, Serialize)]
pub(crate) struct LoadFloor {
    /// So many frames go to a socket in one write at most.
    pub(crate) frames_per_write: u32,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) deliveries_per_s: f64,
    pub(crate) latency_us: Quantiles,
    /// What the cluster costs, over what this costs.
    pub(crate) ratio: Option<f64>,
}

/// What connections cost there.
#[derive(Debug, Serialize)]
pub(crate) struct IdleFloor {
    pub(crate) cpu_us_per_join: Option<f64>,
    pub(crate) bytes_per_connection: Option<f64>,
    /// Processor time of a join, over that of the floor.
    pub(crate) ratio: Option<f64>,
}

/// What a storm was there.
#[derive(Debug, Serialize)]
pub(crate) struct StormFloor {
    /// Of each round.
    pub(crate) seconds: Vec<f64>,
    pub(crate) join_us: Quantiles,
    pub(crate) cpu_us_per_join: Option<f64>,
    /// Processor time of a join, over that of the floor.
    pub(crate) ratio: Option<f64>,
}

impl LoadFloor {
    pub(super) fn lines(&self, text: &mut String) {
        let frames = match self.frames_per_write {
            1 => "a write a frame".to_owned(),
            frames => format!("up to {frames} frames a write"),
        };
        let cpu = available(self.cpu_us_per_delivery, |us| format!("{us:.2} us a delivery"));
        line(
            text,
            "floor CPU",
            &format!("{cpu} with {frames}{}", times(self.ratio)),
        );
        line(
            text,
            "floor delivery",
            &format!("{}; {:.0} a second", self.latency_us, self.deliveries_per_s),
        );
    }
}

impl IdleFloor {
    pub(super) fn lines(&self, text: &mut String) {
        let memory = available(self.bytes_per_connection, |bytes| {
            format!("{bytes:.0} bytes a connection")
        });
        line(text, "floor memory", &memory);
        line(text, "floor CPU", &joins(self.cpu_us_per_join, self.ratio));
    }
}

impl StormFloor {
    pub(super) fn lines(&self, text: &mut String) {
        let seconds: Vec<String> = self.seconds.iter().map(|seconds| time(seconds * 1e6)).collect();
        line(
            text,
            "floor rounds",
            &format!("{}; {}", seconds.join(", "), self.join_us),
        );
        line(text, "floor CPU", &joins(self.cpu_us_per_join, self.ratio));
    }
}

/// Adds what was wrong on the floor to what was wrong on the cluster.
pub(super) fn add_problems(problems: &mut Vec<String>, below: Vec<String>) {
    problems.extend(
        below
            .into_iter()
            .map(|problem| format!("on the floor server: {problem}")),
    );
}

fn joins(us: Option<f64>, ratio: Option<f64>) -> String {
    let cpu = available(us, |us| format!("{us:.1} us a join"));
    format!("{cpu}{}", times(ratio))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| {
        format!("; the servers take {ratio:.2} times that")
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::histogram::Histogram;
    use super::*;

    fn none() -> Quantiles {
        Quantiles::of(&Histogram::new())
    }

    #[test]
    fn a_floor_is_told_in_lines_and_what_is_not_known_is_said() {
        let text = &mut String::new();
        let mut load = LoadFloor {
            frames_per_write: 8,
            cpu_us_per_delivery: Some(0.66),
            deliveries_per_s: 1000.0,
            latency_us: none(),
            ratio: Some(1.275),
        };
        load.lines(text);
        (load.frames_per_write, load.cpu_us_per_delivery, load.ratio) = (1, None, None);
        load.lines(text);
        let storm = StormFloor {
            seconds: vec![0.4, 2.0],
            join_us: none(),
            cpu_us_per_join: Some(27.0),
            ratio: Some(3.0),
        };
        storm.lines(text);
        assert_eq!(
            *text,
            "floor CPU        0.66 us a delivery with up to 8 frames a write; the servers take 1.27 times that\n\
             floor delivery   none; 1000 a second\n\
             floor CPU        not available with a write a frame\n\
             floor delivery   none; 1000 a second\n\
             floor rounds     400.00 ms, 2.00 s; none\n\
             floor CPU        27.0 us a join; the servers take 3.00 times that\n"
        );
    }

    #[test]
    fn what_is_wrong_on_the_floor_is_wrong_with_the_run() {
        let mut problems = vec!["1 deliveries lost".to_owned()];
        add_problems(&mut problems, vec!["2 deliveries lost".to_owned()]);
        assert_eq!(
            problems,
            ["1 deliveries lost", "on the floor server: 2 deliveries lost"]
        );
    }
}
