//! A topic server as a process: slots, lanes, roles, planner and touches around the pure cores.
//!
//! Mirrors `topic-server/src`: each part names its file. *Invariant:* it decides nothing about the protocol; an answer
//! leaves only after the lease was checked once more.

mod calls;
mod lanes;
mod mail;
mod plans;
mod roles;
mod slots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::record::{NodeRecord, Role};
use ringcast_proto::{Incarnation, NodeId, NodeRef, Slot, v1};
use ringcast_ring::{Change, Planner, PlannerConfig, Refused, Revision, SlotTable, Snapshot};
use ringcast_topic_server_core::{Budget, Input, Limits, Swap};

use self::calls::Answering;
use self::lanes::LaneTask;
use self::mail::SlotTask;
use self::roles::Claiming;
use crate::base::{Base, News};
use crate::env::Env;
use crate::network::Peer;
use crate::time::Clock;
use crate::wire::{Answer, CallNumber, Life, Pending, Purpose, Request, Timer};

/// A topic server's lease.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(2);
/// Between two looks at what histories take.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// How the servers of a run are set up.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    /// Bounds.
    pub(crate) limits: Limits,
    /// Bytes of histories; none: as many as they like.
    pub(crate) history_memory: Option<usize>,
    /// Birth.
    pub(crate) planner: PlannerConfig,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) base: Base,
    limits: Limits,
    budget: Option<Budget>,
    table: Option<Arc<SlotTable>>,
    slots: Vec<SlotTask>,
    lanes: BTreeMap<NodeRef, LaneTask>,
    answering: BTreeMap<u64, Answering>,
    asked: u64,
    // Roles.
    life: Option<Result<Incarnation, Incarnation>>,
    registered: bool,
    told: Vec<Option<(Incarnation, Revision)>>,
    followed: Option<(Incarnation, Arc<Snapshot>)>,
    roles_due: bool,
    claiming: Option<Claiming>,
    claimed: Option<ringcast_proto::Millis>,
    claims: u64,
    // Planner and touches.
    planner: Planner,
    planning: VecDeque<Change>,
    plan_under_way: bool,
    plan_again: bool,
    planner_timer: u64,
    touches: BTreeSet<Slot>,
    touching: VecDeque<Slot>,
    touch_under_way: bool,
    // Moves and leaving.
    swaps: BTreeMap<(Slot, Revision), Swap>,
    pub(crate) leaving: Leaving,
    announcing: bool,
}

/// How far leaving well has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Nobody asked for it.
    No,
    /// The node record is to say so, and slots are to move away until then.
    Until(ringcast_proto::Millis),
    /// The lease is being given back.
    Releasing,
    /// It is over.
    Left,
}

impl Server {
    /// A process that just started.
    pub(crate) fn start(
        env: &mut Env,
        life: Life,
        clock: Clock,
        id: NodeId,
        config: &ServerConfig,
    ) -> Server {
        let record = NodeRecord {
            incarnation: Incarnation(0),
            role: Role::TopicServer,
            advertise: address_of(life.peer),
            build: String::new(),
            ready: false,
            leaving: false,
            rest: Default::default(),
        };
        let entropy = env.random.bits();
        let base = Base::start(env, life, clock, id, record, LEASE_TTL);
        if config.history_memory.is_some() {
            env.timer(life, clock, MEMORY_INTERVAL, Timer::Memory);
        }
        Server {
            base,
            limits: config.limits.clone(),
            budget: config.history_memory.map(Budget::new),
            table: None,
            slots: Vec::new(),
            lanes: BTreeMap::new(),
            answering: BTreeMap::new(),
            asked: 0,
            life: None,
            registered: false,
            told: Vec::new(),
            followed: None,
            roles_due: false,
            claiming: None,
            claimed: None,
            claims: 0,
            planner: Planner::new(config.planner, entropy),
            planning: VecDeque::new(),
            plan_under_way: false,
            plan_again: true,
            planner_timer: 0,
            touches: BTreeSet::new(),
            touching: VecDeque::new(),
            touch_under_way: false,
            swaps: BTreeMap::new(),
            leaving: Leaving::No,
            announcing: false,
        }
    }

    /// A call arrives.
    pub(crate) fn request(&mut self, env: &mut Env, from: Life, call: CallNumber, request: Request) {
        match request {
            Request::Publish(publish) => self.publish_call(env, from, call, publish),
            Request::Bind(bind) => self.bind_call(env, from, call, bind),
            Request::Fetch(fetch) => self.fetch_call(env, from, call, fetch),
            Request::Pull(pull) => self.pull_call(env, from, call, pull),
            Request::Load
            | Request::Change(_)
            | Request::Register(..)
            | Request::Renew(_)
            | Request::Release(_)
            | Request::Watch(..)
            | Request::Deliver(..) => {
                let refused = Answer::Refused("not a topic server's");
                env.answer(self.base.life.peer, from, call, refused, Duration::ZERO);
            }
        }
    }

    /// A timer rang.
    pub(crate) fn woken(&mut self, env: &mut Env, timer: &Timer) {
        match timer {
            Timer::Roles => {
                self.roles_due = false;
                self.roles(env);
            }
            Timer::ClaimOver(number) => self.claim_over(env, *number),
            Timer::Slot(slot, number) => self.slot_timer(env, *slot, *number),
            Timer::RunSlot(slot) => self.run_slot(env, *slot),
            Timer::Lane(gateway) => self.lane_awake(env, gateway),
            Timer::AnswerCall(number) => self.answer_now(env, *number),
            Timer::Planner(number) if *number == self.planner_timer => self.plan(env),
            Timer::Touches => {
                self.touch_under_way = false;
                self.touch_next(env);
            }
            Timer::Memory => self.look_at_memory(env),
            Timer::Leaving => self.look_after_leaving(env),
            _ => {
                let news = self.base.woken(env, timer);
                self.news(env, news);
            }
        }
    }

    /// An answer arrives.
    pub(crate) fn answered(&mut self, env: &mut Env, call: CallNumber, answer: Answer) {
        let news = self.base.answered(env, call, Some(answer));
        self.news(env, news);
    }

    /// Something became of what it waited for.
    pub(crate) fn news(&mut self, env: &mut Env, news: Option<News>) {
        match news {
            None => {}
            Some(News::Standing) => self.look_at_roles(env),
            Some(News::Snapshot) => {
                self.look_at_roles(env);
                self.plan_again = true;
                self.plan(env);
                self.leave_if_done(env);
            }
            Some(News::Made(purpose, outcome)) => self.made(env, purpose, outcome),
            Some(News::Answer(pending, answer)) => match pending {
                Pending::Deliver(gateway, place) => self.delivered(env, &gateway, place, answer),
                Pending::ClaimLoad(number) => self.claim_loaded(env, number, answer),
                Pending::Pull(slot, page) => {
                    let answer = match answer {
                        Some(Answer::Pulled(answer)) => Some(answer),
                        _ => None,
                    };
                    self.tell(env, slot, Input::Pulled(page, answer));
                }
                _ => {}
            },
            Some(News::Left) => self.leaving = Leaving::Left,
        }
    }

    /// Mirrors `topic-server/src/memory.rs`.
    fn look_at_memory(&mut self, env: &mut Env) {
        let bytes = self.slots().map(|slot| slot.counts().history_bytes).sum();
        let shed = self.budget.as_mut().and_then(|budget| budget.look(bytes));
        if let Some(shed) = shed {
            self.tell_all(env, &Input::Shed(shed));
        }
        env.timer(self.base.life, self.base.clock, MEMORY_INTERVAL, Timer::Memory);
    }

    fn made(&mut self, env: &mut Env, purpose: Purpose, outcome: Result<Revision, Refused>) {
        match purpose {
            Purpose::Plan => self.planned(env),
            Purpose::Claim(number) => self.claim_made(env, number),
            Purpose::Touch(slot, owner_epoch) => self.touched(env, slot, owner_epoch, outcome),
            Purpose::Swap(slot, expected) => self.swapped(env, slot, expected, outcome),
            // Whatever became of it, the records show.
            Purpose::Leave => self.announcing = false,
        }
    }

    /// The header of a call to `node`.
    fn header(&self, to: Incarnation) -> v1::CallHeader {
        let me = self.base.node();
        v1::CallHeader {
            birth_digest: self.table.as_ref().map_or(0, |table| table.birth_digest()),
            from: me.node.to_string(),
            from_incarnation: me.incarnation.0,
            to_incarnation: to.0,
        }
    }
}

/// What epochs are made of.
fn entropy(env: &mut Env) -> u128 {
    u128::from(env.random.bits()) << 64 | u128::from(env.random.bits())
}

/// Where a process listens, for all its lives.
#[must_use]
pub(crate) fn address_of(peer: Peer) -> String {
    format!("peer-{}:7000", peer.0)
}

/// Who listens there.
#[must_use]
pub(crate) fn peer_at(address: &str) -> Option<Peer> {
    let number = address.strip_prefix("peer-")?.strip_suffix(":7000")?;
    number.parse().ok().map(Peer)
}
