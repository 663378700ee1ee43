//! The records of the ring store, as JSON.
//!
//! *Invariant:* fields this build does not know are kept when a record is written back; values of an enum it does not
//! know are refused, because acting on a state one does not understand is worse than stopping.
//! Leaves out: who may write which record when (`ringcast-ring`, the planner; `ringcast-topic-server-core`, the roles).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};

/// The format of the records this build writes.
pub const FORMAT: u32 = 1;

/// Why a stored record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is none of ours.
    #[error("unknown key {0:?}")]
    Key(String),
    /// The value is not what the key promises.
    #[error("record {key}: {source}")]
    Value {
        /// Which record.
        key: Key,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Where a record is kept. Its text form is the key in the store: `slot/17`, `node/ts-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `birth`
    Birth,
    /// `ring`
    Ring,
    /// `slot/N`
    Slot(Slot),
    /// `node/ID`, on the node's lease.
    Node(NodeId),
    /// `planner`, on its holder's lease.
    Planner,
    /// `plan/ID`
    Plan(PlanId),
    /// `history/VERSION`
    History(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Birth => f.write_str("birth"),
            Key::Ring => f.write_str("ring"),
            Key::Slot(slot) => write!(f, "slot/{slot}"),
            Key::Node(id) => write!(f, "node/{id}"),
            Key::Planner => f.write_str("planner"),
            Key::Plan(id) => write!(f, "plan/{}", id.0),
            Key::History(version) => write!(f, "history/{version}"),
        }
    }
}

impl std::str::FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Key, Error> {
        let unknown = || Error::Key(text.chars().take(80).collect());
        match text.split_once('/') {
            None => match text {
                "birth" => Ok(Key::Birth),
                "ring" => Ok(Key::Ring),
                "planner" => Ok(Key::Planner),
                _ => Err(unknown()),
            },
            Some(("slot", number)) => number
                .parse()
                .map(|slot| Key::Slot(Slot(slot)))
                .map_err(|_| unknown()),
            Some(("node", id)) => NodeId::parse(id).map(Key::Node).map_err(|_| unknown()),
            Some(("plan", id)) => Ok(Key::Plan(PlanId(id.to_owned()))),
            Some(("history", version)) => version.parse().map(Key::History).map_err(|_| unknown()),
            Some(_) => Err(unknown()),
        }
    }
}

/// A plan's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

/// Any record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Under [`Key::Birth`].
    Birth(Birth),
    /// Under [`Key::Ring`].
    Ring(Ring),
    /// Under [`Key::Slot`].
    Slot(SlotRecord),
    /// Under [`Key::Node`].
    Node(NodeRecord),
    /// Under [`Key::Planner`].
    Planner(Planner),
    /// Under [`Key::Plan`].
    Plan(Box<Plan>),
    /// Under [`Key::History`].
    History(History),
}

impl Record {
    /// Reads the JSON kept under `key`.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn decode(key: &Key, json: &[u8]) -> Result<Record, Error> {
        let wrong = |source| Error::Value {
            key: key.clone(),
            source,
        };
        Ok(match key {
            Key::Birth => Record::Birth(serde_json::from_slice(json).map_err(wrong)?),
            Key::Ring => Record::Ring(serde_json::from_slice(json).map_err(wrong)?),
            Key::Slot(_) => Record::Slot(serde_json::from_slice(json).map_err(wrong)?),
            Key::Node(_) => Record::Node(serde_json::from_slice(json).map_err(wrong)?),
            Key::Planner => Record::Planner(serde_json::from_slice(json).map_err(wrong)?),
            Key::Plan(_) => Record::Plan(serde_json::from_slice(json).map_err(wrong)?),
            Key::History(_) => Record::History(serde_json::from_slice(json).map_err(wrong)?),
        })
    }

    /// Writes the JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Record::Birth(record) => serde_json::to_vec(record),
            Record::Ring(record) => serde_json::to_vec(record),
            Record::Slot(record) => serde_json::to_vec(record),
            Record::Node(record) => serde_json::to_vec(record),
            Record::Planner(record) => serde_json::to_vec(record),
            Record::Plan(record) => serde_json::to_vec(record),
            Record::History(record) => serde_json::to_vec(record),
        }
        .expect("records have string keys and no failing serializer")
    }
}

/// Written once, when the cluster is born; never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// [`FORMAT`].
    pub format: u32,
    /// Random, names the cluster.
    pub cluster_id: String,
    /// How many slots there are, for ever.
    pub slots: u16,
    /// Secret seed of every hash, so that clients who choose topic names cannot aim them at one slot.
    pub seed: u64,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Where slots *should* be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// +1 at every commit and abort.
    pub version: u64,
    /// Copies of a slot. 1 until replicas exist.
    pub replicas: u8,
    /// Virtual nodes of weight 1.0.
    pub vnodes_per_weight: u32,
    /// The members of the ring.
    pub nodes: Vec<RingNode>,
    /// Slots fixed to a node.
    #[serde(default)]
    pub pins: BTreeMap<Slot, NodeId>,
    /// The plan that is being carried out.
    #[serde(default)]
    pub plan: Option<PlanId>,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A topic server in the ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RingNode {
    /// Which.
    pub id: NodeId,
    /// Its share is weight / total weight; 0 owns nothing.
    pub weight: f64,
    /// Whether it may own slots.
    pub state: RingNodeState,
}

/// What the ring wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RingNodeState {
    /// Owns its share.
    Up,
    /// Stays in the ring and owns nothing.
    Draining,
}

/// Who owns a slot *now*. The truth, whatever the ring proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Fencing token of the present owner.
    pub owner_epoch: OwnerEpoch,
    /// The owner_epoch at which the slot last began empty.
    pub base: OwnerEpoch,
    /// The one node that may commit.
    pub owner: NodeRef,
    /// The in-sync copy, named only while it is one.
    #[serde(default)]
    pub replica: Option<NodeRef>,
    /// A move under way.
    #[serde(default, rename = "move")]
    pub moving: Option<Move>,
    /// Why the record was last written.
    pub cause: Cause,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The planner's wish for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Names the copy it makes.
    pub id: String,
    /// What the target becomes.
    pub kind: MoveKind,
    /// Who learns.
    pub target: NodeRef,
}

/// What a move makes of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveKind {
    /// The replica.
    Replica,
    /// The owner.
    Owner,
}

/// Why a slot record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The ring was born.
    Birth,
    /// A replica learned.
    Learn,
    /// The replica was dropped.
    Shrink,
    /// Owner and target changed places.
    Swap,
    /// The replica took over.
    Promote,
    /// The owner lost its lease, not its memory, and came back first.
    Claim,
    /// The owner is gone and no replica was named: the slot began empty.
    Fresh,
}

/// A registered node, kept on its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The life that registered.
    #[serde(rename = "inc")]
    pub incarnation: Incarnation,
    /// What it does.
    pub role: Role,
    /// `HOST:PORT` of its rpc listener, as other nodes reach it.
    pub advertise: String,
    /// Version of its build.
    pub build: String,
    /// Its own view of itself.
    #[serde(default)]
    pub ready: bool,
    /// A topic server that is about to end: its slots are to move away, and it is no target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Terminates clients.
    Gateway,
    /// Owns slots.
    TopicServer,
}

/// Who plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planner {
    /// The topic server that holds the key, on its node lease.
    pub holder: NodeRef,
    /// +1 at every new holder; every change of the planner guards it.
    pub term: u64,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A change of the ring: computed and shown, and carried out only once it is committed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the ring it was computed from. It can be committed to no other.
    pub base_version: u64,
    /// What was asked for, in the words of the command line: `--drain ts-2`.
    pub wish: Vec<String>,
    /// The members and pins of the ring it changes, which an abort goes back to.
    pub before: Membership,
    /// The members and pins once it is done.
    pub after: Membership,
    /// The slots that change hands, in slot order.
    pub moves: Vec<PlanMove>,
    /// How much each node owns, in id order.
    pub shares: Vec<PlanShare>,
    /// What an operator should know before committing.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The plan that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<PlanId>,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Who belongs to a ring.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Membership {
    /// The members.
    pub nodes: Vec<RingNode>,
    /// Slots fixed to a node.
    #[serde(default)]
    pub pins: BTreeMap<Slot, NodeId>,
}

/// A slot that changes hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMove {
    /// Which.
    pub slot: Slot,
    /// Who owned it when the plan was made.
    pub from: NodeId,
    /// Who is to own it.
    pub to: NodeId,
    /// Topics in it when the plan was made; none where its owner did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<u64>,
    /// Members of those topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u64>,
    /// Bytes of their histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How much a node owns before and after a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanShare {
    /// Which node.
    pub id: NodeId,
    /// Slots it owns before.
    pub slots_before: u32,
    /// Slots it owns after.
    pub slots_after: u32,
    /// `slots_before` of all slots, 0 to 1.
    pub before: f64,
    /// `slots_after` of all slots, 0 to 1.
    pub after: f64,
}

/// A version of the ring: who made it, and what became of its plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// The ring's version.
    pub version: u64,
    /// The plan that made it; none for the birth.
    #[serde(default)]
    pub plan: Option<PlanId>,
    /// Who asked for it: `user@host`.
    #[serde(default)]
    pub who: String,
    /// Why.
    pub cause: HistoryCause,
    /// When it was made, milliseconds since 1970 by its maker's clock; for people only.
    #[serde(default)]
    pub at_unix_ms: u64,
    /// What became of the plan, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finished>,
    /// Fields of later builds.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Why the ring has a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryCause {
    /// A plan was committed.
    #[default]
    Commit,
    /// A plan was taken back.
    Abort,
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Slots that are where the plan wanted them.
    pub moved: u32,
    /// Slots that are elsewhere: their target or their owner was lost on the way, or the plan was aborted.
    pub skipped: u32,
}
