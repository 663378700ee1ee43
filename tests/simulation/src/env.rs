//! What every process of the simulation shares: time, the queue of events, the network, the invariants.
//!
//! *Invariant:* events happen in the order of (time, number given when they were queued); nothing else has an order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ringcast_proto::SessionId;
use ringcast_ring::Op;

use crate::check::Checker;
use crate::network::{Network, Peer, STORE};
use crate::plant::Plant;
use crate::random::Random;
use crate::time::{Clock, Time};
use crate::trace::Trace;
use crate::wire::{Answer, CallNumber, Event, Life, Request, Timer};

/// See the module.
#[derive(Debug)]
pub(crate) struct Env {
    /// True time.
    pub(crate) now: Time,
    /// What has to hold.
    pub(crate) check: Checker,
    /// What happened.
    pub(crate) trace: Trace,
    /// The links.
    pub(crate) network: Network,
    /// Entropy of processes, delays inside them.
    pub(crate) random: Random,
    /// What gateways wrote in this event, and connections they cut, in order.
    pub(crate) written: Vec<Written>,
    /// How often a slot's task is late, in millionths of inputs.
    pub(crate) slow_slots: u32,
    /// How often a watch says something late, in millionths.
    pub(crate) late_watches: u32,
    /// The bug that is planted.
    pub(crate) plant: Option<Plant>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    calls: u64,
    ops: u64,
}

/// What a gateway's client gets.
#[derive(Debug)]
pub(crate) struct Written {
    /// From which gateway.
    pub(crate) gateway: Peer,
    /// For which connection.
    pub(crate) session: SessionId,
    /// The bytes as they come out of the socket; none: the connection is cut.
    pub(crate) bytes: Option<bytes::Bytes>,
}

#[derive(Debug)]
struct Queued {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Env {
    /// At time zero, with nothing queued.
    #[must_use]
    pub(crate) fn new(seed: u64, trace: Trace, plant: Option<Plant>) -> Env {
        Env {
            now: Time(0),
            check: Checker::default(),
            trace,
            plant,
            network: Network::new(seed),
            random: Random::new(seed, 2),
            written: Vec::new(),
            slow_slots: 0,
            late_watches: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            calls: 0,
            ops: 0,
        }
    }

    /// Queues an event.
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.queued += 1;
        let (at, number) = (at.max(self.now), self.queued);
        self.queue.push(Reverse(Queued { at, number, event }));
    }

    /// Takes the next event if it is due by `until`; time goes on to it.
    pub(crate) fn next(&mut self, until: Time) -> Option<Event> {
        if self.queue.peek()?.0.at > until {
            return None;
        }
        let Reverse(Queued { at, number, event }) = self.queue.pop()?;
        self.now = at;
        self.trace.event(at, [number, event.kind(), event.target()]);
        Some(event)
    }

    /// Wakes a process after `duration` of its clock.
    pub(crate) fn timer(&mut self, life: Life, clock: Clock, duration: Duration, timer: Timer) {
        self.at(self.now + clock.lasts(duration), Event::Timer(life, timer));
    }

    /// Sends a call. Its answer, if any, comes as [`Event::Answer`] to `from`.
    pub(crate) fn call(&mut self, from: Life, to: Peer, request: Request) -> CallNumber {
        self.calls += 1;
        let call = CallNumber(self.calls);
        let fate = self.network.carry(from.peer, to, self.now);
        self.note_harm(from.peer, to, fate.harmed);
        let (now, lost) = (self.now, fate.due.is_none());
        self.trace.line(now, || {
            let lost = if lost { " LOST" } else { "" };
            format!("  {from:?} -> {to:?} {call:?} {request:?}{lost}")
        });
        // Who repeats a call leaves out what is to come at most once, and connections double nothing.
        if let Some(again) = fate.again.filter(|_| !request.has_fleeting()) {
            self.at(again, Event::Request(from, to, call, Box::new(request.clone())));
        }
        if let Some(due) = fate.due {
            self.at(due, Event::Request(from, to, call, Box::new(request)));
        }
        call
    }

    /// Answers a call after `delay`.
    pub(crate) fn answer(&mut self, from: Peer, to: Life, call: CallNumber, answer: Answer, delay: Duration) {
        let fate = self.network.carry(from, to.peer, self.now + delay);
        self.note_harm(from, to.peer, fate.harmed);
        let (now, lost) = (self.now, fate.due.is_none());
        self.trace.line(now, || {
            let lost = if lost { " LOST" } else { "" };
            format!("  {from:?} => {to:?} {call:?} {answer:?}{lost}")
        });
        // A second answer to one call is dropped by whoever made it, so doubling one shows nothing.
        if let Some(due) = fate.due {
            self.at(due, Event::Answer(to, call, Box::new(answer)));
        }
    }

    /// Whether this bug is planted.
    #[must_use]
    pub(crate) fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// A number nothing else has.
    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// A name no other change has.
    pub(crate) fn fresh_op(&mut self) -> Op {
        self.ops += 1;
        Op(format!("op-{}", self.ops))
    }

    /// How long a change takes to be on the store's disk.
    pub(crate) fn disk(&mut self) -> Duration {
        let slow = self.random.chance(10_000);
        Duration::from_micros(if slow {
            self.random.between(2_000, 8_000)
        } else {
            self.random.between(400, 1_200)
        })
    }

    /// A node that cannot talk to the store may lose its lease for it.
    fn note_harm(&mut self, from: Peer, to: Peer, harmed: bool) {
        if harmed && (from == STORE || to == STORE) {
            let node = if from == STORE { to } else { from };
            self.check.leases.harmed(node, self.now);
        }
    }
}
