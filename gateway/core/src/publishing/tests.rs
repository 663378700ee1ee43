//! An owner that loses calls, answers and its lease, against the promise of one append each, in order.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ringcast_proto::v1::SlotStatus;

use super::*;
use crate::gateway::Effect;
use crate::table::{server, table_of};

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// Never arrives.
    Lost,
    /// Is carried out, and the answer is lost.
    AnswerLost,
    /// Only the first is appended; the rest is to be sent again.
    Prefix,
    LeaseLost,
    Sealed,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Answered),
        1 => Just(Fate::Lost),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Prefix),
        1 => Just(Fate::LeaseLost),
        1 => Just(Fate::Sealed),
    ]
}

/// Appends what is above its high-water mark, as an owner does; what is below it was appended before.
#[derive(Default)]
struct Owner {
    log: BTreeMap<u32, Vec<u64>>,
}

impl Owner {
    fn carry_out(&mut self, slots: &[v1::SlotPublishes], fate: Fate) -> v1::PublishAnswer {
        let mut answer = v1::PublishAnswer {
            incarnation: 1,
            slots: Vec::new(),
        };
        for part in slots {
            let log = self.log.entry(part.slot).or_default();
            let (takes, rest) = match fate {
                Fate::Prefix => (1, SlotStatus::Pending),
                Fate::LeaseLost => (0, SlotStatus::OwnerLeaseLost),
                Fate::Sealed => (0, SlotStatus::Sealed),
                Fate::Answered | Fate::Lost | Fate::AnswerLost => (usize::MAX, SlotStatus::Ok),
            };
            let outcomes = part.publishes.iter().take(takes).map(|publish| {
                let known = log.iter().position(|number| *number == publish.number);
                let index = known.unwrap_or_else(|| {
                    assert!(
                        log.last().is_none_or(|last| *last < publish.number),
                        "an older number after a newer one"
                    );
                    log.push(publish.number);
                    log.len() - 1
                });
                let at = v1::Position {
                    epoch: bytes::Bytes::from_static(b"e"),
                    offset: index as u64 + 1,
                };
                v1::PublishOutcome {
                    number: publish.number,
                    outcome: Some(Outcome::Committed(at)),
                    dup: false,
                }
            });
            let outcomes = outcomes.collect();
            let (slot, rest) = (part.slot, rest.into());
            answer.slots.push(v1::SlotPublishAnswer {
                slot,
                owner_epoch: 1,
                outcomes,
                rest,
                ..Default::default()
            });
        }
        answer
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_every_publish_is_appended_once_and_in_order(
        slots in proptest::collection::vec(0_u16..4, 1..60),
        fates in proptest::collection::vec(fate(), 1..40),
    ) {
        let mut owners = Owners::default();
        owners.replace(Arc::new(table_of(4, &server("ts-1"), 1)));
        let mut publishing: Publishing<usize> = Publishing::new(Limits::DEFAULT);
        let (mut owner, mut jitter, mut now, mut last_call) = (Owner::default(), Jitter::new(1), Millis(0), 0);
        let mut waiting: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let mut fates = fates.into_iter();
        let mut to_push = slots.iter().copied().enumerate();
        let mut decided = Vec::new();
        for _ in 0..400 {
            for (waiter, slot) in to_push.by_ref().take(3) {
                publishing.push(Slot(slot), v1::Publish::default(), waiter, now).expect("room");
                waiting.entry(slot).or_default().push(waiter);
            }
            now = now + Duration::from_millis(10);
            let mut effects = Vec::new();
            publishing.flush(&owners, now, &mut last_call, &mut effects);
            for effect in effects {
                let Effect::Publish(call, _, slots) = effect else { unreachable!("only publishes leave") };
                let fate = fates.next().unwrap_or(Fate::Answered);
                let answer = match fate {
                    Fate::Lost => Err(CallFailed::Unknown("lost".into())),
                    Fate::AnswerLost => {
                        owner.carry_out(&slots, fate);
                        Err(CallFailed::Unknown("lost".into()))
                    }
                    _ => Ok(owner.carry_out(&slots, fate)),
                };
                publishing.answered(call, answer, &mut owners, now, &mut jitter, &mut decided);
            }
            // Nothing runs into its deadline as long as virtual time stays below it.
            if now.0 >= 4_900 {
                break;
            }
        }
        // Forty unlucky calls with up to 400 ms between them may outlast the deadline; what was decided must be right.
        for slot in 0..4_u16 {
            let answered: Vec<usize> = decided.iter().filter(|(_, at, _)| at.0 == slot).map(|(waiter, ..)| *waiter).collect();
            let made = waiting.remove(&slot).unwrap_or_default();
            prop_assert_eq!(&answered[..], &made[..answered.len()], "answers in the order of the publishes");
            prop_assert!(owner.log.get(&u32::from(slot)).map_or(0, Vec::len) >= answered.len());
        }
        prop_assert!(decided.iter().all(|(.., answer)| answer.is_ok()));
    }
}

#[test]
fn a_full_queue_gives_the_publish_back() {
    let mut publishing: Publishing<u8> = Publishing::new(Limits {
        slot_queue_max: 2,
        ..Limits::DEFAULT
    });
    for _ in 0..2 {
        publishing
            .push(Slot(0), v1::Publish::default(), 1, Millis(0))
            .expect("room");
    }
    assert_eq!(
        publishing.push(Slot(0), v1::Publish::default(), 3, Millis(0)),
        Err(3)
    );
    assert!(
        publishing
            .push(Slot(1), v1::Publish::default(), 4, Millis(0))
            .is_ok()
    );
}
