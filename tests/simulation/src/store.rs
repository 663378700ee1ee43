//! The ring store as a process: the pure state machine, its disk, its watches, its restarts.
//!
//! Mirrors `ring/store/src/live.rs` (watches and the thread that ends leases) and `ring/store/src/coordinator`
//! (what is on the disk is what was answered).

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::Millis;
use ringcast_ring::{Change, Refused, Revision, Snapshot};
use ringcast_ring_store::Watched;
use ringcast_ring_store::state::{Durable, Store, WINDOW_LEN};

use crate::env::Env;
use crate::network::STORE;
use crate::time::{Clock, Time};
use crate::wire::{Answer, CallNumber, Event, Life, Request, StreamNumber};

const TICK: Duration = Duration::from_millis(250);
const STALLED: Duration = Duration::from_millis(500);
const PROGRESS: Duration = Duration::from_secs(1);
const WATCH_TAKE_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct StoreProcess {
    /// Whether it runs.
    pub(crate) up: bool,
    /// How often it was started.
    pub(crate) run: u32,
    clock: Clock,
    store: Store,
    planned: Millis,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    life: Life,
    stream: StreamNumber,
    after: Revision,
    /// When the last word arrives there: the next one is not earlier.
    due: Time,
    spoke: Time,
}

impl StoreProcess {
    /// An empty store that just started.
    pub(crate) fn start(env: &mut Env, clock: Clock, window_len: Option<usize>) -> StoreProcess {
        let now = clock.shows(env.now);
        let mut process = StoreProcess {
            up: true,
            run: 0,
            clock,
            store: Store::new(Durable::default(), window_len.unwrap_or(WINDOW_LEN), now),
            planned: now,
            watchers: Vec::new(),
        };
        process.plan(env);
        process
    }

    /// Every record, as it truly is.
    #[must_use]
    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.store.snapshot()
    }

    /// It ends here and now: what it had answered is on the disk.
    pub(crate) fn kill(&mut self, env: &mut Env) {
        self.up = false;
        for watcher in std::mem::take(&mut self.watchers) {
            // A connection that is reset is noticed; one whose machine vanished is not.
            if env.random.chance(700_000) {
                let due = watcher.due.max(env.now + Duration::from_millis(1));
                env.at(due, Event::Watched(watcher.life, watcher.stream, None));
            }
        }
    }

    /// It comes back with what is on the disk.
    pub(crate) fn restart(&mut self, env: &mut Env) {
        let now = self.clock.shows(env.now);
        self.up = true;
        self.run += 1;
        self.store = Store::new(self.store.durable().clone(), WINDOW_LEN, now);
        self.planned = now;
        self.plan(env);
    }

    /// A process ended: nobody reads its watch any more.
    pub(crate) fn forget(&mut self, life: Life) {
        self.watchers.retain(|watcher| watcher.life != life);
    }

    /// The thread that ends leases looks at them.
    pub(crate) fn tick(&mut self, env: &mut Env) {
        let now = self.clock.shows(env.now);
        let late = now.since(self.planned);
        if late > STALLED {
            self.store.resume(now);
        }
        self.store.expire(now);
        self.show(env);
        self.progress(env);
        self.plan(env);
    }

    fn plan(&mut self, env: &mut Env) {
        let now = self.clock.shows(env.now);
        let at = self
            .store
            .next_expiry()
            .map_or(now + TICK, |at| at.clamp(now, now + TICK));
        self.planned = at;
        let due = self
            .clock
            .when(at, env.now)
            .max(env.now + Duration::from_micros(50));
        env.at(due, Event::StoreTick(self.run));
    }

    /// Somebody next to it makes a change.
    pub(crate) fn change(&mut self, env: &mut Env, change: &Change) -> Result<Revision, Refused> {
        let outcome = self.store.compare_and_swap(change, self.clock.shows(env.now));
        self.show(env);
        outcome
    }

    /// A call arrives.
    pub(crate) fn request(&mut self, env: &mut Env, from: Life, call: CallNumber, request: Request) {
        let now = self.clock.shows(env.now);
        let before = self.store.revision();
        let mut delay = Duration::from_micros(100);
        let answer = match request {
            Request::Load => Answer::Loaded(Arc::new(self.store.snapshot().clone())),
            Request::Change(change) => Answer::Changed(self.store.compare_and_swap(&change, now)),
            Request::Register(info, op) => Answer::Registered(self.store.register(&info, &op, now)),
            Request::Renew(node) => Answer::Renewed(self.store.renew(&node, now)),
            Request::Release(node) => {
                self.store.release(&node, now);
                Answer::Released
            }
            Request::Watch(stream, after) => {
                self.watch(env, from, stream, after);
                return;
            }
            Request::Publish(_)
            | Request::Bind(_)
            | Request::Fetch(_)
            | Request::Pull(_)
            | Request::Deliver(..) => Answer::Refused("not a store's"),
        };
        if self.store.revision() != before {
            delay = env.disk();
        }
        self.show(env);
        env.answer(STORE, from, call, answer, delay);
    }

    fn watch(&mut self, env: &mut Env, life: Life, stream: StreamNumber, after: Revision) {
        self.watchers.retain(|watcher| watcher.life.peer != life.peer);
        self.watchers.push(Watcher {
            life,
            stream,
            after,
            due: env.now,
            spoke: Time(0),
        });
        self.show(env);
        self.progress(env);
    }

    /// Tells the invariants and the watches what has changed.
    fn show(&mut self, env: &mut Env) {
        env.check.store(env.now, &self.store);
        let revision = self.store.revision();
        let mut watchers = std::mem::take(&mut self.watchers);
        watchers.retain_mut(|watcher| {
            while watcher.after < revision {
                let Some(changes) = self.store.changes_after(watcher.after, WATCH_TAKE_MAX) else {
                    watcher.say(env, Some(Watched::Resync));
                    return false;
                };
                for changed in changes {
                    watcher.after = changed.revision;
                    if !watcher.say(env, Some(Watched::Changed(changed))) {
                        return false;
                    }
                }
            }
            true
        });
        self.watchers = watchers;
    }

    fn progress(&mut self, env: &mut Env) {
        let now = env.now;
        self.watchers.retain_mut(|watcher| {
            let quiet = watcher.spoke == Time(0) || now.since(watcher.spoke) >= PROGRESS;
            !quiet || watcher.say(env, Some(Watched::Progress(watcher.after)))
        });
    }
}

impl Watcher {
    /// `false`: the watch broke.
    fn say(&mut self, env: &mut Env, watched: Option<Watched>) -> bool {
        let fate = env.network.carry(STORE, self.life.peer, env.now);
        self.spoke = env.now;
        match fate.due {
            Some(due) => {
                let late = env.random.chance(env.late_watches).then(|| env.random.below(800));
                self.due = self.due.max(due + Duration::from_millis(late.unwrap_or(0)));
                env.at(
                    self.due,
                    Event::Watched(self.life, self.stream, watched.map(Box::new)),
                );
                true
            }
            None => {
                if env.random.chance(300_000) {
                    env.at(self.due, Event::Watched(self.life, self.stream, None));
                }
                false
            }
        }
    }
}
