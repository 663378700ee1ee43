//! What every node does with the ring store: keeps its lease, follows the records, makes changes.
//!
//! Mirrors `ring/store/src/membership.rs` (`Keeper`), `ring/store/src/mirror.rs` (`Follower`), the deadlines of
//! `ring/store/src/coordinator/client.rs`, and `topic-server/src/changes.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::record::NodeRecord;
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};
use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};
use ringcast_ring_store::{NodeInfo, RegisterRefused, RenewError, Standing, Watched};

use crate::env::Env;
use crate::network::{Peer, STORE};
use crate::plant::Plant;
use crate::time::{Clock, Time};
use crate::wire::{Answer, CallNumber, Life, Pending, Purpose, Request, StreamNumber, Timer};

const RENEW_INTERVAL: Duration = Duration::from_millis(500);
const RENEW_DEADLINE: Duration = Duration::from_millis(400);
const MARGIN: Duration = Duration::from_millis(150);
const CALL_DEADLINE: Duration = Duration::from_millis(1000);
const RETRY_MIN: Duration = Duration::from_millis(50);
const REGISTER_RETRY_MAX: Duration = Duration::from_millis(500);
const MIRROR_RETRY_MAX: Duration = Duration::from_secs(1);
const MIRROR_LOAD: Duration = Duration::from_secs(30);
const WATCH_SILENCE: Duration = Duration::from_secs(2);
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
            | Pending::Deliver(_)
            | Pending::Publish(_)
            | Pending::Bind(_)
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

    // The keeper.

    fn register(&mut self, env: &mut Env, before: Option<NodeRef>) {
        self.keeping = Keeping::Registering {
            op: env.fresh_op(),
            sent: Millis(0),
            retry: RETRY_MIN,
            before,
        };
        self.keep(env);
    }

    fn keep(&mut self, env: &mut Env) {
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

    fn registered(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
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

    fn register_later(&mut self, env: &mut Env) {
        if let Keeping::Registering { retry, .. } = &mut self.keeping {
            let pause = *retry;
            *retry = (pause * 2).min(REGISTER_RETRY_MAX);
            self.keep_after(env, pause);
        }
    }

    fn renewed(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
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

    fn validity(&self) -> Duration {
        (self.info.ttl * 99 / 100).saturating_sub(MARGIN)
    }

    // The mirror.

    fn load(&mut self, env: &mut Env) {
        self.following = Following::Loading;
        self.call(env, STORE, Request::Load, Pending::Load, CALL_DEADLINE);
    }

    fn loaded(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
        let loaded = match answer {
            Some(Answer::Loaded(loaded)) if loaded.revision >= self.snapshot.revision => loaded,
            _ => {
                self.follow_later(env);
                return None;
            }
        };
        let news = (*loaded != *self.snapshot).then_some(News::Snapshot);
        if news.is_some() {
            self.snapshot = loaded;
        }
        match &mut self.following {
            Following::Loading => self.watch(env),
            Following::Watching { stream, loading, .. } => {
                let (stream, buffered) = (*stream, loading.take());
                let mut more = news;
                for watched in buffered.unwrap_or_default() {
                    more = self.watched(env, stream, Some(watched)).or(more);
                }
                return more;
            }
            Following::Sleeping => {}
        }
        news
    }

    fn watch(&mut self, env: &mut Env) {
        let stream = StreamNumber(env.fresh_number());
        self.following = Following::Watching {
            stream,
            began: env.now,
            heard: env.now,
            loading: None,
        };
        let request = Request::Watch(stream, self.snapshot.revision);
        self.call(env, STORE, request, Pending::Watch(stream), CALL_DEADLINE);
        env.timer(self.life, self.clock, WATCH_SILENCE, Timer::Silence(stream));
        env.timer(self.life, self.clock, MIRROR_LOAD, Timer::MirrorLoad(stream));
    }

    /// The watch was opened, or was not.
    fn watching(&mut self, env: &mut Env, of: StreamNumber, answer: Option<Answer>) -> Option<News> {
        if let Following::Watching { stream, .. } = &self.following
            && *stream == of
            && matches!(
                answer,
                Some(Answer::NotSent | Answer::Refused(_) | Answer::Unavailable)
            )
        {
            self.follow_later(env);
        }
        None
    }

    /// The watch says something; none: it has ended.
    pub(crate) fn watched(
        &mut self,
        env: &mut Env,
        of: StreamNumber,
        watched: Option<Watched>,
    ) -> Option<News> {
        let Following::Watching {
            stream,
            heard,
            loading,
            ..
        } = &mut self.following
        else {
            return None;
        };
        if *stream != of {
            return None;
        }
        *heard = env.now;
        self.heard = env.now;
        if let (Some(buffer), Some(watched)) = (loading.as_mut(), &watched) {
            buffer.push(watched.clone());
            return None;
        }
        match watched {
            Some(Watched::Changed(changed)) if changed.revision > self.snapshot.revision => {
                Arc::make_mut(&mut self.snapshot).apply(&changed);
                Some(News::Snapshot)
            }
            Some(Watched::Changed(_) | Watched::Progress(_)) => None,
            Some(Watched::Resync) | None => {
                self.follow_later(env);
                None
            }
        }
    }

    fn load_again(&mut self, env: &mut Env, of: StreamNumber) {
        if let Following::Watching { stream, loading, .. } = &mut self.following
            && *stream == of
        {
            *loading = Some(Vec::new());
            self.call(env, STORE, Request::Load, Pending::Load, CALL_DEADLINE);
            env.timer(self.life, self.clock, MIRROR_LOAD, Timer::MirrorLoad(of));
        }
    }

    fn listen(&mut self, env: &mut Env, of: StreamNumber) {
        let Following::Watching { stream, heard, .. } = &self.following else {
            return;
        };
        if *stream != of {
            return;
        }
        let quiet = env.now.since(*heard);
        let silence = self.clock.lasts(WATCH_SILENCE);
        if quiet >= silence {
            self.follow_later(env);
        } else {
            let at = *heard + silence;
            env.at(at, crate::wire::Event::Timer(self.life, Timer::Silence(of)));
        }
    }

    fn follow_later(&mut self, env: &mut Env) {
        if let Following::Watching { began, .. } = self.following
            && env.now.since(began) > MIRROR_RETRY_MAX
        {
            self.mirror_retry = RETRY_MIN;
        }
        self.following = Following::Sleeping;
        self.mirror_timer += 1;
        let timer = Timer::MirrorRetry(self.mirror_timer);
        env.timer(self.life, self.clock, self.mirror_retry, timer);
        self.mirror_retry = (self.mirror_retry * 2).min(MIRROR_RETRY_MAX);
    }

    // Changes.

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
