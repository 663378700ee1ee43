//! The moves by which this node became an owner, for whoever wants to know how long they took.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringcast_proto::v1::EndedMove;

/// As many as the largest cluster has slots; some 100 bytes each.
const LEN_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Ended {
    moves: Mutex<VecDeque<EndedMove>>,
}

impl Ended {
    /// Keeps it, and lets go of the oldest if there are too many.
    pub(crate) fn push(&self, ended: EndedMove) {
        let mut moves = self.moves();
        if moves.len() == LEN_MAX {
            moves.pop_front();
        }
        moves.push_back(ended);
    }

    /// Those whose id begins so, the oldest first.
    pub(crate) fn list(&self, prefix: &str) -> Vec<EndedMove> {
        let moves = self.moves();
        let matching = moves.iter().filter(|ended| ended.id.starts_with(prefix));
        matching.cloned().collect()
    }

    fn moves(&self) -> MutexGuard<'_, VecDeque<EndedMove>> {
        // A panic in here would be a bug in one push or list; what is kept was not half written by it.
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str) -> EndedMove {
        EndedMove {
            id: id.to_owned(),
            ..EndedMove::default()
        }
    }

    #[test]
    fn the_moves_of_a_plan_are_found_by_its_id_in_the_order_they_ended() {
        let all = Ended::default();
        for id in ["7.2", "70.1", "leave-x.3", "7.1"] {
            all.push(ended(id));
        }
        assert_eq!(all.list("7."), [ended("7.2"), ended("7.1")]);
        assert_eq!(all.list("").len(), 4);
        assert_eq!(all.list("8."), []);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let all = Ended::default();
        for n in 0..=LEN_MAX {
            all.push(ended(&n.to_string()));
        }
        let listed = all.list("");
        assert_eq!((listed.len(), listed[0].id.as_str()), (LEN_MAX, "1"));
    }
}
