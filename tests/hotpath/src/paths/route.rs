//! Where a topic lives.

use std::hint::black_box;

use crate::cluster::table;
use crate::meter::Meter;

const TOPICS: usize = 100;

/// 100 look-ups, for one alone is too little to be told from the count's own cost.
pub(super) fn owners(meter: &mut Meter) {
    let table = table();
    let topics: Vec<String> = (0..TOPICS).map(|topic| format!("room:{topic:04}")).collect();
    for _ in meter.rounds() {
        let found = meter.measure(|| {
            let owners = topics.iter().filter_map(|topic| {
                let slot = black_box(&table).slot_of(topic.as_bytes());
                black_box(table.owner(slot))
            });
            owners.count()
        });
        assert_eq!(found, TOPICS);
    }
}
