//! Where slots whose owner lives should be instead: what a plan asks for, what leaves, and the way home.
//!
//! It promises that a plan's word comes first, that a node which is to own nothing is emptied, and that members which
//! came back with less than half of their share get it back once all is quiet. *Invariant:* without one of these three
//! reasons nothing moves, however uneven the slots lie: that is a plan's business.
//! Leaves out: how many at once (`moves`).

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{Millis, NodeId, NodeRef, Slot};

use super::sightings::Sightings;
use super::view::{Held, Person, View};
use crate::Revision;
use crate::placement::{Holder, Layout};

/// A member below this part of its share, in percent, was restarted or lost: uneven hashing does not come near it.
const STARVED_BELOW: u32 = 50;

/// How the name of a move begins that empties a node without a plan.
pub(super) const LEAVE: &str = "leave-";

/// How the name of a move begins that gives a node its share back.
pub(super) const HOME: &str = "home-";

/// Why a slot should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Its owner is to own nothing.
    Leave,
    /// The plan says so.
    Plan,
    /// Its owner has it in the place of a node that is back.
    Home,
}

/// A slot that should move.
#[derive(Debug)]
pub(super) struct Desire<'a> {
    pub(super) slot: Slot,
    pub(super) revision: Revision,
    pub(super) record: &'a SlotRecord,
    pub(super) to: NodeId,
    pub(super) why: Why,
}

/// Who may be given slots, in the life that may be.
pub(super) type Targets = BTreeMap<NodeId, NodeRef>;

/// What was worked out, and from what: it holds until one of these changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Basis {
    ring: Revision,
    targets: BTreeSet<NodeId>,
    /// Who leaves, or who comes home.
    whom: BTreeSet<NodeId>,
}

/// The desires that take a while to work out, kept while they hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Desires {
    layout: Option<(Basis, Layout)>,
    leave: (Basis, BTreeMap<Slot, NodeId>),
    home: (Basis, BTreeMap<Slot, NodeId>),
    /// Who is being given its share back: whoever is past half of it is not full yet.
    homing: BTreeSet<NodeId>,
}

impl Desires {
    /// The slots that should move and are not yet moving, in slot order.
    pub(super) fn of<'a>(&mut self, view: &View<'a>, targets: &Targets) -> Vec<Desire<'a>> {
        let mut desires = Vec::new();
        let mut leavers: BTreeSet<NodeId> = BTreeSet::new();
        let mut left_over = Vec::new();
        let mut is_moving = false;
        for held in view.owned() {
            let Held {
                slot,
                revision,
                record,
                ..
            } = *held;
            is_moving |= record.moving.is_some();
            let owner = &record.owner.node;
            let may_move = record.moving.is_none() && record.replica.is_none();
            let desire = |to: &NodeId, why| Desire {
                slot,
                revision,
                record,
                to: to.clone(),
                why,
            };
            match view.planned(slot) {
                Some(to) if to == owner => {}
                Some(to) if may_move && targets.contains_key(to) => desires.push(desire(to, Why::Plan)),
                // It moves, or who takes it is held down.
                Some(_) => {}
                None if view.people[held.owner].may_keep() => {}
                None => {
                    if !leavers.contains(owner) {
                        leavers.insert(owner.clone());
                    }
                    if may_move {
                        left_over.push(desire(owner, Why::Leave));
                    }
                }
            }
        }
        if leavers.is_empty() {
            self.leave = Default::default();
        }
        if !left_over.is_empty() {
            self.send_away(view, targets, &leavers, &mut left_over);
            desires.append(&mut left_over);
        }
        let somebody_leaves = || view.people.iter().any(|person| person.is_leaving);
        if view.ring.plan.is_some() || !leavers.is_empty() || somebody_leaves() || !view.is_whole() {
            self.at_home();
        } else {
            self.bring_home(view, targets, is_moving, &mut desires);
        }
        desires.sort_by_key(|desire| desire.slot);
        desires
    }

    /// Finds a target for each slot in `left_over`; what has none stays out of it.
    fn send_away(
        &mut self,
        view: &View<'_>,
        targets: &Targets,
        leavers: &BTreeSet<NodeId>,
        left_over: &mut Vec<Desire<'_>>,
    ) {
        let basis = Basis::new(view, targets, leavers.clone());
        let is_known = |desire: &Desire<'_>| self.leave.1.contains_key(&desire.slot);
        if self.leave.0 != basis || !left_over.iter().all(is_known) {
            let Some(layout) = layout(&mut self.layout, view, targets) else {
                left_over.clear();
                return;
            };
            let holders = holders(view, layout, targets);
            let filled = layout.fill(&holders).into_iter();
            let named = filled.filter_map(|(slot, node)| Some((slot, layout.id(node)?.clone())));
            self.leave = (basis, named.collect());
        }
        left_over.retain_mut(|desire| {
            self.leave.1.get(&desire.slot).is_some_and(|to| {
                desire.to = to.clone();
                desire.to != desire.record.owner.node
            })
        });
    }

    /// Finds what belongs to members that have too little.
    fn bring_home<'a>(
        &mut self,
        view: &View<'a>,
        targets: &Targets,
        is_moving: bool,
        desires: &mut Vec<Desire<'a>>,
    ) {
        let Some(layout) = layout(&mut self.layout, view, targets) else {
            return self.at_home();
        };
        let holders = holders(view, layout, targets);
        let number = |id: &NodeId| layout.ring().number(id);
        let mut takers: BTreeSet<u16> = self.homing.iter().filter_map(number).collect();
        takers.extend(layout.starved(&holders, STARVED_BELOW));
        if is_moving {
            // A planner before this one has begun with them.
            let moves = view.owned().filter_map(|held| held.record.moving.as_ref());
            let home = moves.filter(|moving| moving.id.starts_with(HOME));
            takers.extend(home.filter_map(|moving| number(&moving.target.node)));
        }
        if takers.is_empty() {
            return self.at_home();
        }
        let ids = |takers: &BTreeSet<u16>| -> BTreeSet<NodeId> {
            takers
                .iter()
                .filter_map(|taker| layout.id(*taker).cloned())
                .collect()
        };
        let basis = Basis::new(view, targets, ids(&takers));
        if self.home.0 != basis {
            let transfers = layout.rebalance(&holders, &takers).into_iter();
            let home = transfers.filter(|transfer| takers.contains(&transfer.to));
            let named = home.filter_map(|transfer| Some((transfer.slot, layout.id(transfer.to)?.clone())));
            let named = named.collect();
            self.home = (basis, named);
        }
        let mut waited_for = BTreeSet::new();
        for held in view.owned() {
            let Held {
                slot,
                revision,
                record,
                ..
            } = *held;
            let Some(to) = self.home.1.get(&slot) else {
                continue;
            };
            if record.owner.node == *to {
                continue;
            }
            waited_for.insert(to.clone());
            if record.moving.is_none() && record.replica.is_none() {
                desires.push(Desire {
                    slot,
                    revision,
                    record,
                    to: to.clone(),
                    why: Why::Home,
                });
            }
        }
        self.homing = waited_for;
    }

    /// Nobody comes home now. What was worked out for one who did says nothing about the next time.
    fn at_home(&mut self) {
        self.home = Default::default();
        self.homing.clear();
    }
}

impl Basis {
    fn new(view: &View<'_>, targets: &Targets, whom: BTreeSet<NodeId>) -> Basis {
        Basis {
            ring: view.ring_revision,
            targets: targets.keys().cloned().collect(),
            whom,
        }
    }
}

/// The layout over the targets.
fn layout<'l>(
    known: &'l mut Option<(Basis, Layout)>,
    view: &View<'_>,
    targets: &Targets,
) -> Option<&'l Layout> {
    let basis = Basis::new(view, targets, BTreeSet::new());
    if known.as_ref().is_none_or(|(old, _)| *old != basis) {
        let layout = Layout::new(view.birth, view.ring, |id| targets.contains_key(id)).ok()?;
        *known = Some((basis, layout));
    }
    known.as_ref().map(|(_, layout)| layout)
}

/// Who may be given slots now. The others, and when that may change, are for the caller to look at.
pub(super) fn targets(view: &View<'_>, sightings: &Sightings, now: Millis) -> Targets {
    let people = view.people.iter();
    people
        .filter(|person| person.can_take() && sightings.is_target(person.id, now))
        .filter_map(|person| {
            let (node, incarnation) = (person.id.clone(), person.incarnation?);
            Some((person.id.clone(), NodeRef { node, incarnation }))
        })
        .collect()
}

/// Who will hold each slot once what is under way or planned is done; vacant is what must be given away.
fn holders(view: &View<'_>, layout: &Layout, targets: &Targets) -> Vec<Holder> {
    let target = |id: &NodeId| {
        let is_target = targets.contains_key(id);
        is_target.then(|| layout.ring().number(id)).flatten()
    };
    let as_owner = |person: &Person<'_>| match layout.ring().number(person.id) {
        Some(number) => Holder::Node(number),
        None if !person.may_keep() => Holder::Vacant,
        None => Holder::Elsewhere,
    };
    let owners: Vec<Holder> = view.people.iter().map(as_owner).collect();
    let mut holders = vec![Holder::Elsewhere; usize::from(view.birth.slots)];
    for held in view.owned() {
        let moving = || held.record.moving.as_ref().map(|moving| &moving.target.node);
        let next = view.planned(held.slot).and_then(target);
        holders[usize::from(held.slot.0)] = match next.or_else(|| moving().and_then(target)) {
            Some(number) => Holder::Node(number),
            None => owners[held.owner],
        };
    }
    holders
}
