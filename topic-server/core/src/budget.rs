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

/// What goes, in this order, and for how many looks before the next is tried. The last of a kind has the longest: what came
/// in a burst is not idle, nor old, for two seconds. No step reaches what is younger than gateways may need.
const STEPS: [(Shed, u32); 17] = [
    (Shed::Idle(Duration::from_secs(128)), 1),
    (Shed::Idle(Duration::from_secs(64)), 1),
    (Shed::Idle(Duration::from_secs(32)), 1),
    (Shed::Idle(Duration::from_secs(16)), 1),
    (Shed::Idle(Duration::from_secs(8)), 1),
    (Shed::Idle(Duration::from_secs(4)), 1),
    (Shed::Idle(Duration::from_secs(2)), 10),
    (Shed::Older(Duration::from_secs(64)), 1),
    (Shed::Older(Duration::from_secs(32)), 1),
    (Shed::Older(Duration::from_secs(16)), 1),
    (Shed::Older(Duration::from_secs(8)), 1),
    (Shed::Older(Duration::from_secs(4)), 1),
    (Shed::Older(Duration::from_secs(2)), 10),
    (Shed::Ids(Duration::from_secs(60)), 1),
    (Shed::Ids(Duration::from_secs(30)), 1),
    (Shed::Ids(Duration::from_secs(15)), 1),
    (Shed::Ids(Duration::from_secs(8)), 1),
];

/// Decides what goes, from one look to the next.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// Where the next shedding begins, or goes on.
    step: usize,
    /// For how many looks it has been at this step.
    looks: u32,
    shedding: bool,
}

impl Budget {
    /// For a node whose histories may take so many bytes, looked at four times a second.
    #[must_use]
    pub fn new(bytes_max: usize) -> Budget {
        Budget {
            bytes_max,
            step: 0,
            looks: 0,
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
            self.looks = 0;
            return None;
        }
        let (shed, looks_max) = STEPS[self.step];
        self.looks += 1;
        if self.looks >= looks_max {
            self.step = (self.step + 1).min(STEPS.len() - 1);
            self.looks = 0;
        }
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
        assert_eq!(budget.look(1_001), Some(STEPS[0].0));
        assert_eq!(budget.look(901), Some(STEPS[1].0), "until a tenth is free");
        assert_eq!(budget.look(900), None);
        assert_eq!(budget.look(1_000), None);
        assert_eq!(
            budget.look(1_001),
            Some(STEPS[0].0),
            "not from where it was long ago"
        );
    }

    #[test]
    fn busy_topics_lose_nothing_before_those_that_fell_idle_a_moment_ago() {
        let mut budget = Budget::new(0);
        let taken: Vec<Shed> = (0..200).filter_map(|_| budget.look(1)).collect();
        let looks = |wanted: fn(&Shed) -> bool| taken.iter().filter(|shed| wanted(shed)).count();
        let idle_for_two = |shed: &Shed| *shed == Shed::Idle(Duration::from_secs(2));
        assert!(
            looks(idle_for_two) >= 8,
            "four looks a second, and two seconds to fall idle"
        );
        assert_eq!(taken.len(), 200, "it never runs out of steps");
        assert_eq!(taken[199], STEPS[16].0);
    }

    #[test]
    fn no_step_reaches_what_gateways_repair_from() {
        let repair = crate::Limits::default().repair_age_max;
        for (step, _) in STEPS {
            let (Shed::Idle(age) | Shed::Older(age) | Shed::Ids(age)) = step;
            assert!(age >= repair, "{step:?}");
        }
    }
}
