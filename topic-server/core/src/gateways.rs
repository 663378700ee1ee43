//! Which life of which gateway a slot listens to, and what each has published.

use std::collections::{BTreeMap, VecDeque};

use ringcast_proto::{Incarnation, NodeId, NodeRef, v1};

/// Outcomes kept a gateway at most: as many as one call can ask for again.
const KEPT_MAX: usize = 512;

/// Gateways that are gone and remembered as such, so that a call they sent before cannot bring them back. Such a call
/// is at most seconds old.
const GONE_MAX: usize = 256;

/// *Invariant:* once a life of a gateway was heard of, or told to be over, no earlier one is listened to.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    heard: BTreeMap<NodeId, Heard>,
}

#[derive(Debug)]
struct Heard {
    incarnation: Incarnation,
    gone: bool,
    /// The highest number of a bind after which it had no group. It gives every bind it sends the next number, whatever
    /// the topic, so what comes with a lower one is late.
    unbound: u64,
    publisher: Publisher,
}

/// What a slot says to a gateway that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Go on.
    Known,
    /// Go on, and this earlier life of it is over.
    Renewed(NodeRef),
    /// Of a life that is over.
    Refused,
}

impl Gateways {
    /// Judges the caller by its incarnation.
    pub(crate) fn admit(&mut self, from: &NodeRef) -> Admitted {
        let Some(heard) = self.heard.get_mut(&from.node) else {
            self.heard
                .insert(from.node.clone(), Heard::new(from.incarnation, false));
            return Admitted::Known;
        };
        if from.incarnation < heard.incarnation || (heard.gone && from.incarnation == heard.incarnation) {
            return Admitted::Refused;
        }
        if from.incarnation == heard.incarnation {
            return Admitted::Known;
        }
        let before = NodeRef {
            node: from.node.clone(),
            incarnation: heard.incarnation,
        };
        *heard = Heard::new(from.incarnation, false);
        Admitted::Renewed(before)
    }

    /// This life is over.
    pub(crate) fn gone(&mut self, node: &NodeRef) {
        match self.heard.get_mut(&node.node) {
            Some(heard) if heard.incarnation > node.incarnation => return,
            Some(heard) => *heard = Heard::new(node.incarnation, true),
            None => {
                self.heard
                    .insert(node.node.clone(), Heard::new(node.incarnation, true));
            }
        }
        let gone = self.heard.iter().filter(|(_, heard)| heard.gone);
        if gone.clone().count() > GONE_MAX {
            let oldest = gone
                .min_by_key(|(_, heard)| heard.incarnation)
                .map(|(id, _)| id.clone());
            self.heard.retain(|id, _| Some(id) != oldest.as_ref());
        }
    }

    /// The gateway under the id by which it is known here. Each call brings its id in a string of its own, and each topic
    /// keeps one: so they are all the same.
    pub(crate) fn known_as(&self, from: NodeRef) -> NodeRef {
        match self.heard.get_key_value(&from.node) {
            Some((node, _)) => NodeRef {
                node: node.clone(),
                ..from
            },
            None => from,
        }
    }

    /// The highest bind after which a topic had no group of this admitted gateway.
    pub(crate) fn unbound(&self, from: &NodeRef) -> u64 {
        self.heard.get(&from.node).map_or(0, |heard| heard.unbound)
    }

    /// After the bind `seq` there is no group of this life of a gateway in one topic.
    pub(crate) fn unbind(&mut self, from: &NodeRef, seq: u64) {
        if let Some(heard) = self.heard.get_mut(&from.node)
            && heard.incarnation == from.incarnation
        {
            heard.unbound = heard.unbound.max(seq);
        }
    }

    /// Forgets what gateways did here, and not which of their lives are over: that stays true.
    pub(crate) fn forget(&mut self) {
        self.heard.retain(|_, heard| heard.gone);
    }

    /// Whether this life of a gateway is known to be over.
    pub(crate) fn is_over(&self, node: &NodeRef) -> bool {
        self.heard.get(&node.node).is_some_and(|heard| {
            heard.incarnation > node.incarnation || (heard.gone && heard.incarnation == node.incarnation)
        })
    }

    /// Everything another node must know to go on.
    pub(crate) fn export(&self) -> impl Iterator<Item = v1::HandoffGateway> {
        self.heard.iter().map(|(id, heard)| v1::HandoffGateway {
            gateway: id.to_string(),
            incarnation: heard.incarnation.0,
            gone: heard.gone,
            unbound: heard.unbound,
            high_water: heard.publisher.high_water,
            kept: heard.publisher.kept.iter().cloned().collect(),
        })
    }

    /// Takes what another node knew, unless this one knows better: that this life, or an earlier one, is over. None if
    /// it makes no sense.
    pub(crate) fn import(&mut self, told: v1::HandoffGateway) -> Option<()> {
        let node = NodeRef {
            node: NodeId::parse(&told.gateway).ok()?,
            incarnation: Incarnation(told.incarnation),
        };
        let rising = told.kept.is_sorted_by(|one, next| one.number < next.number);
        let high_water = told.high_water;
        if !rising
            || told.kept.last().is_some_and(|last| last.number > high_water)
            || told.kept.len() > KEPT_MAX
        {
            return None;
        }
        if told.gone {
            self.gone(&node);
            return Some(());
        }
        if !self.is_over(&node) {
            let publisher = Publisher {
                high_water,
                kept: told.kept.into(),
            };
            let heard = Heard {
                unbound: told.unbound,
                publisher,
                ..Heard::new(node.incarnation, false)
            };
            self.heard.insert(node.node, heard);
        }
        Some(())
    }

    /// What an admitted gateway has published.
    pub(crate) fn publisher(&mut self, from: &NodeRef) -> Option<&mut Publisher> {
        self.heard.get_mut(&from.node).map(|heard| &mut heard.publisher)
    }
}

impl Heard {
    fn new(incarnation: Incarnation, gone: bool) -> Heard {
        Heard {
            incarnation,
            gone,
            unbound: 0,
            publisher: Publisher::default(),
        }
    }
}

/// The numbers a gateway has used in this slot. They make its own retries safe at no cost a publish.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    high_water: u64,
    kept: VecDeque<v1::PublishOutcome>,
}

impl Publisher {
    /// What became of `number`; none if it has not been used, so the publish is new. Number 0 never has.
    pub(crate) fn decided(&self, number: u64) -> Option<v1::PublishOutcome> {
        if number == 0 || number > self.high_water {
            return None;
        }
        Some(
            match self.kept.binary_search_by_key(&number, |outcome| outcome.number) {
                Ok(index) => self.kept[index].clone(),
                Err(_) => refused(number, v1::Refusal::StaleNumber),
            },
        )
    }

    /// A call begins with the number `first` and has `len` publishes. The gateway repeats from its first undecided
    /// number on, so it knows what became of those before, and they can go.
    pub(crate) fn called(&mut self, first: u64, len: usize) {
        while self.kept.front().is_some_and(|outcome| outcome.number < first) {
            self.kept.pop_front();
        }
        // There is one of these a slot and gateway: what one burst took must not stay for ever.
        let enough = self.kept.len().max(len);
        if self.kept.capacity() > 4 * enough.max(4) {
            self.kept.shrink_to(enough);
        }
    }

    /// Remembers what became of a new number.
    pub(crate) fn decide(&mut self, outcome: &v1::PublishOutcome) {
        if outcome.number == 0 {
            return;
        }
        debug_assert!(outcome.number > self.high_water, "a number was decided twice");
        self.high_water = outcome.number;
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(outcome.clone());
    }
}

/// The outcome of a publish that was not appended.
pub(crate) fn refused(number: u64, why: v1::Refusal) -> v1::PublishOutcome {
    v1::PublishOutcome {
        number,
        outcome: Some(v1::publish_outcome::Outcome::Refused(why.into())),
        dup: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(incarnation: u64) -> NodeRef {
        NodeRef {
            node: NodeId::parse("gw-1").unwrap(),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn a_life_that_is_over_never_comes_back() {
        let mut gateways = Gateways::default();
        assert_eq!(gateways.admit(&gateway(5)), Admitted::Known);
        assert_eq!(gateways.admit(&gateway(4)), Admitted::Refused);
        assert_eq!(gateways.admit(&gateway(7)), Admitted::Renewed(gateway(5)));
        gateways.gone(&gateway(5));
        assert_eq!(
            gateways.admit(&gateway(7)),
            Admitted::Known,
            "the end of an earlier life says nothing"
        );
        gateways.gone(&gateway(7));
        assert_eq!(gateways.admit(&gateway(7)), Admitted::Refused);
        assert_eq!(gateways.admit(&gateway(8)), Admitted::Renewed(gateway(7)));
    }

    #[test]
    fn gateways_that_are_gone_do_not_pile_up() {
        let mut gateways = Gateways::default();
        for number in 0..1_000u64 {
            let node = NodeId::parse(&format!("gw-{number}")).unwrap();
            gateways.gone(&NodeRef {
                node,
                incarnation: Incarnation(number),
            });
        }
        assert_eq!(gateways.heard.len(), GONE_MAX);
    }

    #[test]
    fn the_last_512_outcomes_are_kept_and_older_numbers_are_stale() {
        let mut publisher = Publisher::default();
        for number in 1..=600 {
            assert_eq!(publisher.decided(number), None);
            publisher.decide(&refused(number, v1::Refusal::TooLarge));
        }
        assert_eq!(publisher.decided(600), Some(refused(600, v1::Refusal::TooLarge)));
        assert_eq!(publisher.decided(89), Some(refused(89, v1::Refusal::TooLarge)));
        assert_eq!(publisher.decided(88), Some(refused(88, v1::Refusal::StaleNumber)));
        assert_eq!(publisher.decided(601), None);
        assert_eq!(publisher.decided(0), None);
    }

    #[test]
    fn what_a_gateway_no_longer_asks_for_is_let_go() {
        let mut publisher = Publisher::default();
        publisher.called(1, 500);
        for number in 1..=500 {
            publisher.decide(&refused(number, v1::Refusal::TooLarge));
        }
        publisher.called(1, 500);
        assert_eq!(
            publisher.kept.len(),
            500,
            "a repeated call finds all of its outcomes"
        );
        publisher.called(499, 3);
        assert_eq!(publisher.decided(499), Some(refused(499, v1::Refusal::TooLarge)));
        assert_eq!(
            publisher.decided(498),
            Some(refused(498, v1::Refusal::StaleNumber))
        );
        assert_eq!(publisher.decided(501), None);
        assert!(publisher.kept.capacity() < 20, "{}", publisher.kept.capacity());
    }
}
