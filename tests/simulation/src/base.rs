//! What every node does with the ring store: keeps its lease, follows the records, makes changes.
//!
//! Mirrors `ring/store/src/membership.rs` (`Keeper`), `ring/store/src/mirror.rs` (`Follower`), the deadlines of
//! `ring/store/src/coordinator/client.rs`, and `topic-server/src/changes.rs`.

mod keeper;
mod mirror;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::record::NodeRecord;
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};
use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};
use ringcast_ring_store::{NodeInfo, Standing, Watched};

use crate::env::Env;
use crate::network::{Peer, STORE};
use crate::time::{Clock, Time};
use crate::wire::{Answer, CallNumber, Life, Pending, Purpose, Request, StreamNumber, Timer};

const CALL_DEADLINE: Duration = Duration::from_millis(1000);
const RETRY_MIN: Duration = Duration::from_millis(50);
const REMAKE: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 5;

/// What became of something the node waited for.
#[derive(Debug)]
pub(crate) enum News {
    /// The node stands otherwise with the store.
    Standing,
    /// There are other records.
    Snapshot,
    /// A change has an outcome.
    Made(Purpose, Result<Revision, Refused>),
    /// An answer for the process itself; none: not in time.
    Answer(Pending, Option<Answer>),
    /// The lease is given back, as far as it will be.
    Left,
}

/// A node's side of the store.
#[derive(Debug)]
pub(crate) struct Base {
    /// This run of the process.
    pub(crate) life: Life,
    /// Its id.
    pub(crate) id: NodeId,
    /// Its clock.
    pub(crate) clock: Clock,
    /// How it stands; none before it is first registered.
    pub(crate) standing: Option<Standing>,
    /// The records as last seen.
    pub(crate) snapshot: Arc<Snapshot>,
    incarnation: Incarnation,
    valid_until: Millis,
    info: NodeInfo,
    keeping: Keeping,
    keeper_timer: u64,
    following: Following,
    /// When the watch was last alive.
    heard: Time,
    mirror_retry: Duration,
    mirror_timer: u64,
    making: BTreeMap<Op, Making>,
    pending: BTreeMap<CallNumber, Pending>,
}

#[derive(Debug)]
enum Keeping {
    Registering {
        op: Op,
        sent: Millis,
        retry: Duration,
        before: Option<NodeRef>,
    },
    Held {
        sent: Millis,
    },
    Leaving,
}

#[derive(Debug)]
enum Following {
    Loading,
    Watching {
        stream: StreamNumber,
        began: Time,
        heard: Time,
        /// What the watch says while the half-minutely load is under way.
        loading: Option<Vec<Watched>>,
    },
    Sleeping,
}

#[derive(Debug)]
struct Making {
    change: Change,
    purpose: Purpose,
    tries: u32,
}

impl Base {
    /// A process that just started: it asks for its registration, and then for the records.
    pub(crate) fn start(
        env: &mut Env,
        life: Life,
        clock: Clock,
        id: NodeId,
        record: NodeRecord,
        ttl: Duration,
    ) -> Base {
        let info = NodeInfo {
            id: id.clone(),
            record,
            ttl,
        };
        let mut base = Base {
            life,
            id,
            clock,
            standing: None,
            snapshot: Arc::new(Snapshot::default()),
            incarnation: Incarnation(0),
            valid_until: Millis(0),
            info,
            keeping: Keeping::Leaving,
            keeper_timer: 0,
            following: Following::Sleeping,
            heard: env.now,
            mirror_retry: RETRY_MIN,
            mirror_timer: 0,
            making: BTreeMap::new(),
            pending: BTreeMap::new(),
        };
        base.register(env, None);
        base
    }

    /// What its clock shows.
    #[must_use]
    pub(crate) fn now(&self, env: &Env) -> Millis {
        self.clock.shows(env.now)
    }

    /// The node in its present life, which may be over.
    #[must_use]
    pub(crate) fn node(&self) -> NodeRef {
        self.as_of(self.incarnation)
    }

    /// The node in some life.
    #[must_use]
    pub(crate) fn as_of(&self, incarnation: Incarnation) -> NodeRef {
        NodeRef {
            node: self.id.clone(),
            incarnation,
        }
    }

    /// Whether it may act as registered in that life.
    #[must_use]
    pub(crate) fn valid_for(&self, life: Incarnation, now: Millis) -> bool {
        now < self.valid_until && self.incarnation == life
    }

    /// For how long the watch has not been heard, or not been there.
    pub(crate) fn unheard(&self, env: &Env) -> Duration {
        match self.following {
            Following::Watching { .. } => Duration::ZERO,
            Following::Loading | Following::Sleeping => env.now.since(self.heard),
        }
    }

    /// Makes a call, answered or given up within its deadline.
    pub(crate) fn call(
        &mut self,
        env: &mut Env,
        to: Peer,
        request: Request,
        pending: Pending,
        deadline: Duration,
    ) {
        let call = env.call(self.life, to, request);
        env.timer(self.life, self.clock, deadline, Timer::Deadline(call));
        self.pending.insert(call, pending);
    }

    /// Makes a change, to the point where its outcome is known.
    pub(crate) fn make(&mut self, env: &mut Env, change: Change, purpose: Purpose) {
        let op = change.op.clone();
        let making = Making {
            change,
            purpose,
            tries: 0,
        };
        self.making.insert(op.clone(), making);
        self.remake(env, &op);
    }

    /// Gives the lease back; [`News::Left`] follows.
    pub(crate) fn leave(&mut self, env: &mut Env) {
        self.valid_until = Millis(0);
        self.keeper_timer += 1;
        self.keeping = Keeping::Leaving;
        env.check.leases.dies(self.life.peer);
        let node = self.node();
        self.call(
            env,
            STORE,
            Request::Release(node),
            Pending::Release,
            CALL_DEADLINE,
        );
    }

    /// An answer, or none in time.
    pub(crate) fn answered(
        &mut self,
        env: &mut Env,
        call: CallNumber,
        answer: Option<Answer>,
    ) -> Option<News> {
        let pending = self.pending.remove(&call)?;
        match pending {
            Pending::Register => self.registered(env, answer),
            Pending::Renew => self.renewed(env, answer),
            Pending::Release if matches!(self.keeping, Keeping::Leaving) => Some(News::Left),
            Pending::Release => {
                self.register_later(env);
                None
            }
            Pending::Load => self.loaded(env, answer),
            Pending::Watch(stream) => self.watching(env, stream, answer),
            Pending::Change(op) => self.changed(env, &op, answer),
            Pending::ClaimLoad(_)
            | Pending::Deliver(..)
            | Pending::Publish(_)
            | Pending::Bind(_)
            | Pending::Fetch(_)
            | Pending::Pull(..) => Some(News::Answer(pending, answer)),
        }
    }

    /// A timer of this part rang.
    pub(crate) fn woken(&mut self, env: &mut Env, timer: &Timer) -> Option<News> {
        match timer {
            Timer::Deadline(call) => return self.answered(env, *call, None),
            Timer::Keeper(number) if *number == self.keeper_timer => self.keep(env),
            Timer::MirrorRetry(number) if *number == self.mirror_timer => self.load(env),
            Timer::MirrorLoad(stream) => self.load_again(env, *stream),
            Timer::Silence(stream) => self.listen(env, *stream),
            Timer::Remake(op) => self.remake(env, op),
            _ => {}
        }
        None
    }

    fn remake(&mut self, env: &mut Env, op: &Op) {
        if let Some(making) = self.making.get_mut(op) {
            making.tries += 1;
            let request = Request::Change(making.change.clone());
            self.call(env, STORE, request, Pending::Change(op.clone()), CALL_DEADLINE);
        }
    }

    fn changed(&mut self, env: &mut Env, op: &Op, answer: Option<Answer>) -> Option<News> {
        let making = self.making.get(op)?;
        let outcome = match answer {
            Some(Answer::Changed(outcome)) => outcome,
            Some(Answer::NotSent) => Err(Refused::Unavailable("nobody listens".to_owned())),
            _ => Err(Refused::Unknown("no answer".to_owned())),
        };
        let until_known = matches!(making.purpose, Purpose::Swap(..));
        let again = match &outcome {
            Err(Refused::Unknown(_)) => until_known || making.tries < TRIES_MAX,
            // Once perhaps done, being out of reach says nothing.
            Err(Refused::Unavailable(_) | Refused::Full) => until_known && making.tries > 1,
            Ok(_) | Err(Refused::Conflict(_) | Refused::Guard(_)) => false,
        };
        if again {
            env.timer(self.life, self.clock, REMAKE, Timer::Remake(op.clone()));
            return None;
        }
        let making = self.making.remove(op)?;
        Some(News::Made(making.purpose, outcome))
    }
}
