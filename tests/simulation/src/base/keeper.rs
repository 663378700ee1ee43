//! Keeps the node registered. Mirrors `Keeper` of `ring/store/src/membership.rs`.

use std::time::Duration;

use ringcast_proto::NodeRef;
use ringcast_ring_store::{RegisterRefused, RenewError, Standing};

use super::{Base, CALL_DEADLINE, Keeping, News, RETRY_MIN};
use crate::env::Env;
use crate::network::STORE;
use crate::plant::Plant;
use crate::wire::{Answer, Pending, Request, Timer};
use ringcast_proto::Millis;

const RENEW_INTERVAL: Duration = Duration::from_millis(500);
const RENEW_DEADLINE: Duration = Duration::from_millis(400);
const MARGIN: Duration = Duration::from_millis(150);
const REGISTER_RETRY_MAX: Duration = Duration::from_millis(500);

impl Base {
    pub(super) fn register(&mut self, env: &mut Env, before: Option<NodeRef>) {
        self.keeping = Keeping::Registering {
            op: env.fresh_op(),
            sent: Millis(0),
            retry: RETRY_MIN,
            before,
        };
        self.keep(env);
    }

    pub(super) fn keep(&mut self, env: &mut Env) {
        let now = self.now(env);
        match &mut self.keeping {
            Keeping::Registering { op, sent, .. } => {
                *sent = now;
                let request = Request::Register(self.info.clone(), op.clone());
                self.call(env, STORE, request, Pending::Register, CALL_DEADLINE);
            }
            Keeping::Held { sent } => {
                *sent = now;
                let node = self.node();
                self.call(env, STORE, Request::Renew(node), Pending::Renew, RENEW_DEADLINE);
                self.keep_after(env, RENEW_INTERVAL);
            }
            Keeping::Leaving => {}
        }
    }

    fn keep_after(&mut self, env: &mut Env, pause: Duration) {
        self.keeper_timer += 1;
        env.timer(self.life, self.clock, pause, Timer::Keeper(self.keeper_timer));
    }

    pub(super) fn registered(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
        let Keeping::Registering { sent, before, .. } = &self.keeping else {
            return None;
        };
        match answer {
            Some(Answer::Registered(Ok(lease))) => {
                let (incarnation, sent) = (lease.node.incarnation, *sent);
                if self.standing.is_none() {
                    // The mirror is started by whoever has joined.
                    self.load(env);
                }
                self.incarnation = incarnation;
                self.valid_until = sent + self.validity();
                self.standing = Some(Standing::Held(incarnation));
                self.keeping = Keeping::Held { sent };
                self.keep_after(env, RENEW_INTERVAL);
                env.check.leases.lives(self.life.peer, incarnation);
                let (now, node) = (env.now, self.node());
                env.trace.line(now, || format!("  {node} registered"));
                return Some(News::Standing);
            }
            Some(Answer::Registered(Err(RegisterRefused::Taken(holder))))
                if before
                    .as_ref()
                    .is_some_and(|before| before.incarnation == holder.incarnation) =>
            {
                let before = self.as_of(holder.incarnation);
                self.call(
                    env,
                    STORE,
                    Request::Release(before),
                    Pending::Release,
                    CALL_DEADLINE,
                );
            }
            _ => self.register_later(env),
        }
        None
    }

    pub(super) fn register_later(&mut self, env: &mut Env) {
        if let Keeping::Registering { retry, .. } = &mut self.keeping {
            let pause = *retry;
            *retry = (pause * 2).min(REGISTER_RETRY_MAX);
            self.keep_after(env, pause);
        }
    }

    pub(super) fn renewed(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
        let Keeping::Held { sent } = self.keeping else {
            return None;
        };
        match answer {
            Some(Answer::Renewed(Ok(()))) => {
                let from = if env.planted(Plant::LeaseFromResponseTime) {
                    self.now(env)
                } else {
                    sent
                };
                self.valid_until = from + self.validity();
                None
            }
            Some(Answer::Renewed(Err(RenewError::Lost))) => {
                let lost = self.node();
                env.check.leases.dies(self.life.peer);
                self.valid_until = Millis(0);
                self.keeper_timer += 1;
                self.standing = Some(Standing::Lost(lost.incarnation));
                self.register(env, Some(lost));
                Some(News::Standing)
            }
            _ => None,
        }
    }

    pub(super) fn validity(&self) -> Duration {
        (self.info.ttl * 99 / 100).saturating_sub(MARGIN)
    }
}
