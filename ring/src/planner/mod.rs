//! The planner: gives a cluster its birth, every slot an owner that lives, and carries plans out.
//!
//! Every topic server runs one. It promises at most one that changes anything: it takes the planner key when nobody
//! holds it, and while it holds it every change guards its term, its own lease, the leases of those it gives slots to
//! and the end of those it takes them from. *Invariant:* it keeps nothing but when it saw whom; everything else is read
//! from the snapshot each time, so a planner that dies half way through anything is continued by the next one.
//! Leaves out: carrying changes out and repeating those whose outcome is unknown (the shell), moving what is in a slot
//! (its owner and the target do, once the planner's wish is in the record), working plans out (`plan`), and slots whose
//! record names a replica: they are the replica's.

mod desire;
mod memory;
mod moves;
#[cfg(test)]
mod moves_tests;
mod sightings;
mod slots;
#[cfg(test)]
mod tests;
mod view;
#[cfg(test)]
mod world;

use std::time::Duration;

use ringcast_proto::record::{Birth, FORMAT, Key, Planner as Tenure, Record, Ring, RingNode, RingNodeState};
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};

use self::desire::Desires;
use self::memory::Memory;
use self::sightings::Sightings;
use self::view::View;
use crate::hash::draw;
use crate::placement::Layout;
use crate::{Change, Expect, Guard, Op, Snapshot};

/// Without a number to expect, the cluster is born after so long without a new topic server: processes started by one
/// command register within a few hundred milliseconds of each other.
const BIRTH_QUIET: Duration = Duration::from_secs(2);

/// When to look again after asking for changes, should none of them have happened.
const RECONCILE: Duration = Duration::from_secs(1);

/// Virtual nodes of weight 1: more do not spread slots any better.
const VNODES_PER_WEIGHT: u32 = 256;

/// What the planner is told when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The cluster is born when so many topic servers have registered; without it, after 2 s without a new one.
    pub expect_topic_servers: Option<usize>,
    /// How many slots a cluster is born with: 1024, or 4096 for more than some 30 nodes. 0 counts as 1.
    pub slots: u16,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Planner {
    config: Config,
    entropy: u64,
    changes_made: u64,
    sightings: Sightings,
    memory: Memory,
    desires: Desires,
    wake: Option<Millis>,
}

impl Planner {
    /// A planner that has seen nothing. `entropy` must be random and secret: the cluster's seed is drawn from it.
    #[must_use]
    pub fn new(config: Config, entropy: u64) -> Planner {
        Planner {
            config,
            entropy,
            changes_made: 0,
            sightings: Sightings::default(),
            memory: Memory::default(),
            desires: Desires::default(),
            wake: None,
        }
    }

    /// What to change, given the present records. To be called for every new snapshot and at [`Planner::deadline`],
    /// whether this node holds the planner key or not: when the planner dies, the next one must know whom it saw when.
    ///
    /// The changes are to be made in order; they do not depend on each other.
    pub fn decide(&mut self, snapshot: &Snapshot, me: &NodeRef, now: Millis) -> Vec<Change> {
        self.wake = None;
        self.sightings.observe(snapshot, now);
        if !snapshot.alive(me) {
            // The next life may be in these records already, and whoever asks may hear of it later: then nothing changes.
            self.wake_at(now + RECONCILE);
            return Vec::new();
        }
        let changes = match snapshot.planner() {
            None => vec![self.take_over(snapshot, me)],
            Some((_, tenure)) if tenure.holder == *me => self.plan(snapshot, tenure, now),
            Some(_) => Vec::new(),
        };
        if !changes.is_empty() {
            self.wake_at(now + RECONCILE);
        }
        changes
    }

    /// When to call [`Planner::decide`] again even if no record changes.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.wake
    }

    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// The term is the revision at which the key was seen absent. Two holders may have seen the same one, so a change
    /// also guards its maker's lease: the key hangs on it.
    fn take_over(&mut self, snapshot: &Snapshot, me: &NodeRef) -> Change {
        let tenure = Tenure {
            holder: me.clone(),
            term: snapshot.revision.0,
            rest: Default::default(),
        };
        Change {
            expect: vec![(Key::Planner, Expect::Absent)],
            guards: vec![Guard::Alive(me.clone())],
            put: vec![(Key::Planner, Record::Planner(tenure))],
            delete: Vec::new(),
            op: self.op(me),
        }
    }

    fn plan(&mut self, snapshot: &Snapshot, tenure: &Tenure, now: Millis) -> Vec<Change> {
        match (snapshot.birth(), snapshot.ring()) {
            (None, None) => self.give_birth(snapshot, tenure, now).into_iter().collect(),
            (Some(birth), Some(ring)) if birth.format == FORMAT => {
                let view = View::new(snapshot, birth, ring, tenure);
                let mut changes = self.place_slots(&view, now);
                changes.extend(self.move_slots(&view, now));
                changes
            }
            // Half of it, or a format of a later build: whatever that means, it is not for this planner to change.
            (Some(_), _) | (None, Some(_)) => Vec::new(),
        }
    }

    fn give_birth(&mut self, snapshot: &Snapshot, tenure: &Tenure, now: Millis) -> Option<Change> {
        let servers: Vec<(&NodeId, Incarnation)> = sightings::topic_servers(snapshot).collect();
        match self.config.expect_topic_servers {
            Some(expected) if servers.len() < expected => return None,
            Some(_) => {}
            None => {
                let quiet = self.sightings.newest() + BIRTH_QUIET;
                if now < quiet {
                    self.wake_at(quiet);
                    return None;
                }
            }
        }
        let member = |id: &NodeId| RingNode {
            id: id.clone(),
            weight: 1.0,
            state: RingNodeState::Up,
        };
        let ring = Ring {
            version: 1,
            replicas: 1,
            vnodes_per_weight: VNODES_PER_WEIGHT,
            nodes: servers.iter().map(|(id, _)| member(id)).collect(),
            pins: Default::default(),
            plan: None,
            rest: Default::default(),
        };
        let birth = self.draw_birth(&ring)?;
        let mut guards = guards(tenure);
        guards.extend(servers.into_iter().map(|(id, incarnation)| {
            Guard::Alive(NodeRef {
                node: id.clone(),
                incarnation,
            })
        }));
        Some(Change {
            expect: vec![(Key::Birth, Expect::Absent), (Key::Ring, Expect::Absent)],
            guards,
            put: vec![
                (Key::Birth, Record::Birth(birth)),
                (Key::Ring, Record::Ring(ring)),
            ],
            delete: Vec::new(),
            op: self.op(&tenure.holder),
        })
    }

    /// A birth whose seed puts no two points of `ring` on top of each other. One draw in 10^13 does.
    fn draw_birth(&self, ring: &Ring) -> Option<Birth> {
        let births = (0..8).map(|attempt| Birth {
            format: FORMAT,
            // A name to tell clusters apart, and too short to guess the entropy back from.
            cluster_id: format!("{:010x}", draw(self.entropy, "cluster", attempt) >> 24),
            slots: self.config.slots.max(1),
            seed: draw(self.entropy, "seed", attempt),
            rest: Default::default(),
        });
        births
            .into_iter()
            .find(|birth| Layout::new(birth, ring, |_| true).is_ok())
    }

    /// A name no other change has: the incarnation is unique in the cluster, the rest within it.
    fn op(&mut self, me: &NodeRef) -> Op {
        self.changes_made += 1;
        let process = draw(self.entropy, "op", 0) >> 32;
        Op(format!("plan-{me}-{process:08x}-{}", self.changes_made))
    }
}

/// What every change of this term guards.
fn guards(tenure: &Tenure) -> Vec<Guard> {
    vec![Guard::Planner(tenure.term), Guard::Alive(tenure.holder.clone())]
}
