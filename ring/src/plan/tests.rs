//! What a plan moves, what it refuses, and what its commit and abort make of the ring.

use super::*;

#[test]
fn a_wish_prints_as_the_words_that_ask_for_it() {
    let node = || NodeId::parse("ts-1").unwrap();
    let (dead, slot) = (true, Slot(7));
    let wishes = [
        Wish::Add(node()),
        Wish::Drain(node()),
        Wish::Remove { node: node(), dead },
        Wish::Weight(node(), 2.0),
        Wish::Pin(slot, node()),
        Wish::Unpin(slot),
    ];
    assert_eq!(
        wishes.map(|wish| wish.to_string()).join(" "),
        "--add ts-1 --drain ts-1 --remove ts-1 --dead --weight ts-1=2 --pin 7=ts-1 --unpin 7"
    );
}
