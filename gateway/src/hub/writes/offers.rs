//! Offers of this thread's core to whoever waits for it: clients on the same machine, other nodes.
//!
//! A scheduler takes a core away only at its tick, milliseconds later. By then a publish has stood before an owner that
//! was ready to place it, and a client has sent nothing because it could not.
//! *Invariant:* against one who never gives a core back this thread keeps a third of it.

use std::thread;
use std::time::Instant;

/// When the next may be made.
#[derive(Debug, Default)]
pub(super) struct Offers {
    next: Option<Instant>,
}

impl Offers {
    /// Lets others have the core, unless they have just had it for long. Where nobody waits it is one call to the system.
    pub(super) fn offer(&mut self) {
        let offered = Instant::now();
        if self.next.is_some_and(|next| offered < next) {
            return;
        }
        thread::yield_now();
        let back = Instant::now();
        self.next = Some(next_offer(offered, back));
    }
}

/// When so much has been worked that the next may be made: half as long as the others worked. Measured with two gateways
/// and their clients on two cores: without a limit half of the deliveries come sooner still, and one in a hundred 25 ms
/// later; as long as the others worked takes away a third of what there is to win.
fn next_offer(offered: Instant, back: Instant) -> Instant {
    back + back.duration_since(offered) / 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_lends_a_core_for_long_keeps_it_half_as_long() {
        let offered = Instant::now();
        let back = offered + Duration::from_millis(4);
        assert_eq!(next_offer(offered, back), back + Duration::from_millis(2));
        assert_eq!(next_offer(offered, offered), offered);
    }

    #[test]
    fn nothing_is_offered_before_its_time() {
        let next = Some(Instant::now() + Duration::from_secs(60));
        let mut offers = Offers { next };
        offers.offer();
        assert_eq!(offers.next, next);
        let before = Instant::now();
        offers.next = Some(before);
        offers.offer();
        assert!(offers.next.is_some_and(|next| before < next));
    }
}
