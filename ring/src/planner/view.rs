//! What the planner reads out of a snapshot, once a round.
//!
//! *Invariant:* it holds what the records say and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::{
    Birth, Key, Plan, PlanId, Planner as Tenure, Ring, RingNodeState, Role, SlotRecord,
};
use ringcast_proto::{Incarnation, NodeId, NodeRef, Slot};

use crate::{Revision, Snapshot};

/// Where a slot stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing<'a> {
    /// The birth has not reached it.
    Unborn,
    /// Its owner lives.
    Owned(Held<'a>),
    /// Its owner is gone.
    Lost(Revision, &'a SlotRecord),
}

/// A slot whose owner lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) slot: Slot,
    pub(super) revision: Revision,
    pub(super) record: &'a SlotRecord,
    /// Where the owner stands in [`View::people`].
    pub(super) owner: usize,
}

/// A topic server that is registered or a member of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person<'a> {
    pub(super) id: &'a NodeId,
    /// Its present life, while it is registered.
    pub(super) incarnation: Option<Incarnation>,
    /// Whether the ring wants it to own slots.
    pub(super) is_up: bool,
    /// Whether it is about to end.
    pub(super) is_leaving: bool,
}

impl Person<'_> {
    /// Whether it may keep what it owns.
    pub(super) fn may_keep(&self) -> bool {
        self.is_up && !self.is_leaving
    }

    /// Whether it is there, and may keep what it is given.
    pub(super) fn can_take(&self) -> bool {
        self.incarnation.is_some() && self.may_keep()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) birth: &'a Birth,
    pub(super) ring: &'a Ring,
    pub(super) ring_revision: Revision,
    pub(super) tenure: &'a Tenure,
    /// By slot.
    pub(super) standings: Vec<Standing<'a>>,
    /// In id order. There are thousands of slots and a few of these: who owns a slot is looked up once a round.
    pub(super) people: Vec<Person<'a>>,
    plan: Option<&'a Plan>,
    /// By slot, where the plan that runs wants it, and whether that can be; empty while none does.
    planned: Vec<Option<(&'a NodeId, bool)>>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        birth: &'a Birth,
        ring: &'a Ring,
        tenure: &'a Tenure,
    ) -> View<'a> {
        let plan = ring.plan.as_ref().and_then(|id| snapshot.plan(id));
        let mut view = View {
            snapshot,
            birth,
            ring,
            ring_revision: snapshot
                .records
                .get(&Key::Ring)
                .map(|stored| stored.revision)
                .unwrap_or_default(),
            tenure,
            standings: vec![Standing::Unborn; usize::from(birth.slots)],
            people: people(snapshot, ring),
            plan,
            planned: Vec::new(),
        };
        for (slot, revision, record) in snapshot.slots() {
            let Some(standing) = view.standings.get_mut(usize::from(slot.0)) else {
                continue;
            };
            *standing = match position(&view.people, &record.owner.node) {
                Some(owner) if view.people[owner].incarnation == Some(record.owner.incarnation) => {
                    Standing::Owned(Held {
                        slot,
                        revision,
                        record,
                        owner,
                    })
                }
                Some(_) | None => Standing::Lost(revision, record),
            };
        }
        if let Some(plan) = plan {
            view.planned = vec![None; usize::from(birth.slots)];
            for planned in &plan.moves {
                if let Some(to) = view.planned.get_mut(usize::from(planned.slot.0)) {
                    let can_take = person(&view.people, &planned.to).is_some_and(Person::can_take);
                    *to = Some((&planned.to, can_take));
                }
            }
        }
        view
    }

    /// The plan that runs, and its record, which only an operator with another tool can have removed.
    pub(super) fn plan(&self) -> Option<(&'a PlanId, Option<&'a Plan>)> {
        Some((self.ring.plan.as_ref()?, self.plan))
    }

    /// Where the plan that runs wants this slot, if it can go there.
    pub(super) fn planned(&self, slot: Slot) -> Option<&'a NodeId> {
        let (to, can_take) = self.planned.get(usize::from(slot.0)).copied().flatten()?;
        can_take.then_some(to)
    }

    /// Every slot whose owner lives.
    pub(super) fn owned(&self) -> impl Iterator<Item = &Held<'a>> {
        self.standings.iter().filter_map(|standing| match standing {
            Standing::Owned(held) => Some(held),
            Standing::Unborn | Standing::Lost(..) => None,
        })
    }

    /// Whether every slot has an owner that lives.
    pub(super) fn is_whole(&self) -> bool {
        let owned = |standing| matches!(standing, &Standing::Owned(..));
        self.standings.iter().all(owned)
    }

    /// The topic server of this id, if it is registered or a member of the ring.
    pub(super) fn person(&self, id: &NodeId) -> Option<&Person<'a>> {
        person(&self.people, id)
    }

    /// The present life of a topic server, if it is registered.
    pub(super) fn life(&self, id: &NodeId) -> Option<NodeRef> {
        let incarnation = self.person(id)?.incarnation?;
        let node = id.clone();
        Some(NodeRef { node, incarnation })
    }

    /// Whether more than half of those whom the ring wants to own slots are gone: a fault of the network or the store,
    /// and no time to move anything. Whoever is draining or being removed does not count.
    pub(super) fn is_mostly_gone(&self) -> bool {
        let wanted = || self.people.iter().filter(|person| person.is_up);
        let gone = wanted().filter(|person| person.incarnation.is_none()).count();
        gone * 2 > wanted().count()
    }

    /// Guards that these lives hold their leases, but for the planner's own, which every change guards.
    pub(super) fn alive<'n>(
        &self,
        nodes: BTreeSet<&'n NodeRef>,
    ) -> impl Iterator<Item = crate::Guard> + use<'n, '_, 'a> {
        let holder = &self.tenure.holder;
        nodes
            .into_iter()
            .filter(move |node| *node != holder)
            .cloned()
            .map(crate::Guard::Alive)
    }
}

/// Everyone there is to know of, in id order.
fn people<'a>(snapshot: &'a Snapshot, ring: &'a Ring) -> Vec<Person<'a>> {
    let mut people: BTreeMap<&NodeId, Person<'a>> = BTreeMap::new();
    for (id, record) in snapshot.nodes() {
        if record.role == Role::TopicServer {
            let person = Person {
                id,
                incarnation: Some(record.incarnation),
                is_up: false,
                is_leaving: record.leaving,
            };
            people.insert(id, person);
        }
    }
    for member in &ring.nodes {
        let gone = Person {
            id: &member.id,
            incarnation: None,
            is_up: false,
            is_leaving: false,
        };
        let person = people.entry(&member.id).or_insert(gone);
        let vnodes = (member.weight * f64::from(ring.vnodes_per_weight)).round();
        person.is_up = member.state == RingNodeState::Up && vnodes > 0.0;
    }
    people.into_values().collect()
}

fn position(people: &[Person<'_>], id: &NodeId) -> Option<usize> {
    people.binary_search_by(|person| person.id.cmp(id)).ok()
}

fn person<'p, 'a>(people: &'p [Person<'a>], id: &NodeId) -> Option<&'p Person<'a>> {
    position(people, id).map(|position| &people[position])
}
