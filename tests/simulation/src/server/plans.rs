//! The planner's drive, the touches, and leaving. Mirrors `topic-server/src/planner.rs` and `touch.rs`.

use std::time::Duration;

use ringcast_proto::record::{Key, Record};
use ringcast_proto::{OwnerEpoch, Slot};
use ringcast_ring::{Change, Expect, Guard, Refused, Revision, has_target};
use ringcast_topic_server_core::Input;

use super::{Leaving, Server};
use crate::env::Env;
use crate::wire::{Event, Purpose, Timer};

const TOUCH_PACE: Duration = Duration::from_millis(250);
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
const STORE_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

impl Server {
    /// Shows the planner the records, and makes the changes it wants, one after the other.
    pub(super) fn plan(&mut self, env: &mut Env) {
        if self.plan_under_way || self.base.standing.is_none() || self.leaving == Leaving::Left {
            return;
        }
        self.plan_again = false;
        let (node, now) = (self.base.node(), self.base.now(env));
        self.planning = self.planner.decide(&self.base.snapshot, &node, now).into();
        self.plan_next(env);
    }

    fn plan_next(&mut self, env: &mut Env) {
        if let Some(change) = self.planning.pop_front() {
            self.plan_under_way = true;
            self.base.make(env, change, Purpose::Plan);
            return;
        }
        self.planner_timer += 1;
        if let Some(deadline) = self.planner.deadline() {
            let due = self.base.clock.when(deadline, env.now) + Duration::from_millis(1);
            env.at(
                due,
                Event::Timer(self.base.life, Timer::Planner(self.planner_timer)),
            );
        }
    }

    /// One change is made, or refused: decided on what is no longer so.
    pub(super) fn planned(&mut self, env: &mut Env) {
        self.plan_under_way = false;
        if self.planning.is_empty() && self.plan_again {
            self.plan(env);
        } else {
            self.plan_next(env);
        }
    }

    /// Somebody spoke of a higher owner_epoch.
    pub(super) fn ask_touch(&mut self, env: &mut Env, slot: Slot) {
        self.touches.insert(slot);
        if !self.touch_under_way {
            self.touch_next(env);
        }
    }

    pub(super) fn touch_next(&mut self, env: &mut Env) {
        if self.touching.is_empty() {
            self.touching = std::mem::take(&mut self.touches).into_iter().collect();
        }
        while let Some(slot) = self.touching.pop_front() {
            self.touch_under_way = true;
            if self.touch(env, slot) {
                return;
            }
        }
        if self.touch_under_way {
            env.timer(self.base.life, self.base.clock, TOUCH_PACE, Timer::Touches);
        }
    }

    /// `false`: there is nothing to find out.
    fn touch(&mut self, env: &mut Env, slot: Slot) -> bool {
        let me = self.base.node();
        let snapshot = self.base.snapshot.clone();
        let Some((revision, record)) = snapshot.slot(slot).filter(|(_, record)| record.owner == me) else {
            return false;
        };
        let change = Change {
            expect: vec![(Key::Slot(slot), Expect::Revision(revision))],
            guards: vec![Guard::Alive(me)],
            put: vec![(Key::Slot(slot), Record::Slot(record.clone()))],
            delete: Vec::new(),
            op: env.fresh_op(),
        };
        self.base
            .make(env, change, Purpose::Touch(slot, record.owner_epoch));
        true
    }

    pub(super) fn touched(
        &mut self,
        env: &mut Env,
        slot: Slot,
        owner_epoch: OwnerEpoch,
        outcome: Result<Revision, Refused>,
    ) {
        match outcome {
            Ok(_) => self.tell(env, slot, Input::Confirmed(owner_epoch)),
            Err(_) => {
                self.touches.insert(slot);
            }
        }
        if self.touching.is_empty() {
            env.timer(self.base.life, self.base.clock, TOUCH_PACE, Timer::Touches);
        } else {
            self.touch_next(env);
        }
    }

    /// SIGTERM: what this node owns moves away, then it goes. Mirrors `topic-server/src/leave.rs`.
    pub(crate) fn leave(&mut self, env: &mut Env) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Until(self.base.now(env) + DRAIN_DEADLINE);
            self.look_after_leaving(env);
        }
    }

    pub(super) fn look_after_leaving(&mut self, env: &mut Env) {
        self.leave_if_done(env);
        if matches!(self.leaving, Leaving::Until(_)) {
            self.announce(env);
            env.timer(self.base.life, self.base.clock, LOOK_INTERVAL, Timer::Leaving);
        }
    }

    fn announce(&mut self, env: &mut Env) {
        let me = self.base.node();
        let key = Key::Node(me.node.clone());
        let stored = self.base.snapshot.records.get(&key);
        let Some((revision, Record::Node(record))) = stored.map(|stored| (stored.revision, &stored.record))
        else {
            return;
        };
        if self.announcing || record.incarnation != me.incarnation || record.leaving {
            return;
        }
        let mut record = record.clone();
        record.leaving = true;
        let change = Change {
            expect: vec![(key.clone(), Expect::Revision(revision))],
            guards: vec![Guard::Alive(me)],
            put: vec![(key, Record::Node(record))],
            delete: Vec::new(),
            op: env.fresh_op(),
        };
        self.announcing = true;
        self.base.make(env, change, Purpose::Leave);
    }

    /// Goes, if it owns nothing any more, if nobody could take it, if the store stays away, or if it took too long.
    pub(super) fn leave_if_done(&mut self, env: &mut Env) {
        let Leaving::Until(deadline) = self.leaving else {
            return;
        };
        let snapshot = &self.base.snapshot;
        let owns = snapshot
            .slots()
            .any(|(_, _, record)| record.owner.node == self.base.id);
        let alone = !has_target(snapshot, &self.base.id);
        let store_away = self.base.unheard(env) > STORE_PATIENCE;
        if !owns || alone || store_away || self.base.now(env) >= deadline {
            self.leaving = Leaving::Releasing;
            self.base.leave(env);
        }
    }
}
