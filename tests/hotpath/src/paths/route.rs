//! Where a topic lives.

use std::hint::black_box;

use ringcast_proto::Slot;
use ringcast_ring::{SlotOwner, SlotTable};

use crate::cluster::table;
use crate::meter::Meter;

const TOPICS: usize = 100;

type SlotOf = fn(&SlotTable, &[u8]) -> Slot;
type OwnerOf = fn(&SlotTable, Slot) -> Option<&SlotOwner>;

/// 100 look-ups, for one alone is too little to be told from the count's own cost.
pub(super) fn owners(meter: &mut Meter) {
    let table = table();
    let slot_of = black_box(SlotTable::slot_of as SlotOf);
    let owner_of = black_box(SlotTable::owner as OwnerOf);
    let topics: Vec<String> = (0..TOPICS).map(|topic| format!("room:{topic:04}")).collect();
    for _ in meter.rounds() {
        let found = meter.measure(|| {
            let owners = topics.iter().filter_map(|topic| {
                let slot = slot_of(&table, topic.as_bytes());
                owner_of(&table, slot)
            });
            owners.count()
        });
        assert_eq!(found, TOPICS);
    }
}
