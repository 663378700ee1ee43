//! The network between processes: unary calls and answers that are late, lost, doubled and overtake each other.
//!
//! Leaves out: what a caller makes of silence (`base`), and watches, which keep their order (`store`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::random::Random;
use crate::time::Time;

/// A process by its place; 0 is the store. A restarted process keeps it, as it keeps its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer(pub(crate) usize);

/// The ring store.
pub(crate) const STORE: Peer = Peer(0);

/// How badly the network behaves, in millionths of messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Messages that never arrive.
    pub(crate) loss: u32,
    /// Messages that arrive twice.
    pub(crate) doubles: u32,
    /// Messages that take [`Weather::spike_max_ms`] at worst.
    pub(crate) spikes: u32,
    /// How long such a message may take.
    pub(crate) spike_max_ms: u64,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// When it arrives; none: it is lost.
    pub(crate) due: Option<Time>,
    /// When it arrives once more.
    pub(crate) again: Option<Time>,
    /// It is lost, or so late that whoever waits has given up.
    pub(crate) harmed: bool,
}

/// The links, each in one direction.
#[derive(Debug)]
pub(crate) struct Network {
    /// How badly it behaves now.
    pub(crate) weather: Weather,
    base: BTreeMap<(Peer, Peer), Duration>,
    cut_until: BTreeMap<(Peer, Peer), Time>,
    /// Links on which everything takes longer, by how much and until when.
    slow: BTreeMap<(Peer, Peer), (Duration, Time)>,
    random: Random,
}

/// A message later than this may cost a lease: renewals have 400 ms for both ways.
const LATE: Duration = Duration::from_millis(150);

impl Network {
    /// A network in which nothing goes wrong yet.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Network {
        Network {
            weather: Weather::default(),
            base: BTreeMap::new(),
            cut_until: BTreeMap::new(),
            slow: BTreeMap::new(),
            random: Random::new(seed, 1),
        }
    }

    /// Nothing gets from one to the other until then.
    pub(crate) fn cut(&mut self, from: Peer, to: Peer, until: Time) {
        let cut = self.cut_until.entry((from, to)).or_default();
        *cut = (*cut).max(until);
    }

    /// Everything takes so much longer from one to the other until then.
    pub(crate) fn slow(&mut self, from: Peer, to: Peer, by: Duration, until: Time) {
        self.slow.insert((from, to), (by, until));
    }

    /// Everything works again, but for latency.
    pub(crate) fn heal(&mut self) {
        self.weather = Weather::default();
        self.cut_until.clear();
        self.slow.clear();
    }

    /// Whether nothing gets from one to the other.
    #[must_use]
    pub(crate) fn is_cut(&self, from: Peer, to: Peer, now: Time) -> bool {
        self.cut_until.get(&(from, to)).is_some_and(|until| now < *until)
    }

    /// What becomes of a message sent now.
    pub(crate) fn carry(&mut self, from: Peer, to: Peer, now: Time) -> Fate {
        let lost = self.is_cut(from, to, now) || self.random.chance(self.weather.loss);
        let slow = self.slow.get(&(from, to)).filter(|(_, until)| now < *until);
        let slow = slow.map_or(Duration::ZERO, |(by, _)| *by);
        let latency = self.latency(from, to) + slow;
        let again = self.random.chance(self.weather.doubles);
        let again = again.then(|| now + latency + Duration::from_micros(self.random.below(2_000_000)));
        Fate {
            due: (!lost).then(|| now + latency),
            again: again.filter(|_| !lost),
            harmed: lost || latency > LATE,
        }
    }

    fn latency(&mut self, from: Peer, to: Peer) -> Duration {
        let random = &mut self.random;
        let base = *self
            .base
            .entry((from, to))
            .or_insert_with(|| Duration::from_micros(random.between(50, 800)));
        if self.random.chance(self.weather.spikes) {
            return base + Duration::from_millis(self.random.below(self.weather.spike_max_ms));
        }
        // Enough to overtake what was sent just before.
        base + Duration::from_micros(self.random.below(300))
    }
}
