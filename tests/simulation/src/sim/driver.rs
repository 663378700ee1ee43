//! What is done to the cluster: faults, operators' deeds, and the healing.

use std::time::Duration;

use ringcast_proto::record::{PlanId, RingNode, RingNodeState};
use ringcast_ring::Change;

use super::{LIVELY, Process, Sim};
use crate::gateway::Gateway;
use crate::network::{Peer, STORE};
use crate::operator;
use crate::random::Random;
use crate::server::{Leaving, Server};
use crate::swarm::{Deed, Fault};
use crate::time::Time;
use crate::wire::{Event, Life, Turn, Urge};

impl Sim {
    pub(super) fn drive(&mut self, turn: Turn) {
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
            Turn::Calm => {
                for client in &mut self.clients {
                    client.calm_down(&mut self.env);
                }
            }
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

    pub(super) fn kill(&mut self, peer: Peer) {
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
}
