//! What travels, and what happens: the messages between processes and the events of the simulation.

use std::sync::Arc;

use ringcast_gateway_core::gateway::CallId;
use ringcast_proto::record::PlanId;
use ringcast_proto::{NodeRef, OwnerEpoch, SessionId, Slot, v1};
use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};
use ringcast_ring_store::{Lease, NodeInfo, RegisterRefused, RenewError, Watched};
use ringcast_topic_server_core::PullPage;

use crate::network::Peer;

/// One run of a process: what was meant for an earlier one is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    /// Which process.
    pub(crate) peer: Peer,
    /// How often it was started.
    pub(crate) run: u32,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.peer.0, self.run)
    }
}

/// Names a call until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallNumber(pub(crate) u64);

/// Names a watch, or a stream of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamNumber(pub(crate) u64);

/// Where a call stands that goes over a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// A later one of the same caller has a higher number.
    pub(crate) stream: StreamNumber,
    /// From 0 on.
    pub(crate) index: u64,
}

/// A unary call, or one of a stream.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// To the store: every record.
    Load,
    /// To the store.
    Change(Change),
    /// To the store.
    Register(NodeInfo, Op),
    /// To the store.
    Renew(NodeRef),
    /// To the store.
    Release(NodeRef),
    /// To the store: what changes from there on, as [`Event::Watched`].
    Watch(StreamNumber, Revision),
    /// Gateway to topic server.
    Publish(v1::PublishCall),
    /// Gateway to topic server.
    Bind(v1::BindCall),
    /// Gateway to topic server.
    Fetch(v1::FetchCall),
    /// Topic server to topic server.
    Pull(v1::PullCall),
    /// Topic server to gateway.
    Deliver(Place, v1::DeliverCall),
}

/// The answer to one.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// To [`Request::Load`].
    Loaded(Arc<Snapshot>),
    /// To [`Request::Change`].
    Changed(Result<Revision, Refused>),
    /// To [`Request::Register`].
    Registered(Result<Lease, RegisterRefused>),
    /// To [`Request::Renew`].
    Renewed(Result<(), RenewError>),
    /// To [`Request::Release`].
    Released,
    /// To [`Request::Publish`].
    Published(v1::PublishAnswer),
    /// To [`Request::Bind`].
    Bound(v1::BindAnswer),
    /// To [`Request::Fetch`].
    Fetched(v1::FetchAnswer),
    /// To [`Request::Pull`].
    Pulled(v1::PullAnswer),
    /// To [`Request::Deliver`], and perhaps to some before it.
    Delivered(v1::DeliverAnswer),
    /// The header is of another life or cluster: `FailedPrecondition`.
    Refused(&'static str),
    /// Not now: `Unavailable`. Nothing was done, but a caller cannot tell.
    Unavailable,
    /// Nobody listens there: certainly nothing was done.
    NotSent,
}

/// What a process asked to be woken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A call for which there is no lane comes back.
    Refused(Pending),
    /// A call has had its time.
    Deadline(CallNumber),
    /// The lease is to be renewed, or registering tried again; void but for the newest.
    Keeper(u64),
    /// The mirror tries again.
    MirrorRetry(u64),
    /// The mirror's half minute.
    MirrorLoad(StreamNumber),
    /// A watch may have fallen silent.
    Silence(StreamNumber),
    /// A change of unknown outcome is to be made again.
    Remake(Op),
    /// The roles have something to look at.
    Roles,
    /// A claim has had its time.
    ClaimOver(u64),
    /// A slot has something to do; void but for the newest of its timers.
    Slot(Slot, u64),
    /// A slot's task gets to run.
    RunSlot(Slot),
    /// A lane tries again.
    Lane(NodeRef),
    /// A gateway has kept answers to this caller back for long enough.
    Owed(Life, StreamNumber),
    /// A call of a gateway is to be answered.
    AnswerCall(u64),
    /// The planner looks again; void but for the newest.
    Planner(u64),
    /// Touches go on.
    Touches,
    /// A gateway's core; void but for the newest.
    Tick(u64),
    /// A gateway's hub learns of its node's new life.
    Stand,
    /// A gateway looks for connections that are too slow.
    Sweep,
    /// A socket takes a little more.
    Drain(SessionId),
    /// A client is read again.
    ReadOn(SessionId),
    /// A connection that was closed is no more.
    Gone(SessionId),
    /// A topic server looks at what its histories take.
    Memory,
    /// A leaving server looks whether it may go.
    Leaving,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urge {
    /// Connects.
    Connect,
    /// Joins, leaves, publishes or goes.
    Act,
    /// Notices that its gateway is gone.
    Lost,
}

/// What the driver of faults and operations does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A fault, or several.
    Fault,
    /// Something an operator does.
    Operate,
    /// A topic server and the store are cut off from each other, in these ways.
    CutStore(Peer, u64),
    /// The operator commits the plan of this number.
    Commit(PlanId),
    /// A process starts.
    Start(Peer),
    /// A process goes on.
    Thaw(Peer),
    /// Everything works again.
    Heal,
    /// Clients do nothing more.
    Calm,
}

/// What a client sends.
#[derive(Debug, Clone)]
pub(crate) enum FromClient {
    /// Its handshake is done; who it is.
    Open(bytes::Bytes),
    /// It reads so many bytes a second from now on; none: as fast as it can.
    Read(Option<u64>),
    /// A message.
    Text(bytes::Bytes),
    /// It is gone.
    Close,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call arrives.
    Request(Life, Peer, CallNumber, Box<Request>),
    /// An answer arrives.
    Answer(Life, CallNumber, Box<Answer>),
    /// A watch says something; none: it ends.
    Watched(Life, StreamNumber, Option<Box<Watched>>),
    /// A process wakes.
    Timer(Life, Timer),
    /// A gateway hears of a client; the number names the client's connection.
    Client(Life, usize, u64, FromClient),
    /// A client does something.
    Urge(usize, u64, Urge),
    /// The store looks at its leases.
    StoreTick(u32),
    /// Something is done to the cluster.
    Driver(Turn),
}

/// What a change was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The planner wants it.
    Plan,
    /// A claim's, of this many slots.
    Claim(u64),
    /// To learn whether a slot is still ours.
    Touch(Slot, OwnerEpoch),
    /// To hand a slot over.
    Swap(Slot, Revision),
    /// To say that this node leaves.
    Leave,
}

/// What a process waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Its registration.
    Register,
    /// Its renewal.
    Renew,
    /// The end of its lease.
    Release,
    /// The mirror's records.
    Load,
    /// The mirror's watch.
    Watch(StreamNumber),
    /// A change.
    Change(Op),
    /// The records to claim from.
    ClaimLoad(u64),
    /// A lane's call.
    Deliver(NodeRef, Place),
    /// A gateway's call.
    Publish(CallId),
    /// A gateway's call.
    Bind(CallId),
    /// A gateway's call.
    Fetch(CallId),
    /// A page of a slot.
    Pull(Slot, PullPage),
}

impl Event {
    /// A number for the hash of the trace.
    pub(crate) fn kind(&self) -> u64 {
        match self {
            Event::Request(_, _, call, request) => 1 | call.0 << 8 | request.kind() << 56,
            Event::Answer(_, call, _) => 2 | call.0 << 8,
            Event::Watched(_, stream, _) => 3 | stream.0 << 8,
            Event::Timer(..) => 4,
            Event::Client(_, client, ..) => 5 | (*client as u64) << 8,
            Event::Urge(client, ..) => 6 | (*client as u64) << 8,
            Event::StoreTick(_) => 7,
            Event::Driver(_) => 8,
        }
    }

    /// Whom it happens to.
    pub(crate) fn target(&self) -> u64 {
        match self {
            Event::Request(_, to, ..) => to.0 as u64,
            Event::Answer(life, ..)
            | Event::Watched(life, ..)
            | Event::Timer(life, _)
            | Event::Client(life, ..) => life.peer.0 as u64 | u64::from(life.run) << 16,
            Event::Urge(..) | Event::StoreTick(_) | Event::Driver(_) => 0,
        }
    }
}

impl Request {
    /// Whether it carries publications without an offset.
    pub(crate) fn has_fleeting(&self) -> bool {
        match self {
            Request::Deliver(_, call) => call.entries.iter().any(|entry| !entry.unsequenced.is_empty()),
            _ => false,
        }
    }

    fn kind(&self) -> u64 {
        match self {
            Request::Load => 1,
            Request::Change(_) => 2,
            Request::Register(..) => 3,
            Request::Renew(_) => 4,
            Request::Release(_) => 5,
            Request::Watch(..) => 6,
            Request::Publish(_) => 7,
            Request::Bind(_) => 8,
            Request::Pull(_) => 9,
            Request::Deliver(..) => 10,
            Request::Fetch(_) => 11,
        }
    }
}
