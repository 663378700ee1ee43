//! A gateway as a process: the pure core, its hub, its calls.
//!
//! Mirrors `gateway/src/hub.rs`, `lanes.rs`, `ring.rs` and `rpc.rs`. Leaves out: clients' connections (`clients`, `socket`).

mod clients;
mod deliveries;
mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::gateway::{CallFailed, CallId, Config, Effect, Gateway as Core, Input};
use ringcast_proto::record::{NodeRecord, Role};
use ringcast_proto::{Incarnation, NodeId, NodeRef, SessionId, v1};
use ringcast_ring::SlotTable;
use ringcast_ring_store::Standing;

use self::deliveries::{Handled, Incoming};
use self::socket::Socket;
use crate::base::{Base, News};
use crate::check::Seen;
use crate::env::Env;
use crate::network::Peer;
use crate::server::{address_of, peer_at};
use crate::time::Clock;
use crate::wire::{Answer, CallNumber, Event, Life, Pending, Request, Timer};

/// A gateway's lease.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(3);
const CALL_DEADLINE: Duration = Duration::from_millis(1000);
/// From one of its tasks to the hub.
const MAILBOX: Duration = Duration::from_micros(20);
const HANDLING: Duration = Duration::from_micros(40);
/// Between two looks for connections that are too slow.
const SWEEP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) base: Base,
    core: Core,
    table: Option<Arc<SlotTable>>,
    lanes: BTreeMap<NodeRef, Peer>,
    /// The life the hub knows of.
    life: Option<Incarnation>,
    next_session: u64,
    sessions: BTreeMap<u64, SessionId>,
    sockets: BTreeMap<SessionId, Socket>,
    /// Sockets that were written to and not flushed since.
    unwritten: Vec<SessionId>,
    /// Clients are told to go elsewhere.
    leaving: bool,
    /// The lease is given back.
    going: bool,
    incoming: BTreeMap<Life, Incoming>,
    delivering: BTreeMap<CallId, Handled>,
    last_call: u64,
    tick: u64,
    seen: Seen,
    pub(crate) left: bool,
}

impl Gateway {
    /// A process that just started.
    pub(crate) fn start(env: &mut Env, life: Life, clock: Clock, id: NodeId, config: &Config) -> Gateway {
        let record = NodeRecord {
            incarnation: Incarnation(0),
            role: Role::Gateway,
            advertise: address_of(life.peer),
            build: String::new(),
            ready: false,
            leaving: false,
            rest: Default::default(),
        };
        let entropy = env.random.bits();
        env.timer(life, clock, SWEEP, Timer::Sweep);
        Gateway {
            base: Base::start(env, life, clock, id, record, LEASE_TTL),
            core: Core::new(config.clone(), entropy),
            table: None,
            lanes: BTreeMap::new(),
            life: None,
            next_session: 0,
            sessions: BTreeMap::new(),
            sockets: BTreeMap::new(),
            unwritten: Vec::new(),
            leaving: false,
            going: false,
            incoming: BTreeMap::new(),
            delivering: BTreeMap::new(),
            last_call: 0,
            tick: 0,
            seen: Seen::default(),
            left: false,
        }
    }

    /// A call arrives.
    pub(crate) fn request(&mut self, env: &mut Env, from: Life, call: CallNumber, request: Request) {
        let Request::Deliver(place, deliver) = request else {
            let refused = Answer::Refused("not a gateway's");
            return env.answer(self.base.life.peer, from, call, refused, HANDLING);
        };
        self.deliver_call(env, from, place, call, deliver);
    }

    fn check(&self, header: Option<&v1::CallHeader>) -> Result<(), &'static str> {
        let header = header.ok_or("no header")?;
        let table = self.table.as_ref().ok_or("no ring")?;
        if header.birth_digest != table.birth_digest() {
            return Err("another cluster");
        }
        if header.to_incarnation != self.base.node().incarnation.0 {
            return Err("for another incarnation");
        }
        Ok(())
    }

    /// A timer rang.
    pub(crate) fn woken(&mut self, env: &mut Env, timer: &Timer) {
        match timer {
            Timer::Tick(number) if *number == self.tick => self.take(env, Input::Tick),
            Timer::Tick(_) => {}
            Timer::Stand => self.stand(env),
            Timer::Sweep => self.sweep(env),
            Timer::Owed(from, stream) => self.answer_owed(env, *from, *stream),
            Timer::Drain(session) => self.drain(env, *session),
            Timer::ReadOn(session) => self.read_on(env, *session),
            Timer::Gone(session) => self.gone(env, *session),
            Timer::Refused(pending) => {
                let refused = Some(Answer::Refused("no lane"));
                self.news(env, Some(News::Answer(pending.clone(), refused)));
            }
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
            Some(News::Standing) => {
                let delay = Duration::from_micros(env.random.below(800));
                env.timer(self.base.life, self.base.clock, delay, Timer::Stand);
            }
            Some(News::Snapshot) => self.follow(env),
            Some(News::Answer(Pending::Publish(call), answer)) => {
                let answer = match answer {
                    Some(Answer::Published(answer)) => Ok(answer),
                    other => Err(failed(other)),
                };
                if let Ok(answer) = &answer {
                    self.seen.published(answer);
                }
                self.take(env, Input::Published(call, answer));
            }
            Some(News::Answer(Pending::Bind(call), answer)) => {
                let answer = match answer {
                    Some(Answer::Bound(answer)) => Ok(answer),
                    other => Err(failed(other)),
                };
                self.take(env, Input::Bound(call, answer));
            }
            Some(News::Answer(Pending::Fetch(call), answer)) => {
                let answer = match answer {
                    Some(Answer::Fetched(answer)) => Ok(answer),
                    other => Err(failed(other)),
                };
                self.take(env, Input::Fetched(call, answer));
            }
            Some(News::Left) => self.left = true,
            Some(News::Made(..) | News::Answer(..)) | None => {}
        }
    }

    fn stand(&mut self, env: &mut Env) {
        let Some(Standing::Held(held)) = self.base.standing else {
            return;
        };
        match self.life.replace(held) {
            None => self.follow(env),
            Some(before) if before != held => self.take(env, Input::Registered(held)),
            Some(_) => {}
        }
    }

    fn follow(&mut self, env: &mut Env) {
        if self.life.is_none() {
            return;
        }
        let Some(table) = SlotTable::from_snapshot(&self.base.snapshot).map(Arc::new) else {
            return;
        };
        let news = self
            .table
            .as_ref()
            .is_none_or(|shown| shown.revision() <= table.revision() && *shown != table);
        if !news {
            return;
        }
        self.table = Some(table.clone());
        self.lanes.retain(|node, _| table.address(node).is_some());
        for owner in table.owners() {
            if let Some(peer) = table.address(&owner).and_then(peer_at) {
                self.lanes.insert(owner, peer);
            }
        }
        self.seen.table(&table);
        self.take(env, Input::Table(table));
    }

    /// One input and all that it leads to.
    fn take(&mut self, env: &mut Env, input: Input) {
        let (now, true_now) = (self.base.now(env), env.now);
        let mut effects = Vec::new();
        env.trace.line(true_now, || format!("    hub <- {input:?}"));
        self.core.apply(input, now, &mut effects);
        self.core.flush(now, &mut effects);
        for effect in effects {
            self.carry_out(env, effect);
        }
        self.write(env);
        self.go_if_all_are_gone(env);
        self.tick += 1;
        if let Some(deadline) = self.core.deadline() {
            let due = self.base.clock.when(deadline, env.now);
            env.at(due, Event::Timer(self.base.life, Timer::Tick(self.tick)));
        }
    }

    fn carry_out(&mut self, env: &mut Env, effect: Effect) {
        let now = env.now;
        env.trace.line(now, || format!("    hub -> {effect:?}"));
        match effect {
            Effect::Write(session, frame) => self.push(env, session, frame, None),
            Effect::Publication(session, frame, place) => self.push(env, session, frame, Some(place)),
            Effect::Close(session, code, _) => self.close(env, session, code),
            Effect::Pause(session) => self.pause(session),
            Effect::Resume(session) => self.resume(env, session),
            Effect::Bind(call, node, binds) => {
                let Some((header, peer)) = self.ready(&node) else {
                    return self.refuse(env, Pending::Bind(call));
                };
                let request = Request::Bind(v1::BindCall {
                    header: Some(header),
                    binds,
                });
                env.check.calls(now, self.base.life.peer);
                self.base
                    .call(env, peer, request, Pending::Bind(call), CALL_DEADLINE);
            }
            Effect::Fetch(call, node, fetches) => {
                let Some((header, peer)) = self.ready(&node) else {
                    return self.refuse(env, Pending::Fetch(call));
                };
                let request = Request::Fetch(v1::FetchCall {
                    header: Some(header),
                    fetches,
                });
                env.check.calls(now, self.base.life.peer);
                self.base
                    .call(env, peer, request, Pending::Fetch(call), CALL_DEADLINE);
            }
            Effect::Publish(call, node, slots) => {
                let Some((header, peer)) = self.ready(&node) else {
                    return self.refuse(env, Pending::Publish(call));
                };
                env.check
                    .numbered(now, Incarnation(header.from_incarnation), &slots);
                let request = Request::Publish(v1::PublishCall {
                    header: Some(header),
                    slots,
                });
                env.check.calls(now, self.base.life.peer);
                self.base
                    .call(env, peer, request, Pending::Publish(call), CALL_DEADLINE);
            }
            Effect::Delivered(call, answer) => self.delivered(env, call, answer),
            Effect::ServerPublished(..) => {}
        }
    }

    /// There is no lane for it: the hub hears so by way of its mailbox.
    fn refuse(&mut self, env: &mut Env, pending: Pending) {
        env.check.calls(env.now, self.base.life.peer);
        env.timer(self.base.life, self.base.clock, MAILBOX, Timer::Refused(pending));
    }

    /// The header of a call to `node`, and where it listens.
    fn ready(&self, node: &NodeRef) -> Option<(v1::CallHeader, Peer)> {
        let peer = *self.lanes.get(node)?;
        let me = self.base.node();
        let header = v1::CallHeader {
            birth_digest: self.table.as_ref()?.birth_digest(),
            from: me.node.as_str().to_owned(),
            from_incarnation: me.incarnation.0,
            to_incarnation: node.incarnation.0,
        };
        (self.life == Some(me.incarnation)).then_some((header, peer))
    }
}

fn failed(answer: Option<Answer>) -> CallFailed {
    match answer {
        Some(Answer::Refused(why)) => CallFailed::Refused(why.to_owned()),
        Some(Answer::Unavailable) => CallFailed::Unknown("unavailable".to_owned()),
        Some(Answer::NotSent) => CallFailed::Unknown("nobody listens".to_owned()),
        _ => CallFailed::Unknown("no answer".to_owned()),
    }
}
