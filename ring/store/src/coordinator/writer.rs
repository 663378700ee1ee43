//! The coordinator's store: the state machine, each change on the disk before anyone hears of it.
//!
//! One thread takes all changes that wait, decides them on a copy that is ahead of what is shown, writes one file for all
//! of them, shows them, and answers. *Invariant:* nobody sees, and nobody is answered by, what is not stored.
//! Leases are renewed beside it, so that a slow disk costs no lease.

use std::path::Path;
use std::sync::Arc;

use ringcast_proto::{Incarnation, Millis, NodeRef};
use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};
use tokio::sync::{mpsc, oneshot};

use super::data_dir::{DataDir, Disk, Error, WriteError};
use super::image::{Contents, Image};
use crate::clock;
use crate::live::Live;
use crate::state::{Decided, Durable, Step, Store, WINDOW_LEN};
use crate::store::{Lease, NodeInfo, RegisterRefused, RenewError, RingStore, Unavailable, Watch};

/// Changes that may wait for the disk; the next one is refused at once.
const QUEUE_LEN: usize = 1024;
/// Changes that share one write.
const BATCH_LEN: usize = 256;

/// Where the writer's end is heard: `Ok` once all handles are gone, an error if the disk failed.
pub(super) type Ended = oneshot::Receiver<Result<(), Error>>;

/// A handle; all clones are one store.
#[derive(Clone)]
pub(super) struct FileStore {
    live: Arc<Live>,
    requests: mpsc::Sender<Request>,
}

enum Request {
    Change(Change, oneshot::Sender<Result<Revision, Refused>>),
    Register(NodeInfo, Op, oneshot::Sender<Result<Lease, RegisterRefused>>),
    Release(NodeRef, oneshot::Sender<Result<(), Unavailable>>),
    /// Their leases ran out.
    Expire(Vec<NodeRef>),
}

/// What to say once the disk has been written.
enum Answer {
    Change(
        oneshot::Sender<Result<Revision, Refused>>,
        Result<Revision, Refused>,
    ),
    Register(
        oneshot::Sender<Result<Lease, RegisterRefused>>,
        Result<Lease, RegisterRefused>,
    ),
    Release(oneshot::Sender<Result<(), Unavailable>>),
}

impl FileStore {
    /// Opens the folder and goes on from what it holds.
    pub(super) fn open(folder: &Path) -> Result<(FileStore, Ended), Error> {
        let (disk, contents) = DataDir::open(folder)?;
        FileStore::start(disk, contents, WINDOW_LEN).map_err(|source| Error::Io {
            path: folder.to_owned(),
            action: "start its threads",
            source,
        })
    }

    pub(super) fn start(
        disk: impl Disk,
        contents: Contents,
        window_len: usize,
    ) -> std::io::Result<(FileStore, Ended)> {
        let Contents { store_id, durable } = contents;
        let live = Live::new(Store::new(durable.clone(), window_len, clock::now()));
        let (requests, waiting) = mpsc::channel(QUEUE_LEN);
        let expire = requests.downgrade();
        live.keep_time(move |_, overdue| {
            // Without room they are named again at the next tick; without handles nobody is served any more.
            if let Some(requests) = expire.upgrade() {
                drop(requests.try_send(Request::Expire(overdue)));
            }
        })?;
        let image = Image::new(store_id.clone(), &durable);
        let mut writer = Writer {
            store_id,
            disk,
            ahead: durable,
            image,
            live: live.clone(),
        };
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let outcome = writer.run(waiting);
                // The folder is free for the next coordinator before anyone hears that this one has ended.
                drop(writer);
                drop(end.send(outcome));
            })?;
        Ok((FileStore { live, requests }, ended))
    }
}

struct Writer<D> {
    store_id: String,
    disk: D,
    /// What will be shown once the batch at hand is stored.
    ahead: Durable,
    image: Image,
    live: Arc<Live>,
}

impl<D: Disk> Writer<D> {
    fn run(&mut self, mut waiting: mpsc::Receiver<Request>) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH_LEN);
        while waiting.blocking_recv_many(&mut batch, BATCH_LEN) > 0 {
            let (mut steps, mut answers) = (Vec::new(), Vec::new());
            for request in batch.drain(..) {
                answers.extend(self.decide(request, &mut steps));
            }
            match self.store(&steps) {
                Ok(()) => {
                    self.live.update(|store, now| {
                        for step in steps {
                            store.commit(step, now);
                        }
                        for answer in &mut answers {
                            answer.go_on(store, now);
                        }
                    });
                    answers.into_iter().for_each(Answer::give);
                }
                Err(WriteError::Full) => {
                    tracing::warn!("no room on the disk: changes are refused until there is");
                    self.ahead = self.live.read(|store| store.durable().clone());
                    self.image = Image::new(self.store_id.clone(), &self.ahead);
                    answers.into_iter().for_each(Answer::give_full);
                }
                // Whoever waits for an answer gets none: only the next start will know.
                Err(WriteError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn decide(&mut self, request: Request, steps: &mut Vec<Step>) -> Option<Answer> {
        match request {
            Request::Change(change, answer) => {
                let outcome = self
                    .ahead
                    .change(&change)
                    .map(|decided| self.go_on(decided, steps));
                Some(Answer::Change(answer, outcome))
            }
            Request::Register(node, op, answer) => {
                let outcome = self.ahead.register(&node, &op).map(|decided| {
                    let incarnation = Incarnation(self.go_on(decided, steps).0);
                    Lease {
                        node: NodeRef {
                            node: node.id,
                            incarnation,
                        },
                        ttl: node.ttl,
                    }
                });
                Some(Answer::Register(answer, outcome))
            }
            Request::Release(node, answer) => {
                self.end(&node, steps);
                Some(Answer::Release(answer))
            }
            Request::Expire(nodes) => {
                for node in nodes {
                    self.end(&node, steps);
                }
                None
            }
        }
    }

    fn go_on(&mut self, decided: Decided, steps: &mut Vec<Step>) -> Revision {
        match decided {
            Decided::Already(revision) => revision,
            Decided::Step(step) => {
                let revision = step.changed.revision;
                self.ahead.apply(&step);
                self.image.apply(&step, &self.ahead);
                steps.push(step);
                revision
            }
        }
    }

    fn end(&mut self, node: &NodeRef, steps: &mut Vec<Step>) {
        if let Some(step) = self.ahead.end(node) {
            self.go_on(Decided::Step(step), steps);
        }
    }

    fn store(&mut self, steps: &[Step]) -> Result<(), WriteError> {
        match steps.last() {
            None => Ok(()),
            Some(last) => self.disk.replace(&self.image.bytes(), last.changed.revision),
        }
    }
}

impl Answer {
    /// A registration may have been stored long before it was asked for again.
    fn go_on(&mut self, store: &mut Store, now: Millis) {
        if let Answer::Register(_, outcome) = self
            && let Ok(lease) = outcome
            && let Err(refused) = store.go_on_registered(&lease.node, now)
        {
            *outcome = Err(refused);
        }
    }

    // Whoever no longer waits for an answer learns it by asking again; so a failed send is nothing to handle.
    fn give(self) {
        match self {
            Answer::Change(answer, outcome) => drop(answer.send(outcome)),
            Answer::Register(answer, outcome) => drop(answer.send(outcome)),
            Answer::Release(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn give_full(self) {
        match self {
            Answer::Change(answer, _) => drop(answer.send(Err(Refused::Full))),
            Answer::Register(answer, _) => drop(answer.send(Err(RegisterRefused::Full))),
            Answer::Release(answer) => {
                drop(answer.send(Err(Unavailable("no room for changes".to_owned()))));
            }
        }
    }
}

/// Why a request was not even queued, or never answered.
enum Lost {
    NotDone(&'static str),
    Unknown,
}

impl FileStore {
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(request(answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Lost::NotDone("1024 changes wait for the disk"),
                mpsc::error::TrySendError::Closed(_) => Lost::NotDone("the coordinator is ending"),
            })?;
        answered.await.map_err(|_| Lost::Unknown)
    }
}

const ENDED: &str = "the coordinator ended before it was stored";

impl RingStore for FileStore {
    async fn load(&self) -> Result<Snapshot, Unavailable> {
        Ok(self.live.read(|store| store.snapshot().clone()))
    }

    async fn compare_and_swap(&self, change: Change) -> Result<Revision, Refused> {
        match self.ask(|answer| Request::Change(change, answer)).await {
            Ok(outcome) => outcome,
            Err(Lost::NotDone(reason)) => Err(Refused::Unavailable(reason.to_owned())),
            Err(Lost::Unknown) => Err(Refused::Unknown(ENDED.to_owned())),
        }
    }

    fn watch(&self, after: Revision) -> Watch {
        self.live.watch(after)
    }

    async fn register(&self, node: &NodeInfo, op: &Op) -> Result<Lease, RegisterRefused> {
        match self
            .ask(|answer| Request::Register(node.clone(), op.clone(), answer))
            .await
        {
            Ok(outcome) => outcome,
            Err(Lost::NotDone(reason)) => Err(RegisterRefused::Unavailable(reason.to_owned())),
            Err(Lost::Unknown) => Err(RegisterRefused::Unknown(ENDED.to_owned())),
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), RenewError> {
        self.live.renew(&lease.node)
    }

    async fn release(&self, lease: &Lease) -> Result<(), Unavailable> {
        match self
            .ask(|answer| Request::Release(lease.node.clone(), answer))
            .await
        {
            Ok(outcome) => outcome,
            Err(Lost::NotDone(reason)) => Err(Unavailable(reason.to_owned())),
            Err(Lost::Unknown) => Err(Unavailable(ENDED.to_owned())),
        }
    }
}
