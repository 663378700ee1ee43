//! What happens to a slot, and what a slot wants done.

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{Millis, NodeRef, Offset, OwnerEpoch, SessionId, Topic, v1};
use ringcast_ring::Revision;

use crate::{Bind, Cursor, Shed};

/// Names one question to a slot until its answer. The asker chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one tap of a slot. The asker chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(pub u64);

/// What is true of the node while an input is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now, on the clock the lease is measured by.
    pub now: Millis,
    /// Whether the node's lease is certain to be held. Without it nothing is appended.
    pub lease_valid: bool,
    /// How many more topics the node may hold.
    pub topics_free: usize,
}

/// The publishes of one slot out of one call of a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Publishes {
    /// Answered by [`Effect::Published`].
    pub token: Token,
    /// The gateway, in the life that numbered the publishes.
    pub from: NodeRef,
    /// The highest owner_epoch the gateway has seen for the slot.
    pub owner_epoch: OwnerEpoch,
    /// As they came; each is checked when its turn comes, so that one that is wrong is refused in its place.
    pub publishes: Vec<v1::Publish>,
    /// For how long the first was held back by a change of owner, in milliseconds; 0: not at all.
    pub held_ms: u32,
}

/// One page of a move, as the target asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullPage {
    /// The owner_epoch of the record that carries the move.
    pub owner_epoch: OwnerEpoch,
    /// Which move.
    pub move_id: String,
    /// Of which copy of it; a higher one begins anew.
    pub attempt: u32,
    /// Which page. All before it are applied.
    pub page: u64,
}

/// The one write that makes the target of a move the owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Swap {
    /// The slot record it replaces must be the one of this revision.
    pub revision: Revision,
    /// This node, which owns the slot and must be alive.
    pub owner: NodeRef,
    /// Who gets the slot and must be alive.
    pub target: NodeRef,
    /// The new record.
    pub record: SlotRecord,
}

/// What happens to a slot.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The slot record, as read from the store.
    Record {
        /// When it was written. An older one than seen before is ignored.
        revision: Revision,
        /// What it says.
        record: SlotRecord,
        /// This node, in its present life.
        me: NodeRef,
        /// Random, drawn anew for every record: what epochs are made of if the slot begins empty.
        entropy: u128,
    },
    /// A write that guarded this node's lease and this owner_epoch went through: nobody owns the slot under a higher.
    Confirmed(OwnerEpoch),
    /// The lease is lost: serve nothing, keep everything, until a record says who owns the slot.
    Fenced,
    /// A gateway publishes.
    Publish(Publishes),
    /// A gateway tells its members. Answered by [`Effect::Bound`].
    Bind {
        /// Names the question.
        token: Token,
        /// The gateway, in the life that numbered the bind.
        from: NodeRef,
        /// The highest owner_epoch the gateway has seen for the slot.
        owner_epoch: OwnerEpoch,
        /// What it tells.
        bind: Bind,
    },
    /// A gateway asks for the last publications of a topic, of which it has everything up to `after`. Changes nothing.
    /// Answered by [`Effect::Fetched`].
    Fetch {
        /// Names the question.
        token: Token,
        /// The gateway, in the life that asks.
        from: NodeRef,
        /// The highest owner_epoch the gateway has seen for the slot.
        owner_epoch: OwnerEpoch,
        /// Of which topic.
        topic: Topic,
        /// What follows it is wanted.
        after: Cursor,
    },
    /// A gateway could not place an entry: it has everything up to `cursor` and nothing after.
    NeedFrom {
        /// Which gateway.
        gateway: NodeRef,
        /// Of which topic.
        topic: Topic,
        /// Where to go on from.
        cursor: Cursor,
    },
    /// A gateway has no member of the topic any more.
    NoInterest {
        /// Which gateway.
        gateway: NodeRef,
        /// Which topic.
        topic: Topic,
        /// Its bind counter when it said so. A group bound later than this stays.
        bind_seq: u64,
        /// The epoch and the offset the entry went on from: a group that stays has nothing after it.
        from: Cursor,
    },
    /// A gateway refused an entry, since it has seen a higher owner_epoch than the one the entry was sent under.
    Stale {
        /// Which gateway.
        gateway: NodeRef,
        /// Of which topic.
        topic: Topic,
        /// The epoch and the offset the entry went on from.
        from: Cursor,
        /// The one it has seen.
        owner_epoch: OwnerEpoch,
    },
    /// An entry found the gateway's lane full and was dropped.
    Dropped {
        /// Which gateway.
        gateway: NodeRef,
        /// Of which topic.
        topic: Topic,
        /// The epoch and the offset the entry went on from.
        from: Cursor,
    },
    /// A lane that was full has room again.
    LaneRoom(NodeRef),
    /// This life of a gateway, and every one before it, is over.
    GatewayGone(NodeRef),
    /// Show every publication of the topic from now on, by [`Effect::Tapped`], until [`Effect::TapEnded`].
    Tap(TapId, Topic),
    /// Nobody looks any more.
    Untap(TapId),
    /// Which topics are there? Answered by [`Effect::Listed`].
    ListTopics {
        /// Names the question.
        token: Token,
        /// Only topics that begin so.
        prefix: String,
        /// At most so many, the first in order of name.
        limit: usize,
    },
    /// What is known of the topic? Answered by [`Effect::Shown`].
    ShowTopic(Token, Topic),
    /// Who is joined? Answered by [`Effect::Members`].
    ListMembers {
        /// Names the question.
        token: Token,
        /// Of which topic.
        topic: Topic,
        /// Only sessions after this one.
        after: SessionId,
        /// At most so many, the lowest first.
        limit: usize,
    },
    /// The target of a move asks for a page. Answered by [`Effect::PullAnswered`].
    Pull {
        /// Names the question.
        token: Token,
        /// The target, in the life that asks.
        from: NodeRef,
        /// Which page.
        pull: PullPage,
    },
    /// The answer to [`Effect::Pull`], or none in time.
    Pulled(PullPage, Option<v1::PullAnswer>),
    /// The change of [`Effect::Swap`] that expected this revision was certainly not made, and never will be. If it was
    /// made, [`Input::Record`] says so.
    SwapRefused(Revision),
    /// The node's histories take more memory than they may.
    Shed(Shed),
    /// A deadline passed.
    Tick,
}

/// What a slot wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The answer to [`Input::Publish`]. The lease must be checked once more before it leaves.
    Published(Token, v1::SlotPublishAnswer),
    /// The answer to [`Input::Bind`].
    Bound(Token, v1::BindOutcome),
    /// The answer to [`Input::Fetch`].
    Fetched(Token, v1::FetchOutcome),
    /// Put this on the gateway's lane; tell [`Input::Dropped`] if it does not fit.
    Deliver(NodeRef, v1::DeliverEntry),
    /// Show this to the tap; [`Input::Untap`] it if it does not keep up.
    Tapped(TapId, v1::TapEvent),
    /// The tap is over: the slot left this node, or has too many.
    TapEnded(TapId),
    /// The answer to [`Input::ListTopics`].
    Listed(Token, v1::ListTopicsReply),
    /// The answer to [`Input::ShowTopic`].
    Shown(Token, v1::ShowTopicReply),
    /// The answer to [`Input::ListMembers`].
    Members(Token, v1::ListMembersReply),
    /// The answer to [`Input::Pull`]; its incarnation is the shell's to set.
    PullAnswered(Token, v1::PullAnswer),
    /// Ask this node, the owner, for a page of the slot; answer by [`Input::Pulled`], within a second or two. At most
    /// one is asked for at a time.
    Pull(NodeRef, PullPage),
    /// Write this, and go on until the outcome is known: [`Input::Record`] if it was made, else [`Input::SwapRefused`].
    /// The slot appends nothing until then.
    Swap(Box<Swap>),
    /// A move that made this node the owner is over; the slot's number is the shell's to set.
    Moved(v1::EndedMove),
    /// Somebody has seen a higher owner_epoch: write to the store to learn whether the slot is still ours
    /// ([`Input::Confirmed`] or [`Input::Record`]). Until then nothing is served.
    Behind,
}

/// As it goes into an answer.
pub(crate) fn position(epoch: &ringcast_proto::Epoch, offset: Offset) -> v1::Position {
    v1::Position {
        epoch: epoch.to_bytes(),
        offset: offset.0,
    }
}
