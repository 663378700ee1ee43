//! The lanes to gateways: one Deliver call in flight each. Mirrors `topic-server/src/lane.rs` and `lanes.rs`.

use std::time::Duration;

use ringcast_proto::{NodeRef, v1};
use ringcast_ring::SlotTable;
use ringcast_topic_server_core::Input;
use ringcast_topic_server_core::lane::{Exception, Lane, Says};

use super::{Server, peer_at};
use crate::env::Env;
use crate::network::Peer;
use crate::wire::{Answer, Pending, Request, Timer};

const CALL_DEADLINE: Duration = Duration::from_millis(1000);
const RETRY_MIN: Duration = Duration::from_millis(25);
const RETRY_MAX: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct LaneTask {
    lane: Lane,
    peer: Peer,
    state: State,
    retry: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Idle,
    Calling,
    Sleeping,
}

impl Server {
    /// Starts lanes to gateways that are new in `table` and ends those to gateways that are not in it. These are told.
    pub(super) fn update_lanes(&mut self, table: &SlotTable) -> Vec<NodeRef> {
        let there: Vec<(NodeRef, &str)> = table.gateways().collect();
        for (gateway, address) in &there {
            let Some(peer) = peer_at(address) else { continue };
            self.lanes.entry(gateway.clone()).or_insert_with(|| LaneTask {
                lane: Lane::new(self.limits.clone()),
                peer,
                state: State::Idle,
                retry: RETRY_MIN,
            });
        }
        let gone: Vec<NodeRef> = self
            .lanes
            .keys()
            .filter(|gateway| !there.iter().any(|(known, _)| known == *gateway))
            .cloned()
            .collect();
        for gateway in &gone {
            self.lanes.remove(gateway);
        }
        gone
    }

    /// Puts an entry on the gateway's lane; `false` if it is full, or not there.
    pub(super) fn push(&mut self, env: &mut Env, gateway: &NodeRef, entry: v1::DeliverEntry) -> bool {
        let Some(task) = self.lanes.get_mut(gateway) else {
            return false;
        };
        let alone = task.lane.waiting_bytes() == 0;
        let pushed = task.lane.push(entry).is_ok();
        let bytes = task.lane.waiting_bytes();
        if bytes > self.limits.lane_bytes_max && !alone {
            env.check
                .fail(env.now, "I12", format!("{bytes} bytes wait for {gateway}"));
        }
        if pushed {
            self.pump(env, gateway);
        }
        pushed
    }

    pub(super) fn lane_awake(&mut self, env: &mut Env, gateway: &NodeRef) {
        if let Some(task) = self.lanes.get_mut(gateway) {
            task.state = State::Idle;
            self.pump(env, gateway);
        }
    }

    fn pump(&mut self, env: &mut Env, gateway: &NodeRef) {
        let header = self.header(gateway.incarnation);
        let Some(task) = self
            .lanes
            .get_mut(gateway)
            .filter(|task| task.state == State::Idle)
        else {
            return;
        };
        let Some(entries) = task.lane.next_call() else {
            return;
        };
        task.state = State::Calling;
        let request = Request::Deliver(v1::DeliverCall {
            header: Some(header),
            entries: entries.to_vec(),
        });
        let (peer, pending) = (task.peer, Pending::Deliver(gateway.clone()));
        self.base.call(env, peer, request, pending, CALL_DEADLINE);
    }

    pub(super) fn delivered(&mut self, env: &mut Env, gateway: &NodeRef, answer: Option<Answer>) {
        let Some(task) = self.lanes.get_mut(gateway) else {
            return;
        };
        match answer {
            Some(Answer::Delivered(answer)) if answer.incarnation == gateway.incarnation.0 => {
                task.retry = RETRY_MIN;
                task.state = State::Idle;
                let answered = task.lane.answered(&answer);
                for exception in answered.exceptions {
                    self.except(env, gateway, exception);
                }
                for slot in answered.room {
                    self.tell(env, slot, Input::LaneRoom(gateway.clone()));
                }
                self.pump(env, gateway);
            }
            _ => {
                let room = task.lane.unanswered();
                task.state = State::Sleeping;
                let retry_us = u64::try_from(task.retry.as_micros()).unwrap_or(u64::MAX);
                let pause = Duration::from_micros(env.random.below(retry_us + 1));
                task.retry = (task.retry * 2).min(RETRY_MAX);
                let timer = Timer::Lane(gateway.clone());
                env.timer(self.base.life, self.base.clock, pause, timer);
                for slot in room {
                    self.tell(env, slot, Input::LaneRoom(gateway.clone()));
                }
            }
        }
    }

    fn except(&mut self, env: &mut Env, gateway: &NodeRef, exception: Exception) {
        let (gateway, topic) = (gateway.clone(), exception.topic);
        let input = match exception.says {
            Says::NeedFrom(cursor) => Input::NeedFrom {
                gateway,
                topic,
                cursor,
            },
            Says::NoInterest { bind_seq, from } => Input::NoInterest {
                gateway,
                topic,
                bind_seq,
                from,
            },
            Says::Stale { owner_epoch, from } => Input::Stale {
                gateway,
                topic,
                from,
                owner_epoch,
            },
        };
        self.tell(env, exception.slot, input);
    }
}
