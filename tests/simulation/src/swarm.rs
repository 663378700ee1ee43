//! What a seed draws: the size of the cluster, and which faults come how often.
//!
//! A run has a subset of the faults, not all of them: faults hide each other, and a schedule that has everything finds
//! less than many that have a little.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::route::SlowConsumer;
use ringcast_proto::Pattern;
use ringcast_topic_server_core::{HistoryRule, Limits};

use crate::client::{Habits, Temper};
use crate::network::Weather;
use crate::random::Random;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Two nodes, or a node and the store, do not reach each other, in one direction or both.
    Cut,
    /// A topic server and the store do not reach each other, in one direction or both; before, answers may take long.
    CutStore,
    /// A topic server dies and comes back without memory.
    KillServer,
    /// A gateway dies and comes back without memory.
    KillGateway,
    /// A topic server stands still, and goes on with what it knew.
    PauseServer,
    /// A gateway stands still.
    PauseGateway,
    /// The store ends and comes back with its disk.
    RestartStore,
    /// The store stands still.
    PauseStore,
}

const FAULTS: [Fault; 8] = [
    Fault::Cut,
    Fault::CutStore,
    Fault::KillServer,
    Fault::KillGateway,
    Fault::PauseServer,
    Fault::PauseGateway,
    Fault::RestartStore,
    Fault::PauseStore,
];

/// Something an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    /// A topic server is asked to end, and started again.
    RestartServer,
    /// A gateway is asked to end, and started again.
    RestartGateway,
    /// A plan: a spare node comes into the ring, or one that drains back.
    Add,
    /// A plan: a node is to own nothing.
    Drain,
    /// A plan: a node goes.
    Remove,
    /// A plan: a node gets another share.
    Weight,
    /// A plan: a slot is fixed to a node.
    Pin,
    /// A plan: everything where the ring is satisfied.
    Rebalance,
    /// The plan that runs is taken back.
    Abort,
}

const DEEDS: [Deed; 9] = [
    Deed::RestartServer,
    Deed::RestartGateway,
    Deed::Add,
    Deed::Drain,
    Deed::Remove,
    Deed::Weight,
    Deed::Pin,
    Deed::Rebalance,
    Deed::Abort,
];

/// Where memory is short, ids that are younger than this are not forgotten.
const IDS_SHED_AGE: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Swarm {
    /// Topic servers that are there at birth.
    pub(crate) servers: usize,
    /// Topic servers that join the ring later, if somebody adds them.
    pub(crate) spares: usize,
    /// Gateways.
    pub(crate) gateways: usize,
    /// Clients.
    pub(crate) clients: usize,
    /// Slots.
    pub(crate) slots: u16,
    /// What clients do.
    pub(crate) temper: Temper,
    /// Publications a topic keeps.
    pub(crate) history_len: usize,
    /// Changes the store keeps for watches.
    pub(crate) window_len: Option<usize>,
    /// The network.
    pub(crate) weather: Weather,
    /// How often a slot's task is late, in millionths of inputs.
    pub(crate) slow_slots: u32,
    /// Faults that come.
    pub(crate) faults: Vec<Fault>,
    /// Between two of them, on average.
    pub(crate) fault_pause_ms: u64,
    /// What operators do.
    pub(crate) deeds: Vec<Deed>,
    /// Between two deeds, on average.
    pub(crate) deed_pause_ms: u64,
    /// Clocks that run up to 1 % wrong.
    pub(crate) wrong_clocks: bool,
    /// How often a watch says something late, in millionths; what follows it waits.
    pub(crate) late_watches: u32,
    /// What clients do that stock ones do not.
    pub(crate) habits: Habits,
    /// What becomes of members of `room:*` that read too slowly.
    pub(crate) slow_consumer: SlowConsumer,
    /// What topics of `room:*` keep, if that is not what others do: in count, and for how long.
    pub(crate) history_rule: Option<(usize, Duration)>,
    /// Ids of publishes a topic remembers, and for how long.
    pub(crate) ids: (usize, Duration),
    /// Bytes a topic server may hold of histories, if that is little.
    pub(crate) history_memory: Option<usize>,
}

impl Swarm {
    /// Nothing goes wrong but what operators do: then nothing may be refused, and nothing lost.
    pub(crate) fn is_calm(&self) -> bool {
        let Weather {
            loss,
            doubles,
            spikes,
            ..
        } = self.weather;
        self.faults.is_empty() && loss + doubles + spikes + self.slow_slots + self.late_watches == 0
    }

    /// What this seed draws.
    #[must_use]
    pub(crate) fn draw(seed: u64) -> Swarm {
        let random = &mut Random::new(seed, 3);
        let half = |random: &mut Random| random.chance(500_000);
        let some = |random: &mut Random, low, high| usize::try_from(random.between(low, high)).unwrap_or(0);
        let weather = if half(random) {
            let rate = |random: &mut Random, most: u64| {
                let on = random.chance(500_000);
                if on {
                    u32::try_from(random.below(most)).unwrap_or(0)
                } else {
                    0
                }
            };
            Weather {
                loss: rate(random, 30_000),
                doubles: rate(random, 50_000),
                spikes: rate(random, 20_000),
                spike_max_ms: *random.pick(&[30, 300, 1_500, 3_000]).unwrap_or(&300),
            }
        } else {
            Weather::default()
        };
        let mut faults: Vec<Fault> = Vec::new();
        if !random.chance(250_000) {
            for fault in FAULTS {
                if random.chance(300_000) {
                    faults.push(fault);
                }
            }
        }
        let deeds = DEEDS.iter().copied().filter(|_| random.chance(600_000)).collect();
        let mut swarm = Swarm {
            servers: some(random, 2, 6),
            spares: some(random, 0, 3),
            gateways: some(random, 2, 4),
            clients: some(random, 6, 25),
            slots: u16::try_from(random.between(4, 17)).unwrap_or(8),
            temper: Temper {
                pause_ms: *random.pick(&[60, 150, 400]).unwrap_or(&150),
                topics: some(random, 3, 16),
                burst: *random.pick(&[1, 3, 8]).unwrap_or(&1),
            },
            history_len: *random.pick(&[12, 300, 300]).unwrap_or(&300),
            window_len: half(random).then_some(64),
            weather,
            slow_slots: if half(random) {
                u32::try_from(random.below(50_000)).unwrap_or(0)
            } else {
                0
            },
            faults,
            fault_pause_ms: *random.pick(&[400, 1_500, 5_000]).unwrap_or(&1_500),
            deeds,
            deed_pause_ms: *random.pick(&[1_500, 4_000, 10_000]).unwrap_or(&4_000),
            wrong_clocks: half(random),
            late_watches: if half(random) {
                u32::try_from(random.below(400_000)).unwrap_or(0)
            } else {
                0
            },
            habits: Habits::default(),
            slow_consumer: SlowConsumer::Gap,
            history_rule: None,
            ids: (10_000, Duration::from_secs(120)),
            history_memory: None,
        };
        // Where nothing goes wrong nothing may be noticed, which is a stricter thing to check.
        if random.chance(120_000) {
            swarm.weather = Weather::default();
            swarm.faults.clear();
            (swarm.slow_slots, swarm.late_watches) = (0, 0);
        }
        swarm.draw_habits(random);
        swarm
    }

    fn draw_habits(&mut self, random: &mut Random) {
        let one_of = |random: &mut Random, of: &[u32]| *random.pick(of).unwrap_or(&0);
        self.habits = Habits {
            resuming: one_of(random, &[0, 400_000, 800_000, 1_000_000]),
            ids: one_of(random, &[0, 200_000, 900_000]),
            repeats: one_of(random, &[0, 50_000, 400_000]),
            aims: one_of(random, &[0, 150_000, 500_000]),
            shared_subjects: random.chance(500_000),
            stalls: one_of(random, &[0, 5_000, 30_000]),
            read_bytes_per_second: u64::from(one_of(random, &[0, 100, 600, 3_000])),
        };
        let policies = [
            SlowConsumer::Gap,
            SlowConsumer::Gap,
            SlowConsumer::Latest,
            SlowConsumer::Close,
        ];
        self.slow_consumer = *random.pick(&policies).unwrap_or(&SlowConsumer::Gap);
        let short = [(0, 300), (5, 300), (40, 300), (300, 3), (300, 1)];
        let rule = random.pick(&short).copied();
        self.history_rule = rule
            .filter(|_| random.chance(500_000))
            .map(|(len, age_s)| (len, Duration::from_secs(age_s)));
        let ids = [(10_000, 120), (10_000, 120), (10_000, 6), (60, 120)];
        let (ids, age_s) = *random.pick(&ids).unwrap_or(&(10_000, 120));
        self.ids = (ids, Duration::from_secs(age_s));
        let memory = random.pick(&[8_000, 60_000]).copied();
        self.history_memory = memory.filter(|_| random.chance(120_000));
    }

    /// What topic servers are bounded by.
    #[must_use]
    pub(crate) fn limits(&self) -> Limits {
        let rule = self.history_rule.map(|(len_max, age_max)| HistoryRule {
            pattern: Pattern::parse("room:*").expect("a prefix and a star are a pattern"),
            len_max,
            bytes_max: 1024 * 1024,
            age_max,
        });
        Limits {
            history_rules: rule.into_iter().collect::<Arc<[_]>>(),
            history_len_max: self.history_len,
            ids_max: self.ids.0,
            ids_age_max: self.ids.1,
            ..Limits::default()
        }
    }

    /// How many ids a topic remembers for certain, and for how long.
    #[must_use]
    pub(crate) fn remembered(&self) -> (usize, Duration) {
        let (ids, age) = self.ids;
        match self.history_memory {
            Some(_) => (ids, age.min(IDS_SHED_AGE)),
            None => (ids, age),
        }
    }

    /// How many publications a topic keeps for certain, however old the oldest is in a run.
    #[must_use]
    pub(crate) fn kept(&self, topic: &str) -> u64 {
        let len = match self.history_rule {
            // Whatever is idle may go.
            _ if self.history_memory.is_some() => 0,
            Some((len, age)) if topic.starts_with("room:") => {
                if age < Duration::from_secs(60) {
                    0
                } else {
                    len
                }
            }
            _ => self.history_len,
        };
        len as u64
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cluster: {} topic servers and {} spare, {} gateways, {} clients, {} slots, {} topics, history {}, window {:?}",
            self.servers,
            self.spares,
            self.gateways,
            self.clients,
            self.slots,
            self.temper.topics,
            self.history_len,
            self.window_len
        )?;
        writeln!(
            f,
            "network: {:?}, slow slots {}, late watches {}, wrong clocks {}",
            self.weather, self.slow_slots, self.late_watches, self.wrong_clocks
        )?;
        writeln!(
            f,
            "{:?}, slow members of room:* {:?}, history of room:* {:?}, ids {:?}, memory {:?}",
            self.habits, self.slow_consumer, self.history_rule, self.ids, self.history_memory
        )?;
        writeln!(f, "faults every {} ms: {:?}", self.fault_pause_ms, self.faults)?;
        write!(f, "deeds every {} ms: {:?}", self.deed_pause_ms, self.deeds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_draw_every_fault_and_deed_often_and_some_are_calm() {
        let swarms: Vec<Swarm> = (0..500).map(Swarm::draw).collect();
        let count = |has: &dyn Fn(&Swarm) -> bool| swarms.iter().filter(|swarm| has(swarm)).count();
        for fault in FAULTS {
            assert!(count(&|swarm| swarm.faults.contains(&fault)) > 50, "{fault:?}");
        }
        for deed in DEEDS {
            assert!(count(&|swarm| swarm.deeds.contains(&deed)) > 50, "{deed:?}");
        }
        let calm = count(&|swarm| swarm.is_calm() && !swarm.deeds.is_empty());
        assert!(calm > 20, "{calm} calm seeds");
        let habits = |has: &dyn Fn(&Habits) -> bool| count(&|swarm| has(&swarm.habits));
        let resuming = habits(&|habits| habits.resuming > 0);
        let repeating = habits(&|habits| habits.ids > 0 && habits.repeats > 0);
        let slow = habits(&|habits| habits.resuming > 0 && habits.stalls > 0);
        let short = count(&|swarm| swarm.history_rule.is_some() && swarm.habits.resuming > 0);
        assert!(
            resuming > 300 && repeating > 150 && slow > 100 && short > 100,
            "{resuming} {repeating} {slow} {short}"
        );
        let memory = count(&|swarm| swarm.history_memory.is_some());
        assert!(memory > 30, "{memory} seeds with little memory");
        let stock = habits(&|habits| habits.resuming < 1_000_000);
        assert!(stock > 300, "{stock} seeds with clients that ask for nothing");
    }
}
