//! Slots and their mailboxes. Mirrors `topic-server/src/slot.rs`.

use std::time::Duration;

use ringcast_proto::record::{Key, Record, SlotRecord};
use ringcast_proto::{Incarnation, NodeRef, Slot as SlotNumber, Topic, v1};
use ringcast_ring::{Change, Expect, Guard, Refused, Revision};
use ringcast_topic_server_core::{Cursor, Effect, Input, Moment, PullPage, Slot, Swap, Token};

use super::mail::{Asker, Mail};
use super::{Server, entropy, peer_at};
use crate::env::Env;
use crate::wire::{Pending, Purpose, Request, Timer};

const MAILBOX_LEN: usize = 1024;
const PULL_DEADLINE: Duration = Duration::from_millis(1000);

impl Server {
    /// The slots, as far as they are made.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|task| &task.slot)
    }

    /// Asks a slot something whose answer is wanted at once, past its mailbox: for the invariants alone.
    pub(crate) fn look(&mut self, env: &Env, number: SlotNumber, input: Input) -> Vec<Effect> {
        let moment = self.moment(env, number);
        let mut effects = Vec::new();
        if let Some(task) = self.slots.get_mut(usize::from(number.0)) {
            task.slot.apply(input, moment, &mut effects);
        }
        effects
    }

    /// For what may be refused: `false` if there is no room.
    pub(super) fn ask(&mut self, env: &mut Env, number: SlotNumber, mail: Mail) -> bool {
        let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
            return false;
        };
        if task.mailbox.len() >= MAILBOX_LEN {
            return false;
        }
        task.mailbox.push_back(mail);
        self.schedule(env, number);
        true
    }

    /// For what must not be lost.
    pub(super) fn tell(&mut self, env: &mut Env, number: SlotNumber, input: Input) {
        if let Some(task) = self.slots.get_mut(usize::from(number.0)) {
            task.mailbox.push_back(Mail::Tell(input));
            self.schedule(env, number);
        }
    }

    pub(super) fn tell_all(&mut self, env: &mut Env, input: &Input) {
        for number in 0..self.slots.len() {
            self.tell(env, slot_number(number), input.clone());
        }
    }

    /// The slot runs now, or a little later: what comes meanwhile is one batch.
    fn schedule(&mut self, env: &mut Env, number: SlotNumber) {
        let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
            return;
        };
        if task.due {
            return;
        }
        let delay_us = if env.random.chance(env.slow_slots) {
            env.random.below(60_000)
        } else if env.random.chance(100_000) {
            env.random.below(400)
        } else {
            0
        };
        task.due = true;
        if delay_us == 0 {
            self.run_slot(env, number);
        } else {
            let delay = Duration::from_micros(delay_us);
            env.timer(self.base.life, self.base.clock, delay, Timer::RunSlot(number));
        }
    }

    /// The slot's task gets to run: all that waits, then one flush.
    pub(super) fn run_slot(&mut self, env: &mut Env, number: SlotNumber) {
        let mut effects = Vec::new();
        let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
            return;
        };
        task.due = false;
        let mails = std::mem::take(&mut task.mailbox);
        for mail in mails {
            let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
                return;
            };
            let Some(input) = task.open(mail) else { continue };
            if let Input::Record { me, .. } = &input {
                task.life = me.incarnation;
            }
            self.apply(env, number, input, &mut effects);
        }
        self.flush(env, number, &mut effects);
        self.perform(env, number, effects);
    }

    pub(super) fn slot_timer(&mut self, env: &mut Env, number: SlotNumber, timer: u64) {
        if let Some(task) = self.slots.get_mut(usize::from(number.0))
            && task.timer == timer
        {
            task.timer_at = None;
            self.tell(env, number, Input::Tick);
        }
    }

    fn apply(&mut self, env: &mut Env, number: SlotNumber, input: Input, effects: &mut Vec<Effect>) {
        let moment = self.moment(env, number);
        let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
            return;
        };
        let from = effects.len();
        let now = env.now;
        env.trace.line(now, || {
            format!("    slot {number} {:?} <- {input:?}", task.slot.role())
        });
        let gateway = match &input {
            Input::Publish(publishes) => Some(publishes.from.clone()),
            _ => None,
        };
        task.slot.apply(input, moment, effects);
        let (node, role) = (self.base.as_of(task.life), task.slot.role());
        env.check.role(now, self.base.life.peer, number, role);
        for effect in &effects[from..] {
            if let Effect::Published(_, answer) = effect {
                let gateway = gateway.as_ref().expect("publishes are decided on at once");
                env.check.decided(now, (&node, gateway), role, answer);
            }
        }
    }

    fn flush(&mut self, env: &mut Env, number: SlotNumber, effects: &mut Vec<Effect>) {
        let now = self.base.now(env);
        if let Some(task) = self.slots.get_mut(usize::from(number.0)) {
            task.slot.flush(now, effects);
        }
    }

    fn moment(&self, env: &Env, number: SlotNumber) -> Moment {
        let now = self.base.now(env);
        let life = self
            .slots
            .get(usize::from(number.0))
            .map_or(Incarnation(0), |task| task.life);
        let held: usize = self.slots.iter().map(|task| task.slot.counts().topics).sum();
        Moment {
            now,
            lease_valid: self.base.valid_for(life, now),
            topics_free: self.limits.topics_max.saturating_sub(held),
        }
    }

    fn perform(&mut self, env: &mut Env, number: SlotNumber, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let mut consequences = Vec::new();
            for effect in effects.drain(..) {
                if let Some(input) = self.carry_out(env, number, effect) {
                    consequences.push(input);
                }
            }
            for input in consequences {
                self.apply(env, number, input, &mut effects);
            }
        }
        self.set_timer(env, number);
    }

    /// Does what the slot wants; what it has to be told in turn.
    fn carry_out(&mut self, env: &mut Env, number: SlotNumber, effect: Effect) -> Option<Input> {
        let now = env.now;
        if !matches!(effect, Effect::Deliver(..)) {
            env.trace.line(now, || format!("    slot {number} -> {effect:?}"));
        }
        match effect {
            Effect::Published(token, answer) => {
                if let Some(Asker::Part(call, part)) = self.asked_by(number, token) {
                    self.part_published(env, call, part, answer);
                }
            }
            Effect::Bound(token, outcome) => {
                if let Some(Asker::Part(call, part)) = self.asked_by(number, token) {
                    self.part_bound(env, call, part, outcome);
                }
            }
            Effect::Fetched(token, outcome) => {
                if let Some(Asker::Part(call, part)) = self.asked_by(number, token) {
                    self.part_fetched(env, call, part, outcome);
                }
            }
            Effect::PullAnswered(token, mut answer) => {
                if let Some(Asker::Pull(life, call)) = self.asked_by(number, token) {
                    answer.incarnation = self.base.node().incarnation.0;
                    self.pull_answered(env, life, call, answer);
                }
            }
            Effect::Deliver(gateway, entry) => return self.deliver(env, number, gateway, entry),
            Effect::Pull(owner, page) => self.pull(env, number, &owner, page),
            Effect::Swap(swap) => self.swap(env, number, *swap),
            Effect::Moved(ended) => env.check.moved(now, &ended),
            Effect::Behind => self.ask_touch(env, number),
            Effect::Tapped(..)
            | Effect::TapEnded(_)
            | Effect::Listed(..)
            | Effect::Shown(..)
            | Effect::Members(..) => {}
        }
        None
    }

    fn asked_by(&mut self, number: SlotNumber, token: Token) -> Option<Asker> {
        self.slots.get_mut(usize::from(number.0))?.askers.remove(&token)
    }

    /// Puts an entry on the lane; what to tell the slot if it does not fit.
    fn deliver(
        &mut self,
        env: &mut Env,
        number: SlotNumber,
        gateway: NodeRef,
        entry: v1::DeliverEntry,
    ) -> Option<Input> {
        let now = env.now;
        if let Some(task) = self.slots.get(usize::from(number.0)) {
            let (node, role) = (self.base.as_of(task.life), task.slot.role());
            env.check.fanned_out(now, (&node, &gateway), role, &entry);
        }
        let (topic, epoch, prev_offset) = (entry.topic.clone(), entry.epoch.clone(), entry.prev_offset);
        if self.push(env, &gateway, entry) {
            return None;
        }
        let topic = Topic::parse(&topic).ok()?;
        let from = Cursor::parse(&v1::Position {
            epoch,
            offset: prev_offset,
        })
        .ok()?;
        Some(Input::Dropped { gateway, topic, from })
    }

    fn pull(&mut self, env: &mut Env, number: SlotNumber, owner: &NodeRef, page: PullPage) {
        env.check.pulls(env.now, number, &page);
        let address = self
            .table
            .as_ref()
            .and_then(|table| table.address(owner))
            .and_then(peer_at);
        let Some(peer) = address else {
            self.tell(env, number, Input::Pulled(page, None));
            return;
        };
        let call = v1::PullCall {
            header: Some(self.header(owner.incarnation)),
            slot: u32::from(number.0),
            owner_epoch: page.owner_epoch.0,
            move_id: page.move_id.clone(),
            attempt: page.attempt,
            page: page.page,
        };
        let pending = Pending::Pull(number, page);
        self.base
            .call(env, peer, Request::Pull(call), pending, PULL_DEADLINE);
    }

    fn swap(&mut self, env: &mut Env, number: SlotNumber, swap: Swap) {
        let change = Change {
            expect: vec![(Key::Slot(number), Expect::Revision(swap.revision))],
            guards: vec![
                Guard::Alive(swap.owner.clone()),
                Guard::Alive(swap.target.clone()),
            ],
            put: vec![(Key::Slot(number), Record::Slot(swap.record.clone()))],
            delete: Vec::new(),
            op: env.fresh_op(),
        };
        let purpose = Purpose::Swap(number, swap.revision);
        self.swaps.insert((number, swap.revision), swap);
        self.base.make(env, change, purpose);
    }

    /// The outcome of a swap is known. Mirrors `topic-server/src/moves/swap.rs`.
    pub(super) fn swapped(
        &mut self,
        env: &mut Env,
        number: SlotNumber,
        expected: Revision,
        outcome: Result<Revision, Refused>,
    ) {
        let Some(swap) = self.swaps.remove(&(number, expected)) else {
            return;
        };
        let newer = match outcome {
            Ok(revision) => {
                self.tell_record(env, number, revision, swap.record, swap.owner);
                return;
            }
            Err(Refused::Conflict(current)) => current.into_iter().find_map(|(_, stored)| stored),
            Err(_) => None,
        };
        if let Some(newer) = newer
            && newer.revision > expected
            && let Record::Slot(record) = newer.record
        {
            self.tell_record(env, number, newer.revision, record, swap.owner);
        }
        self.tell(env, number, Input::SwapRefused(expected));
    }

    pub(super) fn tell_record(
        &mut self,
        env: &mut Env,
        number: SlotNumber,
        revision: Revision,
        record: SlotRecord,
        me: NodeRef,
    ) {
        let entropy = entropy(env);
        let input = Input::Record {
            revision,
            record,
            me,
            entropy,
        };
        self.tell(env, number, input);
    }

    fn set_timer(&mut self, env: &mut Env, number: SlotNumber) {
        let (life, clock) = (self.base.life, self.base.clock);
        let Some(task) = self.slots.get_mut(usize::from(number.0)) else {
            return;
        };
        let deadline = task.slot.deadline();
        if deadline == task.timer_at {
            return;
        }
        task.timer_at = deadline;
        task.timer += 1;
        if let Some(deadline) = deadline {
            let due = clock.when(deadline, env.now) + Duration::from_millis(1);
            env.at(
                due,
                crate::wire::Event::Timer(life, Timer::Slot(number, task.timer)),
            );
        }
    }
}

pub(super) fn slot_number(index: usize) -> SlotNumber {
    SlotNumber(u16::try_from(index).expect("there are at most 65,535 slots"))
}
