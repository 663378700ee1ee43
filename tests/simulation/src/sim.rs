//! One run: the cluster of a seed, its clients, what is done to it, and the end at which everything must be at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_gateway_core::gateway::Config as GatewayConfig;
use ringcast_gateway_core::limits::Limits as GatewayLimits;
use ringcast_proto::record::{PlanId, RingNode, RingNodeState};
use ringcast_proto::{NodeId, Slot};
use ringcast_ring::{Change, PlannerConfig};
use ringcast_topic_server_core::{Effect, Input, Limits, Role, Token};

use crate::client::Client;
use crate::env::Env;
use crate::gateway::Gateway;
use crate::network::{Peer, STORE};
use crate::operator;
use crate::plant::plant;
use crate::random::Random;
use crate::report::{Options, Report};
use crate::server::{Leaving, Server, ServerConfig};
use crate::store::StoreProcess;
use crate::swarm::{Deed, Fault, Swarm};
use crate::time::{Clock, Time};
use crate::trace::{Trace, Verbosity};
use crate::wire::{Answer, Event, Life, Turn, Urge};

/// After everything works again so long until everything must be at rest.
const REST: Duration = Duration::from_secs(30);
/// Clients go on for so long of that.
const LIVELY: Duration = Duration::from_secs(20);
/// From then on no publish may be refused any more.
const SERVING: Duration = Duration::from_secs(15);

/// A minute of the busiest seeds has a tenth of that; more is a loop.
const EVENTS_MAX: u64 = 10_000_000;

struct Node {
    id: NodeId,
    clock: Clock,
    run: u32,
    process: Process,
    frozen_until: Option<Time>,
    deferred: Vec<Event>,
}

enum Process {
    Down,
    Server(Box<Server>),
    Gateway(Box<Gateway>),
}

/// See the module.
pub(crate) struct Sim {
    env: Env,
    swarm: Swarm,
    random: Random,
    store: StoreProcess,
    store_frozen: Option<Time>,
    store_deferred: Vec<Event>,
    /// By peer, less one.
    nodes: Vec<Node>,
    clients: Vec<Client>,
    servers: ServerConfig,
    gateways: GatewayConfig,
    heal_at: Time,
}

impl Sim {
    pub(crate) fn new(options: &Options, verbosity: Verbosity) -> Sim {
        let seed = options.seed;
        let swarm = Swarm::draw(seed);
        let mut env = Env::new(seed, Trace::new(verbosity), options.plant);
        env.network.weather = swarm.weather;
        env.slow_slots = swarm.slow_slots;
        env.late_watches = swarm.late_watches;
        let mut random = Random::new(seed, 4);
        let mut clock = || {
            let gains = if swarm.wrong_clocks {
                random.below(20_001)
            } else {
                10_000
            };
            Clock {
                gains: i32::try_from(gains).unwrap_or(10_000) - 10_000,
                offset_us: random.below(1 << 40),
            }
        };
        let store = StoreProcess::start(&mut env, clock(), swarm.window_len);
        let names = (0..swarm.servers + swarm.spares).map(|number| format!("ts-{}", number + 1));
        let names = names.chain((0..swarm.gateways).map(|number| format!("gw-{}", number + 1)));
        let nodes = names
            .map(|name| Node {
                id: NodeId::parse(&name).expect("a legal name"),
                clock: clock(),
                run: 0,
                process: Process::Down,
                frozen_until: None,
                deferred: Vec::new(),
            })
            .collect();
        let mut servers = ServerConfig {
            limits: Limits {
                history_len_max: swarm.history_len,
                ..Limits::default()
            },
            planner: PlannerConfig {
                expect_topic_servers: Some(swarm.servers),
                slots: swarm.slots,
            },
        };
        let mut gateways = GatewayConfig {
            namespaces: Vec::new(),
            limits: GatewayLimits::BENCH,
        };
        plant(options.plant, &mut servers.limits, &mut gateways.limits);
        env.check.strict = swarm.is_calm();
        let clients = (0..swarm.clients)
            .map(|number| Client::new(seed, number, swarm.temper))
            .collect();
        let heal_at = Time(0) + options.duration.saturating_sub(REST).max(Duration::from_secs(2));
        Sim {
            env,
            random,
            store,
            store_frozen: None,
            store_deferred: Vec::new(),
            nodes,
            clients,
            servers,
            gateways,
            heal_at,
            swarm,
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(mut self) -> Report {
        self.begin();
        let end = self.heal_at + REST;
        while let Some(event) = self.env.next(end) {
            self.handle(event);
            if self.env.trace.events() > EVENTS_MAX {
                let (now, what) = (self.env.now, format!("more than {EVENTS_MAX} events"));
                self.env.check.fail(now, "I18", what);
            }
            if self.env.check.violation().is_some() {
                break;
            }
        }
        if self.env.check.violation().is_none() {
            self.env.now = end;
            self.at_rest();
        }
        let check = &self.env.check;
        Report {
            swarm: self.swarm.to_string(),
            violation: check.violation().cloned(),
            hash: self.env.trace.hash(),
            events: self.env.trace.events(),
            acknowledged: check.acknowledged,
            delivered: check.delivered,
            moves: check.moves,
            longest_pause_ms: check.longest_pause_ms,
            tail: self.env.trace.tail(),
        }
    }

    fn begin(&mut self) {
        let (spares, servers) = (self.swarm.spares, self.swarm.servers);
        for index in 0..self.nodes.len() {
            let peer = Peer(index + 1);
            let spare = (servers..servers + spares).contains(&index);
            let at = if spare {
                Time(4_000_000 + self.random.below(10_000_000))
            } else {
                Time(self.random.below(500_000))
            };
            self.env.at(at, Event::Driver(Turn::Start(peer)));
        }
        for client in 0..self.clients.len() {
            let at = Time(1_000_000 + self.random.below(3_000_000));
            self.env.at(at, Event::Urge(client, 0, Urge::Connect));
        }
        self.next_turn(Turn::Fault, 4_000 + self.swarm.fault_pause_ms);
        self.next_turn(Turn::Operate, 4_000 + self.swarm.deed_pause_ms);
        self.env.at(self.heal_at, Event::Driver(Turn::Heal));
    }

    fn next_turn(&mut self, turn: Turn, pause_ms: u64) {
        let at = self.env.now + Duration::from_millis(self.random.between(pause_ms / 4, 2 * pause_ms));
        if at < self.heal_at {
            self.env.at(at, Event::Driver(turn));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Urge(client, connection, urge) => {
                let up = self.lives(|process| matches!(process, Process::Gateway(_)));
                if let Some(client) = self.clients.get_mut(client) {
                    client.urge(&mut self.env, connection, urge, &up);
                }
            }
            Event::StoreTick(_) => self.store_event(event),
            Event::Driver(turn) => self.drive(turn),
            Event::Request(_, STORE, ..) => self.store_event(event),
            Event::Request(_, to, ..) => self.node_event(to, event),
            Event::Answer(life, ..)
            | Event::Watched(life, ..)
            | Event::Timer(life, _)
            | Event::Client(life, ..) => {
                self.node_event(life.peer, event);
            }
        }
        self.write();
    }

    /// Hands clients what gateways wrote for them.
    fn write(&mut self) {
        for written in std::mem::take(&mut self.env.written) {
            let Some((client, connection)) = self.env.check.client_of(written.session) else {
                continue;
            };
            let Some(client) = self
                .clients
                .get_mut(client)
                .filter(|client| client.connection == connection)
            else {
                continue;
            };
            if client
                .gateway
                .is_none_or(|gateway| gateway.peer != written.gateway)
            {
                continue;
            }
            match written.frame {
                Some(frame) => client.receive(&mut self.env, written.session, &frame),
                None => client.lost(&mut self.env),
            }
        }
    }

    fn store_event(&mut self, event: Event) {
        if let Some(until) = self.store_frozen
            && self.env.now < until
        {
            self.store_deferred.push(event);
            return;
        }
        match event {
            Event::StoreTick(run) if self.store.up && run == self.store.run => self.store.tick(&mut self.env),
            Event::Request(from, _, call, request) if self.store.up => {
                self.store.request(&mut self.env, from, call, *request);
            }
            Event::Request(from, to, call, _) => self.not_sent(from, to, call),
            _ => {}
        }
    }

    /// Nobody listens: most callers are told at once, some wait in vain.
    fn not_sent(&mut self, from: Life, to: Peer, call: crate::wire::CallNumber) {
        if self.env.random.chance(800_000) {
            self.env.answer(to, from, call, Answer::NotSent, Duration::ZERO);
        }
    }

    fn node_event(&mut self, to: Peer, event: Event) {
        let Some(node) = to.0.checked_sub(1).and_then(|index| self.nodes.get_mut(index)) else {
            return;
        };
        if let Some(until) = node.frozen_until
            && self.env.now < until
        {
            node.deferred.push(event);
            return;
        }
        let here = Life {
            peer: to,
            run: node.run,
        };
        let env = &mut self.env;
        let (now, life) = (env.now, here);
        if !matches!(event, Event::Timer(..)) {
            env.trace.line(now, || format!("{life:?} <- {event:?}"));
        }
        match (event, &mut node.process) {
            (Event::Request(from, to, call, _), Process::Down) => self.not_sent(from, to, call),
            (Event::Request(from, _, call, request), Process::Server(server)) => {
                server.request(env, from, call, *request);
            }
            (Event::Request(from, _, call, request), Process::Gateway(gateway)) => {
                gateway.request(env, from, call, *request);
            }
            (Event::Answer(life, call, answer), Process::Server(server)) if life == here => {
                server.answered(env, call, *answer);
            }
            (Event::Answer(life, call, answer), Process::Gateway(gateway)) if life == here => {
                gateway.answered(env, call, *answer);
            }
            (Event::Watched(life, stream, watched), Process::Server(server)) if life == here => {
                let news = server.base.watched(env, stream, watched.map(|watched| *watched));
                server.news(env, news);
            }
            (Event::Watched(life, stream, watched), Process::Gateway(gateway)) if life == here => {
                let news = gateway.base.watched(env, stream, watched.map(|watched| *watched));
                gateway.news(env, news);
            }
            (Event::Timer(life, timer), Process::Server(server)) if life == here => server.woken(env, &timer),
            (Event::Timer(life, timer), Process::Gateway(gateway)) if life == here => {
                gateway.woken(env, &timer)
            }
            (Event::Client(life, client, connection, message), Process::Gateway(gateway)) if life == here => {
                gateway.client(env, client, connection, message);
            }
            (Event::Client(_, client, connection, _), _) => {
                env.at(now, Event::Urge(client, connection, Urge::Lost));
            }
            _ => {}
        }
        self.end_if_left(to);
    }

    /// A process that was asked to end has done all it wanted to.
    fn end_if_left(&mut self, peer: Peer) {
        let node = &self.nodes[peer.0 - 1];
        let left = match &node.process {
            Process::Server(server) => server.leaving == Leaving::Left,
            Process::Gateway(gateway) => gateway.left,
            Process::Down => false,
        };
        if left {
            self.kill(peer);
            let back = self.env.now + Duration::from_millis(self.random.between(50, 3_000));
            self.env.at(back, Event::Driver(Turn::Start(peer)));
        }
    }

    fn lives(&self, which: impl Fn(&Process) -> bool) -> Vec<Life> {
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| which(&node.process));
        nodes
            .map(|(index, node)| Life {
                peer: Peer(index + 1),
                run: node.run,
            })
            .collect()
    }

    // What is done to the cluster.

    fn drive(&mut self, turn: Turn) {
        let now = self.env.now;
        self.env.trace.line(now, || format!("DRIVER {turn:?}"));
        match turn {
            Turn::Start(peer) => self.start(peer),
            Turn::Thaw(peer) => self.thaw(peer),
            Turn::Fault => {
                if let Some(fault) = self.random.pick(&self.swarm.faults).copied() {
                    self.env.trace.line(now, || format!("FAULT {fault:?}"));
                    self.fault(fault);
                }
                self.next_turn(Turn::Fault, self.swarm.fault_pause_ms);
            }
            Turn::Operate => {
                if let Some(deed) = self.random.pick(&self.swarm.deeds).copied() {
                    self.env.trace.line(now, || format!("DEED {deed:?}"));
                    self.operate(deed);
                }
                self.next_turn(Turn::Operate, self.swarm.deed_pause_ms);
            }
            Turn::Heal => {
                self.heal();
                self.env.at(now + LIVELY, Event::Driver(Turn::Calm));
            }
            Turn::Commit(id) => self.commit(&id),
            Turn::CutStore(peer, ways) if now < self.heal_at => self.cut_store(peer, ways),
            Turn::CutStore(..) => {}
            Turn::Calm => self.clients.iter_mut().for_each(|client| client.calm = true),
        }
    }

    fn start(&mut self, peer: Peer) {
        if peer == STORE {
            if !self.store.up {
                self.store.restart(&mut self.env);
            }
            return;
        }
        let index = peer.0 - 1;
        let is_server = index < self.swarm.servers + self.swarm.spares;
        let node = &mut self.nodes[index];
        if !matches!(node.process, Process::Down) {
            return;
        }
        node.run += 1;
        let life = Life { peer, run: node.run };
        let id = node.id.clone();
        node.process = if is_server {
            Process::Server(Box::new(Server::start(
                &mut self.env,
                life,
                node.clock,
                id,
                &self.servers,
            )))
        } else {
            Process::Gateway(Box::new(Gateway::start(
                &mut self.env,
                life,
                node.clock,
                id,
                &self.gateways,
            )))
        };
    }

    fn kill(&mut self, peer: Peer) {
        let node = &mut self.nodes[peer.0 - 1];
        if matches!(node.process, Process::Down) {
            return;
        }
        let life = Life { peer, run: node.run };
        node.process = Process::Down;
        node.frozen_until = None;
        let deferred = std::mem::take(&mut node.deferred);
        self.store.forget(life);
        self.env.check.forget(peer);
        self.env.check.leases.harmed(peer, self.env.now);
        for event in deferred {
            if let Event::Request(from, to, call, _) = event {
                self.not_sent(from, to, call);
            }
        }
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.gateway == Some(life) {
                let notices = self.env.now + Duration::from_millis(self.random.below(1_500));
                self.env
                    .at(notices, Event::Urge(index, client.connection, Urge::Lost));
            }
        }
    }

    fn freeze(&mut self, peer: Peer, pause: Duration) {
        let until = self.env.now + pause;
        if peer == STORE {
            self.store_frozen = Some(until);
        } else {
            self.nodes[peer.0 - 1].frozen_until = Some(until);
            self.env.check.leases.harmed(peer, until);
        }
        self.env.at(until, Event::Driver(Turn::Thaw(peer)));
    }

    fn thaw(&mut self, peer: Peer) {
        let now = self.env.now;
        let over = |frozen: &mut Option<Time>| frozen.take_if(|until| *until <= now).is_some();
        let mut deferred = if peer == STORE {
            if over(&mut self.store_frozen) {
                std::mem::take(&mut self.store_deferred)
            } else {
                Vec::new()
            }
        } else {
            let node = &mut self.nodes[peer.0 - 1];
            if over(&mut node.frozen_until) {
                std::mem::take(&mut node.deferred)
            } else {
                Vec::new()
            }
        };
        // Who wakes first, timers or sockets, is the scheduler's.
        if self.random.chance(500_000) {
            deferred.sort_by_key(|event| !matches!(event, Event::Timer(..) | Event::StoreTick(_)));
        }
        for event in deferred {
            self.env.at(now, event);
        }
    }

    fn fault(&mut self, fault: Fault) {
        let seconds = |random: &mut Random, most_ms| Duration::from_millis(random.between(50, most_ms));
        match fault {
            Fault::Cut => {
                let nodes = self.nodes.len() as u64 + 1;
                let from = Peer(usize::try_from(self.random.below(nodes)).unwrap_or(0));
                let to = Peer(usize::try_from(self.random.below(nodes)).unwrap_or(0));
                let until = self.env.now + seconds(&mut self.random, 6_000);
                self.cut(from, to, until);
                if self.random.chance(500_000) {
                    self.cut(to, from, until);
                }
            }
            Fault::CutStore => {
                if let Some(peer) = self.some_node(true) {
                    let ways = self.random.below(3);
                    if self.random.chance(500_000) {
                        let by = Duration::from_millis(self.random.between(100, 380));
                        let until = self.env.now + seconds(&mut self.random, 2_500);
                        self.env.network.slow(STORE, peer, by, until);
                        self.env.at(until, Event::Driver(Turn::CutStore(peer, ways)));
                    } else {
                        self.cut_store(peer, ways);
                    }
                }
            }
            Fault::KillServer | Fault::KillGateway => {
                if let Some(peer) = self.some_node(fault == Fault::KillServer) {
                    self.kill(peer);
                    let back = self.env.now + seconds(&mut self.random, 5_000);
                    self.env.check.leases.harmed(peer, back);
                    self.env.at(back, Event::Driver(Turn::Start(peer)));
                }
            }
            Fault::PauseServer | Fault::PauseGateway => {
                if let Some(peer) = self.some_node(fault == Fault::PauseServer) {
                    let pause = seconds(&mut self.random, 6_000);
                    self.freeze(peer, pause);
                }
            }
            Fault::RestartStore => {
                if self.store.up && self.store_frozen.is_none() {
                    self.store.kill(&mut self.env);
                    let back = self.env.now + seconds(&mut self.random, 6_000);
                    self.env.at(back, Event::Driver(Turn::Start(STORE)));
                }
            }
            Fault::PauseStore => {
                if self.store.up && self.store_frozen.is_none() {
                    let pause = seconds(&mut self.random, 4_000);
                    self.freeze(STORE, pause);
                }
            }
        }
    }

    fn cut_store(&mut self, peer: Peer, ways: u64) {
        let until = self.env.now + Duration::from_millis(self.random.between(50, 4_000));
        if ways != 1 {
            self.cut(peer, STORE, until);
        }
        if ways != 0 {
            self.cut(STORE, peer, until);
        }
    }

    fn cut(&mut self, from: Peer, to: Peer, until: Time) {
        if from == to {
            return;
        }
        let now = self.env.now;
        self.env
            .trace
            .line(now, || format!("CUT {from:?} -> {to:?} until {until}"));
        self.env.network.cut(from, to, until);
        for (end, node) in [(from, to), (to, from)] {
            if end == STORE {
                self.env.check.leases.harmed(node, until);
            }
        }
    }

    fn operate(&mut self, deed: Deed) {
        match deed {
            Deed::RestartServer if self.swarm.is_calm() && !self.may_leave_well() => {}
            Deed::RestartServer => {
                if let Some(peer) = self.some_node(true)
                    && let Process::Server(server) = &mut self.nodes[peer.0 - 1].process
                    && server.base.standing.is_some()
                {
                    server.leave(&mut self.env);
                }
            }
            Deed::RestartGateway => {
                if let Some(peer) = self.some_node(false)
                    && let Process::Gateway(gateway) = &mut self.nodes[peer.0 - 1].process
                    && gateway.base.standing.is_some()
                {
                    gateway.leave(&mut self.env);
                    self.write();
                }
            }
            Deed::Add
            | Deed::Drain
            | Deed::Remove
            | Deed::Weight
            | Deed::Pin
            | Deed::Rebalance
            | Deed::Abort => {
                if !self.store.up || self.store_frozen.is_some() {
                    return;
                }
                let op = self.env.fresh_op();
                let decided = operator::decide(deed, self.store.snapshot(), &mut self.random, op);
                match decided {
                    Ok(written) => {
                        self.write_down(&written.change);
                        if let Some(id) = written.commit {
                            let at = self.env.now + Duration::from_millis(self.random.below(1_500));
                            self.env.at(at, Event::Driver(Turn::Commit(id)));
                        }
                    }
                    Err(why) => self.note(&why),
                }
            }
        }
    }

    fn commit(&mut self, id: &PlanId) {
        if !self.store.up || self.store_frozen.is_some() {
            return;
        }
        let op = self.env.fresh_op();
        match operator::committed(id, self.store.snapshot(), op) {
            Ok(change) => self.write_down(&change),
            Err(why) => self.note(&why),
        }
    }

    fn write_down(&mut self, change: &Change) {
        let outcome = self.store.change(&mut self.env, change);
        self.note(&format!("{outcome:?}"));
    }

    fn note(&mut self, what: &str) {
        let now = self.env.now;
        self.env.trace.line(now, || format!("OPERATOR {what}"));
    }

    /// One at a time, and somebody else is there to take its slots: how to restart topic servers without anybody noticing.
    fn may_leave_well(&self) -> bool {
        let ring = self.store.snapshot().ring();
        let staying = self.nodes.iter().filter(|node| match &node.process {
            Process::Server(server) => {
                let member = ring.is_some_and(|ring| {
                    let owns = |of: &&RingNode| {
                        of.state == RingNodeState::Up && of.weight >= 0.5 && of.id == node.id
                    };
                    ring.nodes.iter().any(|of| owns(&of))
                });
                member && server.leaving == Leaving::No && self.store.snapshot().node(&node.id).is_some()
            }
            Process::Gateway(_) | Process::Down => false,
        });
        let leaving = self.nodes.iter().any(|node| match &node.process {
            Process::Server(server) => server.leaving != Leaving::No,
            Process::Down => true,
            Process::Gateway(_) => false,
        });
        !leaving && staying.count() >= 2
    }

    /// One that runs and is not frozen.
    fn some_node(&mut self, server: bool) -> Option<Peer> {
        let there: Vec<Peer> = self
            .lives(|process| match process {
                Process::Server(_) => server,
                Process::Gateway(_) => !server,
                Process::Down => false,
            })
            .into_iter()
            .map(|life| life.peer)
            .filter(|peer| self.nodes[peer.0 - 1].frozen_until.is_none())
            .collect();
        self.random.pick(&there).copied()
    }

    /// From here on nothing goes wrong any more.
    fn heal(&mut self) {
        self.env.network.heal();
        self.env.slow_slots = 0;
        self.env.late_watches = 0;
        let now = self.env.now;
        if self.store_frozen.is_some() {
            self.store_frozen = Some(now);
            self.thaw(STORE);
        }
        self.start(STORE);
        for index in 0..self.nodes.len() {
            let peer = Peer(index + 1);
            if self.nodes[index].frozen_until.is_some() {
                self.nodes[index].frozen_until = Some(now);
                self.thaw(peer);
            }
            self.start(peer);
        }
    }

    // The end.

    /// Every slot has an owner that serves, every operation an outcome, every client everything.
    fn at_rest(&mut self) {
        let now = self.env.now;
        let mut heads = BTreeMap::new();
        let mut members = BTreeMap::new();
        for number in 0..self.swarm.slots {
            let slot = Slot(number);
            let record = self.store.snapshot().slot(slot).map(|(_, record)| record.clone());
            let Some(record) = record else {
                return self
                    .env
                    .check
                    .fail(now, "I16", format!("slot {slot} has no record"));
            };
            if record.moving.is_some() {
                let what = format!("slot {slot} still moves: {record:?}");
                return self.env.check.fail(now, "I16", what);
            }
            let owner = self.env.check.ownership.peer(&record.owner);
            let server = owner.and_then(|peer| match &mut self.nodes[peer.0 - 1].process {
                Process::Server(server) => Some(server),
                _ => None,
            });
            let Some(server) = server else {
                return self
                    .env
                    .check
                    .fail(now, "I16", format!("slot {slot} has no owner: {record:?}"));
            };
            let role = server
                .slots()
                .nth(usize::from(number))
                .map(|slot| slot.role().clone());
            if role != Some(Role::Owner(record.owner_epoch)) {
                let what = format!("{} is {role:?} to slot {slot}: {record:?}", record.owner);
                return self.env.check.fail(now, "I16", what);
            }
            let list = Input::ListTopics {
                token: Token(u64::MAX),
                prefix: String::new(),
                limit: usize::MAX,
            };
            for effect in server.look(&self.env, slot, list) {
                let Effect::Listed(_, reply) = effect else {
                    continue;
                };
                for topic in reply.topics {
                    members.insert(topic.topic.clone(), topic.members);
                    heads.insert(topic.topic, (bytes::Bytes::from(topic.epoch), topic.offset));
                }
            }
        }
        if let Some(plan) = self.store.snapshot().ring().and_then(|ring| ring.plan.clone()) {
            return self
                .env
                .check
                .fail(now, "I16", format!("plan {} still runs", plan.0));
        }
        let serving_since = self.heal_at + SERVING;
        self.env.check.at_rest(now, &heads, serving_since);
        self.clients_at_rest(&heads, members);
    }

    fn clients_at_rest(
        &mut self,
        heads: &BTreeMap<String, (bytes::Bytes, u64)>,
        mut members: BTreeMap<String, u64>,
    ) {
        let (now, check) = (self.env.now, &mut self.env.check);
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(what) = client.unanswered().next() {
                return check.fail(now, "I16", format!("client {number} still waits: {what}"));
            }
            let gateway = client.gateway.map(|life| life.peer);
            for (topic, joined, last) in client.joined() {
                match members.get_mut(&topic) {
                    Some(left) if *left > 0 => *left -= 1,
                    _ => return check.fail(now, "I16", format!("client {number} is no member of {topic}")),
                }
                let head = heads
                    .get(&topic)
                    .and_then(|(epoch, offset)| check.head(&topic, epoch, *offset));
                if let Some(head) = head
                    && let Err(why) = check.complete(gateway, joined, last, head)
                {
                    return check.fail(now, "I11", format!("client {number} on {topic}: {why}"));
                }
            }
        }
        if let Some((topic, ghosts)) = members.iter().find(|(_, left)| **left > 0) {
            check.fail(
                now,
                "I15",
                format!("{ghosts} member(s) of {topic} are joined nowhere"),
            );
        }
    }
}
