//! The node's own lease and the records, and what they mean to the slots. Mirrors `topic-server/src/roles.rs`.
//!
//! *Invariant:* a lease that is lost reaches every slot before anything of the next life does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::{Incarnation, Slot};
use ringcast_ring::{Change, SlotTable, Snapshot, claims};
use ringcast_ring_store::Standing;
use ringcast_topic_server_core::{Input, Slot as SlotCore};

use super::Server;
use super::mail::SlotTask;
use super::slots::slot_number;
use crate::env::Env;
use crate::network::STORE;
use crate::wire::{Answer, Pending, Purpose, Request, Timer};

const CLAIM_INTERVAL: Duration = Duration::from_secs(10);
const CLAIM_DEADLINE: Duration = Duration::from_secs(3);
const LOAD_DEADLINE: Duration = Duration::from_millis(1000);

/// A claim under way; nothing is followed meanwhile.
#[derive(Debug)]
pub(super) struct Claiming {
    number: u64,
    lost: Incarnation,
    held: Incarnation,
    changes: VecDeque<Change>,
}

impl Server {
    /// The task of the roles is woken, a moment later.
    pub(super) fn look_at_roles(&mut self, env: &mut Env) {
        if !self.roles_due {
            self.roles_due = true;
            let delay = Duration::from_micros(env.random.below(500));
            env.timer(self.base.life, self.base.clock, delay, Timer::Roles);
        }
    }

    pub(super) fn roles(&mut self, env: &mut Env) {
        if self.claiming.is_some() {
            return;
        }
        match self.base.standing {
            None => {}
            Some(Standing::Lost(lost)) => {
                self.lose(env);
                self.life = Some(Err(lost));
            }
            Some(Standing::Held(held)) => {
                let lost = match self.life {
                    Some(Err(lost)) => Some(lost),
                    Some(Ok(life)) if life != held => Some(life),
                    Some(Ok(_)) | None => None,
                };
                if let Some(lost) = lost {
                    self.lose(env);
                    if self.claim(env, lost, held) {
                        return;
                    }
                }
                self.life = Some(Ok(held));
                self.follow(env, held);
            }
        }
    }

    fn lose(&mut self, env: &mut Env) {
        if std::mem::replace(&mut self.registered, false) {
            self.tell_all(env, &Input::Fenced);
        }
    }

    /// Takes back whatever nobody took meanwhile; `false`: it does not try.
    fn claim(&mut self, env: &mut Env, lost: Incarnation, held: Incarnation) -> bool {
        let now = self.base.now(env);
        if self
            .claimed
            .is_some_and(|claimed| now.since(claimed) < CLAIM_INTERVAL)
        {
            return false;
        }
        self.claimed = Some(now);
        self.claims += 1;
        self.claiming = Some(Claiming {
            number: self.claims,
            lost,
            held,
            changes: VecDeque::new(),
        });
        let pending = Pending::ClaimLoad(self.claims);
        self.base.call(env, STORE, Request::Load, pending, LOAD_DEADLINE);
        let over = Timer::ClaimOver(self.claims);
        env.timer(self.base.life, self.base.clock, CLAIM_DEADLINE, over);
        true
    }

    pub(super) fn claim_loaded(&mut self, env: &mut Env, number: u64, answer: Option<Answer>) {
        let Some(claiming) = self
            .claiming
            .as_mut()
            .filter(|claiming| claiming.number == number)
        else {
            return;
        };
        if let Some(Answer::Loaded(snapshot)) = answer {
            let (old, me) = (self.base.as_of(claiming.lost), self.base.as_of(claiming.held));
            claiming.changes = claims(&snapshot, &old, &me, || env.fresh_op()).into();
        }
        self.claim_made(env, number);
    }

    /// The next change of the claim, or its end.
    pub(super) fn claim_made(&mut self, env: &mut Env, number: u64) {
        let Some(claiming) = self
            .claiming
            .as_mut()
            .filter(|claiming| claiming.number == number)
        else {
            return;
        };
        match claiming.changes.pop_front() {
            Some(change) => self.base.make(env, change, Purpose::Claim(number)),
            None => self.claim_over(env, number),
        }
    }

    pub(super) fn claim_over(&mut self, env: &mut Env, number: u64) {
        if let Some(claiming) = self.claiming.take_if(|claiming| claiming.number == number) {
            self.life = Some(Ok(claiming.held));
            self.follow(env, claiming.held);
            self.look_at_roles(env);
        }
    }

    fn follow(&mut self, env: &mut Env, life: Incarnation) {
        let snapshot = self.base.snapshot.clone();
        let followed = self.followed.replace((life, snapshot.clone()));
        if followed.is_some_and(|(before, shown)| before == life && Arc::ptr_eq(&shown, &snapshot)) {
            return;
        }
        self.registered = true;
        let Some(table) = SlotTable::from_snapshot(&snapshot) else {
            return;
        };
        self.begin(table.slots());
        let gone = self.update_lanes(env, &table);
        self.table = Some(Arc::new(table));
        for gateway in gone {
            self.tell_all(env, &Input::GatewayGone(gateway));
        }
        self.tell_records(env, &snapshot, life);
    }

    fn begin(&mut self, slots: u16) {
        if self.slots.is_empty() {
            self.told = vec![None; usize::from(slots)];
            let make = |number| SlotTask::new(SlotCore::new(Slot(number), self.limits.clone()));
            self.slots = (0..slots).map(make).collect();
        }
    }

    fn tell_records(&mut self, env: &mut Env, snapshot: &Snapshot, life: Incarnation) {
        let me = self.base.as_of(life);
        for number in 0..self.told.len() {
            let Some((revision, record)) = snapshot.slot(slot_number(number)) else {
                continue;
            };
            let now = Some((life, revision));
            if self.told[number] == now {
                continue;
            }
            self.told[number] = now;
            self.tell_record(env, slot_number(number), revision, record.clone(), me.clone());
        }
    }
}
