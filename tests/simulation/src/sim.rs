//! One run: the cluster of a seed, its clients, what is done to it, and the end at which everything must be at rest.

mod driver;
mod rest;

use std::time::Duration;

use ringcast_gateway_core::gateway::Config as GatewayConfig;
use ringcast_gateway_core::limits::Limits as GatewayLimits;
use ringcast_gateway_core::route::{Namespace, SlowConsumer, Targets};
use ringcast_proto::{NodeId, Pattern};
use ringcast_ring::PlannerConfig;

use crate::client::{Client, EPHEMERAL};
use crate::env::Env;
use crate::gateway::Gateway;
use crate::network::{Peer, STORE};
use crate::plant::plant;
use crate::random::Random;
use crate::report::{Options, Report};
use crate::server::{Leaving, Server, ServerConfig};
use crate::store::StoreProcess;
use crate::swarm::Swarm;
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

/// The family of topics that has everything a family may have.
fn rooms(slow_consumer: SlowConsumer) -> Namespace {
    Namespace {
        slow_consumer,
        targets: Targets {
            all: true,
            others: true,
            one: true,
            members: true,
        },
        ephemeral: [EPHEMERAL.to_owned()].into(),
        ..Namespace::new(Pattern::parse("room:*").expect("a prefix and a star are a pattern"))
    }
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
            limits: swarm.limits(),
            history_memory: swarm.history_memory,
            planner: PlannerConfig {
                expect_topic_servers: Some(swarm.servers),
                slots: swarm.slots,
            },
        };
        let mut gateways = GatewayConfig {
            namespaces: vec![rooms(swarm.slow_consumer)],
            limits: GatewayLimits::BENCH,
        };
        plant(options.plant, &mut servers.limits, &mut gateways.limits);
        env.check.strict = swarm.is_calm();
        let kept = ["topics:", "room:"].map(|family| (family, swarm.kept(family)));
        env.check.expect(swarm.remembered(), kept);
        let clients = (0..swarm.clients)
            .map(|number| Client::new(seed, number, swarm.temper, swarm.habits))
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
            recovered: check.recovered,
            gaps: check.gaps_told,
            dups: check.dups,
            slow_closed: check.slow_closed,
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
            match written.bytes {
                Some(bytes) => client.receive(&mut self.env, written.session, &bytes),
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
}
