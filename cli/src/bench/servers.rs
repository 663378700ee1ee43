//! What the servers cost: processor time and memory of the processes given by `--pid NAME=PID`, read from `/proc`.
//!
//! *Invariant:* a process that is not there before the work is an error; of one that ends meanwhile, even if another one
//! takes its number, it is said that it ended, and never a wrong figure.
//! Leaves out: systems without `/proc`, where every figure is "not available".

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// `NAME=PID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl Named {
    /// Reads `NAME=PID`, or a PID, which then is the name too.
    pub(crate) fn parse(text: &str) -> Result<Named, String> {
        let (name, pid) = text.split_once('=').unwrap_or((text, text));
        match pid.parse() {
            Ok(pid) if pid > 0 && !name.is_empty() => Ok(Named {
                name: name.to_owned(),
                pid,
            }),
            _ => Err(format!("{text:?} is no NAME=PID")),
        }
    }

    /// The process that asks.
    pub(crate) fn myself() -> Named {
        Named {
            name: "client".to_owned(),
            pid: std::process::id(),
        }
    }
}

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) cpu_us: u64,
    pub(crate) rss_bytes: u64,
    started: u64,
}

/// A process between two moments. `None` where the system has no such figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) cpu_us: Option<u64>,
    pub(crate) rss_before_bytes: Option<u64>,
    pub(crate) rss_after_bytes: Option<u64>,
    /// It ended while it was looked at.
    pub(crate) ended: bool,
}

/// Processor time of all of them; `None` if any is not known.
pub(crate) fn cpu_us(costs: &[Cost]) -> Option<u64> {
    costs.iter().map(|cost| cost.cpu_us).sum()
}

/// Memory that all of them gained; `None` if any is not known.
pub(crate) fn rss_gained_bytes(costs: &[Cost]) -> Option<i64> {
    costs
        .iter()
        .map(|cost| {
            Some(i64::try_from(cost.rss_after_bytes?).ok()? - i64::try_from(cost.rss_before_bytes?).ok()?)
        })
        .sum()
}

/// Looks at every process now.
pub(crate) fn sample(processes: &[Named]) -> Result<Vec<Option<Sample>>> {
    processes.iter().map(sample_one).collect()
}

/// Looks at every process again; `None` also for one that is not the same any more.
pub(crate) fn sample_again(processes: &[Named], before: &[Option<Sample>]) -> Vec<Option<Sample>> {
    let again = |(process, before): (&Named, &Option<Sample>)| {
        let now = sample_one(process).ok().flatten()?;
        (now.started == (*before)?.started).then_some(now)
    };
    processes.iter().zip(before).map(again).collect()
}

/// What they cost from one look to another.
pub(crate) fn costs(processes: &[Named], before: &[Option<Sample>], after: &[Option<Sample>]) -> Vec<Cost> {
    let cost = |((process, before), after): ((&Named, &Option<Sample>), &Option<Sample>)| Cost {
        name: process.name.clone(),
        pid: process.pid,
        cpu_us: before
            .zip(*after)
            .map(|(before, after)| after.cpu_us.saturating_sub(before.cpu_us)),
        rss_before_bytes: before.map(|sample| sample.rss_bytes),
        rss_after_bytes: after.map(|sample| sample.rss_bytes),
        ended: before.is_some() && after.is_none(),
    };
    processes.iter().zip(before).zip(after).map(cost).collect()
}

fn sample_one(process: &Named) -> Result<Option<Sample>> {
    if !Path::new("/proc/self/stat").exists() {
        return Ok(None);
    }
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", process.pid)).with_context(|| {
            format!(
                "no process {} is running (--pid {}={})",
                process.pid, process.name, process.pid
            )
        })
    };
    let (stat, status) = (read("stat")?, read("status")?);
    let sample = parse(&stat, &status, ticks_per_second()).with_context(|| {
        format!(
            "read what process {} ({}) costs: it has ended",
            process.pid, process.name
        )
    })?;
    Ok(Some(sample))
}

fn ticks_per_second() -> u64 {
    #[cfg(unix)]
    {
        rustix::param::clock_ticks_per_second()
    }
    #[cfg(not(unix))]
    {
        100 // never asked: there is no /proc
    }
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`. A process that ended and was not yet waited for has no memory.
fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Sample> {
    // The name stands in parentheses and may contain anything, so fields count from the last parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok(); // as numbered in proc(5), which begins at 1
    let rss_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(Sample {
        cpu_us: (field(14)? + field(15)?) * (1_000_000 / ticks_per_second.max(1)),
        rss_bytes: rss_kib * 1024,
        started: field(22)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) R 1 7 7 0 -1 4194304 95 0 0 0 150 25 0 0 20 0 1 0 8888 1 2 3";

    #[test]
    fn time_memory_and_start_are_read_whatever_the_process_is_called() {
        let sample = parse(STAT, "Name:\tx\nVmRSS:\t    1234 kB\n", 100).unwrap();
        assert_eq!(
            (sample.cpu_us, sample.rss_bytes, sample.started),
            (1_750_000, 1234 * 1024, 8888)
        );
    }

    #[test]
    fn a_process_that_ended_is_an_error() {
        assert_eq!(parse(STAT, "Name:\tx\nState:\tZ (zombie)\n", 100), None);
        if cfg!(target_os = "linux") {
            let gone = Named::parse("gw=4194304999").unwrap_or(Named {
                name: "gw".to_owned(),
                pid: u32::MAX,
            });
            let error = sample(&[gone]).unwrap_err().to_string();
            assert!(error.contains("no process") && error.contains("gw"), "{error}");
        }
    }

    #[test]
    fn a_process_that_ends_meanwhile_has_no_figure_even_if_another_takes_its_number() {
        let before = parse(STAT, "VmRSS: 1 kB", 100);
        let gone = &costs(&[Named::myself()], &[before], &[None])[0];
        assert!(gone.ended && gone.cpu_us.is_none() && gone.rss_after_bytes.is_none());
        let unknown = &costs(&[Named::myself()], &[None], &[None])[0];
        assert!(!unknown.ended);
        // This process has not begun at tick 8888.
        assert_eq!(sample_again(&[Named::myself()], &[before]), [None]);
        let now = sample(&[Named::myself()]).unwrap();
        assert_eq!(
            sample_again(&[Named::myself()], &now)[0].map(|sample| sample.started),
            now[0].map(|sample| sample.started)
        );
    }

    #[test]
    fn a_pid_may_have_a_name() {
        assert_eq!(
            Named::parse("gw=12").map(|named| (named.name, named.pid)),
            Ok(("gw".to_owned(), 12))
        );
        assert_eq!(
            Named::parse("12").map(|named| (named.name, named.pid)),
            Ok(("12".to_owned(), 12))
        );
        for text in ["", "gw=", "=12", "gw=x", "gw=0", "gw=-1"] {
            assert!(Named::parse(text).is_err(), "{text:?}");
        }
    }
}
