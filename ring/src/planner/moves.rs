//! Moves: the wishes written into slot records, taken back where nobody wants them any more, and the end of a plan.
//!
//! It promises at most [`LEARNS_IN`] moves to a node and [`LEARNS_OUT`] from one at a time, counted from the records, so
//! that a planner that takes over keeps to them too; whatever ends makes room for the next. *Invariant:* only the owner
//! changes an owner: the planner writes and clears `move`, and expects the very record it read.
//! Leaves out: which slots should move (`desire`), slots whose owner is gone (`slots`), carrying a move out.

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::{Finished, Key, Move, MoveKind, Record, SlotRecord};
use ringcast_proto::{Millis, NodeId};

use super::desire::{Desire, HOME, LEAVE, Targets, Why, targets};
use super::view::{Held, Person, Standing, View};
use super::{Planner, guards};
use crate::plan::{finish, outcome};
use crate::{Change, Expect};

/// Most slots a node learns at once: a copy is the target's memory and its owner's bandwidth.
const LEARNS_IN: u32 = 2;

/// Most slots a node is learned from at once.
const LEARNS_OUT: u32 = 2;

/// Most wishes a change: with the lives they guard it stays below the 128 conditions etcd takes.
const WISHES_PER_CHANGE: usize = 32;

/// How many moves each node is part of.
#[derive(Debug, Default)]
struct Traffic {
    in_and_out: BTreeMap<NodeId, (u32, u32)>,
}

impl Traffic {
    fn add(&mut self, from: &NodeId, to: &NodeId) {
        self.entry(to).0 += 1;
        self.entry(from).1 += 1;
    }

    fn has_room(&self, from: &NodeId, to: &NodeId) -> bool {
        let of = |id| self.in_and_out.get(id).copied().unwrap_or_default();
        of(to).0 < LEARNS_IN && of(from).1 < LEARNS_OUT
    }

    fn entry(&mut self, id: &NodeId) -> &mut (u32, u32) {
        if !self.in_and_out.contains_key(id) {
            self.in_and_out.insert(id.clone(), (0, 0));
        }
        self.in_and_out.get_mut(id).expect("put in just now")
    }
}

impl Planner {
    /// What to change about moves: wishes no longer wanted, new ones, the end of the plan.
    pub(super) fn move_slots(&mut self, view: &View<'_>, now: Millis) -> Vec<Change> {
        self.memory.observe(view, now);
        let targets = targets(view, &self.sightings, now);
        let mut changes = self.clear(view, now);
        if !view.is_mostly_gone() {
            let desires = self.desires.of(view, &targets);
            changes.extend(self.wish(view, &targets, desires, now));
            changes.extend(self.end_plan(view, now));
            // Who is held down now may be given slots then.
            let members = view.people.iter().filter(|person| person.is_up);
            let held = members.filter_map(|person| self.sightings.held_until(person.id, now));
            if let Some(until) = held.min() {
                self.wake_at(until);
            }
        }
        if let Some(wake) = self.memory.wake(now) {
            self.wake_at(wake);
        }
        changes
    }

    /// Takes back what is no longer wanted, cannot happen, or hangs.
    fn clear(&mut self, view: &View<'_>, now: Millis) -> Vec<Change> {
        let mut over = Vec::new();
        for held in view.owned() {
            let Held {
                slot,
                revision,
                record,
                ..
            } = *held;
            let Some(moving) = &record.moving else {
                continue;
            };
            if moving.kind != MoveKind::Owner || self.memory.is_asked(slot) {
                continue;
            }
            let hangs = self.memory.hangs(slot, &moving.id, now);
            if hangs || !is_wanted(view, held, moving) {
                self.memory.clear(slot, revision, hangs, now);
                over.push((slot, revision, record));
            }
        }
        let mut changes = Vec::new();
        for over in over.chunks(WISHES_PER_CHANGE) {
            let cleared = |record: &SlotRecord| SlotRecord {
                moving: None,
                ..record.clone()
            };
            changes.push(Change {
                expect: over
                    .iter()
                    .map(|(slot, revision, _)| (Key::Slot(*slot), Expect::Revision(*revision)))
                    .collect(),
                guards: guards(view.tenure),
                put: over
                    .iter()
                    .map(|(slot, _, record)| (Key::Slot(*slot), Record::Slot(cleared(record))))
                    .collect(),
                delete: Vec::new(),
                op: self.op(&view.tenure.holder),
            });
        }
        changes
    }

    /// Writes as many wishes as there is room for.
    fn wish(
        &mut self,
        view: &View<'_>,
        targets: &Targets,
        mut desires: Vec<Desire<'_>>,
        now: Millis,
    ) -> Vec<Change> {
        if desires.is_empty() {
            return Vec::new();
        }
        let mut traffic = Traffic::default();
        for held in view.owned() {
            if let Some(moving) = &held.record.moving {
                traffic.add(&held.record.owner.node, &moving.target.node);
            }
        }
        for (from, to) in self.memory.wishes() {
            traffic.add(from, to);
        }
        // A node that is about to end waits for this and has 30 s; a plan has all the time there is.
        let is_leaving = |desire: &Desire<'_>| {
            let owner = view.person(&desire.record.owner.node);
            owner.is_some_and(|person| person.is_leaving)
        };
        desires.sort_by_cached_key(|desire| (!is_leaving(desire), desire.slot));
        let mut chosen = Vec::new();
        for desire in desires {
            let (from, to) = (&desire.record.owner.node, &desire.to);
            if self.memory.rests(desire.slot) || !traffic.has_room(from, to) {
                continue;
            }
            if desire.why == Why::Home
                && let Some(until) = self.memory.stays_until(desire.slot)
            {
                self.wake_at(until);
                continue;
            }
            traffic.add(from, to);
            self.memory.wish(desire.slot, desire.revision, from, to, now);
            if desire.why != Why::Plan {
                self.memory.automatic(desire.slot, now);
            }
            chosen.push(desire);
        }
        let chunks = chosen.chunks(WISHES_PER_CHANGE);
        chunks
            .map(|desires| self.wishes(view, targets, desires))
            .collect()
    }

    fn wishes(&mut self, view: &View<'_>, targets: &Targets, desires: &[Desire<'_>]) -> Change {
        // The ring as well: no move of a plan begins once it is aborted.
        let mut expect = vec![(Key::Ring, Expect::Revision(view.ring_revision))];
        let (mut put, mut nodes) = (Vec::new(), BTreeSet::new());
        for desire in desires {
            let Some(target) = targets.get(&desire.to) else {
                continue;
            };
            nodes.extend([&desire.record.owner, target]);
            let wished = SlotRecord {
                moving: Some(Move {
                    id: move_id(view, desire),
                    kind: MoveKind::Owner,
                    target: target.clone(),
                }),
                ..desire.record.clone()
            };
            expect.push((Key::Slot(desire.slot), Expect::Revision(desire.revision)));
            put.push((Key::Slot(desire.slot), Record::Slot(wished)));
        }
        let mut guards = guards(view.tenure);
        guards.extend(view.alive(nodes));
        Change {
            expect,
            guards,
            put,
            delete: Vec::new(),
            op: self.op(&view.tenure.holder),
        }
    }

    /// Ends the plan once every slot is where it is to be or cannot get there, and who was to go owns nothing.
    fn end_plan(&mut self, view: &View<'_>, now: Millis) -> Option<Change> {
        let (id, plan) = view.plan()?;
        let is_up = |id: &NodeId| view.person(id).is_some_and(|person| person.is_up);
        let mut is_over = true;
        for planned in plan.iter().flat_map(|plan| &plan.moves) {
            let owner = view.standings.get(usize::from(planned.slot.0)).map(owner);
            if owner == Some(Some(&planned.to)) || !is_up(&planned.to) {
                continue;
            }
            match self.sightings.given_up_at(&planned.to) {
                Some(at) if now >= at => {}
                Some(at) => {
                    self.wake_at(at);
                    is_over = false;
                }
                None => is_over = false,
            }
        }
        let empties = |id: &NodeId| !is_up(id);
        let mut owners = view.standings.iter().filter_map(owner);
        if !is_over || (plan.is_some() && owners.any(empties)) {
            return None;
        }
        let finished = plan.map_or(Finished { moved: 0, skipped: 0 }, |plan| {
            outcome(view.snapshot, plan)
        });
        let (guards, op) = (guards(view.tenure), self.op(&view.tenure.holder));
        Some(finish(view.snapshot, view.ring, id, finished, guards, op))
    }
}

/// Who owns a slot, in whichever of its lives.
fn owner<'a>(standing: &Standing<'a>) -> Option<&'a NodeId> {
    match standing {
        Standing::Unborn => None,
        Standing::Owned(held) => Some(&held.record.owner.node),
        Standing::Lost(_, record) => Some(&record.owner.node),
    }
}

/// A name no other move has: the record's revision is this wish's alone.
fn move_id(view: &View<'_>, desire: &Desire<'_>) -> String {
    let Desire { slot, revision, .. } = desire;
    match (desire.why, &view.ring.plan) {
        (Why::Plan, Some(plan)) => format!("{}.{slot}.{revision}", plan.0),
        (Why::Leave | Why::Plan, _) => format!("{LEAVE}{slot}.{revision}"),
        (Why::Home, _) => format!("{HOME}{slot}.{revision}"),
    }
}

/// Whether a move that is under way still has a reason. It keeps the one it began with as long as that holds, so that a
/// planner that takes over lets it finish, and where the plan wants the slot elsewhere the plan wins.
fn is_wanted(view: &View<'_>, held: &Held<'_>, moving: &Move) -> bool {
    let owner = view.people[held.owner];
    let lives = |target: &&Person<'_>| target.incarnation == Some(moving.target.incarnation);
    let target = view.person(&moving.target.node).filter(lives);
    if !target.is_some_and(|target| target.can_take() && target.id != owner.id) {
        return false;
    }
    match view.planned(held.slot) {
        Some(planned) => *planned == moving.target.node,
        None if moving.id.starts_with(LEAVE) => !owner.may_keep(),
        None => moving.id.starts_with(HOME),
    }
}
