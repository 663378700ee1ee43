//! How much memory the histories of all topics of a node may take, and what goes when they take more.
//!
//! It promises that the histories of the idlest topics go first, then the oldest publications of the busy ones, and ids of
//! publishes last of all. *Invariant:* what gateways repair from stays, whatever the memory says.
//! Leaves out: counting (slots say what they hold) and when to look (the shell).

use std::time::Duration;

use ringcast_proto::Millis;

use crate::slot::Slot;

/// What slots are to let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The histories of topics to which nothing was published for this long.
    Idle(Duration),
    /// Publications that are as old as this.
    Older(Duration),
    /// Ids of publishes that are as old as this: those publishes may take effect again.
    Ids(Duration),
}

/// What goes, in this order: each step is looked at before the next is taken, and no step reaches what is younger than
/// gateways may need.
const STEPS: [Shed; 17] = [
    Shed::Idle(Duration::from_secs(128)),
    Shed::Idle(Duration::from_secs(64)),
    Shed::Idle(Duration::from_secs(32)),
    Shed::Idle(Duration::from_secs(16)),
    Shed::Idle(Duration::from_secs(8)),
    Shed::Idle(Duration::from_secs(4)),
    Shed::Idle(Duration::from_secs(2)),
    Shed::Older(Duration::from_secs(64)),
    Shed::Older(Duration::from_secs(32)),
    Shed::Older(Duration::from_secs(16)),
    Shed::Older(Duration::from_secs(8)),
    Shed::Older(Duration::from_secs(4)),
    Shed::Older(Duration::from_secs(2)),
    Shed::Ids(Duration::from_secs(60)),
    Shed::Ids(Duration::from_secs(30)),
    Shed::Ids(Duration::from_secs(15)),
    Shed::Ids(Duration::from_secs(8)),
];

/// Decides what goes, from one look to the next.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// Where the next shedding begins, or goes on.
    step: usize,
    shedding: bool,
}

impl Budget {
    /// For a node whose histories may take so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Budget {
        Budget {
            bytes_max,
            step: 0,
            shedding: false,
        }
    }

    /// What goes now that the histories take so many bytes. Once they are too large it goes on until a tenth is free, or
    /// there would be something to let go of at every look.
    pub fn look(&mut self, bytes: usize) -> Option<Shed> {
        let enough = self.bytes_max - self.bytes_max / 10;
        self.shedding = bytes > self.bytes_max || (self.shedding && bytes > enough);
        if !self.shedding {
            // What was enough a moment ago is tried first, and less of it the longer there is room.
            self.step = self.step.saturating_sub(1);
            return None;
        }
        let shed = STEPS[self.step];
        self.step = (self.step + 1).min(STEPS.len() - 1);
        Some(shed)
    }
}

impl Slot {
    /// Lets go of it. Who wants it later finds a gap.
    pub(crate) fn shed(&mut self, what: Shed, now: Millis) {
        if self.learning.is_some() {
            // Only its owner lets go of anything.
            return;
        }
        // Gateways may need what is younger, however it is set.
        let floor = self.limits.repair_age_max;
        for (name, topic) in &mut self.topics {
            let ids = topic.ids.as_ref().map_or(0, |ids| ids.len());
            let dropped = match what {
                Shed::Idle(idle) if topic.is_idle_for(idle.max(floor), now) => {
                    topic.history.forget(now, Duration::ZERO)
                }
                Shed::Idle(_) => 0,
                Shed::Older(age) => topic.history.forget(now, age.max(floor)),
                Shed::Ids(age) => {
                    topic.forget_ids(now, age);
                    0
                }
            };
            self.counts.shed += dropped as u64;
            let changed = dropped > 0 || topic.ids.as_ref().map_or(0, |ids| ids.len()) != ids;
            if changed && !std::mem::replace(&mut topic.touched, true) {
                self.touched.push(name.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_while_there_is_room_and_then_the_idlest_go_first() {
        let mut budget = Budget::new(1_000);
        assert_eq!(budget.look(1_000), None);
        assert_eq!(budget.look(1_001), Some(STEPS[0]));
        assert_eq!(budget.look(901), Some(STEPS[1]), "until a tenth is free");
        assert_eq!(budget.look(900), None);
        assert_eq!(budget.look(1_000), None);
        assert_eq!(
            budget.look(1_001),
            Some(STEPS[0]),
            "not from where it was long ago"
        );
    }

    #[test]
    fn it_never_runs_out_of_steps_and_none_reaches_what_gateways_repair_from() {
        let mut budget = Budget::new(0);
        let taken: Vec<Shed> = (0..50).filter_map(|_| budget.look(1)).collect();
        assert_eq!(taken[..STEPS.len()], STEPS);
        assert_eq!((taken.len(), taken[49]), (50, STEPS[16]));
        let repair = crate::Limits::default().repair_age_max;
        for step in STEPS {
            let (Shed::Idle(age) | Shed::Older(age) | Shed::Ids(age)) = step;
            assert!(age >= repair, "{step:?}");
        }
    }
}
