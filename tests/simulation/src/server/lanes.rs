//! The lanes to gateways: a stream of Deliver calls each. Mirrors `topic-server/src/lane.rs` and `lanes.rs`, and the calling end
//! of `proto/src/deliveries.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::{NodeRef, v1};
use ringcast_ring::SlotTable;
use ringcast_topic_server_core::Input;
use ringcast_topic_server_core::lane::{Answered, Exception, Lane, Says};

use super::{Server, peer_at};
use crate::env::Env;
use crate::network::Peer;
use crate::wire::{Answer, Pending, Place, Request, StreamNumber, Timer};

const CALL_DEADLINE: Duration = Duration::from_millis(1000);
const RETRY_MIN: Duration = Duration::from_millis(25);
const RETRY_MAX: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct LaneTask {
    lane: Lane,
    peer: Peer,
    stream: Outgoing,
    /// Until it tries again.
    sleeps: bool,
    retry: Duration,
}

/// A stream of calls.
#[derive(Debug)]
struct Outgoing {
    number: StreamNumber,
    sent: u64,
    answered: u64,
    /// Answers that came before those they follow, by the place of the last call they are for.
    early: BTreeMap<u64, v1::DeliverAnswer>,
}

impl Outgoing {
    fn new(env: &mut Env) -> Outgoing {
        Outgoing {
            number: StreamNumber(env.fresh_number()),
            sent: 0,
            answered: 0,
            early: BTreeMap::new(),
        }
    }

    /// The next answer in their order, if it has come.
    fn next_answer(&mut self) -> Option<v1::DeliverAnswer> {
        let first = self.early.first_entry()?;
        if *first.key() + 1 - u64::from(first.get().calls) != self.answered {
            return None;
        }
        self.answered = *first.key() + 1;
        Some(first.remove())
    }
}

impl Server {
    /// Starts lanes to gateways that are new in `table` and ends those to gateways that are not in it. These are told.
    pub(super) fn update_lanes(&mut self, env: &mut Env, table: &SlotTable) -> Vec<NodeRef> {
        let there: Vec<(NodeRef, &str)> = table.gateways().collect();
        for (gateway, address) in &there {
            let Some(peer) = peer_at(address) else { continue };
            self.lanes.entry(gateway.clone()).or_insert_with(|| LaneTask {
                lane: Lane::new(self.limits.clone()),
                peer,
                stream: Outgoing::new(env),
                sleeps: false,
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
            task.sleeps = false;
            self.pump(env, gateway);
        }
    }

    fn pump(&mut self, env: &mut Env, gateway: &NodeRef) {
        let header = self.header(gateway.incarnation);
        let Some(task) = self.lanes.get_mut(gateway).filter(|task| !task.sleeps) else {
            return;
        };
        while let Some(call) = task.lane.next_call() {
            let place = Place {
                stream: task.stream.number,
                index: task.stream.sent,
            };
            task.stream.sent += 1;
            let call = v1::DeliverCall {
                header: Some(header.clone()),
                entries: call.entries.to_vec(),
                may_wait: call.may_wait,
            };
            let pending = Pending::Deliver(gateway.clone(), place);
            self.base.call(
                env,
                task.peer,
                Request::Deliver(place, call),
                pending,
                CALL_DEADLINE,
            );
        }
    }

    pub(super) fn delivered(
        &mut self,
        env: &mut Env,
        gateway: &NodeRef,
        place: Place,
        answer: Option<Answer>,
    ) {
        let Some(task) = self.lanes.get_mut(gateway) else {
            return;
        };
        let stream = &mut task.stream;
        if stream.number != place.stream || place.index < stream.answered {
            return;
        }
        match answer {
            Some(Answer::Delivered(answer)) if answer.incarnation == gateway.incarnation.0 => {
                task.retry = RETRY_MIN;
                stream.early.insert(place.index, answer);
                while let Some(answer) = self.next_answer(gateway) {
                    for exception in answer.exceptions {
                        self.except(env, gateway, exception);
                    }
                    for slot in answer.room {
                        self.tell(env, slot, Input::LaneRoom(gateway.clone()));
                    }
                }
                self.pump(env, gateway);
            }
            _ => {
                let room = task.lane.unanswered();
                task.stream = Outgoing::new(env);
                task.sleeps = true;
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

    fn next_answer(&mut self, gateway: &NodeRef) -> Option<Answered> {
        let task = self.lanes.get_mut(gateway)?;
        let answer = task.stream.next_answer()?;
        Some(task.lane.answered(&answer))
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
