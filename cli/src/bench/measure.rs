//! The measured time of a run under load, and what is waited for after it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::{LoadArgs, TargetArgs};
use super::page::Points;
use super::progress::Progress;
use super::servers::{self, Named};
use super::state::State;

/// After the last publish, what is outstanding is waited for until nothing came for so long.
const QUIET_DELIVERIES: Duration = Duration::from_secs(2);
/// The same while answers to publishes, or clients, are still to come: longer than phoenix.js waits for an answer.
const QUIET_ANSWERS: Duration = Duration::from_secs(11);
/// And no longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const DRAIN_STEP: Duration = Duration::from_millis(20);

const LOOK_EVERY: Duration = Duration::from_millis(200);
const COURSE_POINTS: f64 = 400.0;

/// What was measured between two moments.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) servers: Vec<servers::Cost>,
    pub(crate) client: Vec<servers::Cost>,
    /// Deliveries a second, at the seconds up to which they were counted.
    pub(crate) course: Points,
}

/// Warms up, then measures.
pub(crate) async fn measure(target: &TargetArgs, load: &LoadArgs, state: &State) -> Result<Measured> {
    let myself = [Named::myself()];
    tokio::time::sleep(load.warmup).await;
    let (servers_before, client_before) = (servers::sample(&target.pids)?, servers::sample(&myself)?);
    let started = Instant::now();
    let (published, delivered) = {
        let mut tally = state.tally.borrow_mut();
        tally.timing.start(state.now_ns());
        (tally.published(), tally.delivered())
    };
    let progress = Progress::start("measuring", load.duration.as_secs(), target.quiet);
    let mut shown = Shown::now(state);
    let mut course = Course::new(delivered);
    while let Some(left) = load
        .duration
        .checked_sub(started.elapsed())
        .filter(|left| !left.is_zero())
    {
        progress.set(started.elapsed().as_secs(), || shown.so_far(state));
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
        course.look(started.elapsed(), state.tally.borrow().delivered());
    }
    let elapsed = started.elapsed();
    let mut tally = state.tally.borrow_mut();
    tally.timing.stop(state.now_ns());
    let servers_after = servers::sample_again(&target.pids, &servers_before);
    let client_after = servers::sample_again(&myself, &client_before);
    Ok(Measured {
        elapsed,
        published: tally.published() - published,
        delivered: tally.delivered() - delivered,
        servers: servers::costs(&target.pids, &servers_before, &servers_after),
        client: servers::costs(&myself, &client_before, &client_after),
        course: course.points,
    })
}

/// How fast it was when.
struct Course {
    points: Points,
    at_s: f64,
    delivered: u64,
}

impl Course {
    fn new(delivered: u64) -> Course {
        Course {
            points: Vec::new(),
            at_s: 0.0,
            delivered,
        }
    }

    fn look(&mut self, since_start: Duration, delivered: u64) {
        let now_s = since_start.as_secs_f64();
        let seconds = now_s - self.at_s;
        // Long runs are looked at as often as a plot can show.
        if seconds < now_s / COURSE_POINTS {
            return;
        }
        self.points
            .push((now_s, (delivered - self.delivered) as f64 / seconds));
        (self.at_s, self.delivered) = (now_s, delivered);
    }
}

/// What was known when it was shown last, so that rates are those since then.
struct Shown {
    at: Instant,
    published: u64,
    delivered: u64,
}

impl Shown {
    fn now(state: &State) -> Shown {
        let tally = state.tally.borrow();
        Shown {
            at: Instant::now(),
            published: tally.published(),
            delivered: tally.delivered(),
        }
    }

    /// What is known while it runs.
    fn so_far(&mut self, state: &State) -> String {
        let before = std::mem::replace(self, Shown::now(state));
        let seconds = (self.at - before.at).as_secs_f64();
        let tally = state.tally.borrow();
        let mut text = format!(
            "s: {:.0} publishes/s, {:.0} deliveries/s, {} delivered, {} lost so far",
            (self.published - before.published) as f64 / seconds,
            (self.delivered - before.delivered) as f64 / seconds,
            self.delivered,
            tally.lost_so_far(),
        );
        for (count, what) in [
            (tally.answers.refused.total(), "refused"),
            (tally.connections.closed.total(), "connections closed"),
            (tally.connections.away, "away"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

/// Waits for what is still to come: deliveries, answers, and clients that are on their way back.
pub(crate) async fn drain(state: &State, quiet: bool) {
    let progress = Progress::start("draining", DRAIN_MAX.as_secs(), quiet);
    let started = Instant::now();
    let (mut before, mut since) = ((0, 0, 0), started);
    // What was given up may still come, so this asks for more than `outstanding`: a last look after a quiet step.
    while started.elapsed() < DRAIN_MAX {
        tokio::time::sleep(DRAIN_STEP).await;
        let tally = state.tally.borrow();
        let away = if state.reconnect {
            tally.connections.away
        } else {
            0
        };
        let now = (tally.delivered(), tally.in_flight(), away);
        if now != before {
            (before, since) = (now, Instant::now());
        } else if tally.outstanding() == 0 && tally.in_flight() == 0 && away == 0 {
            return;
        }
        let quiet_max = match tally.in_flight() == 0 && away == 0 {
            true => QUIET_DELIVERIES,
            false => QUIET_ANSWERS,
        };
        if since.elapsed() >= quiet_max {
            return;
        }
        progress.set(started.elapsed().as_secs(), || {
            format!(
                "s: {} deliveries and {} answers to come",
                tally.outstanding(),
                tally.in_flight()
            )
        });
    }
}
