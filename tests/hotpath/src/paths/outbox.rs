//! What waits for one client, written at once.

use bytes::Bytes;
use ringcast_gateway_core::outbox::{Flushed, Outbox};

use super::joined::NOW;
use crate::cluster::payload;
use crate::meter::Meter;

const FRAMES: usize = 8;

/// Into a socket that takes everything.
pub(super) fn burst(meter: &mut Meter) {
    let frame = payload();
    let mut outbox = Outbox::default();
    for _ in meter.rounds() {
        let frames: [Bytes; FRAMES] = std::array::from_fn(|_| frame.clone());
        let (mut writes, mut written) = (0, 0);
        let flushed = meter.measure(|| {
            for frame in frames {
                outbox.push(frame, None, NOW);
            }
            outbox.flush(|slices| {
                let bytes = slices.iter().map(|slice| slice.len()).sum();
                writes += 1;
                written += bytes;
                Ok(bytes)
            })
        });
        assert!(matches!(flushed, Ok(Flushed::All)), "{flushed:?}");
        assert_eq!((writes, written), (1, FRAMES * frame.len()));
    }
}
