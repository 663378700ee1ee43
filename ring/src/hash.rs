//! What is hashed, and how: XXH3-64 over explicit bytes, under seeds drawn from the cluster's birth seed.
//!
//! It promises the same number for the same bytes in every build, for ever: the golden vectors below are the format.
//! *Invariant:* no derived `Hash` is ever fed into a ring, because nobody promises its bytes.
//! Leaves out: what the numbers are used for (`ring`, `table`), and secrecy: a seed keeps names from being aimed at one
//! node by accident or by guessing, it is no message authentication code.

use std::fmt;

use ringcast_proto::record::Birth;
use ringcast_proto::{NodeId, Slot};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The three seeds of a cluster: topics, points of nodes and points of slots never share a hash function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    topic: u64,
    node: u64,
    slot: u64,
}

impl Seeds {
    /// Draws them from the birth record's seed.
    #[must_use]
    pub fn new(seed: u64) -> Seeds {
        Seeds {
            topic: xxh3_64_with_seed(b"ringcast.topic.1", seed),
            node: xxh3_64_with_seed(b"ringcast.node.1", seed),
            slot: xxh3_64_with_seed(b"ringcast.slot.1", seed),
        }
    }

    /// The slot of a topic's bytes. No normalisation: names that differ in a byte differ.
    ///
    /// A cluster of 0 slots cannot be born; asked for one, every topic is in slot 0.
    #[must_use]
    pub fn slot_of(&self, topic: &[u8], slots: u16) -> Slot {
        let value = xxh3_64_with_seed(topic, self.topic) % u64::from(slots.max(1));
        Slot(u16::try_from(value).expect("a remainder by a u16 fits in one"))
    }

    /// Where the virtual node `v` of a node stands on the ring.
    #[must_use]
    pub fn point(&self, node: &NodeId, v: u32) -> u64 {
        let mut bytes = Vec::with_capacity(node.as_str().len() + 5);
        bytes.extend_from_slice(node.as_str().as_bytes());
        // No id contains a zero byte, so no id's points are a prefix of another's.
        bytes.push(0);
        bytes.extend_from_slice(&v.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.node)
    }

    /// Where a slot stands on the ring.
    #[must_use]
    pub fn slot_point(&self, slot: Slot) -> u64 {
        xxh3_64_with_seed(&u32::from(slot.0).to_le_bytes(), self.slot)
    }
}

/// The seed is secret, and so are those drawn from it.
impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeds(..)")
    }
}

/// What every call between nodes carries: two nodes whose digests differ would answer "which slot" differently.
#[must_use]
pub fn birth_digest(birth: &Birth) -> u64 {
    let mut bytes = Vec::with_capacity(14 + birth.cluster_id.len());
    bytes.extend_from_slice(&birth.format.to_le_bytes());
    bytes.extend_from_slice(&birth.slots.to_le_bytes());
    bytes.extend_from_slice(&birth.seed.to_le_bytes());
    // Last, because it alone has no fixed length.
    bytes.extend_from_slice(birth.cluster_id.as_bytes());
    xxh3_64(&bytes)
}

/// A number drawn from `entropy` for a purpose: the same for the same arguments, unrelated for others.
pub(crate) fn draw(entropy: u64, purpose: &str, attempt: u32) -> u64 {
    let mut bytes = Vec::with_capacity(purpose.len() + 5);
    bytes.extend_from_slice(purpose.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&attempt.to_le_bytes());
    xxh3_64_with_seed(&bytes, entropy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 0x5249_4e47_4341_5354;

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    #[test]
    fn seeds_are_the_golden_ones() {
        let seeds = Seeds::new(SEED);
        assert_eq!(seeds.topic, 0xd621_6c1e_a21a_5bcc);
        assert_eq!(seeds.node, 0x2706_559d_5f6e_53ee);
        assert_eq!(seeds.slot, 0x345a_eafa_1c76_ea57);
    }

    #[test]
    fn topics_are_in_their_golden_slots() {
        let long = format!("topics:{}", "a".repeat(236));
        let golden: [(&str, u64, u16); 7] = [
            ("", 0xfa8a_c207_85c2_1c11, 17),
            ("a", 0x7668_2709_37b9_1c87, 135),
            ("topics:matrix", 0x6dc8_8d73_1c7e_9e83, 643),
            ("room:lobby", 0x5fb1_c52f_d49b_2b0b, 779),
            ("realtime:x", 0x46a3_b791_929d_6dd2, 466),
            ("topics:ünïcødé", 0x8b65_e398_84e8_3e85, 645),
            // Over 240 bytes XXH3 takes another path through its code.
            (&long, 0x5ac9_e977_8136_2dd9, 473),
        ];
        let seeds = Seeds::new(SEED);
        for (topic, value, slot) in golden {
            assert_eq!(
                xxh3_64_with_seed(topic.as_bytes(), seeds.topic),
                value,
                "{topic:?}"
            );
            assert_eq!(seeds.slot_of(topic.as_bytes(), 1024), Slot(slot), "{topic:?}");
        }
    }

    #[test]
    fn nodes_and_slots_stand_at_their_golden_points() {
        let seeds = Seeds::new(SEED);
        assert_eq!(seeds.point(&node("ts-1"), 0), 0x8032_2027_e421_5bf4);
        assert_eq!(seeds.point(&node("ts-1"), 1), 0xa6d5_c324_3e6d_00ca);
        assert_eq!(seeds.point(&node("ts-3"), 255), 0xbc95_606e_d3ab_b23d);
        assert_eq!(seeds.slot_point(Slot(0)), 0xb625_da82_5c3b_ba96);
        assert_eq!(seeds.slot_point(Slot(1)), 0xfa9d_c627_84f9_57a8);
        assert_eq!(seeds.slot_point(Slot(1023)), 0x3159_7e69_c7cd_cef3);
    }

    #[test]
    fn a_digest_tells_births_apart_by_every_field() {
        let birth = |format, cluster_id: &str, slots, seed| {
            let rest = Default::default();
            birth_digest(&Birth {
                format,
                cluster_id: cluster_id.to_owned(),
                slots,
                seed,
                rest,
            })
        };
        let base = birth(1, "c", 1024, SEED);
        assert_eq!(base, birth(1, "c", 1024, SEED));
        for other in [
            birth(2, "c", 1024, SEED),
            birth(1, "d", 1024, SEED),
            birth(1, "c", 4096, SEED),
            birth(1, "c", 1024, 0),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn seeds_do_not_show_in_logs() {
        assert_eq!(format!("{:?}", Seeds::new(SEED)), "Seeds(..)");
    }
}
